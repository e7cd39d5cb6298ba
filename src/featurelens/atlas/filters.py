"""The kernels of a first convolution, as pictures of what they add up."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL import Image
from torch import nn

EDGE = 48
"""Pixels of a kernel's longer edge, at least."""


def filters(module: nn.Module | None, image_channels: int) -> torch.Tensor | None:
    """Return the kernels ``(C, 1 or 3, h, w)`` of a convolution of grey or colour images, in [0, 1]; 0.5 is a weight of 0.

    None for any other layer, and for kernels of a single pixel.
    """
    if not isinstance(module, nn.Conv2d) or module.groups != 1 or module.in_channels != image_channels:
        return None
    if image_channels not in (1, 3) or max(module.kernel_size) == 1:
        return None
    weight = module.weight.detach().float().cpu()
    largest = weight.abs().amax((1, 2, 3), keepdim=True)
    return 0.5 + 0.5 * weight / largest.clamp(min=torch.finfo(torch.float32).tiny)


def drawn(kernels: torch.Tensor) -> Sequence[Image.Image]:
    """Draw kernels with every weight as a square of pixels."""
    scale = -(-EDGE // max(kernels.shape[2:]))
    squares = kernels.repeat_interleave(scale, 2).repeat_interleave(scale, 3)
    pixels = (squares.movedim(1, 3) * 255).round().byte().expand(*squares.shape[:1], *squares.shape[2:], 3)
    return [Image.fromarray(kernel.numpy()) for kernel in pixels.contiguous()]
