"""Images whose Fourier coefficients are optimized."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import final

import torch

from featurelens._checks import check_number, describe
from featurelens.maximization.images import fourier_basis
from featurelens.maximization.images.base import Canvas
from featurelens.maximization.images.image_statistics import ImageStatistics


@final
class FourierImage(Canvas):
    """An image whose sines and cosines are optimized, each scaled by how much images vary at its frequency.

    In these coordinates neither pixels nor colours are correlated, which gives images without high-frequency noise
    (Olah, Mordvintsev and Schubert, "Feature Visualization", Distill 2017).

    Parameters
    ----------
    shape
        ``(C, H, W)``, ``(C, L)`` for signals or ``(C, D, H, W)`` for volumes; any channel count, odd and even sizes.
    statistics
        Statistics of the user's data, for their colours and spectrum. By default three channels are correlated as in
        natural images, and those of any other number are uncorrelated.
    decay
        Let the spectrum fall as ``1 / frequency ** decay`` instead: white noise has 0, natural images about 1. A larger
        value gives smoother images and lower scores. Without statistics it is 1.5 by default, 1 for signals and 2 for
        volumes: there are fewer or more waves of high frequency, and so each octave has half the power of the one below.
    sd
        Standard deviation of the noise to start from, in units of the data's own contrast.

    Raises
    ------
    ValueError, TypeError
        If an argument is not one of the above.

    Examples
    --------
    >>> parametrization = FourierImage((1, 28, 28))
    >>> images = torch.rand(2, 1, 28, 28, dtype=torch.float64)
    >>> torch.allclose(parametrization.images(parametrization.from_image(images)), images)
    True
    """

    lr = 0.02
    per_image = True  # or frequencies that hardly matter would move at full step, until the pixels saturate

    @torch.inference_mode(False)
    def __init__(
        self,
        shape: Sequence[int],
        *,
        statistics: ImageStatistics | None = None,
        decay: float | None = None,
        sd: float = 0.1,
    ) -> None:
        super().__init__(shape, statistics=statistics, sd=sd)
        if decay is None and statistics is None:
            decay = (len(self.shape[1:]) + 1) / 2
        self._spectrum = spectrum(self.shape[1:], statistics, decay)
        # Brightness may be as strong as a pattern, not stronger, or images become white or black and stay so.
        waves = self._spectrum.view(-1)
        waves[0] = waves[1:].max() if len(waves) > 1 else 1.0
        self._bases = fourier_basis.bases(self.shape[1:])

    def images(self, parameters: torch.Tensor) -> torch.Tensor:
        """Return the images `(N, C, H, W)`."""
        return self._paint(fourier_basis.synthesize(parameters * self._spectrum.to(parameters), self._bases))

    def from_image(self, images: torch.Tensor) -> torch.Tensor:
        """Return the amplitudes of images `(N, C, H, W)` in [0, 1]: the inverse of `images`."""
        return fourier_basis.analyse(self._unpaint(images)) / self._spectrum.to(images)


def spectrum(size: tuple[int, ...], statistics: ImageStatistics | None, decay: float | None) -> torch.Tensor:
    """Return how strong each wave is, ``(H, W)`` of mean square 1: as ``1 / frequency ** decay``, None for the data's."""
    if decay is None and statistics is not None:
        return statistics.amplitudes(*size)
    decay = len(size) / 2 if decay is None else decay  # all octaves are equally strong
    if not math.isfinite(check_number(decay, argument="decay")):
        raise ValueError(f"decay must be a number; got {describe(decay)}")
    falling = fourier_basis.frequencies(*size).clamp(min=1 / max(size)) ** -float(decay)
    return falling / falling.square().mean().sqrt()
