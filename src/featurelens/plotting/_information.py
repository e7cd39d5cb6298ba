"""Information while a network trains: over epochs, and in the information plane."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from featurelens._checks import check_choice, check_number, describe
from featurelens.information.results import SATURATION
from featurelens.plotting._arrays import Array
from featurelens.plotting._colours import INK, PALE, QUIET, SERIES, colour_map
from featurelens.plotting._curves import add_legend_beside, chart, count_epochs, draw_curve, dress
from featurelens.plotting._estimates import (
    Estimates,
    OverEpochs,
    common_units,
    read_epochs,
    read_estimates,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from featurelens.plotting._arrays import Floats

CURVES, PLANE = (7.0, 3.9), (7.0, 4.6)  # inches
MARKERS = "osD^vP*Xph"
DASHES = (0, (4, 2))
LIMIT: dict[str, Any] = {"color": QUIET, "linewidth": 0.8, "zorder": 1}
WORDS: dict[str, Any] = {"color": QUIET, "fontsize": 8}


def information_curves(
    curves: Mapping[str, OverEpochs],
    *,
    epochs: Sequence[int] | Array | None = None,
    ylabel: str | None = None,
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw information over epochs: a line for the estimate, a band for its interval, dashes for its null.

    What lies on its own dashes is nothing: the estimator says as much of a broken pairing.

    Parameters
    ----------
    curves
        Name (of a layer) -> one result for each epoch, as `MutualInformationResult` or
        `SpatialMutualInformationResult`; or plain numbers ``(E,)``, which have neither unit nor null.
    epochs
        The epochs of all curves, growing; by default they are counted from 1.
    ylabel
        What is measured; by default mutual information, with the unit of the results.
    title
        The heading; by default none.
    ax
        Draw here instead of on a new figure.

    Raises
    ------
    TypeError
        If `curves` is not a mapping from names to sequences of results or of numbers.
    ValueError
        If there is no curve, a curve is empty or does not fit `epochs`, or units are mixed.

    Examples
    --------
    >>> from featurelens.information import MutualInformationResult
    >>> def result(value):
    ...     return MutualInformationResult(value=value, null_mean=0.1, method="KSG", n=99, dim_x=1, dim_y=1)
    >>> ax = information_curves({"conv1": [result(0.4), result(0.7)], "conv2": [result(0.3), result(0.9)]})
    >>> ax.get_ylabel(), [text.get_text() for text in ax.get_legend().get_texts()]
    ('mutual information (nats)', ['conv1', 'conv2', 'null'])
    """
    estimates = read_estimates(curves, argument="curves")
    units = common_units(list(estimates.values()), argument="curves")
    numbers = read_epochs(epochs, {f"curves[{name!r}]": len(each) for name, each in estimates.items()})
    ax = chart(ax, size=CURVES)
    for index, (name, each) in enumerate(estimates.items()):
        _draw_estimates(ax, name, each, numbers[: len(each)], index)
    dress(ax, xlabel="epoch", ylabel=ylabel or _with_units("mutual information", units), title=title, pad=10)
    count_epochs(ax, numbers[0], numbers[-1])
    handles = ax.get_legend_handles_labels()[0] + _keys(list(estimates.values()))
    add_legend_beside(ax, handles)
    return ax


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
) -> Axes:
    """Draw the path of every layer through the information plane: I(X;T) across, I(T;Y) upwards.

    Each layer has a marker and a line of its own colour; the filling of a marker is its epoch. Where results have
    a null, it is dashed, and hollow at the last epoch: what a layer shows of labels in random order. What it knows
    is its height above that.

    Parameters
    ----------
    x, y
        Layer -> I(X;T), and layer -> I(T;Y), one result (or number) for each epoch; the same layers in both. Nulls
        are those of `y`.
    epochs
        The epochs of all paths, growing; by default they are counted from 1.
    units
        ``"nats"`` or ``"bits"``; needed for plain numbers only, as results know theirs.
    x_ceiling
        The largest I(X;T) that can be seen, log n for n distinct images: a grey line where a path comes above
        0.6 of it, and words elsewhere.
    label_entropy
        H(Y), more than which no layer can know of the label: likewise.
    title
        The heading; by default none.
    ax
        Draw here instead of on a new figure.

    Raises
    ------
    TypeError
        If `x` or `y` is not a mapping from layers to sequences of results or of numbers, or a limit is no number.
    ValueError
        If layers or epochs do not fit each other, units are mixed, numbers come without a unit, or a limit is
        negative.

    Notes
    -----
    Tishby & Zaslavsky (2015), "Deep learning and the information bottleneck principle". For a deterministic
    layer I(X;T) needs a noise model to be finite: see `NoisyChannelMutualInformation`.

    Examples
    --------
    >>> ax = information_plane({"fc": [4.1, 3.2]}, {"fc": [0.5, 2.0]}, units="nats", label_entropy=2.3)
    >>> ax.get_xlabel(), ax.get_ylabel()
    ('I(X;T), nats', 'I(T;Y), nats')
    """
    across, up = read_estimates(x, argument="x"), read_estimates(y, argument="y")
    if list(across) != list(up):
        raise ValueError(
            f"x and y must have the same layers in the same order; got {list(across)} and {list(up)}"
        )
    unit = _plane_units([*across.values(), *up.values()], units)
    lengths = {
        f"{axis}[{name!r}]": len(each)
        for axis, paths in (("x", across), ("y", up))
        for name, each in paths.items()
    }
    if epochs is None and len(set(lengths.values())) > 1:
        raise ValueError(f"every path must have the same number of epochs; got {lengths}")
    for limit, argument in ((x_ceiling, "x_ceiling"), (label_entropy, "label_entropy")):
        if limit is not None and not check_number(limit, argument=argument) >= 0:
            raise ValueError(f"{argument} must be a number from 0; got {describe(limit)}")
    numbers = read_epochs(epochs, lengths)
    ax = chart(ax, size=PLANE)
    scale = Normalize(numbers[0], numbers[-1])
    for index, name in enumerate(across):
        _draw_path(ax, across[name].values, up[name].values, numbers, scale, index)
        _draw_null_path(ax, across[name].values, up[name], index)
    dress(ax, xlabel=f"I(X;T), {unit}", ylabel=f"I(T;Y), {unit}", title=title, pad=10)
    ax.grid(axis="x", color=PALE, linewidth=0.6)
    if x_ceiling is not None:
        _draw_ceiling(ax, x_ceiling, np.concatenate([each.values for each in across.values()]))
    if label_entropy is not None:
        _draw_entropy(ax, label_entropy, np.concatenate([each.values for each in up.values()]))
    names = [_layer_key(name, index) for index, name in enumerate(across)]
    if any(np.isfinite(each.nulls).any() for each in up.values()):
        names.append(_null_key())
    add_legend_beside(ax, names)
    if len(numbers) > 1:
        _add_epoch_bar(ax, scale)
    return ax


def _with_units(what: str, units: str | None) -> str:
    return what if units is None else f"{what} ({units})"


def _plane_units(estimates: list[Estimates], units: str | None) -> str:
    if units is not None:
        check_choice(units, ("nats", "bits"), argument="units")
    known = common_units(estimates, argument="x and y together")
    if known is None and units is None:
        raise ValueError("x and y are plain numbers: say in which units, 'nats' or 'bits'")
    if known is not None and units not in (None, known):
        raise ValueError(f"units is {units!r}, but the results in x and y are in {known}")
    return known or str(units)


def _draw_estimates(ax: Axes, name: str, each: Estimates, epochs: NDArray[np.int64], index: int) -> None:
    colour, marker = SERIES[index % len(SERIES)], MARKERS[index // len(SERIES) % len(MARKERS)]
    draw_curve(ax, name, epochs, each.values, colour=colour, marker=marker)
    if np.isfinite(each.lows).sum() == 1:  # a band over one epoch has no width
        reach = np.stack([each.lows, each.highs])
        ax.plot(np.stack([epochs, epochs]), reach, color=colour, linewidth=4, alpha=0.3, zorder=1)
    else:
        ax.fill_between(epochs, each.lows, each.highs, color=colour, alpha=0.18, linewidth=0, zorder=1)
    known = int(np.isfinite(each.nulls).sum())
    if known:
        only: dict[str, Any] = {"marker": "_", "markersize": 16} if known == 1 else {}
        ax.plot(epochs, each.nulls, color=colour, linestyle=DASHES, linewidth=1.1, **only)


def _keys(estimates: list[Estimates]) -> list[Any]:
    """Explain dashes and bands once for all curves, in grey."""
    keys: list[Any] = []
    if any(np.isfinite(each.nulls).any() for each in estimates):
        keys.append(Line2D([], [], color=QUIET, linestyle=DASHES, linewidth=1.1, label="null"))
    if any(np.isfinite(each.lows).any() for each in estimates):
        keys.append(Patch(color=QUIET, alpha=0.25, linewidth=0, label="interval"))
    return keys


def _draw_path(
    ax: Axes, across: Floats, up: Floats, epochs: NDArray[np.int64], scale: Normalize, index: int
) -> None:
    colour, marker = SERIES[index % len(SERIES)], MARKERS[index % len(MARKERS)]
    ax.plot(across, up, color=colour, linewidth=1.0, alpha=0.55, zorder=2)
    size = np.full(len(epochs), 16.0 if len(epochs) > 12 else 34.0)
    size[-1] = 62.0  # where the layer ended
    ax.scatter(
        across,
        up,
        c=epochs,
        cmap=colour_map("cividis"),
        norm=scale,
        marker=marker,
        s=size,
        edgecolors=colour,
        linewidths=0.8,
        zorder=3,
    )


def _draw_null_path(ax: Axes, across: Floats, up: Estimates, index: int) -> None:
    """Draw what the layer shows of shuffled labels, tied to its last value by a thin line."""
    known = np.isfinite(up.nulls)
    if not known.any():
        return
    colour, marker = SERIES[index % len(SERIES)], MARKERS[index % len(MARKERS)]
    last = int(np.flatnonzero(known)[-1])
    ax.plot(across, up.nulls, color=colour, linestyle=DASHES, linewidth=1.1, alpha=0.85, zorder=2)
    ends: dict[str, Any] = {"color": colour, "linewidth": 0.8, "linestyle": ":", "zorder": 1.5}
    ax.plot([across[last]] * 2, [up.nulls[last], up.values[last]], **ends)
    hollow: dict[str, Any] = {
        "marker": marker,
        "markersize": 6.5,
        "markerfacecolor": "white",
        "markeredgecolor": colour,
    }
    ax.plot(across[last], up.nulls[last], linestyle="none", zorder=3, **hollow)


def _layer_key(name: str, index: int) -> Line2D:
    colour, marker = SERIES[index % len(SERIES)], MARKERS[index % len(MARKERS)]
    return Line2D([], [], color=colour, marker=marker, linewidth=1.0, label=name)


def _null_key() -> Line2D:
    look: dict[str, Any] = {"color": QUIET, "linestyle": DASHES, "linewidth": 1.0, "markerfacecolor": "white"}
    return Line2D([], [], marker="o", label="null: labels shuffled", **look)


def _draw_ceiling(ax: Axes, ceiling: float, values: Floats) -> None:
    """Draw the ceiling of I(X;T), or say where it lies if the line would squeeze the paths to one side."""
    if _reach(values, ceiling):
        ax.axvline(ceiling, **LIMIT)
        place, rotation, text = (ceiling, 0.02), 90, f"ceiling {ceiling:.2f}"
        across: Any = ax.get_xaxis_transform()
    else:
        place, rotation, text = (1.0, 0.02), 0, f"ceiling {ceiling:.2f} →"
        across = ax.transAxes
    words: dict[str, Any] = {"rotation": rotation, "ha": "right", "va": "bottom", **WORDS}
    ax.annotate(text, place, (-3, 0), xycoords=across, textcoords="offset points", **words)


def _draw_entropy(ax: Axes, entropy: float, values: Floats) -> None:
    """Draw H(Y), or say where it lies if the line would squeeze the paths to the ground."""
    if _reach(values, entropy):
        ax.axhline(entropy, **LIMIT)
        place, offset, text = (0.01, entropy), (0, -3), f"H(Y) = {entropy:.2f}"
        up: Any = ax.get_yaxis_transform()
    else:
        place, offset, text = (0.01, 1.0), (0, 0), f"H(Y) = {entropy:.2f} ↑"
        up = ax.transAxes
    ax.annotate(text, place, offset, xycoords=up, textcoords="offset points", ha="left", va="top", **WORDS)


def _reach(values: Floats, limit: float) -> bool:
    """Whether any value is so near to a limit that it should be read against it."""
    return bool((values[np.isfinite(values)] > SATURATION * limit).any())


def _add_epoch_bar(ax: Axes, scale: Normalize) -> None:
    mappable = ScalarMappable(scale, colour_map("cividis"))
    bar = ax.figure.colorbar(mappable, ax=ax, location="bottom", fraction=0.05, shrink=0.5, aspect=40)
    bar.set_label("epoch", color=INK, fontsize=9)
    bar.locator = MaxNLocator(nbins=6, integer=True)
    bar.update_ticks()
    bar.outline.set_edgecolor(PALE)
    bar.ax.tick_params(labelsize=8, length=2, color=QUIET, labelcolor=INK)
