"""A bar for each channel or layer: its information, importance, effect on the output, and range of values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from featurelens._checks import check_type, count
from featurelens.ablation import AblationResult, ImportanceResult
from featurelens.information import ChannelInformationResult, LayerInformationResult
from featurelens.plotting.arrays import Floats, check_limit, to_floats
from featurelens.plotting.chart import chart, name_channels, write_beside
from featurelens.plotting.colours import INK, QUIET, SERIES
from featurelens.plotting.page import (
    WIDTH,
    about,
    figure_of,
    first_of,
    layer_name,
    method_name,
    text_or,
    text_width,
)
from featurelens.statistics import HistogramResult

STRIP = 0.13  # of the height of the bars
NARROWEST, HEIGHT = 4.8, 3.5  # inches
INSIGNIFICANT = "#b5cbe0"  # a pale first colour of the series
STROKES = "; error bars: ±2 SE"


def channel_bars(
    result: ChannelInformationResult, *, limit: int = 32, title: str | None = None, ax: Axes | None = None
) -> Figure:
    """Draw the information between each channel and the label, most informative channel first.

    The dark stroke is the null, the value with shuffled labels: a channel whose bar is no higher is not informative.
    The label entropy is drawn as a line unless it would dwarf the bars.

    Parameters
    ----------
    result
        From `channel_information`.
    limit
        How many channels to show at most; the title says when there are more.
    title, ax
        As for `importance`; the title is by default "Information with the label".

    Raises
    ------
    TypeError, ValueError
        If `result` is not a `ChannelInformationResult`, or `limit` is below 1.

    Examples
    --------
    >>> import torch
    >>> result = ChannelInformationResult(values=torch.tensor([0.1, 0.7, 0.4]), method="channels()", n=100)
    >>> [label.get_text() for label in channel_bars(result).axes[0].get_xticklabels()]
    ['1', '2', '0']
    """
    expected = "what channel_information returns"
    check_type(result, ChannelInformationResult, argument="result", expected=expected)
    shown = result.top(check_limit(limit, len(result)))
    heights, entropy = to_floats(result.values)[shown], result.label_entropy
    note = f"{method_name(result.method)}, {count(result.n, 'sample')}"
    if entropy is not None:
        note += f"; label entropy: {entropy:.3f} {result.units}"
    heading = text_or(title, "Information with the label")
    heading = first_of(heading, len(shown), len(result), which="best", noun=" channels")
    words: dict[str, Any] = {
        "xlabel": "channel, best first",
        "ylabel": f"mutual information ({result.units})",
    }
    ax = _draw_bars(ax, heights, shown, title=heading, note=note, **words)
    if result.null_mean is not None:
        _draw_nulls(ax, to_floats(result.null_mean)[shown])
    _draw_limit(ax, heights, entropy, "H(Y)", words_above=result.null_mean is not None)
    return figure_of(ax)


def layer_bars(result: LayerInformationResult, *, title: str | None = None, ax: Axes | None = None) -> Figure:
    """Draw the information of each layer, in the order in which they were selected.

    A thin stroke spans the confidence interval, if there is one. The dark line across a bar is the null, the value with
    shuffled labels. The upper bound, the entropy of the labels or the largest value that this many samples can show, is
    drawn as a line unless it would dwarf the bars.

    Parameters
    ----------
    result
        From `layer_information`.
    title, ax
        As for `importance`; the title is by default "Information of each layer".

    Raises
    ------
    TypeError
        If `result` is not a `LayerInformationResult`.

    Examples
    --------
    >>> from featurelens.information import MutualInformationResult
    >>> one, two = (MutualInformationResult(value=v, method="KSG(k=5)", n=99, dim_x=1, dim_y=4) for v in (0.2, 0.5))
    >>> figure = layer_bars(LayerInformationResult({"conv1": one, "conv2": two}))
    >>> [label.get_text() for label in figure.axes[0].get_xticklabels()]
    ['conv1', 'conv2']
    """
    check_type(result, LayerInformationResult, argument="result", expected="what layer_information returns")
    first, found = next(iter(result.values())), list(result.values())
    heights = np.array([each.value for each in found])
    entropy = first.label_entropy
    limit, symbol = (first.ceiling, "ceiling") if entropy is None else (entropy, "H(Y)")
    note = f"{method_name(first.method)}, {count(first.n, 'sample')}"
    if limit is not None:
        note += f"; {'ceiling' if entropy is None else 'label entropy'}: {limit:.3f} {first.units}"
    words = {"xlabel": "layer", "ylabel": f"mutual information ({first.units})", "note": note}
    spans = None
    if any(each.interval for each in found):
        ends = np.array([each.interval or (each.value, each.value) for each in found])
        spans = np.abs(ends.T - heights)
        words["note"] += "; error bars: confidence intervals"
    ax = _draw_bars(
        ax, heights, list(result), spans, title=text_or(title, "Information of each layer"), **words
    )
    nulls = np.array([each.null_mean for each in found], dtype=float)  # None becomes NaN, which is not drawn
    tested = bool(np.isfinite(nulls).any())
    if tested:
        _draw_nulls(ax, nulls)
    _draw_limit(ax, heights, limit, symbol, words_above=tested)
    return figure_of(ax)


def importance(
    result: ImportanceResult, *, limit: int = 32, title: str | None = None, ax: Axes | None = None
) -> Figure:
    """Draw the importance of each channel, most important first.

    Error bars are ±2 standard errors. Pale bars are channels whose effect may be due to the choice of images: they are
    not significant at a false discovery rate of 5 %.

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
    TypeError, ValueError
        If `result` is not an `ImportanceResult`, or `limit` is below 1.

    Examples
    --------
    >>> import torch
    >>> result = ImportanceResult(
    ...     importance=torch.tensor([0.0, 0.3, 0.1]), standard_error=torch.full((3,), 0.02), baseline=0.9,
    ...     channels=(0, 1, 2), n=100, layer="conv1", metric="accuracy", mode="drop", fill="zero")
    >>> [label.get_text() for label in importance(result).axes[0].get_xticklabels()]
    ['1', '2', '0']
    """
    ranks, factor, heading = read_importance(result, limit, title, "")
    baseline = f"{result.baseline:.1%}" if factor == 100 else f"{result.baseline:.4g}"
    note = f"{result.metric} {baseline} with all {result.noun}s, {count(result.n, 'image')}{_filled(result)}"
    heights, errors = (factor * to_floats(each)[ranks] for each in (result.importance, result.standard_error))
    words = {"xlabel": f"{result.noun}, most important first", "ylabel": lost(result), "title": heading}
    names = [result.channels[rank] for rank in ranks]
    note += (
        STROKES if heights.any() or errors.any() else f"; removing any single {result.noun} changes nothing"
    )
    if result.p_value is None:
        return figure_of(_draw_bars(ax, heights, names, 2 * errors, note=note, **words))
    found = set(result.significant())
    if any(name not in found for name in names):
        note += "; pale: not significant (false discovery rate 5 %)"
    colours = [SERIES[0] if name in found else INSIGNIFICANT for name in names]
    return figure_of(_draw_bars(ax, heights, names, 2 * errors, colours=colours, note=note, **words))


def ablation_change(
    result: AblationResult, *, limit: int = 32, title: str | None = None, ax: Axes | None = None
) -> Figure:
    """Draw how much ablating each channel changes the output, largest change first.

    The height is the mean squared difference from the plain output, averaged over images.

    Parameters
    ----------
    result
        From `ChannelAblator.sweep`, with outputs of any kind.
    limit
        How many channels to show at most; the title says when there are more.
    title
        The heading; by default the layer.
    ax
        Draw here instead of on a new figure.

    Raises
    ------
    TypeError, ValueError
        If `result` is not an `AblationResult`, or `limit` is below 1.

    Examples
    --------
    >>> import torch
    >>> result = AblationResult(
    ...     outputs=torch.rand(5, 2, 10), baseline=torch.rand(2, 10), images=torch.rand(2, 1, 8, 8),
    ...     channels=(0, 1, 2, 3, 4), layer="conv1", mode="drop", fill="zero")
    >>> len(ablation_change(result).axes[0].patches)
    5
    """
    check_type(result, AblationResult, argument="result", expected="what a ChannelAblator's sweep returns")
    change = to_floats(result.change)
    total, images = change.shape
    means = change.mean(1)
    errors = change.std(1, ddof=1) / math.sqrt(images) if images > 1 else np.zeros(total)
    ranks = np.argsort(-means, kind="stable")[: check_limit(limit, total)]
    done = "kept alone" if result.mode == "keep" else "left out"
    layer = layer_name(result.layer, capital=True)
    heading = text_or(title, f"{layer}: change of the output with each {result.noun} {done}")
    words = {"xlabel": f"{result.noun}, largest change first", "ylabel": "mean squared change"}
    words["title"] = first_of(heading, len(ranks), total)
    words["note"] = f"{count(images, 'image')}{_filled(result)}{STROKES}"
    names = [result.channels[rank] for rank in ranks]
    return figure_of(_draw_bars(ax, means[ranks], names, 2 * errors[ranks], **words))


def channel_quantiles(result: HistogramResult, *, title: str | None = None, ax: Axes | None = None) -> Figure:
    """Draw the range of each channel's values: the median, the middle half, and the middle 95 %.

    Parameters
    ----------
    result
        From `ActivationRecorder.stream` with `Histogram`.
    title
        The heading; by default "Values of every channel", with the layer if the result has one.
    ax
        Draw here instead of on a new figure.

    Raises
    ------
    TypeError
        If `result` is not a `HistogramResult`.

    Examples
    --------
    >>> import torch, featurelens as fl
    >>> histogram = fl.statistics.Histogram()
    >>> histogram.update(torch.randn(100, 8))
    >>> channel_quantiles(histogram.compute()).axes[0].get_xlabel()
    'channel, by median'
    """
    check_type(result, HistogramResult, argument="result", expected="a HistogramResult")
    quantiles = to_floats(result.quantile([0.025, 0.25, 0.5, 0.75, 0.975]))
    order = np.argsort(quantiles[2], kind="stable")
    ends = np.append(order, order[-1:])  # the last step needs an end
    low, quarter, middle, three, high = quantiles[:, ends]
    heading = text_or(title, about("Values of every channel", result.layer))
    ax = chart(ax, xlabel="channel, by median", ylabel="activation", title=heading)
    edges = np.arange(len(order) + 1) - 0.5
    style: dict[str, Any] = {"color": SERIES[0], "linewidth": 0, "step": "post"}
    ax.fill_between(edges, low, high, alpha=0.18, label="middle 95 %", **style)
    ax.fill_between(edges, quarter, three, alpha=0.4, label="middle half", **style)
    ax.step(edges, middle, where="post", color=SERIES[0], linewidth=1.4, label="median")
    named = order if len(order) <= 24 else order[:0]
    ax.set_xticks(range(len(named)), [str(channel) for channel in named])
    ax.set_xlim(-0.5, len(order) - 0.5)
    ax.legend(frameon=False, fontsize=8)
    return figure_of(ax)


def read_importance(
    result: ImportanceResult, limit: int, title: str | None, further: str
) -> tuple[list[int], int, str]:
    """Return the places of the most important channels in a result, the factor of its unit, and the heading."""
    expected = "what a ChannelAblator's importance returns"
    check_type(result, ImportanceResult, argument="result", expected=expected)
    total = len(result.channels)
    ranks = [result.channels.index(channel) for channel in result.top(check_limit(limit, total))]
    heading = text_or(title, f"Importance of {layer_name(result.layer)}{further}")
    heading = first_of(heading, len(ranks), total, which="most important")
    return ranks, 100 if result.metric == "accuracy" else 1, heading


def lost(result: ImportanceResult) -> str:
    """Return what an importance measures, and its unit."""
    done = "when removed" if result.mode == "drop" else "when kept alone"
    if result.metric == "accuracy":
        return f"accuracy lost {done} (points)"
    return f"increase in loss {done} (nats)" if result.metric == "loss" else f"{result.metric} lost {done}"


def _filled(result: AblationResult | ImportanceResult) -> str:
    if result.fill == "zero":
        return ""
    return f", ablated {result.noun}s filled with {'a tensor' if result.fill == 'tensor' else result.fill}"


def _draw_bars(
    ax: Axes | None,
    heights: Floats,
    names: Sequence[object],
    spans: Floats | None = None,
    *,
    colours: str | list[str] = SERIES[0],
    **words: Any,
) -> Axes:
    """Draw a bar for each name, with a stroke that spans the error of its height: `(n,)`, or below and above `(2, n)`."""
    places = np.arange(len(heights))
    below_axis = max(text_width(str(name), 6.5) for name in names)  # should names have to stand on end
    size = (min(max(1.5 + 0.2 * len(heights), NARROWEST), WIDTH), HEIGHT + max(below_axis - 0.3, 0.0))
    ax = chart(ax, size=size, **words)
    ax.bar(places, heights, width=0.72, color=colours, zorder=2)
    if spans is not None:
        below, above = np.broadcast_to(spans, (2, len(heights)))
        ax.vlines(places, heights - below, heights + above, color=INK, linewidth=1.4, zorder=4)
    ax.set_xlim(-0.7, len(heights) - 0.3)
    name_channels(ax, [str(name) for name in names])
    ax.axhline(0, color=QUIET, linewidth=0.8, zorder=1)
    return ax


def _draw_nulls(ax: Axes, nulls: Floats) -> None:
    places = np.arange(len(nulls))
    ax.hlines(nulls, places - 0.42, places + 0.42, color="white", linewidth=3.2, zorder=3)
    ax.hlines(nulls, places - 0.42, places + 0.42, color=INK, linewidth=1.6, zorder=4)
    key = Line2D([], [], color=INK, linewidth=1.6, label="null (shuffled labels)")
    ax.legend(handles=[key], frameon=False, fontsize=9, loc="upper right", borderaxespad=0)


def _draw_limit(ax: Axes, heights: Floats, limit: float | None, symbol: str, *, words_above: bool) -> None:
    """Draw an upper bound as a line, unless it would squeeze the bars, and leave a strip above the bars for words."""
    near = limit is not None and limit <= 3 * float(heights.max())
    if limit is not None and near:
        ax.axhline(limit, color=QUIET, linewidth=0.8, zorder=1)
        place: dict[str, Any] = {"xycoords": ax.get_yaxis_transform(), "va": "bottom"}
        write_beside(ax, f"{symbol} = {limit:.2f}", (0.0, limit), (2, 2), **place)
    if near or words_above:
        low, high = ax.dataLim.intervaly
        ax.set_ylim(top=high + STRIP * (high - min(low, 0.0)))
