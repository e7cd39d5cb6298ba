"""The real Fourier basis: sines and cosines as an orthonormal matrix, for any length, without complex numbers."""

from __future__ import annotations

import math

import torch


@torch.inference_mode(False)  # inference tensors could not take part where gradients are computed
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


def analyse(images: torch.Tensor) -> torch.Tensor:
    """Return the amplitudes ``(..., H, W)`` of images ``(..., H, W)``."""
    down, across = (basis(n)[0].to(images) for n in images.shape[-2:])
    return down.T @ images @ across


def magnitudes(spectrum: torch.Tensor) -> torch.Tensor:
    """Return the magnitudes ``(H, W // 2 + 1)`` that an orthonormal `torch.fft.rfft2` has for amplitudes ``(H, W)``.

    The power in the amplitudes of one pair of frequencies, sines and cosines, is shared equally by the complex waves
    of these frequencies, forwards and backwards.
    """
    height, width = spectrum.shape
    power = spectrum.square()
    for axis, size in enumerate((height, width)):
        number = (torch.arange(size) + 1) // 2  # which frequency each amplitude belongs to
        sums = torch.zeros_like(power).index_add(axis, number, power)
        counts = torch.bincount(number, minlength=size).clamp(min=1)
        power = sums / (counts[:, None] if axis == 0 else counts)
    rows = torch.minimum(
        torch.arange(height), height - torch.arange(height)
    )  # rfft2 counts rows through the negative
    return power[rows][:, : width // 2 + 1].sqrt()
