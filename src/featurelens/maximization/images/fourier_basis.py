"""The real Fourier basis of signals, images and volumes of any size: sines and cosines along each axis."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F

from featurelens.maximization.layouts import per_channel

LONGEST = 512
"""Up to this length an axis is multiplied by a matrix; beyond it a fast Fourier transform is faster, and small."""


@torch.inference_mode(False)  # inference tensors could not take part where gradients are computed
def basis(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return an orthonormal basis ``(n, n)``, one wave a column, and its frequencies ``(n,)`` in cycles per pixel.

    The columns are the constant, then cosine and sine of each frequency, and for even `n` the alternating wave. A
    signal is ``basis @ amplitudes`` and its amplitudes are ``basis.T @ signal``: as many as there are pixels, so
    there are no conjugate pairs to keep in step. Images and volumes have one such basis along each of their axes.
    """
    angles = 2 * math.pi * torch.arange(n, dtype=torch.float64)[:, None] * _cycles(n) / n
    waves = torch.where(torch.arange(n) % 2 == 1, angles.cos(), angles.sin())
    waves[:, 0] = 1.0
    return waves / waves.norm(dim=0), _cycles(n) / n


def bases(size: Sequence[int]) -> list[torch.Tensor | None]:
    """Return the basis of each axis of images of `size`, None for one that is too long for a matrix."""
    return [basis(n)[0] if n <= LONGEST else None for n in size]


def frequencies(*size: int) -> torch.Tensor:
    """Return the length, in cycles per pixel, of the frequency of each amplitude of an image of `size`."""
    along = torch.meshgrid(*(_cycles(n) / n for n in size), indexing="ij")
    return torch.stack(along).square().sum(0).sqrt()


def synthesize(amplitudes: torch.Tensor, matrices: Sequence[torch.Tensor | None]) -> torch.Tensor:
    """Return the images `(N, C, ...)` of amplitudes `(N, C, ...)`; `matrices` are the `bases` of their size."""
    return _along_axes(amplitudes, matrices, _fast_synthesis)


def analyse(images: torch.Tensor) -> torch.Tensor:
    """Return the amplitudes `(N, C, ...)` of images `(N, C, ...)`: the inverse of `synthesize`."""
    inverses = [None if matrix is None else matrix.mT for matrix in bases(images.shape[2:])]
    return _along_axes(images, inverses, _fast_analysis)


def _along_axes(
    values: torch.Tensor,
    matrices: Sequence[torch.Tensor | None],
    fast: Callable[[torch.Tensor], torch.Tensor],
) -> torch.Tensor:
    """Multiply each spatial axis of `values` by its matrix; one without is replaced by what `fast` returns for it."""
    last = values.ndim - 1
    for axis, matrix in zip(range(last, 1, -1), reversed(matrices), strict=True):
        if matrix is None:
            values = fast(values.movedim(axis, -1)).movedim(-1, axis)
        elif axis == last:
            values = values @ matrix.to(values).mT
        else:
            values = (matrix.to(values) @ values.flatten(axis + 1)).reshape(values.shape)
    return values


def _fast_synthesis(amplitudes: torch.Tensor) -> torch.Tensor:
    """Return ``amplitudes @ basis.T``, for amplitudes ``(..., n)``."""
    n = amplitudes.shape[-1]
    cosines = torch.cat([amplitudes[..., :1], amplitudes[..., 1::2]], dim=-1)
    sines = F.pad(amplitudes[..., 2::2], (1, 1 - n % 2))  # the constant and the alternating wave have none
    waves = torch.complex(cosines, -sines) / _pairs(n).to(amplitudes)
    signals: torch.Tensor = torch.fft.irfft(waves, n=n, norm="ortho")
    return signals


def _fast_analysis(signals: torch.Tensor) -> torch.Tensor:
    """Return ``signals @ basis``, for signals ``(..., n)``."""
    n = signals.shape[-1]
    waves = torch.fft.rfft(signals, norm="ortho") * _pairs(n).to(signals)
    both = torch.stack([waves.real, -waves.imag], dim=-1).flatten(-2)
    return torch.cat([both[..., :1], both[..., 2 : n + 1]], dim=-1)


def _pairs(n: int) -> torch.Tensor:
    """Return how much longer a sine is than each of the two complex waves in it; others are complex waves themselves."""
    factors = torch.full((n // 2 + 1,), math.sqrt(2), dtype=torch.float64)
    factors[[0, -1] if n % 2 == 0 else [0]] = 1.0
    return factors


def _cycles(n: int) -> torch.Tensor:
    """Return how many cycles each wave of the basis makes."""
    return (torch.arange(n) + 1) // 2


def magnitudes(spectrum: torch.Tensor) -> torch.Tensor:
    """Return the magnitudes ``(..., H, W // 2 + 1)`` that `torch.fft.rfftn` has for amplitudes ``(..., H, W)``.

    The power in the amplitudes of one set of frequencies, sines and cosines, is shared equally by the complex waves
    of these frequencies, forwards and backwards. The transform is orthonormal.
    """
    power = spectrum.square()
    for axis, size in enumerate(spectrum.shape):
        number = _cycles(size)  # which frequency each amplitude belongs to
        sums = torch.zeros_like(power).index_add(axis, number, power)
        counts = torch.bincount(number, minlength=size).clamp(min=1)
        power = sums / per_channel(counts, spectrum.ndim - 1 - axis)
        # All axes but the last are counted through the negative frequencies.
        place = torch.arange(size // 2 + 1 if axis == spectrum.ndim - 1 else size)
        power = power.index_select(axis, torch.minimum(place, size - place))
    return power.sqrt()
