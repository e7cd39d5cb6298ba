"""Images whose spectrum is fixed and whose phases are optimized."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import final

import torch

from featurelens.maximization.images.base import Canvas
from featurelens.maximization.images.fourier import spectrum
from featurelens.maximization.images.fourier_basis import magnitudes
from featurelens.maximization.images.image_statistics import ImageStatistics


@final
class PhaseImage(Canvas):
    """An image whose spectrum is that of real images; only the phases of its waves are optimized.

    With fixed magnitudes no frequency can dominate, so that deep networks give natural-looking images without
    penalties (MACO: Fel et al., "Unlocking Feature Visualization for Deeper Networks with Magnitude Constrained
    Optimization", NeurIPS 2023). Channels are mixed into colours after the waves are summed.

    Parameters
    ----------
    shape
        ``(C, H, W)``; any channel count, odd and even sizes.
    statistics
        Colours and spectrum of the user's own data; by default as for `FourierImage`.
    decay
        Let the spectrum fall as ``1 / frequency ** decay`` instead.

    Raises
    ------
    ValueError, TypeError
        If an argument is not one of the above.

    Examples
    --------
    >>> PhaseImage((1, 28, 28), statistics=ImageStatistics.fit(torch.rand(16, 1, 28, 28)))
    PhaseImage((1, 28, 28), statistics=ImageStatistics(16 images of 1x28x28))
    """

    lr = 0.1

    @torch.inference_mode(False)
    def __init__(
        self, shape: Sequence[int], *, statistics: ImageStatistics | None = None, decay: float | None = None
    ) -> None:
        super().__init__(shape, statistics=statistics)
        self._magnitudes = magnitudes(spectrum(self.shape, statistics, decay))

    def start(self, generators: Sequence[torch.Generator]) -> torch.Tensor:
        """Draw phases ``(N, C, H, W // 2 + 1)`` in radians."""
        shape = (self.shape[0], *self._magnitudes.shape)
        drawn = [torch.rand(shape, generator=generator) for generator in generators]
        return (torch.stack(drawn) - 0.5) * 2 * math.pi

    def images(self, parameters: torch.Tensor) -> torch.Tensor:
        """Return the images `(N, C, H, W)`."""
        waves = torch.polar(self._magnitudes.to(parameters).expand_as(parameters), parameters)
        return self._paint(torch.fft.irfft2(waves, s=self.shape[1:], norm="ortho"))
