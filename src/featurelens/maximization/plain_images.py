"""Images that show nothing: single colours, waves, the mean of the data. What they reach needs no invented pattern."""

from __future__ import annotations

import itertools
import math

import torch

from featurelens.maximization.layouts import per_channel

CYCLES = (1, 2, 4, 8)
"""Waves across the image."""

MOST_ALONE = 16
"""With more channels than these, none is tried alone: the images would fill the memory."""


def plain_images(shape: tuple[int, ...], mean: torch.Tensor | None) -> torch.Tensor:
    """Return plain images ``(P, C, ...)`` in [0, 1] of `shape` ``(C, ...)``; `mean` ``(C, ...)`` is one of them.

    >>> len(plain_images((3, 8, 8), None))
    27
    """
    colours = [per_channel(colour, len(shape) - 1).expand(shape) for colour in _colours(shape[0])]
    images = [*colours, *_waves(shape)]
    return torch.stack([*images, *([] if mean is None else [mean])])


def _colours(channels: int) -> torch.Tensor:
    """Return colours ``(P, C)``: all corners of the colour cube, or each channel alone on and off, and grey."""
    if channels <= 3:
        corners = torch.tensor(list(itertools.product((0.0, 1.0), repeat=channels)), dtype=torch.float32)
    else:
        channels_alone = channels if channels <= MOST_ALONE else 0
        alone = torch.eye(channels, dtype=torch.float32)[:channels_alone]
        corners = torch.cat(
            [
                torch.zeros(1, channels, dtype=torch.float32),
                torch.ones(1, channels, dtype=torch.float32),
                alone,
                1 - alone,
            ]
        )
    return torch.cat([corners, torch.full((1, channels), 0.5, dtype=torch.float32)])


def _waves(shape: tuple[int, ...]) -> list[torch.Tensor]:
    """Return black and white waves along each axis and along the diagonal, as far as the image resolves them."""
    places = list(torch.meshgrid(*(torch.arange(n) / n for n in shape[1:]), indexing="ij"))
    if len(places) > 1:
        places.append(torch.stack(places).sum(0))
    waves = []
    for cycles in CYCLES:
        if 4 * cycles <= min(shape[1:]):
            for place in places:
                for phase in (0.0, 0.25, 0.5):
                    wave = 0.5 + 0.5 * torch.cos(2 * math.pi * (cycles * place + phase))
                    waves.append(wave.expand(shape))
    return waves
