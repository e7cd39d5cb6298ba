"""The statistics of a data set of images: their colours, their spectrum and their range."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self, final

import torch

from featurelens._checks import check_whole, count
from featurelens._random import random_state_kept
from featurelens.maximization.batches import tensors_in
from featurelens.maximization.images import fourier_basis
from featurelens.maximization.layouts import LAYOUTS
from featurelens.maximization.preprocessing import ROUNDING

NATURAL_COLOURS = ((0.231, 0.079, 0.022), (0.239, 0.006, -0.041), (0.248, -0.079, 0.019))
"""Red, green and blue of light against dark, red against blue, green against both: the eigenvectors of the colour
covariance over all pixels of the CIFAR-10 training set, each as long as the standard deviation along it."""

FLOOR = 1e-3
"""The least that a direction of colour, or a frequency, is taken to have, as a share of the strongest."""


@final
@dataclass(frozen=True, eq=False, repr=False)
class ImageStatistics:
    """Colours, spectrum and range of a data set; made by `fit`.

    Tensors are float32 on the CPU.

    Attributes
    ----------
    mean : torch.Tensor
        ``(C,)``: mean of each channel.
    covariance : torch.Tensor
        ``(C, C)``: covariance of the channels over all pixels.
    spectrum : torch.Tensor
        ``(H, W)``, ``(L,)`` or ``(D, H, W)``: root mean square amplitude of each wave of the real Fourier basis,
        averaged over channels.
    low, high : torch.Tensor
        ``(C,)``: smallest and largest value of each channel.
    n : int
        Number of images.

    Examples
    --------
    >>> ImageStatistics.fit(torch.rand(16, 3, 8, 8))
    ImageStatistics(16 images of 3x8x8)
    """

    mean: torch.Tensor
    covariance: torch.Tensor
    spectrum: torch.Tensor
    low: torch.Tensor
    high: torch.Tensor
    n: int

    @classmethod
    @random_state_kept()
    def fit(cls, loader: torch.Tensor | Iterable[Any], *, progress: bool = True) -> Self:
        """Measure the statistics of images, in one pass and in the memory of one batch.

        Parameters
        ----------
        loader
            Images `(N, C, H, W)`, signals ``(N, C, L)`` or volumes ``(N, C, D, H, W)``, or a loader of batches of them:
            tensors, or tuples or dicts whose first tensor is one.
        progress
            Show a progress bar; without a terminal, write a line every ten seconds.

        Raises
        ------
        TypeError, ValueError
            If there are no images, if they differ in shape, or if values are not finite.
        """
        n, means, total, products, power = 0, [], torch.zeros(()), torch.zeros(()), torch.zeros(())
        low, high = torch.tensor(math.inf), torch.tensor(-math.inf)
        for batch in tensors_in(loader, "image", *LAYOUTS.values(), title="measuring", progress=progress):
            images = batch.double()
            pixels = images.transpose(0, 1).flatten(1)  # (C, N*H*W)
            n, total, products = n + len(images), total + pixels.sum(1), products + pixels @ pixels.T
            average = images.mean(tuple(range(2, images.ndim)), keepdim=True)
            means.append(average.flatten(1))
            patterns = images - average
            power = power + fourier_basis.analyse(patterns).square().mean(1).sum(0)
            low, high = torch.minimum(low, pixels.amin(1)), torch.maximum(high, pixels.amax(1))
        positions = power.numel()
        mean, power = total / (n * positions), power / n
        covariance = products / (n * positions) - mean[:, None] * mean
        # The mean of each image is its amplitude of frequency 0: what counts is how it differs between images.
        power.view(-1)[0] = (torch.cat(means) - mean).square().mean() * positions
        spectrum = power.sqrt()
        return cls(mean.float(), covariance.float(), spectrum.float(), low.float(), high.float(), n)

    def __repr__(self) -> str:
        shape = "x".join(map(str, (len(self.mean), *self.spectrum.shape)))
        return f"ImageStatistics({count(self.n, 'image')} of {shape})"

    def check_channels(self, channels: int) -> None:
        """Check that the statistics are those of images in [0, 1] with this number of `channels`.

        Raises
        ------
        ValueError
            If they are not.
        """
        if len(self.mean) != channels:
            raise ValueError(
                f"statistics are of images with {count(len(self.mean), 'channel')}; the image has {channels}"
            )
        low, high = float(self.low.min()), float(self.high.max())
        if low < -ROUNDING or high > 1 + ROUNDING:
            raise ValueError(
                f"statistics must be fitted on images in [0, 1]; these range from {low:.3g} to {high:.3g}"
            )

    def colours(self) -> torch.Tensor:
        """Return the matrix ``(C, C)`` that gives uncorrelated channels of variance 1 the data's covariance."""
        variances, directions = torch.linalg.eigh(self.covariance)
        strongest = variances.max().clamp(min=torch.finfo(variances.dtype).tiny)
        colours: torch.Tensor = directions * variances.clamp(min=FLOOR * strongest).sqrt()
        return colours

    def amplitudes(self, *size: int) -> torch.Tensor:
        """Return the spectrum ``(H, W)``, scaled to mean square 1, for images of the size that was measured.

        Raises
        ------
        TypeError, ValueError
            If that was not `size`.
        """
        size = tuple(check_whole(length, argument="size") for length in size)
        if self.spectrum.shape != size:
            measured, wanted = ("x".join(map(str, each)) for each in (self.spectrum.shape, size))
            raise ValueError(f"statistics are of images of {measured} pixels; the image has {wanted}")
        spectrum = self.spectrum.clamp(min=max(FLOOR * float(self.spectrum.max()), 1e-12))
        return spectrum / spectrum.square().mean().sqrt()
