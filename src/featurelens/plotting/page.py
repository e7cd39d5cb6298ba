"""Figures with room for a heading, a note, a colour bar and pictures, measured so that nothing is cut."""

from __future__ import annotations

import io
import re
import textwrap
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colorbar import Colorbar
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

from featurelens._checks import check_type, describe
from featurelens.plotting.colours import INK, PALE, QUIET

DPI = 150
WIDTH, HEIGHT = 7.0, 8.0  # what pictures may fill
MARGIN = 0.15
NARROWEST = 3.6  # room for a heading above a single small picture
TITLE, SMALL_TITLE, NOTE = 11.0, 8.5, 7.5  # points
LINE = 1.35  # line height
LONGEST = 2000  # characters of a heading
BAR = 0.75  # width kept for a colour bar and its numbers


def shown_in_notebooks(figure: Figure) -> Figure:
    """Make Jupyter show a figure as the value of a cell, also without ``%matplotlib inline``.

    Matplotlib's inline backend registers a PNG formatter for `Figure`, which IPython prefers to this method. So the figure
    is shown once where that backend runs, too; pyplot, which shows its figures at the end of a cell, does not know it. It
    is no subclass, as loggers know figures by the name of their class.
    """
    setattr(figure, "_repr_png_", partial(_png, figure))  # noqa: B010  no attribute of a Figure
    return figure


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def figure_of(ax: Axes) -> Figure:
    """Return the figure that an Axes lies on, also if it lies on a sub-figure."""
    figure = ax.figure.figure
    assert isinstance(figure, Figure)
    return figure


def room(ax: Axes | None) -> tuple[float, float]:
    """Return the width and height, in inches, that pictures may fill."""
    if ax is None:
        return WIDTH, HEIGHT
    check_type(ax, Axes, argument="ax", expected="a matplotlib Axes")
    box = ax.get_window_extent()
    return box.width / ax.figure.dpi, box.height / ax.figure.dpi


def text_or(text: str | None, usual: str, *, argument: str = "title") -> str:
    """Return the user's text, or the usual one."""
    return check_text(text, argument=argument) or usual


def check_text(text: str | None, *, argument: str) -> str | None:
    """Return the user's text if it can be written, or raise an error."""
    check_type(text, str | None, argument=argument, expected="text or None")
    if text is not None and len(text) > LONGEST:
        raise ValueError(f"{argument} must have at most {LONGEST} characters; got {len(text)}")
    try:
        (text or "").encode()
    except UnicodeEncodeError:
        raise ValueError(f"{argument} must be text; got half a character in {describe(text)}") from None
    return text


def first_of(text: str, shown: int, total: int, *, which: str = "first", noun: str = "") -> str:
    """Return a heading that says how many of all things are shown, if it is not all of them."""
    return text if shown == total else f"{text} ({which} {shown} of {total}{noun})"


def layer_name(layer: str, *, capital: bool = False) -> str:
    """Return a layer's name for use in a sentence: "layer 3" for a bare number, as in a Sequential."""
    if layer and not layer[0].isdigit():
        return layer
    text = f"layer {layer}" if layer else "the model"
    return text[0].upper() + text[1:] if capital else text


def objective_name(objective: object) -> str:
    """Return an objective in words: "conv3, channel 7" for the common one."""
    layer, _, channel = (text := str(objective)).rpartition(":")
    simple = channel.isdigit() and not re.search(r"\s", layer)
    return f"{layer_name(layer)}, channel {channel}" if simple and layer else text


def method_name(method: str) -> str:
    """Return a method without the punctuation of a call.

    >>> method_name("channels(bins=7, strategy='quantile')")
    'channels, bins 7, strategy quantile'
    """
    name, _, settings = method.partition("(")
    settings = re.sub(r"[()']", "", settings).replace("=", " ")
    return f"{name}, {settings}" if settings else name


def about(what: str, layer: str | None) -> str:
    """Return a heading for the result of a layer; one that no stream measured has no layer."""
    return what if layer is None else f"{what} of {layer_name(layer)}"


def page(
    width: float,
    height: float,
    *,
    title: str,
    note: str = "",
    bar: tuple[Colormap, tuple[float, float]] | None = None,
    words: tuple[str, ...] = (),
    ax: Axes | None = None,
) -> Axes:
    """Return an Axes, one unit to the inch and y downwards, that shows ``width x height`` inches.

    Without `ax` it lies on a new figure as large as heading, grid and colour bar together. The view stays, whatever is
    drawn. The colour bar has numbers, or the `words` at equal distances.
    """
    mappable = ScalarMappable(Normalize(*bar[1]), bar[0]) if bar else None
    if ax is None:
        ax = _new_page(width, height, title=title, note=note, mappable=mappable, words=words)
    else:
        heading = wrap(f"{title}\n{note}", room(ax)[0], SMALL_TITLE)
        ax.set_title("\n".join(heading), loc="left", fontsize=SMALL_TITLE, color=INK)
        if mappable and not words:  # words would take more room than they are worth
            ax.figure.colorbar(mappable, ax=ax, shrink=0.8)
    ax.set_axis_off()
    ax.set(xlim=(0, width), ylim=(height, 0), aspect="equal")
    return ax


def _new_page(
    width: float,
    height: float,
    *,
    title: str,
    note: str,
    mappable: ScalarMappable | None,
    words: tuple[str, ...],
) -> Axes:
    full = max(width + (BAR if mappable else 0), NARROWEST)
    heading, below = wrap(title, full, TITLE), wrap(note, full, NOTE)
    title_height, note_height = len(heading) * TITLE * LINE / 72, len(below) * NOTE * LINE / 72
    top = title_height + note_height + (0.08 if heading or below else 0)
    across, up = full + 2 * MARGIN, height + top + 2 * MARGIN
    figure = shown_in_notebooks(Figure(figsize=(across, up), dpi=DPI, facecolor="white"))
    left, ceiling = MARGIN / across, 1 - MARGIN / up
    if heading:
        figure.suptitle("\n".join(heading), x=left, y=ceiling, ha="left", va="top", fontsize=TITLE, color=INK)
    if below:
        style: dict[str, Any] = {"va": "top", "fontsize": NOTE, "color": QUIET}
        figure.text(left, ceiling - title_height / up, "\n".join(below), **style)
    ax = figure.add_axes((left, MARGIN / up, width / across, height / up))
    if mappable:
        tall = min(height, 2.5)
        place = ((MARGIN + width + 0.15) / across, (MARGIN + height - tall) / up, 0.12 / across, tall / up)
        bar = figure.colorbar(mappable, cax=figure.add_axes(place))
        if words:
            bar.set_ticks(np.linspace(*mappable.get_clim(), len(words)).tolist(), labels=list(words))
        quiet(bar)
    return ax


def quiet(bar: Colorbar, *, size: float = 7) -> None:
    """Give a colour bar a pale outline and small numbers."""
    bar.outline.set_edgecolor(PALE)
    bar.ax.tick_params(labelsize=size, length=2, color=QUIET, labelcolor=INK)


def wrap(text: str, width: float, size: float) -> list[str]:
    """Break `text` into lines that fit into `width` inches at a font size of `size` points."""
    lines = []
    for paragraph in text.splitlines():
        characters = max(len(paragraph), 1)
        while True:
            broken = textwrap.wrap(paragraph, characters)
            widest = max((text_width(line, size) for line in broken), default=0.0)
            if widest <= width or characters <= 4:
                break
            characters = max(min(int(characters * width / widest), characters - 1), 4)
        lines += broken
    return lines


def text_width(text: str, size: float) -> float:
    """Return the width of a line of text in inches."""
    with missing_glyphs_passed_over():
        extent = text_to_path.get_text_width_height_descent(text, FontProperties(size=size), ismath=False)
    return float(extent[0]) / 72


@contextmanager
def missing_glyphs_passed_over() -> Iterator[None]:
    """Measure text whatever it holds: matplotlib warns of characters that the font lacks when the figure is drawn."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
        yield
