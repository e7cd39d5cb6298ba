"""The sheet of paper under a grid: its size, heading and colour bar, measured so that nothing is cut."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.textpath import TextPath

from featurelens._checks import check_type
from featurelens.plotting._colours import INK, PALE, QUIET
from featurelens.plotting._grid import HEIGHT, WIDTH

if TYPE_CHECKING:
    from matplotlib.colors import Colormap

DPI = 150
MARGIN = 0.15
NARROWEST = 3.6  # room for a heading above a single small picture
TITLE, SMALL_TITLE, NOTE = 11.0, 8.5, 7.5  # points
LINE = 1.35  # line height
BAR = 0.75  # width kept for a colour bar and its numbers


def room(ax: Axes | None) -> tuple[float, float]:
    """Return the width and height, in inches, that a grid may fill."""
    if ax is None:
        return WIDTH, HEIGHT
    check_type(ax, Axes, argument="ax", expected="a matplotlib Axes")
    box = ax.get_window_extent()
    return box.width / ax.figure.dpi, box.height / ax.figure.dpi


def page(
    width: float,
    height: float,
    *,
    title: str,
    note: str,
    bar: tuple[Colormap, tuple[float, float]] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Return an Axes, one unit to the inch and y downwards, with room for ``width x height``.

    Without `ax` it lies on a new figure as large as heading, grid and colour bar together.
    """
    if ax is None:
        ax = _new_page(width, height, title=title, note=note, bar=bar)
    else:
        heading = wrap(f"{title}\n{note}", room(ax)[0], SMALL_TITLE)
        ax.set_title("\n".join(heading), loc="left", fontsize=SMALL_TITLE, color=INK)
        if bar:
            ax.figure.colorbar(_mappable(*bar), ax=ax, shrink=0.8)
    ax.set_axis_off()
    return ax


def finish(ax: Axes, width: float, height: float) -> Figure:
    """Set the view, which drawing pictures moves, to the whole page and return its figure."""
    ax.set_xlim(0, width)
    ax.set_ylim(height, 0)
    ax.set_aspect("equal")
    figure = ax.figure.figure  # the figure itself also when `ax` lies on a sub-figure
    assert isinstance(figure, Figure)
    return figure


def _new_page(
    width: float, height: float, *, title: str, note: str, bar: tuple[Colormap, tuple[float, float]] | None
) -> Axes:
    full = max(width + (BAR if bar else 0), NARROWEST)
    heading, below = wrap(title, full, TITLE), wrap(note, full, NOTE)
    title_height, note_height = len(heading) * TITLE * LINE / 72, len(below) * NOTE * LINE / 72
    top = title_height + note_height + (0.08 if heading or below else 0)
    size = (full + 2 * MARGIN, height + top + 2 * MARGIN)
    figure = Figure(figsize=size, dpi=DPI, facecolor="white")

    def across(inches: float) -> float:
        return inches / size[0]

    def up(inches: float) -> float:
        return inches / size[1]

    left, ceiling = across(MARGIN), 1 - up(MARGIN)
    if heading:
        figure.suptitle("\n".join(heading), x=left, y=ceiling, ha="left", va="top", fontsize=TITLE, color=INK)
    if below:
        figure.text(left, ceiling - up(title_height), "\n".join(below), va="top", fontsize=NOTE, color=QUIET)
    if bar:
        tall = min(height, 2.5)
        place = (across(MARGIN + width + 0.15), up(MARGIN + height - tall), across(0.12), up(tall))
        colour_bar = figure.colorbar(_mappable(*bar), cax=figure.add_axes(place))
        colour_bar.outline.set_edgecolor(PALE)
        colour_bar.ax.tick_params(labelsize=7, length=2, color=QUIET, labelcolor=INK)
    return figure.add_axes((left, up(MARGIN), across(width), up(height)))


def _mappable(cmap: Colormap, limits: tuple[float, float]) -> ScalarMappable:
    return ScalarMappable(Normalize(*limits), cmap)


def wrap(text: str, width: float, size: float) -> list[str]:
    """Break `text` into lines that fit into `width` inches at a font size of `size` points."""
    lines = []
    for paragraph in text.splitlines():
        characters = max(len(paragraph), 1)
        while True:
            broken = textwrap.wrap(paragraph, characters)
            widest = max((_text_width(line, size) for line in broken), default=0.0)
            if widest <= width or characters <= 4:
                break
            characters = max(min(int(characters * width / widest), characters - 1), 4)
        lines += broken
    return lines


def _text_width(text: str, size: float) -> float:
    return float(TextPath((0, 0), text, size=size).get_extents().width) / 72
