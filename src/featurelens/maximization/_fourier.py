"""The real Fourier basis: sines and cosines as an orthonormal matrix, for any length, without complex numbers."""

from __future__ import annotations

import math
from functools import lru_cache

import torch


@lru_cache(maxsize=32)
@torch.inference_mode(False)  # or what is kept would be of no use where gradients are
def basis(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return an orthonormal basis ``(n, n)``, one wave a column, and its frequencies ``(n,)`` in cycles per pixel.

    The columns are the constant, then cosine and sine of each frequency, and for even `n` the alternating wave. A
    signal is ``basis @ amplitudes`` and its amplitudes are ``basis.T @ signal``: as many as there are pixels, so
    there are no conjugate pairs to keep in step.
    """
    cycles = (torch.arange(n) + 1) // 2
    angles = 2 * math.pi * torch.arange(n, dtype=torch.float64)[:, None] * cycles / n
    waves = torch.where(torch.arange(n) % 2 == 1, angles.cos(), angles.sin())
    waves[:, 0] = 1.0
    return waves / waves.norm(dim=0), cycles / n


def frequencies(height: int, width: int) -> torch.Tensor:
    """Return the length ``(H, W)``, in cycles per pixel, of the frequency of each amplitude of an image."""
    return torch.hypot(basis(height)[1][:, None], basis(width)[1][None, :])


def synthesize(amplitudes: torch.Tensor) -> torch.Tensor:
    """Return the images ``(..., H, W)`` that have these amplitudes ``(..., H, W)``."""
    down, across = _bases(amplitudes)
    return down @ amplitudes @ across.T


def analyse(images: torch.Tensor) -> torch.Tensor:
    """Return the amplitudes ``(..., H, W)`` of images ``(..., H, W)``: the inverse of `synthesize`."""
    down, across = _bases(images)
    return down.T @ images @ across


def _bases(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    height, width = values.shape[-2:]
    return (
        basis(height)[0].to(values.device, values.dtype),
        basis(width)[0].to(values.device, values.dtype),
    )


def magnitudes(spectrum: torch.Tensor) -> torch.Tensor:
    """Return the magnitudes ``(H, W // 2 + 1)`` that an orthonormal `torch.fft.rfft2` has for amplitudes ``(H, W)``.

    What the amplitudes of one pair of frequencies, sines and cosines, hold of the signal's power goes in equal parts
    to the complex waves of these frequencies, forwards and backwards.
    """
    height, width = spectrum.shape
    power = spectrum.square()
    down = (torch.arange(height) + 1) // 2  # which frequency each amplitude belongs to
    across = (torch.arange(width) + 1) // 2
    for axis, number in ((0, down), (1, across)):
        sums = torch.zeros_like(power).index_add(axis, number, power)
        counts = torch.bincount(number, minlength=len(number)).clamp(min=1)
        power = sums / (counts[:, None] if axis == 0 else counts)
    rows = torch.minimum(
        torch.arange(height), height - torch.arange(height)
    )  # rfft2 counts rows through the negative
    return power[rows][:, : width // 2 + 1].sqrt()
