"""The real Fourier basis: sines and cosines as an orthonormal matrix, for any length, without complex numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from featurelens.maximization.layouts import per_channel


@torch.inference_mode(False)  # inference tensors could not take part where gradients are computed
def basis(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return an orthonormal basis ``(n, n)``, one wave a column, and its frequencies ``(n,)`` in cycles per pixel.

    The columns are the constant, then cosine and sine of each frequency, and for even `n` the alternating wave. A
    signal is ``basis @ amplitudes`` and its amplitudes are ``basis.T @ signal``: as many as there are pixels, so
    there are no conjugate pairs to keep in step. Images and volumes have one such basis along each of their axes.
    """
    cycles = (torch.arange(n) + 1) // 2
    angles = 2 * math.pi * torch.arange(n, dtype=torch.float64)[:, None] * cycles / n
    waves = torch.where(torch.arange(n) % 2 == 1, angles.cos(), angles.sin())
    waves[:, 0] = 1.0
    return waves / waves.norm(dim=0), cycles / n


def frequencies(*size: int) -> torch.Tensor:
    """Return the length, in cycles per pixel, of the frequency of each amplitude of an image of `size`."""
    along = torch.meshgrid(*(basis(n)[1] for n in size), indexing="ij")
    return torch.stack(along).square().sum(0).sqrt()


def along_axes(matrices: Sequence[torch.Tensor], values: torch.Tensor) -> torch.Tensor:
    """Multiply each of the last axes of `values` by its own square matrix."""
    *others, last = matrices
    values = values @ last.mT
    for behind, matrix in enumerate(
        reversed(others), start=1
    ):  # the axes behind it are one to a matrix product
        values = (matrix @ values.flatten(-behind)).reshape(values.shape)
    return values


def analyse(images: torch.Tensor) -> torch.Tensor:
    """Return the amplitudes `(N, C, ...)` of images `(N, C, ...)`."""
    return along_axes([basis(n)[0].to(images).mT for n in images.shape[2:]], images)


def magnitudes(spectrum: torch.Tensor) -> torch.Tensor:
    """Return the magnitudes ``(..., H, W // 2 + 1)`` that `torch.fft.rfftn` has for amplitudes ``(..., H, W)``.

    The power in the amplitudes of one set of frequencies, sines and cosines, is shared equally by the complex waves
    of these frequencies, forwards and backwards. The transform is orthonormal.
    """
    power = spectrum.square()
    for axis, size in enumerate(spectrum.shape):
        number = (torch.arange(size) + 1) // 2  # which frequency each amplitude belongs to
        sums = torch.zeros_like(power).index_add(axis, number, power)
        counts = torch.bincount(number, minlength=size).clamp(min=1)
        power = sums / per_channel(counts, spectrum.ndim - 1 - axis)
        # All axes but the last are counted through the negative frequencies.
        place = torch.arange(size // 2 + 1 if axis == spectrum.ndim - 1 else size)
        power = power.index_select(axis, torch.minimum(place, size - place))
    return power.sqrt()
