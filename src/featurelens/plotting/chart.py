"""Charts: an Axes with labels, quiet lines, a title, and a note below it."""

from __future__ import annotations

import math
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from featurelens._checks import check_type
from featurelens.plotting.colours import INK, PALE, QUIET
from featurelens.plotting.page import (
    DPI,
    LINE,
    MARGIN,
    NOTE,
    TITLE,
    check_text,
    figure_of,
    missing_glyphs_passed_over,
    room,
    shown_in_notebooks,
    text_width,
    wrap,
)

SIZE = (6.0, 3.7)  # inches
APART = 0.06  # inches between two names side by side
LONGEST = 16  # names in a column of a legend


def chart(
    ax: Axes | None,
    *,
    xlabel: str,
    ylabel: str,
    title: str | None,
    note: str = "",
    size: tuple[float, float] = SIZE,
    pad: float = 18,
) -> Axes:
    """Return `ax`, or the Axes of a new figure of `size` inches, ready for bars or curves.

    `pad` points under the title are free; a `note` takes as many as it needs.
    """
    check_text(title, argument="title")
    check_type(ylabel, str, argument="ylabel", expected="text")
    check_text(ylabel, argument="ylabel")
    if ax is None:
        layout = ConstrainedLayoutEngine(w_pad=MARGIN, h_pad=MARGIN)
        figure = shown_in_notebooks(Figure(figsize=size, dpi=DPI, layout=layout, facecolor="white"))
        ax = figure.add_subplot()
    check_type(ax, Axes, argument="ax", expected="a matplotlib Axes")
    width = room(ax)[0]
    if note:
        lines = wrap(note, width - 0.9, NOTE)  # less the axis and its label
        pad = 12 + NOTE * LINE * len(lines)
        write_beside(ax, "\n".join(lines), (0, 1), (0, 8), fontsize=NOTE, in_layout=False)
    if title:
        ax.set_title("\n".join(wrap(title, width, TITLE)), loc="left", fontsize=TITLE, color=INK, pad=pad)
    ax.set_xlabel(xlabel, color=INK)
    ax.set_ylabel(ylabel, color=INK)
    ax.grid(axis="y", color=PALE, linewidth=0.6)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(PALE)
    ax.tick_params(color=PALE, labelcolor=INK, labelsize=9)
    return ax


def write_beside(
    ax: Axes, text: str, place: tuple[float, float], offset: tuple[float, float], **style: Any
) -> None:
    """Write quiet words `offset` points from a place in shares of the Axes, or in other `xycoords`."""
    usual: dict[str, Any] = {"xycoords": "axes fraction", "color": QUIET, "fontsize": 8}
    ax.annotate(text, place, offset, textcoords="offset points", **usual | style)


def name_channels(ax: Axes, names: list[str]) -> None:
    """Write names below a chart of one channel per unit, as many and as large as stand side by side."""
    across = _inches_per_unit(ax)[0]
    sizes = [size for size in (9.0, 6.5) if all(text_width(name, size) + APART <= across for name in names)]
    step = 1 if sizes else math.ceil(6.5 * LINE / 72 / across)  # else they stand on end
    ax.set_xticks(range(0, len(names), step), names[::step], color=INK)
    ax.tick_params(axis="x", length=0, labelsize=sizes[0] if sizes else 6.5, rotation=0 if sizes else 90)


def name_rows(ax: Axes, names: list[str]) -> None:
    """Write names beside a chart of one row per unit, as many and as large as stand one above the other."""
    down = _inches_per_unit(ax)[1]
    size = next((size for size in (8.0, 6.0) if size * LINE / 72 <= down), 6.0)
    step = math.ceil(size * LINE / 72 / down)
    ax.set_yticks(range(0, len(names), step), names[::step], fontsize=size, color=INK)


def _inches_per_unit(ax: Axes) -> tuple[float, float]:
    """Return how many inches a unit of each axis takes, once the figure is laid out."""
    figure = figure_of(ax)
    with missing_glyphs_passed_over():
        figure.draw_without_rendering()
    box = ax.get_window_extent()
    (left, right), (low, high) = ax.get_xlim(), ax.get_ylim()
    return box.width / figure.dpi / abs(right - left), box.height / figure.dpi / abs(high - low)


def add_legend_beside(ax: Axes, handles: list[Any]) -> None:
    """Put the legend to the right of the chart, where it covers no curve; many names stand in columns."""
    columns = math.ceil(len(handles) / LONGEST)
    place: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (1.0, 1.02), "ncols": columns}
    size = 9 if columns == 1 else 7.5
    ax.legend(handles=handles, frameon=False, fontsize=size, handlelength=2.6, **place)
