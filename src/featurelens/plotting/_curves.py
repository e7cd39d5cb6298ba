"""Loss, accuracy or anything else over the epochs of a training."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator

from featurelens._checks import check_type, check_whole, describe
from featurelens.plotting._arrays import Array, check_array, to_floats
from featurelens.plotting._colours import INK, PALE, QUIET, SERIES
from featurelens.plotting._page import DPI, MARGIN, TITLE, wrap

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from featurelens.plotting._arrays import Floats

LONGEST = 16  # names in a column of a legend
SIZE = (6.0, 3.7)  # inches
DASHES = ("-", (0, (5, 2)), (0, (1, 1.2)), (0, (5, 1.5, 1, 1.5)))  # one for every round of colours


def training_curves(
    curves: Mapping[str, Sequence[float] | Array],
    *,
    ylabel: str,
    title: str | None = None,
    best: int | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw one line for each named sequence over the epochs, which are counted from 1.

    Epochs whose value is NaN or infinite leave a gap and a cross at the foot of the picture.

    Parameters
    ----------
    curves
        Name -> one value for each epoch, ``(E,)``; the lengths may differ.
    ylabel
        What is measured, with its unit.
    title
        The heading; by default none.
    best
        An epoch to point out, counted from 1.
    ax
        Draw here instead of on a new figure.

    Raises
    ------
    TypeError
        If `curves` is not a mapping from names to sequences of numbers.
    ValueError
        If there is no curve, a curve is empty, or `best` is not one of the epochs.

    Examples
    --------
    >>> ax = training_curves({"train": [0.9, 0.4, 0.2], "test": [0.8, 0.5, 0.6]}, ylabel="loss", best=2)
    >>> [text.get_text() for text in ax.get_legend().get_texts()]
    ['train', 'test']
    """
    lines = _check_curves(curves)
    epochs = max(len(values) for values in lines.values())
    if best is not None and not 1 <= check_whole(best, argument="best") <= epochs:
        raise ValueError(f"best must be an epoch from 1 to {epochs}; got {best}")
    ax = chart(ax, size=SIZE)
    for number, (name, values) in enumerate(lines.items()):
        colour, dashes = SERIES[number % len(SERIES)], DASHES[number // len(SERIES) % len(DASHES)]
        draw_curve(ax, name, np.arange(1, len(values) + 1), values, colour=colour, dashes=dashes)
    if best is not None:
        ax.axvline(best, color=QUIET, linewidth=1, linestyle=(0, (3, 3)), zorder=1)
        place = ax.get_xaxis_transform()
        side = "right" if best > (epochs + 1) / 2 else "left"
        ax.text(best, 1.01, f"best epoch: {best}", transform=place, ha=side, fontsize=8, color=QUIET)
    dress(ax, xlabel="epoch", ylabel=ylabel, title=title)
    count_epochs(ax, 1, epochs)
    if len(lines) <= len(SERIES):
        ax.legend(frameon=False, fontsize=9)
    else:
        add_legend_beside(ax)
    return ax


def chart(ax: Axes | None, *, size: tuple[float, float]) -> Axes:
    """Return `ax`, or the Axes of a new figure of `size` inches."""
    if ax is None:
        layout = ConstrainedLayoutEngine(w_pad=MARGIN, h_pad=MARGIN)
        ax = Figure(figsize=size, dpi=DPI, layout=layout, facecolor="white").add_subplot()
    check_type(ax, Axes, argument="ax", expected="a matplotlib Axes")
    return ax


def draw_curve(
    ax: Axes,
    name: str,
    epochs: NDArray[Any],
    values: Floats,
    *,
    colour: str,
    marker: str = "o",
    dashes: Any = "-",
) -> None:
    """Draw a line over `epochs`; values that are NaN or infinite leave a gap, and a cross at the foot."""
    finite = np.isfinite(values)
    style: dict[str, Any] = {"color": colour, "linestyle": dashes, "marker": marker, "linewidth": 1.6}
    if len(values) > 30 and finite.all():
        if marker == "o":
            style["marker"] = ""  # only a value between gaps, which has no line, needs one
        else:
            style["markevery"] = math.ceil(len(values) / 12)  # it tells this line from another of its colour
    heights = np.where(finite, values, np.nan)
    ax.plot(epochs, heights, label=name, markersize=3.5, **style)
    if not finite.all():
        foot = np.full((~finite).sum(), 0.03)
        ax.plot(
            epochs[~finite],
            foot,
            "x",
            color=colour,
            transform=ax.get_xaxis_transform(),
            label=f"{name}: NaN or infinite",
        )


def add_legend_beside(ax: Axes, handles: list[Any] | None = None) -> None:
    """Put the legend to the right of the chart, where it covers no curve; many names stand in columns."""
    handles = ax.get_legend_handles_labels()[0] if handles is None else handles
    place: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (1.0, 1.02)}
    columns = math.ceil(len(handles) / LONGEST)
    ax.legend(
        handles=handles,
        frameon=False,
        fontsize=9 if columns == 1 else 7.5,
        ncols=columns,
        handlelength=2.6,
        **place,
    )


def count_epochs(ax: Axes, first: float, last: float) -> None:
    """Fit the horizontal axis to the epochs, with ticks at whole ones only."""
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
    margin = min(max(0.03 * (last - first), 0.25), 0.9)  # below 1: there is no epoch before the first
    ax.set_xlim(first - margin, last + margin)


def dress(ax: Axes, *, xlabel: str, ylabel: str, title: str | None, pad: float = 18) -> None:
    """Give a chart its labels and quiet lines; `pad` points under the title are kept for notes."""
    ax.set_xlabel(xlabel, color=INK)
    ax.set_ylabel(ylabel, color=INK)
    if title:
        width = ax.get_window_extent().width / ax.figure.dpi
        ax.set_title("\n".join(wrap(title, width, TITLE)), loc="left", fontsize=TITLE, color=INK, pad=pad)
    ax.grid(axis="y", color=PALE, linewidth=0.6)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(PALE)
    ax.tick_params(color=PALE, labelcolor=INK, labelsize=9)


def _check_curves(curves: Mapping[str, Sequence[float] | Array]) -> dict[str, Floats]:
    check_type(curves, Mapping, argument="curves", expected="a mapping from names to values over epochs")
    if not curves:
        raise ValueError("curves is empty: give at least one name with its values over epochs")
    return {str(name): _check_series(values, f"curves[{name!r}]") for name, values in curves.items()}


def _check_series(values: Sequence[float] | Array, argument: str) -> Floats:
    if not isinstance(values, torch.Tensor | np.ndarray):
        try:
            values = np.array([float(value) for value in values])
        except (TypeError, ValueError):
            raise TypeError(f"{argument} must be a sequence of numbers; got {describe(values)}") from None
    return to_floats(check_array(values, {1: "(epochs,)"}, argument=argument))
