"""Which classes are taken for which."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from matplotlib.colors import PowerNorm

from featurelens._checks import count, describe
from featurelens.plotting._arrays import Array, check_array, to_floats
from featurelens.plotting._colours import INK, PALE, colour_map, text_colour
from featurelens.plotting._curves import chart
from featurelens.plotting._page import TITLE, wrap

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.image import AxesImage

    from featurelens.plotting._arrays import Floats

ROOMY, LARGEST = 12, 20  # more classes than this have no room for counts, or for percent


def confusion_matrix(
    matrix: Array | tuple[Array, Array],
    *,
    classes: Sequence[object] | None = None,
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw how often each true class, a row, was predicted as each class, a column.

    Colours and numbers are percent of the row, so that rare classes weigh as much as frequent ones; the small
    numbers are counts, for which there is room up to 12 classes. Above 20 classes there are colours only.

    Parameters
    ----------
    matrix
        ``(K, K)`` counts, or a pair ``(labels, predictions)`` of class numbers, ``(N,)`` each.
    classes
        The name of each class; by default its number.
    title
        The heading; by default the accuracy.
    ax
        Draw here instead of on a new figure.

    Raises
    ------
    TypeError
        If `matrix` is neither, or class numbers are not whole.
    ValueError
        If it is not square, counts are negative or all 0, lengths differ or class numbers are out of range.

    Examples
    --------
    >>> import torch
    >>> labels, predictions = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 1, 1])
    >>> ax = confusion_matrix((labels, predictions), classes=["cat", "dog"])
    >>> ax.get_title(loc="left")
    'Accuracy 75.0 % of 4 images'
    """
    names = None if classes is None else [str(name) for name in classes]
    if isinstance(matrix, tuple | list) and len(matrix) == 2:
        counts = _count_pairs(matrix[0], matrix[1], names)
    else:
        counts = _check_counts(matrix, names)
    names = names or [str(number) for number in range(len(counts))]
    images = counts.sum(axis=1, keepdims=True)
    shares = 100 * counts / np.where(images == 0, 1, images)
    side = min(max(0.42 * len(names), 3.0), 6.4)
    ax = chart(ax, size=(side + 1.3, side + 1.2))
    # A few percent are the news here, and would look like none on a linear scale.
    scale = PowerNorm(0.5, 0, 100)
    picture = ax.imshow(shares, cmap=colour_map("cividis"), norm=scale, interpolation="nearest")
    if len(names) <= LARGEST:
        _write_cells(ax, counts, shares, picture)
    else:
        ax.figure.colorbar(picture, ax=ax, shrink=0.7, label="percent of the row")
    _name_classes(ax, names)
    right = float(np.trace(counts) / max(counts.sum(), 1))
    text = title or f"Accuracy {100 * right:.1f} % of {count(int(counts.sum()), 'image')}"
    width = ax.get_window_extent().width / ax.figure.dpi
    ax.set_title("\n".join(wrap(text, width, TITLE)), loc="left", fontsize=TITLE, color=INK, pad=8)
    return ax


def _check_counts(matrix: Any, names: list[str] | None) -> Floats:
    counts = to_floats(check_array(matrix, {2: "(K, K) counts"}, argument="matrix"))
    rows, columns = counts.shape
    if rows != columns:
        raise ValueError(f"matrix must be (K, K) counts; got shape {counts.shape}")
    if not np.isfinite(counts).all() or (counts < 0).any():
        raise ValueError("matrix must hold counts, which are finite and not negative")
    if not counts.any():
        raise ValueError("matrix must count one image at least; all counts are 0")
    if names is not None and len(names) != rows:
        raise ValueError(f"classes must name all of {count(rows, 'row')}; got {count(len(names), 'name')}")
    return counts


def _count_pairs(labels: Any, predictions: Any, names: list[str] | None) -> Floats:
    true, predicted = _class_numbers(labels, "labels"), _class_numbers(predictions, "predictions")
    if len(true) != len(predicted):
        raise ValueError(f"labels and predictions must pair up; got {len(true)} and {len(predicted)} of them")
    classes = len(names) if names is not None else int(max(true.max(), predicted.max())) + 1
    for numbers, argument in ((true, "labels"), (predicted, "predictions")):
        if numbers.min() < 0 or numbers.max() >= classes:
            raise ValueError(
                f"{argument} must be class numbers from 0 to {classes - 1}; got {numbers.min()} to {numbers.max()}"
            )
    counts = np.bincount(true * classes + predicted, minlength=classes**2)
    return counts.reshape(classes, classes).astype(np.float64)


def _class_numbers(value: Any, argument: str) -> Any:
    value = check_array(value, {1: "(N,)"}, argument=argument)
    whole = not value.is_floating_point() if isinstance(value, torch.Tensor) else value.dtype.kind in "iub"
    if not whole:
        raise TypeError(f"{argument} must be class numbers; got {describe(torch.as_tensor(value))}")
    return to_floats(value).astype(np.int64)


def _write_cells(ax: Axes, counts: Floats, shares: Floats, picture: AxesImage) -> None:
    """Write percent, and the count where there is room, into every cell that has something in it."""
    roomy = len(counts) <= ROOMY
    for (row, column), number in np.ndenumerate(counts):
        if number == 0:
            continue
        share = shares[row, column]
        style: dict[str, Any] = {
            "textcoords": "offset points",
            "ha": "center",
            "color": text_colour(picture.to_rgba(share)),
        }
        percent = f"{share:.0f}" if share >= 0.5 else "<1"
        up, size = (4, 9) if roomy else (0, 6.5)
        ax.annotate(percent, (column, row), (0, up), va="center", fontsize=size, **style)
        if roomy:
            ax.annotate(f"{number:.0f}", (column, row), (0, -7), va="center", fontsize=5.5, **style)


def _name_classes(ax: Axes, names: list[str]) -> None:
    step = 1 if len(names) <= 40 else 10
    places = np.arange(0, len(names), step)
    shown = names[::step]
    long = max(len(name) for name in shown) > 3
    size = 9 if len(names) <= 12 else 7
    turned: dict[str, Any] = {"rotation": 40, "ha": "right", "rotation_mode": "anchor"} if long else {}
    ax.set_xticks(places, shown, fontsize=size, color=INK, **turned)
    ax.set_yticks(places, shown, fontsize=size, color=INK)
    ax.tick_params(length=0)
    ax.set_xlabel("predicted class", color=INK)
    ax.set_ylabel("true class", color=INK)
    ax.spines[:].set_color(PALE)
    if len(names) <= LARGEST:  # white lines between the cells
        ax.set_xticks(np.arange(len(names) - 1) + 0.5, minor=True)
        ax.set_yticks(np.arange(len(names) - 1) + 0.5, minor=True)
        ax.grid(which="minor", color="white", linewidth=0.8)
        ax.tick_params(which="minor", length=0)
