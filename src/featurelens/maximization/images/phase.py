"""Images whose spectrum is fixed and whose phases are optimized."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import final

import torch

from featurelens.maximization.images.base import Canvas
from featurelens.maximization.images.fourier import spectrum
from featurelens.maximization.images.fourier_basis import analyse, frequencies, magnitudes
from featurelens.maximization.images.image_statistics import ImageStatistics

PIXELS, ROUNDS = 2**15, 6
"""How much is measured to find the magnitudes: pixels in each round, and rounds."""


@final
class PhaseImage(Canvas):
    """An image whose spectrum is that of real images; only the phases of its waves are optimized.

    With fixed magnitudes no frequency can dominate, so that deep networks give natural-looking images without
    penalties (MACO: Fel et al., "Unlocking Feature Visualization for Deeper Networks with Magnitude Constrained
    Optimization", NeurIPS 2023). Channels are mixed into colours after the waves are summed.

    Parameters
    ----------
    shape
        ``(C, H, W)``, ``(C, L)`` for signals or ``(C, D, H, W)`` for volumes; any channel count, odd and even sizes.
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
        self._calibrate(spectrum(self.shape[1:], statistics, decay))

    def _calibrate(self, wanted: torch.Tensor) -> None:
        """Choose the magnitudes so that images with random phases have the spectrum ``(H, W)`` that is wanted.

        Bounding the pixels to [0, 1] weakens the waves, each a little differently; by how much is measured.
        """
        frequency = frequencies(*self.shape[1:])
        # Waves of about one length are measured together.
        ring = (frequency * min(self.shape[1:])).ceil().long()
        contrast = self._colours.square().sum(1).mean().sqrt()
        given = wanted.double()
        draws = max(1, PIXELS // frequency.numel())
        generators = [torch.Generator().manual_seed(seed) for seed in range(draws)]
        self._magnitudes = _for_free_phases(given)
        drawn = self.start(generators).double()
        quarters = torch.cat([drawn + quarter * math.pi / 2 for quarter in range(4)])
        for _ in range(ROUNDS):
            images = self.images(quarters)
            power = analyse(images - self._mean).square().mean((0, 1)) / contrast**2
            measured = torch.zeros(int(ring.max()) + 1, dtype=torch.float64)
            target = measured.index_add(0, ring.flatten(), wanted.double().square().flatten())
            measured = measured.index_add(0, ring.flatten(), power.flatten())
            given = (
                given * (target / measured).sqrt().clamp(0.25, 4)[ring]
            )  # data of one colour have no waves
            self._magnitudes = _for_free_phases(given)

    def start(self, generators: Sequence[torch.Generator]) -> torch.Tensor:
        """Draw phases ``(N, C, H, W // 2 + 1)`` in radians."""
        shape = (self.shape[0], *self._magnitudes.shape)
        drawn = [torch.rand(shape, generator=generator, dtype=torch.float32) for generator in generators]
        return (torch.stack(drawn) - 0.5) * 2 * math.pi

    def images(self, parameters: torch.Tensor) -> torch.Tensor:
        """Return the images `(N, C, H, W)`."""
        waves = torch.polar(self._magnitudes.to(parameters).expand_as(parameters), parameters)
        return self._paint(torch.fft.irfftn(waves, s=self.shape[1:], norm="ortho"))


def _for_free_phases(spectrum: torch.Tensor) -> torch.Tensor:
    """Return the magnitudes of a spectrum for an inverse real transform whose phases are all free.

    In the first column, and the last of an even width, a wave and its mirror image stand for one real wave: half of
    what they hold cancels.
    """
    found = magnitudes(spectrum)
    alone = [0, -1] if spectrum.shape[-1] % 2 == 0 else [0]
    found[..., alone] *= math.sqrt(2)
    return found
