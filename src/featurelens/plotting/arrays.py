"""The arguments of the plotting functions: arrays, labels and limits, checked before anything is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from featurelens._checks import as_list, check_dense, check_whole, count, describe
from featurelens.maximization.layouts import any_of

Array: TypeAlias = torch.Tensor | NDArray[Any]
Floats: TypeAlias = NDArray[np.float64]


def check_array(value: object, layouts: dict[int, str], *, argument: str) -> Array:
    """Return `value` if it is a non-empty array of real numbers with one of the `layouts` (ndim -> shape)."""
    if not isinstance(value, torch.Tensor | np.ndarray):
        raise TypeError(f"{argument} must be a tensor or a NumPy array; got {describe(value)}")
    if isinstance(value, torch.Tensor):
        check_dense(value, argument=argument)
    kind = str(value.dtype).removeprefix("torch.")
    real = not value.is_complex() if isinstance(value, torch.Tensor) else value.dtype.kind in "fiub"
    if not real:
        raise TypeError(f"{argument} must hold real numbers; got {kind}")
    shape = tuple(value.shape)
    if len(shape) not in layouts:
        raise ValueError(f"{argument} must be {any_of(layouts.values())}; got shape {shape}")
    if 0 in shape:
        raise ValueError(f"{argument} is empty: its shape is {shape}")
    return value


def check_labels(labels: Sequence[object] | Array | None, number: int, noun: str) -> list[str]:
    """Return a text for each of `number` images (or another `noun`); the texts are empty without labels."""
    if labels is None:
        return [""] * number
    texts = to_texts(labels, argument="labels", expected=f"a sequence with one label for each {noun}")
    if len(texts) != number:
        raise ValueError(
            f"labels must have one label for each of {count(number, noun)}; got {count(len(texts), 'label')}"
        )
    return texts


def to_texts(values: Any, *, argument: str, expected: str) -> list[str]:
    """Return the text of each of several values."""
    return [str(value) for value in as_list(values, argument=argument, expected=expected)]


def check_limit(limit: int, total: int, *, argument: str = "limit") -> int:
    """Return how many of `total` things to show."""
    return min(check_whole(limit, argument=argument, least=1), total)


def check_image(image: int, total: int, *, where: str) -> int:
    """Return `image` if a batch of `total` images has it."""
    if not -total <= check_whole(image, argument="image") < total:
        raise ValueError(f"image must be below {total}, the number of images in {where}; got {image}")
    return image


def select_image(batch: Array, image: int, *, argument: str) -> Array:
    """Return image number `image` of an ``(N, C, H, W)`` batch; a single ``(C, H, W)`` is image 0."""
    check_image(image, len(batch) if batch.ndim == 4 else 1, where=argument)
    return batch[image] if batch.ndim == 4 else batch


def to_floats(value: Array) -> Floats:
    """Copy `value` to a float64 NumPy array, wherever and in whatever dtype it is."""
    if isinstance(value, torch.Tensor):  # by way of the CPU: not every device knows float64
        return value.detach().cpu().to(torch.float64).numpy(force=True)
    return value.astype(np.float64)


def finite_range(values: Floats, default: tuple[float, float] = (0.0, 1.0)) -> tuple[float, float]:
    """Return the smallest and the largest finite value, or `default` if there is none."""
    finite = values[np.isfinite(values)]
    return (float(finite.min()), float(finite.max())) if finite.size else default


def only_value(picture: Floats) -> float | None:
    """Return the only value of a picture of several pixels, None if it has a pattern (or NaN, which shows)."""
    first = float(picture.flat[0])
    return first if picture.size > 1 and np.isfinite(first) and (picture == first).all() else None
