"""Lines: over the epochs of a training, the steps of an optimization, or the channels removed."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from featurelens._checks import check_type, check_whole, describe
from featurelens.ablation import AblationCurve
from featurelens.maximization import MaximizationResult, Objective
from featurelens.plotting.arrays import Array, Floats, check_array, to_floats
from featurelens.plotting.chart import add_legend_beside, chart
from featurelens.plotting.colours import QUIET, SERIES
from featurelens.plotting.estimates import (
    Estimates,
    OverEpochs,
    common_units,
    read_epochs,
    read_estimates,
    read_named,
)
from featurelens.plotting.page import figure_of, layer_name, objective_name, text_or, wrap

DASHES = ("-", (0, (5, 2)), (0, (1, 1.2)), (0, (5, 1.5, 1, 1.5)))  # one for every round of colours
NULL = (0, (4, 2))  # the dashes of a null
MARKERS = "osD^vP*Xph"
MOST_LINES = 7  # of objectives
LEGEND = 2.5  # width of the words in the legend, in inches


def training_curves(
    curves: Mapping[str, Sequence[float] | Array],
    *,
    ylabel: str,
    title: str | None = None,
    best: int | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Draw one line over epochs for each named sequence; epochs count from 1.

    NaN and infinite values leave a gap and a cross at the bottom of the chart.

    Parameters
    ----------
    curves
        Name -> one value for each epoch, ``(E,)``; the lengths may differ.
    ylabel
        What is measured, with its unit.
    title
        The heading; by default none.
    best
        An epoch to mark, counted from 1.
    ax
        Draw here instead of on a new figure.

    Raises
    ------
    TypeError, ValueError
        If `curves` is not a mapping from names to non-empty sequences of numbers, or `best` is not one of the epochs.

    Examples
    --------
    >>> figure = training_curves({"train": [0.9, 0.4, 0.2], "test": [0.8, 0.5, 0.6]}, ylabel="loss", best=2)
    >>> [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    ['train', 'test']
    """
    lines = read_named(curves, _check_series, "values")
    epochs = max(len(values) for values in lines.values())
    if best is not None and not 1 <= check_whole(best, argument="best") <= epochs:
        raise ValueError(f"best must be an epoch from 1 to {epochs}; got {best}")
    ax = chart(ax, xlabel="epoch", ylabel=ylabel, title=title)
    for number, (name, values) in enumerate(lines.items()):
        colour, dashes = SERIES[number % len(SERIES)], DASHES[number // len(SERIES) % len(DASHES)]
        _draw_curve(ax, name, np.arange(1, len(values) + 1), values, colour=colour, dashes=dashes)
    if best is not None:
        ax.axvline(best, color=QUIET, linewidth=1, linestyle=(0, (3, 3)), zorder=1)
        style: dict[str, Any] = {"ha": "right" if best > (epochs + 1) / 2 else "left", "color": QUIET}
        ax.text(best, 1.01, f"best epoch: {best}", transform=ax.get_xaxis_transform(), fontsize=8, **style)
    _count_epochs(ax, 1, epochs)
    if len(lines) <= len(SERIES):
        ax.legend(frameon=False, fontsize=9)
    else:
        add_legend_beside(ax, ax.get_legend_handles_labels()[0])
    return figure_of(ax)


def information_curves(
    curves: Mapping[str, OverEpochs],
    *,
    epochs: Sequence[int] | Array | None = None,
    ylabel: str | None = None,
    title: str | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Draw information over epochs: a line for the estimate, a band for its interval, a dashed line for its null.

    A line that lies on its null shows no information: the estimator returns as much for shuffled pairs.

    Parameters
    ----------
    curves
        Name (of a layer) -> one result for each epoch, as `MutualInformationResult` or
        `SpatialMutualInformationResult`; or plain numbers ``(E,)``, without unit or null.
    epochs
        The epochs of all curves, increasing; by default 1, 2, ...
    ylabel
        What is measured; by default mutual information, with the unit of the results.
    title, ax
        As for `training_curves`.

    Raises
    ------
    TypeError, ValueError
        If `curves` is not a mapping from names to non-empty sequences of results or of numbers, one of them differs in
        length from `epochs`, or units are mixed.

    Examples
    --------
    >>> from featurelens.information import MutualInformationResult
    >>> def result(value):
    ...     return MutualInformationResult(value=value, null_mean=0.1, method="KSG", n=99, dim_x=1, dim_y=1)
    >>> figure = information_curves({"conv1": [result(0.4), result(0.7)], "conv2": [result(0.3), result(0.9)]})
    >>> figure.axes[0].get_ylabel()
    'mutual information (nats)'
    """
    estimates = read_estimates(curves, argument="curves")
    units = common_units((each.units for each in estimates.values()), argument="curves")
    numbers = read_epochs(epochs, {f"curves[{name!r}]": len(each) for name, each in estimates.items()})
    usual = "mutual information" + ("" if units is None else f" ({units})")
    ylabel = text_or(ylabel, usual, argument="ylabel")
    ax = chart(ax, size=(7.0, 3.9), xlabel="epoch", ylabel=ylabel, title=title, pad=10)
    for index, (name, each) in enumerate(estimates.items()):
        _draw_estimates(ax, name, each, numbers[: len(each)], index)
    _count_epochs(ax, numbers[0], numbers[-1])
    handles: list[Any] = ax.get_legend_handles_labels()[0]
    if any(np.isfinite(each.nulls).any() for each in estimates.values()):
        handles.append(Line2D([], [], color=QUIET, linestyle=NULL, linewidth=1.1, label="null"))
    if any(np.isfinite(each.lows).any() for each in estimates.values()):
        handles.append(Patch(color=QUIET, alpha=0.25, linewidth=0, label="interval"))
    add_legend_beside(ax, handles)
    return figure_of(ax)


def ablation_curves(
    curves: AblationCurve | Mapping[str, AblationCurve], *, title: str | None = None, ax: Axes | None = None
) -> Figure:
    """Draw the metric against the number of channels removed, one line for each curve.

    Parameters
    ----------
    curves
        From `ChannelAblator.curve`; or a mapping from names to several, for example with the least important channels
        first, the most important first, and in random order.
    title, ax
        As for `training_curves`; the title is by default the layer.

    Raises
    ------
    TypeError, ValueError
        If `curves` is neither, or they do not all have the same metric.

    Examples
    --------
    >>> curve = AblationCurve(
    ...     values=torch.tensor([0.9, 0.8, 0.3]), order=(2, 0), total=3, n=100, layer="conv1", metric="accuracy",
    ...     fill="zero")
    >>> figure = ablation_curves({"least important first": curve, "most important first": curve})
    >>> figure.axes[0].get_xlabel()
    'channels removed'
    """
    named: Mapping[str, AblationCurve] = {"": curves} if isinstance(curves, AblationCurve) else curves
    expected = "what a ChannelAblator's curve returns, or a mapping from names to that"
    check_type(named, Mapping, argument="curves", expected=expected)
    for name, curve in named.items():
        check_type(curve, AblationCurve, argument=f"curves[{name!r}]", expected="what curve returns")
    metrics = list(dict.fromkeys(curve.metric for curve in named.values()))
    if len(metrics) != 1:
        raise ValueError(f"curves must be of one metric; got {', '.join(metrics) or 'no curve'}")
    ylabel = {"accuracy": "accuracy (%)", "loss": "loss (nats)"}.get(metrics[0], metrics[0])
    layers = " and ".join(dict.fromkeys(layer_name(curve.layer) for curve in named.values()))
    kinds = " or ".join(dict.fromkeys(f"{curve.noun}s" for curve in named.values()))
    title = text_or(title, f"{kinds.capitalize()} of {layers} removed")
    ax = chart(ax, xlabel=f"{kinds} removed", ylabel=ylabel, title=title, pad=8)
    for number, (name, curve) in enumerate(named.items()):
        values = (100 if metrics == ["accuracy"] else 1) * to_floats(curve.values)
        _draw_curve(ax, name, np.arange(len(values)), values, colour=SERIES[number % len(SERIES)])
    last = max(len(curve.order) for curve in named.values())
    ax.set_xlim(-0.02 * last - 0.1, 1.02 * last + 0.1)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    if metrics == ["accuracy"]:
        ax.set_ylim(bottom=0)
    if any(named):
        ax.legend(frameon=False, fontsize=9)
    return figure_of(ax)


def maximization_history(
    result: MaximizationResult, *, title: str | None = None, ax: Axes | None = None
) -> Figure:
    """Draw the objectives over the steps: one line each for up to seven, otherwise median, quartiles and range.

    Objectives of different kinds (other layers, other terms) cannot be compared. Each is then scaled from its lowest
    value, 0, to its highest, 1, and the legend gives both values.

    Parameters
    ----------
    result
        From `ActivationMaximizer.run`.
    title, ax
        As for `training_curves`.

    Raises
    ------
    TypeError
        If `result` is not a MaximizationResult.

    Examples
    --------
    >>> import featurelens as fl
    >>> model = torch.nn.Conv2d(1, 4, 3)
    >>> result = fl.ActivationMaximizer(model, fl.FourierImage((1, 8, 8)), steps=2).run(model)
    >>> len(maximization_history(result).axes[0].lines)
    4
    """
    check_type(result, MaximizationResult, argument="result", expected="a MaximizationResult")
    values = to_floats(result.history)
    names, ylabel = [objective_name(objective) for objective in result.objectives], "objective"
    if len({_kind(objective) for objective in result.objectives}) > 1:
        low, high = values.min(axis=0), values.max(axis=0)
        names = [f"{name} ({a:.3g} to {b:.3g})" for name, a, b in zip(names, low, high, strict=True)]
        values = (values - low) / np.where(high > low, high - low, 1.0)
        ylabel = "objective: 0 lowest, 1 highest"
    steps = np.arange(1, len(values) + 1)
    ax = chart(ax, xlabel="step", ylabel=ylabel, title=title)
    if values.shape[1] <= MOST_LINES:
        for row, name in enumerate(names):
            marker, label = "o" if len(steps) == 1 else "", "\n".join(wrap(name, LEGEND, 8.0))
            ax.plot(steps, values[:, row], color=SERIES[row], label=label, marker=marker, linewidth=1.4)
    else:
        low, quarter, middle, three, high = np.quantile(values, [0, 0.25, 0.5, 0.75, 1], axis=1)
        for lower, upper, alpha, label in ((low, high, 0.15, "all"), (quarter, three, 0.35, "middle half")):
            ax.fill_between(steps, lower, upper, color=SERIES[0], alpha=alpha, linewidth=0, label=label)
        ax.plot(steps, middle, color=SERIES[0], linewidth=1.6, label=f"median of {values.shape[1]}")
    ax.legend(facecolor="white", edgecolor="none", framealpha=0.85, fontsize=8)
    return figure_of(ax)


def _kind(objective: Objective) -> Hashable:
    """Return what objectives have in common whose values can be compared."""
    return tuple((type(term), getattr(term, "layer", None)) for _, term in objective.terms)


def _draw_curve(
    ax: Axes, name: str, x: NDArray[Any], values: Floats, *, colour: str, marker: str = "o", dashes: Any = "-"
) -> None:
    """Draw a line over `x`; values that are NaN or infinite leave a gap, and a cross at the foot."""
    finite = np.isfinite(values)
    style: dict[str, Any] = {"color": colour, "linestyle": dashes, "marker": marker, "linewidth": 1.6}
    if len(values) > 30 and finite.all():
        if marker == "o":
            style["marker"] = ""  # only a value between gaps, which has no line, needs one
        else:
            style["markevery"] = math.ceil(len(values) / 12)  # distinguishes lines of one colour
    ax.plot(x, np.where(finite, values, np.nan), label=name, markersize=3.5, **style)
    if not finite.all():
        foot = np.full((~finite).sum(), 0.03)
        at_foot: dict[str, Any] = {"transform": ax.get_xaxis_transform(), "label": f"{name}: NaN or infinite"}
        ax.plot(x[~finite], foot, "x", color=colour, **at_foot)


def _draw_estimates(ax: Axes, name: str, each: Estimates, epochs: NDArray[np.int64], index: int) -> None:
    colour, marker = SERIES[index % len(SERIES)], MARKERS[index // len(SERIES) % len(MARKERS)]
    _draw_curve(ax, name, epochs, each.values, colour=colour, marker=marker)
    if np.isfinite(each.lows).sum() == 1:  # a band over one epoch has no width
        reach = np.stack([each.lows, each.highs])
        ax.plot(np.stack([epochs, epochs]), reach, color=colour, linewidth=4, alpha=0.3, zorder=1)
    else:
        ax.fill_between(epochs, each.lows, each.highs, color=colour, alpha=0.18, linewidth=0, zorder=1)
    known = int(np.isfinite(each.nulls).sum())
    if known:
        only: dict[str, Any] = {"marker": "_", "markersize": 16} if known == 1 else {}
        ax.plot(epochs, each.nulls, color=colour, linestyle=NULL, linewidth=1.1, **only)


def _count_epochs(ax: Axes, first: float, last: float) -> None:
    """Fit the horizontal axis to the epochs, with ticks at whole ones only."""
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
    margin = min(max(0.03 * (last - first), 0.25), 0.9)  # below 1: there is no epoch before the first
    ax.set_xlim(first - margin, last + margin)


def _check_series(values: Sequence[float] | Array, argument: str) -> Floats:
    if not isinstance(values, torch.Tensor | np.ndarray):
        try:
            values = np.array([float(value) for value in values])
        except (TypeError, ValueError):
            raise TypeError(f"{argument} must be a sequence of numbers; got {describe(values)}") from None
    return to_floats(check_array(values, {1: "(epochs,)"}, argument=argument))
