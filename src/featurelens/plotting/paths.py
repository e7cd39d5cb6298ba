"""The paths to objectives: how much optimized images have in common with real ones, layer by layer."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from featurelens._checks import check_type, count
from featurelens.maximization import RealImageComparison
from featurelens.maximization.paths import DETOUR
from featurelens.plotting.arrays import Floats, to_floats
from featurelens.plotting.chart import SIZE, chart
from featurelens.plotting.colours import INK, SERIES
from featurelens.plotting.page import figure_of, objective_name, text_or

MOST_NAMES = 24
"""More layers than these are numbered at intervals instead of named."""

MOST_ALONE = 6
"""More detours than these are not named."""

WARNING = "#c0392b"


def paths(comparison: RealImageComparison, *, title: str | None = None, ax: Axes | None = None) -> Figure:
    """Draw one curve for each optimized image: how much of the real images' path it takes, layer by layer.

    At 1 the channels that contribute to the objective are as alike in the optimized and the strongest real images as in
    these among themselves; at 0 other channels contribute. The dashed line is the median of random real images. A
    curve that falls below the dotted line is red: that picture reaches its objective by another path.

    Parameters
    ----------
    comparison
        From `MaximizationResult.compare`.
    title, ax
        As for `training_curves`; by default "Paths to the objectives".

    Raises
    ------
    TypeError
        If `comparison` is not a RealImageComparison.
    ValueError
        If no layer before those of the objectives contributes to them in real images.

    Examples
    --------
    >>> import torch, featurelens as fl
    >>> model = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.Conv2d(4, 4, 3))
    >>> result = fl.ActivationMaximizer(model, fl.FourierImage((1, 8, 8)), steps=2).run("2")
    >>> len(paths(result.compare(torch.rand(16, 1, 8, 8))).axes[0].lines)
    6
    """
    check_type(comparison, RealImageComparison, argument="comparison", expected="a RealImageComparison")
    path = comparison.path
    if not path.layers:
        raise ValueError(
            "no layer before those of the objectives contributes to them in real images: there is no path to draw"
        )
    curves = to_floats(path.relative)
    ax = chart(
        ax,
        xlabel="layer",
        ylabel="path in common with real images",
        title=text_or(title, "Paths to the objectives"),
        note=f"{count(len(curves), 'optimized image')}; {int(comparison.detours.sum())} by another path than real images",
        size=(max(SIZE[0], min(0.32 * len(path.layers), 11.0)), SIZE[1] + 0.4),
    )
    _draw_curves(ax, comparison, curves)
    ax.axhline(DETOUR, color=WARNING, linestyle=":", linewidth=1)
    _name_detours(ax, comparison, curves)
    _name_layers(ax, path.layers)
    ax.set_ylim(bottom=0)
    ax.legend(frameon=False, fontsize=8, loc="best")
    return figure_of(ax)


def _draw_curves(ax: Axes, comparison: RealImageComparison, curves: Floats) -> None:
    places, detours = np.arange(curves.shape[1]), comparison.detours.tolist()
    pale = 0.9 if len(curves) < 20 else 0.4
    for detour, curve in sorted(zip(detours, curves, strict=True), key=lambda pair: bool(pair[0])):
        marker = "o" if np.isfinite(curve).sum() < 3 else ""
        colour = WARNING if detour else SERIES[0]
        ax.plot(places, curve, color=colour, linewidth=1, marker=marker, markersize=3, alpha=pale)
    relative = to_floats(comparison.path.random / comparison.path.strongest)
    known = np.isfinite(curves).any(0)
    usual = np.full(len(places), np.nan)
    usual[known] = np.nanmedian(np.where(np.isfinite(curves), relative, np.nan)[:, known], axis=0)
    ax.plot(places, usual, color=INK, linestyle="--", linewidth=1.2, label="random real images, median")


def _name_detours(ax: Axes, comparison: RealImageComparison, curves: Floats) -> None:
    rows = comparison.detours.nonzero().flatten().tolist()
    for row in rows if len(rows) <= MOST_ALONE else []:
        lowest = int(np.nanargmin(curves[row]))
        ax.annotate(
            objective_name(comparison.objectives[row]),
            (lowest, curves[row, lowest]),
            (4, 4),
            textcoords="offset points",
            color=WARNING,
            fontsize=7,
        )


def _name_layers(ax: Axes, names: tuple[str, ...]) -> None:
    step = -(-len(names) // MOST_NAMES)
    places = np.arange(0, len(names), step)
    ax.set_xticks(places, [names[place] for place in places], rotation=60, ha="right", fontsize=7)
    ax.set_xlim(-0.4, len(names) - 0.6)
