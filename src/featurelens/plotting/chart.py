"""Charts: an Axes with labels, quiet lines, a title, and a note below it."""

from __future__ import annotations

import math
from typing import Any

from matplotlib.axes import Axes
from matplotlib.layout_engine import ConstrainedLayoutEngine

from featurelens._checks import check_type
from featurelens.plotting.colours import INK, PALE, QUIET
from featurelens.plotting.page import DPI, LINE, MARGIN, NOTE, TITLE, NotebookFigure, room, wrap

SIZE = (6.0, 3.7)  # inches
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
    if ax is None:
        layout = ConstrainedLayoutEngine(w_pad=MARGIN, h_pad=MARGIN)
        figure = NotebookFigure(figsize=size, dpi=DPI, layout=layout, facecolor="white")
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
    """Write channel numbers below a chart, as many and as large as stand side by side."""
    step = math.ceil(len(names) / 64)  # so many fit if they stand on end
    ax.set_xticks(range(0, len(names), step), names[::step], color=INK)
    ax.tick_params(axis="x", length=0, labelsize=9 if len(names) <= 20 else 6.5)
    if len(names) > 36:
        ax.tick_params(axis="x", rotation=90)


def add_legend_beside(ax: Axes, handles: list[Any]) -> None:
    """Put the legend to the right of the chart, where it covers no curve; many names stand in columns."""
    columns = math.ceil(len(handles) / LONGEST)
    place: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (1.0, 1.02), "ncols": columns}
    size = 9 if columns == 1 else 7.5
    ax.legend(handles=handles, frameon=False, fontsize=size, handlelength=2.6, **place)
