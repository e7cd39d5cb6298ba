"""What a linear probe reads off every layer, from the first to the last."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from featurelens._checks import check_choice, check_type, count
from featurelens.information import LinearProbeResult
from featurelens.plotting.arrays import to_floats
from featurelens.plotting.chart import chart, name_channels
from featurelens.plotting.colours import QUIET, SERIES
from featurelens.plotting.page import figure_of, text_or


def probe_curve(
    result: LinearProbeResult,
    measure: Literal["accuracy", "nats"] = "accuracy",
    *,
    title: str | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Draw what a linear probe predicts at each layer, with standard errors and the null of shuffled labels.

    Parameters
    ----------
    result
        From `linear_probe`.
    measure
        "accuracy", in percent with that of the commonest label, or "nats".
    title
        The heading; by default what was measured.
    ax
        Draw here instead of on a new figure.

    Raises
    ------
    TypeError, ValueError
        If `result` is not a `LinearProbeResult`, or `measure` is neither.

    Examples
    --------
    >>> import torch
    >>> some = torch.tensor([0.4, 0.7])
    >>> result = LinearProbeResult(
    ...     layers=("conv1", "conv2"), accuracy=some, accuracy_error=some / 50, nats=some, nats_error=some / 50,
    ...     columns=(16, 32), majority=0.1, label_entropy=2.3, n=500, folds=5)
    >>> probe_curve(result).axes[0].get_ylabel()
    'accuracy (%)'
    """
    check_type(result, LinearProbeResult, argument="result", expected="what linear_probe returns")
    check_choice(measure, ("accuracy", "nats"), argument="measure")
    in_percent = measure == "accuracy"
    factor, ylabel = (100, "accuracy (%)") if in_percent else (1, "information (nats)")
    note = f"{count(result.n, 'image')}, {result.folds} held-out parts; error bars: ±2 SE"
    if not in_percent:
        note += f"; H(Y) = {result.label_entropy:.2f} nats"
    ax = chart(
        ax, xlabel="layer", ylabel=ylabel, title=text_or(title, "Linear probe of each layer"), note=note
    )
    _draw_layers(ax, result, measure, factor)
    name_channels(ax, list(result.layers))
    return figure_of(ax)


def _draw_layers(ax: Axes, result: LinearProbeResult, measure: str, factor: int) -> None:
    values, errors, null = (
        getattr(result, name) for name in (measure, f"{measure}_error", f"null_{measure}")
    )
    values, errors, x = factor * to_floats(values), 2 * factor * to_floats(errors), np.arange(len(result))
    ax.errorbar(x, values, errors, color=SERIES[0], marker="o", markersize=4, linewidth=1.6, capsize=3)
    if null is not None:
        style: dict[str, Any] = {"color": QUIET, "linestyle": (0, (4, 2)), "linewidth": 1.1, "marker": "_"}
        ax.plot(x, factor * to_floats(null), label="shuffled labels", **style)
    if measure == "accuracy":
        majority = factor * result.majority
        ax.axhline(majority, color=QUIET, linestyle=":", linewidth=1, label="commonest label", zorder=1)
        ax.set_ylim(0, None)
    ax.set_xlim(-0.5, len(result) - 0.5)
    if ax.get_legend_handles_labels()[0]:
        ax.legend(frameon=False, fontsize=9)
