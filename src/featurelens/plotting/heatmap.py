"""Heat maps: classes against classes, classes against channels, channels against channels."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, Normalize, PowerNorm
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from numpy.typing import NDArray

from featurelens._checks import check_type, count, describe
from featurelens.ablation import ImportanceResult
from featurelens.plotting.arrays import Array, Floats, check_array, to_floats, to_texts
from featurelens.plotting.bars import lost, read_importance
from featurelens.plotting.chart import chart, name_channels, name_rows
from featurelens.plotting.colours import INK, PALE, QUIET, colour_map, limits, text_colour
from featurelens.plotting.page import WIDTH, about, figure_of, quiet, text_or, wrap
from featurelens.statistics import CovarianceResult

CLASSES = "the names of the classes"
ROOMY, LARGEST = 12, 20  # more classes than this have no room for counts, or for percent
MOST = 4096
CELL = (0.36, 0.3)  # width and height, in inches, of a value that can be read


def confusion_matrix(
    matrix: Array | tuple[Array, Array],
    *,
    classes: Sequence[object] | None = None,
    title: str | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Draw how often each true class (row) was predicted as each class (column).

    Colours and numbers are percent of the row, so that rare classes weigh as much as frequent ones; the small numbers
    are counts. Counts are omitted above 12 classes, all numbers above 20.

    Parameters
    ----------
    matrix
        ``(K, K)`` counts, or a pair ``(labels, predictions)`` of class numbers, ``(N,)`` each.
    classes
        The name of each class; by default its number. Classes without images are omitted.
    title
        The heading; by default the accuracy.
    ax
        Draw here instead of on a new figure.

    Raises
    ------
    TypeError, ValueError
        If `matrix` is neither, counts are negative or all 0, or class numbers are not whole numbers or out of range.

    Examples
    --------
    >>> figure = confusion_matrix((torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 1, 1])), classes=["cat", "dog"])
    >>> figure.axes[0].get_title(loc="left")
    'Accuracy 75.0 % of 4 images'
    """
    names = None if classes is None else to_texts(classes, argument="classes", expected=CLASSES)
    if isinstance(matrix, tuple | list) and len(matrix) == 2:
        counts = _count_pairs(matrix[0], matrix[1], names)
    else:
        counts = _check_counts(matrix, names)
    names = names or [str(number) for number in range(len(counts))]
    rows = counts.sum(axis=1, keepdims=True)
    shares = 100 * counts / np.where(rows == 0, 1, rows)
    right = 100 * float(np.trace(counts) / counts.sum())
    heading = text_or(title, f"Accuracy {right:.1f} % of {count(int(counts.sum()), 'image')}")
    side = min(max(0.42 * len(names), 3.0), 6.4)
    words: dict[str, Any] = {"xlabel": "predicted class", "ylabel": "true class", "title": heading}
    # A few percent are the news here, and would look like none on a linear scale.
    colours = (colour_map("cividis"), PowerNorm(0.5, 0, 100))
    picture = heat_map(ax, shares, colours, size=(side + 1.3, side + 1.2), **words)
    if len(names) <= LARGEST:
        _write_counts(picture, counts, shares)
    else:
        add_bar(picture, "percent of the row")
    _name_classes(picture.axes, names)
    return figure_of(picture.axes)


def class_importance(
    result: ImportanceResult,
    *,
    classes: Sequence[object] | None = None,
    limit: int = 32,
    title: str | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Draw the importance of every channel (column) for every class (row): red for a loss, blue for a gain.

    Parameters
    ----------
    result
        From `ChannelAblator.importance` with class labels.
    classes
        The name of each class; by default its number. Classes without images are omitted.
    limit
        How many channels to show at most, the most important ones first.
    title, ax
        As for `confusion_matrix`; by default what was measured and where.

    Raises
    ------
    TypeError, ValueError
        If `result` is not an `ImportanceResult` with classes, or `classes` has another length.

    Examples
    --------
    >>> result = ImportanceResult(
    ...     importance=torch.tensor([0.0, 0.3]), standard_error=torch.zeros(2), baseline=0.9, channels=(0, 1), n=100,
    ...     per_class=torch.tensor([[0.1, -0.1], [0.2, 0.4]]), layer="conv1", metric="accuracy", mode="drop",
    ...     fill="zero")
    >>> len(class_importance(result, classes=["cat", "dog"]).axes[0].images)
    1
    """
    ranks, factor, heading = read_importance(result, limit, title, " by class")
    if result.per_class is None:
        raise ValueError(
            "the result has no classes: its metric was your own, or labels were not classes (N,)"
        )
    values, names, absent = _with_images(factor * to_floats(result.per_class)[ranks].T, classes)
    size = (
        min(max(CELL[0] * len(ranks) + 2.2, 4.8), WIDTH + 1),
        min(max(CELL[1] * len(names) + 1.4, 2.4), 7.0),
    )
    words = {"xlabel": f"{result.noun}, most important first", "ylabel": "class", "title": heading + absent}
    colours = (colour_map("RdBu_r").with_extremes(bad=PALE), Normalize(*limits(values, signed=True)))
    picture = heat_map(ax, values, colours, size=size, aspect="auto", **words)
    legible = len(ranks) <= 18 and len(names) <= 20
    unit = _write_values(picture, values, whole=factor == 100) if legible else ""
    add_bar(picture, lost(result) + unit)
    name_rows(picture.axes, names)
    name_channels(picture.axes, [str(result.channels[rank]) for rank in ranks])
    return figure_of(picture.axes)


def _with_images(values: Floats, classes: Sequence[object] | None) -> tuple[Floats, list[str], str]:
    """Return the rows and names of classes that have images (others are NaN), and what to say of the others."""
    names, seen = _class_names(classes, len(values)), np.flatnonzero(np.isfinite(values).any(axis=1))
    absent = len(values) - len(seen)
    words = f"; {absent} of {len(values)} classes have no image" if absent else ""
    return values[seen], [names[row] for row in seen], words


def _class_names(classes: Sequence[object] | None, number: int) -> list[str]:
    """Return the names of classes, by default their numbers."""
    given: Sequence[object] = range(number) if classes is None else classes
    names = to_texts(given, argument="classes", expected=CLASSES)
    if len(names) != number:
        raise ValueError(
            f"classes must have one name for each of {number} classes; got {count(len(names), 'name')}"
        )
    return names


def channel_correlations(
    result: CovarianceResult, *, title: str | None = None, ax: Axes | None = None
) -> Figure:
    """Draw the correlation between every two channels, with correlated channels side by side.

    Channels are ordered by their angle in the plane of the two strongest components (Friendly 2002, "Corrgrams:
    Exploratory displays for correlation matrices"). Constant channels have no correlation and are omitted.

    Parameters
    ----------
    result
        From `ActivationRecorder.stream` with `Covariance`.
    title
        The heading; by default "Correlation of channels", with the layer if the result has one.
    ax
        Draw here instead of on a new figure.

    Raises
    ------
    TypeError, ValueError
        If `result` is not a `CovarianceResult`, or every channel is constant.

    Examples
    --------
    >>> import featurelens as fl
    >>> covariance = fl.statistics.Covariance()
    >>> covariance.update(torch.randn(100, 8))
    >>> channel_correlations(covariance.compute()).axes[0].get_title(loc="left")
    'Correlation of channels'
    """
    check_type(result, CovarianceResult, argument="result", expected="a CovarianceResult")
    moving = np.flatnonzero(to_floats(result.covariance.diagonal()) > 0)
    if not len(moving):
        raise ValueError("no correlation to draw: every channel is constant")
    values = to_floats(result.correlation)[np.ix_(moving, moving)]
    order = _side_by_side(values)
    left = len(result.mean) - len(moving)
    heading = text_or(title, about("Correlation of channels", result.layer))
    heading += f" ({count(left, 'constant channel')} omitted)" if left else ""
    words: dict[str, Any] = {
        "xlabel": "channel, ordered by similarity",
        "ylabel": "channel",
        "title": heading,
    }
    colours = (colour_map("RdBu_r"), Normalize(-1, 1))
    picture = heat_map(ax, values[np.ix_(order, order)], colours, size=(5.4, 4.6), **words)
    add_bar(picture)
    names = [str(channel) for channel in moving[order]] if len(moving) <= 24 else []
    picture.axes.set_xticks(range(len(names)), names)
    picture.axes.set_yticks(range(len(names)), names)
    return figure_of(picture.axes)


def heat_map(
    ax: Axes | None,
    values: Floats,
    colours: tuple[Colormap, Normalize],
    *,
    aspect: Literal["auto", "equal"] = "equal",
    **words: Any,
) -> AxesImage:
    """Draw a rectangle for each of ``(rows, columns)`` values, in a pale frame."""
    ax = chart(ax, pad=8, **words)
    ax.grid(visible=False)
    ax.spines[:].set(visible=True, color=PALE)
    ax.tick_params(length=0)
    return ax.imshow(values, cmap=colours[0], norm=colours[1], aspect=aspect, interpolation="nearest")


def add_bar(picture: AxesImage, label: str = "") -> None:
    """Draw the scale of colours; a long label is wrapped to run along the bar and not beyond the figure."""
    figure = picture.axes.figure  # a sub-figure makes room for its own bars only
    bar = figure.colorbar(picture, ax=picture.axes, shrink=0.8)
    lines = wrap(label, 0.8 * figure.bbox.height / figure.dpi, 8) if label else []
    bar.set_label("\n".join(lines), fontsize=8, color=INK)
    quiet(bar)


def _check_counts(matrix: Any, names: list[str] | None) -> Floats:
    counts = to_floats(check_array(matrix, {2: "(K, K) counts"}, argument="matrix"))
    rows, columns = counts.shape
    if rows != columns:
        raise ValueError(f"matrix must be (K, K) counts; got shape {counts.shape}")
    if not np.isfinite(counts).all() or (counts < 0).any():
        raise ValueError("matrix must hold counts, which are finite and not negative")
    if not counts.any():
        raise ValueError("matrix must count at least one image; all counts are 0")
    if names is not None and len(names) != rows:
        raise ValueError(
            f"classes must have one name for each of {count(rows, 'row')}; got {count(len(names), 'name')}"
        )
    return counts


def _count_pairs(labels: Any, predictions: Any, names: list[str] | None) -> Floats:
    true, predicted = _class_numbers(labels, "labels"), _class_numbers(predictions, "predictions")
    if len(true) != len(predicted):
        raise ValueError(f"there must be as many labels as predictions; got {len(true)} and {len(predicted)}")
    classes = len(names) if names is not None else min(int(max(true.max(), predicted.max())) + 1, MOST)
    for numbers, argument in ((true, "labels"), (predicted, "predictions")):
        if numbers.min() < 0 or numbers.max() >= classes:
            raise ValueError(
                f"{argument} must be class numbers from 0 to {classes - 1}; got {numbers.min()} to {numbers.max()}"
            )
    counts = np.bincount(true * classes + predicted, minlength=classes**2)
    return counts.reshape(classes, classes).astype(np.float64)


def _class_numbers(value: Any, argument: str) -> NDArray[np.int64]:
    value = check_array(value, {1: "(N,)"}, argument=argument)
    whole = not value.is_floating_point() if isinstance(value, torch.Tensor) else value.dtype.kind in "iub"
    if not whole:
        raise TypeError(f"{argument} must be class numbers; got {describe(torch.as_tensor(value))}")
    return to_floats(value).astype(np.int64)


def _write_counts(picture: AxesImage, counts: Floats, shares: Floats) -> None:
    """Write percent, and the count where there is room, into every cell that has something in it."""
    ax, roomy = picture.axes, len(counts) <= ROOMY
    up, size = (4, 9) if roomy else (0, 6.5)
    for (row, column), number in np.ndenumerate(counts):
        if number == 0:
            continue
        share = shares[row, column]
        style: dict[str, Any] = {"textcoords": "offset points", "ha": "center", "va": "center"}
        style["color"] = text_colour(picture.to_rgba(share))
        percent = f"{share:.0f}" if share >= 0.5 else "<1"
        ax.annotate(percent, (column, row), (0, up), fontsize=size, **style)
        if roomy:
            ax.annotate(f"{number:.0f}", (column, row), (0, -7), fontsize=5.5, **style)


def _name_classes(ax: Axes, names: list[str]) -> None:
    step = 1 if len(names) <= 40 else 10
    places, shown = np.arange(0, len(names), step), names[::step]
    long = max(len(name) for name in shown) > 3
    size = 9 if len(names) <= 12 else 7
    turned: dict[str, Any] = {"rotation": 40, "ha": "right", "rotation_mode": "anchor"} if long else {}
    ax.set_xticks(places, shown, fontsize=size, color=INK, **turned)
    ax.set_yticks(places, shown, fontsize=size, color=INK)
    if len(names) <= LARGEST:  # white lines between the cells
        ax.set_xticks(np.arange(len(names) - 1) + 0.5, minor=True)
        ax.set_yticks(np.arange(len(names) - 1) + 0.5, minor=True)
        ax.grid(which="minor", color="white", linewidth=0.8)
        ax.tick_params(which="minor", length=0)


def _write_values(picture: AxesImage, values: Floats, *, whole: bool) -> str:
    """Write each number into its cell; return what to say of their unit."""
    unit, shown = _cells(values, whole=whole)
    for (row, column), value in np.ndenumerate(values):
        colour = text_colour(picture.to_rgba(np.asarray(value))) if np.isfinite(value) else QUIET
        picture.axes.text(column, row, shown(value), ha="center", va="center", fontsize=7, color=colour)
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


def _side_by_side(correlation: Floats) -> NDArray[np.intp]:
    """Return an order in which correlated channels are neighbours, cut where the circle has its widest gap."""
    if len(correlation) < 3:
        return np.arange(len(correlation))
    first, second = np.linalg.eigh(correlation)[1][:, [-1, -2]].T
    angle = np.arctan2(second, first)
    order = np.argsort(angle, kind="stable")
    gaps = np.diff(angle[order], append=angle[order[0]] + 2 * np.pi)
    return np.roll(order, -1 - int(gaps.argmax()))
