"""What the task loses without channels: bars, a heat map by class, and curves over channels removed."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from featurelens._checks import check_type, check_whole, count
from featurelens.ablation import AblationResult, ImportanceResult
from featurelens.plotting._arrays import to_floats
from featurelens.plotting._colours import INK, PALE, QUIET, SERIES, colour_map, limits, text_colour
from featurelens.plotting._curves import chart, dress
from featurelens.plotting._grid import WIDTH
from featurelens.plotting._page import LINE, NOTE, TITLE, room, wrap

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.image import AxesImage

    from featurelens.plotting._arrays import Floats

NARROWEST, BARS = 4.8, 3.5  # width and height in inches
CELL = (0.36, 0.3)  # width and height, in inches, of a value that can be read


def importance(
    result: ImportanceResult, *, limit: int = 32, title: str | None = None, ax: Axes | None = None
) -> Axes:
    """Draw what the task loses with each channel, the most important one first.

    The dark stroke on a bar spans two standard errors to either side: a bar whose stroke reaches zero may owe its
    height to the choice of images.

    Parameters
    ----------
    result
        From `ChannelAblator.importance`.
    limit
        How many channels to show at most; the title says when there are more.
    title
        The heading; by default what was measured and where.
    ax
        Draw here instead of on a new figure.

    Raises
    ------
    TypeError
        If `result` is not an `ImportanceResult`.
    ValueError
        If `limit` is below 1.

    Examples
    --------
    >>> import torch
    >>> result = ImportanceResult(
    ...     importance=torch.tensor([0.0, 0.3, 0.1]), standard_error=torch.full((3,), 0.02), baseline=0.9,
    ...     channels=(0, 1, 2), n=100, layer="conv1", metric="accuracy", mode="drop", fill="zero")
    >>> [label.get_text() for label in importance(result).get_xticklabels()]
    ['1', '2', '0']
    """
    _check_importance(result)
    ranks = _ranks(result, limit)
    factor = 100 if result.metric == "accuracy" else 1
    heights = factor * to_floats(result.importance)[ranks]
    spans = 2 * factor * to_floats(result.standard_error)[ranks]
    text = title or f"Importance of {layer_name(result.layer)}"
    if len(ranks) < len(result.channels):
        text += f" (most important {len(ranks)} of {len(result.channels)})"
    names = [result.channels[rank] for rank in ranks]
    baseline = f"{result.baseline:.1%}" if factor == 100 else f"{result.baseline:.4g}"
    note = f"{result.metric} {baseline} with all channels, {count(result.n, 'image')}{_fill(result.fill)}"
    return _bars(
        ax,
        heights,
        spans,
        names,
        xlabel="channel, most important first",
        ylabel=_lost(result),
        title=text,
        note=f"{note}; strokes: two standard errors",
    )


def class_importance(
    result: ImportanceResult,
    *,
    classes: Sequence[object] | None = None,
    limit: int = 32,
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw what every class, a row, loses with every channel, a column: red for a loss, blue for a gain.

    Parameters
    ----------
    result
        From `ChannelAblator.importance` with class labels.
    classes
        The name of each class; by default its number.
    limit
        How many channels to show at most, the most important ones first.
    title
        The heading; by default what was measured and where.
    ax
        Draw here instead of on a new figure.

    Raises
    ------
    TypeError
        If `result` is not an `ImportanceResult`.
    ValueError
        If it was made without class labels, or `classes` has another length.

    Examples
    --------
    >>> import torch
    >>> result = ImportanceResult(
    ...     importance=torch.tensor([0.0, 0.3]), standard_error=torch.zeros(2), baseline=0.9, channels=(0, 1), n=100,
    ...     per_class=torch.tensor([[0.1, -0.1], [0.2, 0.4]]), layer="conv1", metric="accuracy", mode="drop",
    ...     fill="zero")
    >>> len(class_importance(result, classes=["cat", "dog"]).images)
    1
    """
    _check_importance(result)
    if result.per_class is None:
        raise ValueError("the result has no classes: its labels were not whole numbers (N,)")
    ranks = _ranks(result, limit)
    factor = 100 if result.metric == "accuracy" else 1
    values = factor * to_floats(result.per_class)[ranks].T
    names = [str(name) for name in (classes if classes is not None else range(len(values)))]
    if len(names) != len(values):
        raise ValueError(f"classes must name all of {len(values)} classes; got {count(len(names), 'name')}")
    columns = [str(result.channels[rank]) for rank in ranks]
    width = min(max(CELL[0] * len(columns) + 2.2, NARROWEST), WIDTH + 1)
    ax = chart(ax, size=(width, min(max(CELL[1] * len(names) + 1.4, 2.4), 7.0)))
    low, high = limits(values, signed=True)
    picture = ax.imshow(
        values, cmap=colour_map("RdBu_r").with_extremes(bad=PALE), vmin=low, vmax=high, aspect="auto"
    )
    bar = ax.figure.colorbar(picture, ax=ax, shrink=0.8)
    legible = len(columns) <= 18 and len(names) <= 20
    unit = _write_cells(ax, values, picture, whole=factor == 100) if legible else ""
    bar.set_label(_lost(result) + unit, fontsize=8, color=INK)
    bar.ax.tick_params(labelsize=7)
    bar.outline.set_edgecolor(PALE)
    ax.set_yticks(range(len(names)), names, fontsize=8 if len(names) <= 20 else 6, color=INK)
    _name_channels(ax, columns)
    ax.tick_params(length=0)
    ax.spines[:].set_color(PALE)
    ax.set_xlabel("channel, most important first", color=INK)
    ax.set_ylabel("class", color=INK)
    text = title or f"Importance of {layer_name(result.layer)} by class"
    if len(ranks) < len(result.channels):
        text += f" (most important {len(ranks)} of {len(result.channels)})"
    ax.set_title("\n".join(wrap(text, room(ax)[0], TITLE)), loc="left", fontsize=TITLE, color=INK, pad=8)
    return ax


def _write_cells(ax: Axes, values: Floats, picture: AxesImage, *, whole: bool) -> str:
    """Write each number into its cell; return what to say of their unit."""
    unit, shown = _cells(values, whole=whole)
    for (row, column), value in np.ndenumerate(values):
        colour = text_colour(picture.to_rgba(np.asarray(value))) if np.isfinite(value) else QUIET
        ax.text(column, row, shown(value), ha="center", va="center", fontsize=7, color=colour)
    return unit


def _cells(values: Floats, *, whole: bool) -> tuple[str, Callable[[float], str]]:
    """Return how numbers are written that fit into cells, and what to say of the unit: at most "-9.9" or "-99"."""
    largest = float(np.abs(values[np.isfinite(values)]).max(initial=0.0))
    power = 0 if whole or 0.1 <= largest < 100 or not largest else math.floor(math.log10(largest))
    digits = 0 if whole or largest / 10.0**power >= 10 else 1 if largest / 10.0**power >= 1 else 2

    def shown(value: float) -> str:
        if not np.isfinite(value):
            return "–"
        text = f"{value / 10.0**power:.{digits}f}"
        return text if float(text) else "0"

    return (f", in cells × $10^{{{power}}}$" if power else ""), shown


def ablation_change(
    result: AblationResult, *, limit: int = 32, title: str | None = None, ax: Axes | None = None
) -> Axes:
    """Draw how much each channel changes the output, the one that changes most first.

    The height is the mean over the images of the mean squared difference from the plain output.

    Parameters
    ----------
    result
        From `ChannelAblator.sweep`, whatever its outputs are.
    limit
        How many channels to show at most; the title says when there are more.
    title
        The heading; by default the layer.
    ax
        Draw here instead of on a new figure.

    Raises
    ------
    TypeError
        If `result` is not an `AblationResult`.
    ValueError
        If `limit` is below 1.

    Examples
    --------
    >>> import torch
    >>> result = AblationResult(
    ...     outputs=torch.rand(5, 2, 10), baseline=torch.rand(2, 10), images=torch.rand(2, 1, 8, 8),
    ...     channels=(0, 1, 2, 3, 4), layer="conv1", mode="drop", fill="zero")
    >>> len(ablation_change(result).patches)
    5
    """
    check_type(result, AblationResult, argument="result", expected="what a ChannelAblator's sweep returns")
    change = to_floats(result.change)
    ranks = np.argsort(-change.mean(1), kind="stable")[: check_whole(limit, argument="limit", least=1)]
    errors = change.std(1, ddof=1) / math.sqrt(change.shape[1]) if change.shape[1] > 1 else 0 * change[:, 0]
    done = "kept alone" if result.mode == "keep" else "left out"
    text = title or f"{layer_name(result.layer, capital=True)}: change of the output with each channel {done}"
    if len(ranks) < len(change):
        text += f" (first {len(ranks)} of {len(change)})"
    return _bars(
        ax,
        change.mean(1)[ranks],
        2 * errors[ranks],
        [result.channels[rank] for rank in ranks],
        xlabel="channel, largest change first",
        ylabel="mean squared change",
        title=text,
        note=f"{count(change.shape[1], 'image')}{_fill(result.fill)}; strokes: two standard errors",
    )


def _bars(
    ax: Axes | None,
    heights: Floats,
    spans: Floats,
    names: list[int],
    *,
    xlabel: str,
    ylabel: str,
    title: str,
    note: str,
) -> Axes:
    places = np.arange(len(heights))
    ax = chart(ax, size=(min(max(1.5 + 0.2 * len(heights), NARROWEST), WIDTH), BARS))
    ax.bar(places, heights, width=0.72, color=SERIES[0], zorder=2)
    ax.vlines(places, heights - spans, heights + spans, color=INK, linewidth=1.4, zorder=4)
    lines = wrap(note, room(ax)[0] - 0.9, NOTE)  # less the axis and its label
    dress(ax, xlabel=xlabel, ylabel=ylabel, title=title, pad=12 + NOTE * LINE * len(lines))
    ax.annotate(
        "\n".join(lines),
        (0, 1),
        (0, 8),
        xycoords="axes fraction",
        textcoords="offset points",
        fontsize=NOTE,
        color=QUIET,
        in_layout=False,
    )
    _name_channels(ax, [str(name) for name in names])
    ax.set_xlim(-0.7, len(heights) - 0.3)
    ax.axhline(0, color=QUIET, linewidth=0.8, zorder=1)
    return ax


def _name_channels(ax: Axes, names: list[str]) -> None:
    step = math.ceil(len(names) / 64)  # so many labels stand side by side, if they stand on end
    ax.set_xticks(range(0, len(names), step), names[::step], color=INK)
    ax.tick_params(axis="x", length=0, labelsize=9 if len(names) <= 20 else 6.5)
    if len(names) > 36:
        ax.tick_params(axis="x", rotation=90)


def _check_importance(result: object) -> None:
    check_type(
        result, ImportanceResult, argument="result", expected="what a ChannelAblator's importance returns"
    )


def _ranks(result: ImportanceResult, limit: int) -> list[int]:
    """Return the places of the most important channels in the result, the most important one first."""
    places = {channel: place for place, channel in enumerate(result.channels)}
    return [places[channel] for channel in result.top(check_whole(limit, argument="limit", least=1))]


def _lost(result: ImportanceResult) -> str:
    done = "without it" if result.mode == "drop" else "with it alone"
    if result.metric == "accuracy":
        return f"accuracy lost {done} (points)"
    return f"loss gained {done} (nats)" if result.metric == "loss" else f"{result.metric} lost {done}"


def layer_name(layer: str, *, capital: bool = False) -> str:
    """Return a layer's name as it may stand in a sentence: a bare number, as in a Sequential, says "layer"."""
    if layer and not layer[0].isdigit():
        return layer
    text = f"layer {layer}" if layer else "the model"
    return text.capitalize() if capital else text


def _fill(fill: str) -> str:
    return (
        "" if fill == "zero" else f", ablated channels filled by {'a tensor' if fill == 'tensor' else fill}"
    )
