"""What images look like on average: their colours, their spectrum and their range."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self, final

import torch

from featurelens._checks import count, describe
from featurelens._structure import first_tensor
from featurelens.maximization import _fourier
from featurelens.maximization.preparation import ROUNDING

NATURAL_COLOURS = (
    (0.231, 0.079, 0.022),
    (0.239, 0.006, -0.041),
    (0.248, -0.079, 0.019),
)
"""Red, green and blue of light against dark, red against blue, green against both: the eigenvectors of the colour
covariance over all pixels of the CIFAR-10 training set, each as long as the standard deviation along it."""

FLOOR = 1e-3
"""Directions of colour, and frequencies, with less than this share of the strongest are taken to have this much."""


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
        ``(H, W)``: root mean square amplitude of each wave of the real Fourier basis, averaged over channels.
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
    def fit(cls, images: torch.Tensor | Iterable[Any]) -> Self:
        """Measure the statistics of images, in one pass and in the memory of one batch.

        Parameters
        ----------
        images
            A batch `(N, C, H, W)`, or a loader of batches: tensors, or tuples or dicts whose first tensor is one.

        Raises
        ------
        TypeError, ValueError
            If there are no images, if they differ in shape, or if values are not finite.
        """
        batches = [images] if isinstance(images, torch.Tensor) else images
        if not isinstance(batches, Iterable):
            raise TypeError(
                f"images must be a tensor (N, C, H, W) or a loader of them; got {describe(images)}"
            )
        sums = _Sums()
        for batch in batches:
            sums.add(_images_of(batch))
        return cls(**sums.statistics())

    def __repr__(self) -> str:
        shape = "x".join(map(str, (len(self.mean), *self.spectrum.shape)))
        return f"ImageStatistics({count(self.n, 'image')} of {shape})"

    def check_channels(self, channels: int) -> None:
        """Raise an error unless the statistics are those of images in [0, 1] with so many `channels`.

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
                f"statistics must be of images in [0, 1]: fit them on such; these go from {low:.3g} to {high:.3g}"
            )

    def colours(self) -> torch.Tensor:
        """Return the matrix ``(C, C)`` that gives uncorrelated channels of variance 1 the data's covariance."""
        variances, directions = torch.linalg.eigh(self.covariance)
        strongest = variances.max().clamp(min=torch.finfo(variances.dtype).tiny)
        colours: torch.Tensor = directions * variances.clamp(min=FLOOR * strongest).sqrt()
        return colours

    def amplitudes(self, height: int, width: int) -> torch.Tensor:
        """Return the spectrum ``(H, W)``, scaled to mean square 1, for images of the size that was measured.

        Raises
        ------
        ValueError
            If that was not `height` x `width`.
        """
        if tuple(self.spectrum.shape) != (height, width):
            measured = "x".join(map(str, self.spectrum.shape))
            raise ValueError(f"statistics are of images of {measured} pixels; the image has {height}x{width}")
        spectrum = self.spectrum.clamp(min=FLOOR * float(self.spectrum.max()))
        return spectrum / spectrum.square().mean().sqrt()


class _Sums:
    """Running sums from which the statistics follow."""

    def __init__(self) -> None:
        self.n = 0

    def add(self, images: torch.Tensor) -> None:
        pixels = images.transpose(0, 1).flatten(1)  # (C, N*H*W)
        if not self.n:
            self.shape = images.shape[1:]
            self.total = pixels.new_zeros(len(pixels))
            self.products = pixels.new_zeros(len(pixels), len(pixels))
            self.power = images.new_zeros(images.shape[2:])
            self.low, self.high = pixels.amin(1), pixels.amax(1)
        elif images.shape[1:] != self.shape:
            raise ValueError(
                f"images must have one shape; got {tuple(self.shape)} and then {tuple(images.shape[1:])}"
            )
        self.n += len(images)
        self.total += pixels.sum(1)
        self.products += pixels @ pixels.T
        patterns = images - images.mean((2, 3), keepdim=True)
        self.power += _fourier.analyse(patterns).square().mean(1).sum(0)
        # the mean of each image is its amplitude of frequency 0; what counts is how it differs between images
        self.low, self.high = (
            torch.minimum(self.low, pixels.amin(1)),
            torch.maximum(self.high, pixels.amax(1)),
        )
        self.means = torch.cat(
            [getattr(self, "means", images.new_zeros(0, len(pixels))), images.mean((2, 3))]
        )

    def statistics(self) -> dict[str, Any]:
        if not self.n:
            raise ValueError("the loader gave no images")
        pixels = self.n * self.shape[1] * self.shape[2]
        mean = self.total / pixels
        covariance = self.products / pixels - mean[:, None] * mean
        power = self.power / self.n
        power[0, 0] = (self.means - mean).square().mean() * self.shape[1] * self.shape[2]
        values = {
            "mean": mean,
            "covariance": covariance,
            "spectrum": power.sqrt(),
            "low": self.low,
            "high": self.high,
        }
        return {**{name: value.float() for name, value in values.items()}, "n": self.n}


def _images_of(batch: Any) -> torch.Tensor:
    images = first_tensor(batch)
    if images is None or images.ndim != 4 or 0 in images.shape:
        raise ValueError(
            f"images must be (N, C, H, W), none of them 0; got {describe(batch if images is None else images)}"
        )
    images = images.detach().cpu().double()
    if not bool(images.isfinite().all()):
        raise ValueError("images must be finite; got NaN or infinite values")
    return images
