"""The information plane: the path of every layer through I(X;T) and I(T;Y)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from featurelens._checks import check_choice, check_number, describe
from featurelens.information.results import SATURATION
from featurelens.plotting.arrays import Array, Floats
from featurelens.plotting.chart import add_legend_beside, chart, write_beside
from featurelens.plotting.colours import INK, PALE, QUIET, SERIES, colour_map
from featurelens.plotting.curves import MARKERS, NULL
from featurelens.plotting.estimates import Estimates, OverEpochs, common_units, read_epochs, read_estimates
from featurelens.plotting.page import figure_of, quiet

LIMIT: dict[str, Any] = {"color": QUIET, "linewidth": 0.8, "zorder": 1}


def information_plane(
    x: Mapping[str, OverEpochs],
    y: Mapping[str, OverEpochs],
    *,
    epochs: Sequence[int] | Array | None = None,
    units: str | None = None,
    x_ceiling: float | None = None,
    label_entropy: float | None = None,
    title: str | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Draw the path of every layer through the information plane: I(X;T) across, I(T;Y) upwards.

    A marker's fill shows its epoch. The null, the layer's value for shuffled labels, is dashed, with a hollow marker at
    the last epoch; only the height above it is information about the labels. See Tishby & Zaslavsky (2015), "Deep
    learning and the information bottleneck principle". For a deterministic layer I(X;T) is finite only with a noise
    model.

    Parameters
    ----------
    x, y
        Layer -> I(X;T), and layer -> I(T;Y), one result (or number, ``(E,)``) for each epoch; the same layers in both.
        Nulls are taken from `y`.
    epochs, title, ax
        As for `information_curves`.
    units
        ``"nats"`` or ``"bits"``; required for plain numbers only.
    x_ceiling, label_entropy
        The largest measurable I(X;T), log n for n distinct images, and H(Y), the largest I(T;Y): drawn as grey lines if
        a path rises above 0.6 of them, otherwise as text.

    Raises
    ------
    TypeError, ValueError
        If layers, epochs or units do not match, or an argument is not one of the above.

    Examples
    --------
    >>> figure = information_plane({"fc": [4.1, 3.2]}, {"fc": [0.5, 2.0]}, units="nats", label_entropy=2.3)
    >>> figure.axes[0].get_xlabel(), figure.axes[0].get_ylabel()
    ('I(X;T), nats', 'I(T;Y), nats')
    """
    across, up, unit = _read(x, y, units)
    paths = [("x", *item) for item in across.items()] + [("y", *item) for item in up.items()]
    lengths = {f"{axis}[{name!r}]": len(each) for axis, name, each in paths}
    if epochs is None and len(set(lengths.values())) > 1:
        raise ValueError(f"every path must have the same number of epochs; got {lengths}")
    ceiling, entropy = _limit(x_ceiling, "x_ceiling"), _limit(label_entropy, "label_entropy")
    numbers = read_epochs(epochs, lengths)
    ax = chart(ax, size=(7.0, 4.6), xlabel=f"I(X;T), {unit}", ylabel=f"I(T;Y), {unit}", title=title, pad=10)
    _draw_paths(ax, across, up, numbers)
    _draw_limits(ax, across, up, ceiling, entropy)
    return figure_of(ax)


def _limit(given: float | None, argument: str) -> float | None:
    if given is None:
        return None
    limit = check_number(given, argument=argument)
    if not limit >= 0:
        raise ValueError(f"{argument} must be a number of at least 0; got {describe(given)}")
    return limit


def _read(
    x: Mapping[str, OverEpochs], y: Mapping[str, OverEpochs], units: str | None
) -> tuple[dict[str, Estimates], dict[str, Estimates], str]:
    across, up = read_estimates(x, argument="x"), read_estimates(y, argument="y")
    if list(across) != list(up):
        raise ValueError(
            f"x and y must have the same layers in the same order; got {list(across)} and {list(up)}"
        )
    if units is not None:
        check_choice(units, ("nats", "bits"), argument="units")
    every = [*across.values(), *up.values()]
    known = common_units((each.units for each in every), argument="x and y together")
    if known is None and units is None:
        raise ValueError("x and y are plain numbers: pass units='nats' or units='bits'")
    if known is not None and units not in (None, known):
        raise ValueError(f"units is {units!r}, but the results in x and y are in {known}")
    return across, up, known or str(units)


def _draw_paths(
    ax: Axes, across: dict[str, Estimates], up: dict[str, Estimates], epochs: NDArray[np.int64]
) -> None:
    """Draw a path for each layer, with a legend for the layers and a colour bar for the epochs."""
    ax.grid(axis="x", color=PALE, linewidth=0.6)
    mappable, handles = ScalarMappable(Normalize(epochs[0], epochs[-1]), colour_map("cividis")), []
    for index, name in enumerate(across):
        look: dict[str, Any] = {"color": SERIES[index % len(SERIES)], "marker": MARKERS[index % len(MARKERS)]}
        filling: dict[str, Any] = {"c": epochs, "cmap": mappable.cmap, "norm": mappable.norm}
        _draw_path(ax, across[name].values, up[name], filling, **look)
        handles.append(Line2D([], [], linewidth=1.0, label=name, **look))
    if any(np.isfinite(each.nulls).any() for each in up.values()):
        hollow: dict[str, Any] = {"linestyle": NULL, "marker": "o", "markerfacecolor": "white"}
        handles.append(Line2D([], [], color=QUIET, linewidth=1.0, label="null: labels shuffled", **hollow))
    add_legend_beside(ax, handles)
    if len(epochs) > 1:
        below: dict[str, Any] = {"location": "bottom", "fraction": 0.05, "shrink": 0.5, "aspect": 40}
        bar = ax.figure.colorbar(mappable, ax=ax, ticks=MaxNLocator(nbins=6, integer=True), **below)
        bar.set_label("epoch", color=INK, fontsize=9)
        quiet(bar, size=8)


def _draw_path(
    ax: Axes, across: Floats, up: Estimates, filling: dict[str, Any], *, color: str, marker: str
) -> None:
    """Draw the epochs of a layer, and what it shows of shuffled labels, tied to its last value by a thin line."""
    ax.plot(across, up.values, color=color, linewidth=1.0, alpha=0.55, zorder=2)
    size = np.full(len(up), 16.0 if len(up) > 12 else 34.0)
    size[-1] = 62.0  # where the layer ended
    ax.scatter(
        across, up.values, s=size, marker=marker, edgecolors=color, linewidths=0.8, zorder=3, **filling
    )
    known = np.flatnonzero(np.isfinite(up.nulls))
    if not len(known):
        return
    last = known[-1]
    ax.plot(across, up.nulls, color=color, linestyle=NULL, linewidth=1.1, alpha=0.85, zorder=2)
    ends: dict[str, Any] = {"color": color, "linewidth": 0.8, "linestyle": ":", "zorder": 1.5}
    ax.plot([across[last]] * 2, [up.nulls[last], up.values[last]], **ends)
    hollow: dict[str, Any] = {"markersize": 6.5, "markerfacecolor": "white", "markeredgecolor": color}
    ax.plot(across[last], up.nulls[last], linestyle="none", zorder=3, marker=marker, **hollow)


def _draw_limits(
    ax: Axes,
    across: dict[str, Estimates],
    up: dict[str, Estimates],
    ceiling: float | None,
    entropy: float | None,
) -> None:
    """Draw the largest I(X;T) and I(T;Y), or say where they lie if the line would squeeze the paths to one side."""
    bottom: dict[str, Any] = {"ha": "right", "va": "bottom"}
    top: dict[str, Any] = {"ha": "left", "va": "top"}
    if ceiling is not None and _near(across, ceiling):
        ax.axvline(ceiling, **LIMIT)
        turned = {"xycoords": ax.get_xaxis_transform(), "rotation": 90}
        write_beside(ax, f"ceiling {ceiling:.2f}", (ceiling, 0.02), (-3, 0), **turned, **bottom)
    elif ceiling is not None:
        write_beside(ax, f"ceiling {ceiling:.2f} →", (1.0, 0.02), (-3, 0), **bottom)
    if entropy is not None and _near(up, entropy):
        ax.axhline(entropy, **LIMIT)
        place = {"xycoords": ax.get_yaxis_transform()}
        write_beside(ax, f"H(Y) = {entropy:.2f}", (0.01, entropy), (0, -3), **place, **top)
    elif entropy is not None:
        write_beside(ax, f"H(Y) = {entropy:.2f} ↑", (0.01, 1.0), (0, 0), **top)


def _near(paths: dict[str, Estimates], limit: float) -> bool:
    """Whether any value is so near to a limit that it should be read against it."""
    values = np.concatenate([each.values for each in paths.values()])
    return bool((values[np.isfinite(values)] > SATURATION * limit).any())
