"""How well a model does with more and more channels removed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.ticker import MaxNLocator

from featurelens._checks import check_type
from featurelens.ablation import AblationCurve
from featurelens.plotting._arrays import to_floats
from featurelens.plotting._colours import SERIES
from featurelens.plotting._curves import chart, draw_curve, dress
from featurelens.plotting._importance import layer_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def ablation_curves(
    curves: AblationCurve | Mapping[str, AblationCurve], *, title: str | None = None, ax: Axes | None = None
) -> Axes:
    """Draw how well a model does with more and more channels removed, one line for each curve.

    Parameters
    ----------
    curves
        What `ChannelAblator.curve` returns, or several of them by name: the least important channels first, the most
        important first, in random order.
    title
        The heading; by default the layer.
    ax
        Draw here instead of on a new figure.

    Raises
    ------
    TypeError
        If `curves` is neither.
    ValueError
        If there is none, or they are of different metrics.

    Examples
    --------
    >>> import torch
    >>> curve = AblationCurve(
    ...     values=torch.tensor([0.9, 0.8, 0.3]), order=(2, 0), total=3, n=100, layer="conv1", metric="accuracy",
    ...     fill="zero")
    >>> ablation_curves({"least important first": curve, "most important first": curve}).get_xlabel()
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
    first = next(iter(named.values()))
    factor = 100 if first.metric == "accuracy" else 1
    ax = chart(ax, size=(6.0, 3.7))
    for number, (name, curve) in enumerate(named.items()):
        values = factor * to_floats(curve.values)
        draw_curve(ax, name, np.arange(len(values)), values, colour=SERIES[number % len(SERIES)])
    last = max(len(curve.order) for curve in named.values())
    ax.set_xlim(-0.02 * last - 0.1, 1.02 * last + 0.1)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    if factor == 100:
        ax.set_ylim(bottom=0)
    layers = " and ".join(dict.fromkeys(layer_name(curve.layer) for curve in named.values()))
    ylabel = "accuracy (%)" if factor == 100 else "loss (nats)" if first.metric == "loss" else first.metric
    dress(
        ax,
        xlabel="channels removed",
        ylabel=ylabel,
        title=title or f"Channels of {layers} removed",
        pad=8,
    )
    if any(named):
        ax.legend(frameon=False, fontsize=9)
    return ax
