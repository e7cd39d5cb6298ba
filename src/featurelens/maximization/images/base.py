"""Parametrizations: from the numbers that are optimized to images in [0, 1]."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import nn

from featurelens._checks import check_dense, check_number, check_type, describe
from featurelens.maximization.images.image_statistics import NATURAL_COLOURS, ImageStatistics
from featurelens.maximization.layouts import LAYOUTS, per_channel

STEEPNESS = 4.0
"""Slope of the logistic curve that bounds the pixels, so that around mid-grey the image equals the pattern."""


MOST_VALUES = 2**31
"""Of one image: no memory holds what the optimization of a larger one needs."""


class Parametrization(ABC):
    """Turns parameters ``(N, ...)``, one row for each image, into images `(N, C, H, W)` in [0, 1].

    Signals ``(N, C, L)`` and volumes ``(N, C, D, H, W)`` are images, too, with one spatial axis or three. Derive from it
    to optimize something other than pixels, Fourier coefficients, phases or latents: here, a single grey for each image.

    Attributes
    ----------
    lr : float
        The step size that suits Adam in these parameters, 0.05 unless a class says otherwise.
    per_image : bool
        Whether Adam scales all numbers of an image together. By default it scales each by itself, which suits numbers
        that all matter alike, such as pixels.

    Examples
    --------
    >>> class Grey(Parametrization):
    ...     def start(self, generators):
    ...         return torch.stack([torch.randn(1, generator=generator) for generator in generators])
    ...
    ...     def images(self, parameters):
    ...         return torch.sigmoid(parameters)[:, :, None, None].expand(-1, 1, 8, 8)
    >>> Grey().images(torch.zeros(2, 1)).shape
    torch.Size([2, 1, 8, 8])
    """

    lr: float = 0.05
    per_image: bool = False

    @abstractmethod
    def start(self, generators: Sequence[torch.Generator]) -> torch.Tensor:
        """Draw the first parameters ``(N, ...)``, each row from its own one of `generators`."""

    @abstractmethod
    def images(self, parameters: torch.Tensor) -> torch.Tensor:
        """Return the images `(N, C, H, W)` of parameters ``(N, ...)``, differentiably."""

    def from_image(self, images: torch.Tensor) -> torch.Tensor:
        """Return the parameters of images `(N, C, H, W)` in [0, 1]: the inverse of `images`, where there is one.

        Raises
        ------
        TypeError
            If this parametrization has no inverse.
        """
        raise TypeError(f"{self!r} cannot begin from images: use a FourierImage or a PixelImage")

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    @property
    def modules(self) -> tuple[nn.Module, ...]:
        """Networks that take part, which the maximizer runs in eval mode and restores afterwards."""
        return ()


class Canvas(Parametrization):
    """A parametrization of a pattern around 0, which is coloured and brought into [0, 1]."""

    @torch.inference_mode(False)
    def __init__(
        self, shape: Sequence[int], *, statistics: ImageStatistics | None = None, sd: float = 0.1
    ) -> None:
        given: object = shape
        sizes = list(given) if isinstance(given, list | tuple) else []
        if len(sizes) + 1 not in LAYOUTS or not all(type(size) is int and size >= 1 for size in sizes):
            raise ValueError(
                "shape must be (C, L), (C, H, W) or (C, D, H, W), integers from 1: channels, then the size of the "
                f"signal, image or volume; got {describe(shape)}"
            )
        if math.prod(sizes) > MOST_VALUES:
            raise ValueError(f"shape must be of at most 2**31 values; got {describe(shape)}")
        self.shape: tuple[int, ...] = tuple(sizes)
        self.statistics, self.sd = statistics, check_spread(sd)
        # The mean colour (C, 1, ...), and the matrix (C, C) that colours an uncorrelated pattern.
        mean = torch.full(self.shape[:1], 0.5, dtype=torch.float64)
        if statistics is not None:
            check_type(statistics, ImageStatistics, argument="statistics", expected="ImageStatistics or None")
            statistics.check_channels(self.shape[0])
            mean, self._colours = statistics.mean.double(), statistics.colours().double()
        elif self.shape[0] == 3:
            self._colours = torch.tensor(NATURAL_COLOURS, dtype=torch.float64)
        else:
            self._colours = 0.25 * torch.eye(self.shape[0], dtype=torch.float64)
        self._mean = per_channel(mean, len(self.shape) - 1)

    def __repr__(self) -> str:
        extra = "" if self.statistics is None else f", statistics={self.statistics!r}"
        return f"{type(self).__name__}({self.shape}{extra})"

    def start(self, generators: Sequence[torch.Generator]) -> torch.Tensor:
        """Draw noise ``(N, C, H, W)``."""
        return normal(self.shape, generators) * self.sd

    def _paint(self, pattern: torch.Tensor) -> torch.Tensor:
        """Colour a pattern ``(N, C, H, W)`` of uncorrelated channels, and bound it to [0, 1]."""
        if self.shape[0] == 1:
            mixed = pattern * self._colours.item()
        else:
            mixed = torch.einsum("dc,nc...->nd...", self._colours.to(pattern), pattern)
        middle = STEEPNESS * (self._mean - 0.5)
        return torch.sigmoid(STEEPNESS * mixed + middle.to(pattern))

    def _unpaint(self, images: torch.Tensor) -> torch.Tensor:
        """Return the pattern of images: the inverse of `_paint` for pixels strictly between 0 and 1."""
        check_type(
            images, torch.Tensor, argument="images", expected=f"a tensor {LAYOUTS[len(self.shape) + 1]}"
        )
        check_dense(images, argument="images")
        if tuple(images.shape[1:]) != self.shape:
            raise ValueError(f"images must be (N, {', '.join(map(str, self.shape))}); got {describe(images)}")
        got = describe(images)
        floating = images.is_floating_point()
        if floating and images.numel():
            got = f"values from {images.min().item():.3g} to {images.max().item():.3g}"
        if not floating or not bool(((images >= 0) & (images <= 1)).all()):
            raise ValueError(f"images must be floating-point numbers in [0, 1]; got {got}")
        tiny = torch.finfo(images.dtype).eps
        values = torch.logit(images.clamp(tiny, 1 - tiny)) / STEEPNESS + 0.5
        contrasts = torch.linalg.inv(self._colours).to(images)
        return torch.einsum("dc,nc...->nd...", contrasts, values - self._mean.to(images))


def check_spread(sd: float) -> float:
    """Return `sd` if it can be a standard deviation, or raise an error."""
    expected = "a number from 0"
    if not 0 <= check_number(sd, argument="sd", expected=expected) < math.inf:
        raise ValueError(f"sd must be {expected}; got {describe(sd)}")
    return sd


def normal(shape: tuple[int, ...], generators: Sequence[torch.Generator]) -> torch.Tensor:
    """Return standard normal numbers ``(N, *shape)``, each row from its own generator."""
    return torch.stack(
        [torch.randn(shape, generator=generator, dtype=torch.float32) for generator in generators]
    )
