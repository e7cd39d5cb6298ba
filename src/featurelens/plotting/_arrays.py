"""What may be plotted: tensors and NumPy arrays, checked before anything is drawn."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from featurelens._checks import check_whole, describe

Array: TypeAlias = torch.Tensor | NDArray[Any]
Floats: TypeAlias = NDArray[np.float64]


def check_array(value: object, layouts: dict[int, str], *, argument: str) -> Array:
    """Return `value` if it is a non-empty array of real numbers with one of the `layouts` (ndim -> shape)."""
    if not isinstance(value, torch.Tensor | np.ndarray):
        raise TypeError(f"{argument} must be a tensor or a NumPy array; got {describe(value)}")
    kind = str(value.dtype).removeprefix("torch.")
    real = not value.is_complex() if isinstance(value, torch.Tensor) else value.dtype.kind in "fiub"
    if not real:
        raise TypeError(f"{argument} must hold real numbers; got {kind}")
    shape = tuple(value.shape)
    if len(shape) not in layouts:
        raise ValueError(f"{argument} must be {' or '.join(layouts.values())}; got shape {shape}")
    if 0 in shape:
        raise ValueError(f"{argument} is empty: its shape is {shape}")
    return value


def to_floats(value: Array) -> Floats:
    """Copy `value` to a float64 NumPy array, wherever and in whatever dtype it is."""
    if isinstance(value, torch.Tensor):  # by way of the CPU: not every device knows float64
        return value.detach().cpu().to(torch.float64).numpy(force=True)
    return value.astype(np.float64)


def select_image(batch: Array, image: int, *, argument: str) -> Array:
    """Return image number `image` of an ``(N, C, H, W)`` batch; a single ``(C, H, W)`` is image 0."""
    check_whole(image, argument="image")
    batch_size = batch.shape[0] if batch.ndim == 4 else 1
    if not -batch_size <= image < batch_size:
        raise ValueError(f"image must be below {batch_size}, the number of images in {argument}; got {image}")
    return batch[image] if batch.ndim == 4 else batch


def only_value(picture: Floats) -> float | None:
    """Return the only value of a picture of several pixels, None if it has a pattern (or NaN, which shows)."""
    first = float(picture.flat[0])
    return first if picture.size > 1 and np.isfinite(first) and (picture == first).all() else None
