"""Signals, images and volumes: what the axes of a batch are called, for one, two and three spatial axes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeGuard

import torch

LAYOUTS = {3: "(N, C, L)", 4: "(N, C, H, W)", 5: "(N, C, D, H, W)"}
"""Number of axes -> shape, as errors name it."""


def any_of(shapes: Iterable[str]) -> str:
    """Return words for one of several shapes.

    >>> any_of(["(C, L)", "(C, H, W)", "(C, D, H, W)"])
    '(C, L), (C, H, W) or (C, D, H, W)'
    """
    *others, last = shapes
    return f"{', '.join(others)} or {last}" if others else last


ANY = any_of(LAYOUTS.values())


def is_batch(value: object) -> TypeGuard[torch.Tensor]:
    """Say whether `value` is a batch of signals, images or volumes."""
    return isinstance(value, torch.Tensor) and value.ndim in LAYOUTS


def per_channel(values: torch.Tensor, axes: int) -> torch.Tensor:
    """Return a number for each channel ``(C,)`` as ``(C, 1, ...)``, which fits images with `axes` spatial axes.

    >>> per_channel(torch.ones(3), 2).shape
    torch.Size([3, 1, 1])
    """
    return values.view(-1, *[1] * axes)
