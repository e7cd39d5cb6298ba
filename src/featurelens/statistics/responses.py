"""How strongly each channel responds to each image."""

from __future__ import annotations

from typing import NamedTuple

import torch

from featurelens.statistics.channel_blocks import channel_blocks


class Responses(NamedTuple):
    """One batch, channel by channel; images in which a channel is not finite throughout count as silent.

    Attributes
    ----------
    strength : torch.Tensor
        ``(C, N)`` float64: the mean over positions of the activation where it is positive, and of 0 elsewhere.
    active : torch.Tensor
        ``(C, N)`` int64: positions at which the channel is positive.
    largest : torch.Tensor
        ``(C, N)`` float64: the largest value; minus infinity where the image does not count.
    usable : torch.Tensor
        ``(C, N)`` bool: whether the channel is finite throughout the image.
    positions : int
        Positions in the map.
    """

    strength: torch.Tensor
    active: torch.Tensor
    largest: torch.Tensor
    usable: torch.Tensor
    positions: int


def responses(values: torch.Tensor) -> Responses:
    """Return the responses of channels to a batch of `values` ``(N, C, ...)``.

    >>> responses(torch.tensor([[[1.0, -1.0, 2.0]]])).strength.item()
    1.0
    """
    exact = values.dtype == torch.float64 or not values.is_floating_point()
    blocks = channel_blocks(values, torch.float64 if exact else torch.float32)
    parts = [_responses(block.reshape(len(block), len(values), -1)) for block in blocks]
    strength, active, largest, usable = (torch.cat(part).cpu() for part in zip(*parts, strict=True))
    positions = values[0, 0].numel()
    return Responses(strength / positions, active, largest.double(), usable, positions)


def _responses(maps: torch.Tensor) -> tuple[torch.Tensor, ...]:
    largest = maps.amax(2)
    usable = torch.isfinite(maps.sum(2))
    if not bool(usable.all()):
        usable = torch.isfinite(maps).all(2)
        maps = maps.masked_fill(~usable[:, :, None], 0.0)
        largest = largest.masked_fill(~usable, -torch.inf)
    return maps.clamp_min(0.0).sum(2, dtype=torch.float64), (maps > 0).sum(2), largest, usable
