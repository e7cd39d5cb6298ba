"""Blocks of a batch's channels: a copy of the whole batch would double the memory of the largest layer."""

from __future__ import annotations

from collections.abc import Iterator

import torch

VALUES = 2**18  # at a time: what stays in a core's cache, and far more than a call costs
DEVICE_VALUES = 2**26


def channel_blocks(values: torch.Tensor, dtype: torch.dtype = torch.float64) -> Iterator[torch.Tensor]:
    """Yield ``(c, N * positions)`` contiguous blocks of ``(N, C, ...)``, channel after channel.

    >>> [tuple(block.shape) for block in channel_blocks(torch.zeros(2, 3, 4, 4))]
    [(3, 32)]
    """
    maps = as_maps(values)
    images, channels, positions = maps.shape
    most = VALUES if maps.device.type == "cpu" else DEVICE_VALUES
    step = max(1, most // (images * positions))
    for first in range(0, channels, step):
        part = maps[:, first : first + step].transpose(0, 1)
        yield part.to(dtype, memory_format=torch.contiguous_format).reshape(len(part), -1)


def as_maps(values: torch.Tensor) -> torch.Tensor:
    """Return ``(N, C, ...)`` as ``(N, C, positions)``."""
    values = with_float64(values)
    return values.flatten(2) if values.ndim > 2 else values[:, :, None]


def with_float64(values: torch.Tensor) -> torch.Tensor:
    """Return `values` on a device that supports float64."""
    return values.cpu() if values.device.type == "mps" else values
