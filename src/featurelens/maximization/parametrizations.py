"""Where the pixels come from: the numbers that are optimized, and the images in [0, 1] that they stand for."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import final

import torch
from torch import nn

from featurelens._checks import check_number, check_type, describe
from featurelens.maximization import _fourier
from featurelens.maximization.statistics import NATURAL_COLOURS, ImageStatistics

STEEPNESS = 4.0
"""Slope of the logistic curve that bounds the pixels, so that around mid-grey the image is what went in."""


class Parametrization(ABC):
    """Turns parameters ``(N, ...)``, one row for each image, into images `(N, C, H, W)` in [0, 1].

    Derive from it to optimize something else than the ready-made ones do: here, a single grey for each image.

    Attributes
    ----------
    lr : float
        The step size that suits Adam in these parameters, 0.05 unless a class says otherwise.

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

    @abstractmethod
    def start(self, generators: Sequence[torch.Generator]) -> torch.Tensor:
        """Draw the first parameters ``(N, ...)``, each row from its own one of `generators`."""

    @abstractmethod
    def images(self, parameters: torch.Tensor) -> torch.Tensor:
        """Return the images `(N, C, H, W)` of parameters ``(N, ...)``, differentiably."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    @property
    def modules(self) -> tuple[nn.Module, ...]:
        """Networks that take part, which the maximizer runs in eval mode and gives back as they were."""
        return ()


class Canvas(Parametrization):
    """Common to what paints directly: size, colours, and the way into [0, 1]."""

    @torch.inference_mode(False)
    def __init__(self, shape: Sequence[int], *, statistics: ImageStatistics | None, sd: float) -> None:
        self.shape = check_shape(shape)
        if statistics is not None:
            check_type(statistics, ImageStatistics, argument="statistics", expected="ImageStatistics or None")
            statistics.check_channels(self.shape[0])
        self.statistics = statistics
        self.sd = check_spread(sd)
        mean, colours = _palette(self.shape[0], statistics)
        self._mean, self._colours, self._contrasts = mean, colours, torch.linalg.inv(colours)

    def __repr__(self) -> str:
        extra = "" if self.statistics is None else f", statistics={self.statistics!r}"
        return f"{type(self).__name__}({self.shape}{extra})"

    def _paint(self, pattern: torch.Tensor) -> torch.Tensor:
        """Give a pattern ``(N, C, H, W)`` of uncorrelated channels its colours, and bound it to [0, 1]."""
        if self.shape[0] == 1:
            mixed = pattern * self._colours.item()
        else:
            mixed = torch.einsum("dc,nchw->ndhw", self._colours.to(pattern), pattern)
        middle = STEEPNESS * (self._mean - 0.5)
        return torch.sigmoid(STEEPNESS * mixed + middle.to(pattern)[:, None, None])

    def _unpaint(self, images: torch.Tensor) -> torch.Tensor:
        """Return the pattern of images: the inverse of `_paint` for pixels strictly between 0 and 1."""
        check_type(images, torch.Tensor, argument="images", expected="a tensor (N, C, H, W)")
        if images.ndim != 4 or tuple(images.shape[1:]) != self.shape:
            raise ValueError(f"images must be (N, {', '.join(map(str, self.shape))}); got {describe(images)}")
        if not images.is_floating_point() or not bool(((images >= 0) & (images <= 1)).all()):
            raise ValueError(f"images must be floating-point numbers in [0, 1]; got {_span(images)}")
        tiny = torch.finfo(images.dtype).eps
        values = torch.logit(images.clamp(tiny, 1 - tiny)) / STEEPNESS + 0.5
        return torch.einsum(
            "dc,nchw->ndhw", self._contrasts.to(images), values - self._mean.to(images)[:, None, None]
        )


@final
class PixelImage(Canvas):
    """Every pixel on its own.

    Parameters
    ----------
    shape
        ``(C, H, W)``.
    statistics
        Colours that go together in the user's data; by default those of natural images for three channels.
    sd
        Standard deviation of the noise to start from, in units of the data's own contrast.

    Raises
    ------
    ValueError, TypeError
        If an argument is not one of the above.

    Examples
    --------
    >>> PixelImage((1, 28, 28))
    PixelImage((1, 28, 28))
    """

    lr = 0.05

    def __init__(
        self, shape: Sequence[int], *, statistics: ImageStatistics | None = None, sd: float = 0.1
    ) -> None:
        super().__init__(shape, statistics=statistics, sd=sd)

    def start(self, generators: Sequence[torch.Generator]) -> torch.Tensor:
        """Draw noise ``(N, C, H, W)``."""
        return normal(self.shape, generators) * self.sd

    def images(self, parameters: torch.Tensor) -> torch.Tensor:
        """Return the images `(N, C, H, W)`."""
        return self._paint(parameters)

    def from_image(self, images: torch.Tensor) -> torch.Tensor:
        """Return the parameters of images `(N, C, H, W)` in [0, 1]: the inverse of `images`."""
        return self._unpaint(images)


@final
class FourierImage(Canvas):
    """Sines and cosines of every frequency, scaled so that one step changes all of them as much as images vary in them.

    Optimizing here is optimizing in a space where neither pixels nor colours are correlated, which gives images
    without high-frequency noise (Olah, Mordvintsev and Schubert, "Feature Visualization", Distill 2017).

    Parameters
    ----------
    shape
        ``(C, H, W)``; any channel count, odd and even sizes.
    statistics
        The user's own data, for their colours. By default natural ones for three channels, and for any other number
        channels that have nothing to do with each other.
    decay
        The spectrum falls as ``1 / frequency ** decay``: 1 for natural images, 0 for white noise. None takes that
        of the statistics.
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

    lr = 0.05

    @torch.inference_mode(False)
    def __init__(
        self,
        shape: Sequence[int],
        *,
        statistics: ImageStatistics | None = None,
        decay: float | None = 1.0,
        sd: float = 0.1,
    ) -> None:
        super().__init__(shape, statistics=statistics, sd=sd)
        self.decay = decay
        self._spectrum = spectrum(self.shape, statistics, decay)

    def start(self, generators: Sequence[torch.Generator]) -> torch.Tensor:
        """Draw amplitudes ``(N, C, H, W)``."""
        return normal(self.shape, generators) * self.sd

    def images(self, parameters: torch.Tensor) -> torch.Tensor:
        """Return the images `(N, C, H, W)`."""
        return self._paint(_fourier.synthesize(parameters * self._spectrum.to(parameters)))

    def from_image(self, images: torch.Tensor) -> torch.Tensor:
        """Return the amplitudes of images `(N, C, H, W)` in [0, 1]: the inverse of `images`."""
        return _fourier.analyse(self._unpaint(images)) / self._spectrum.to(images)


def check_shape(shape: object) -> tuple[int, int, int]:
    """Return `shape` as ``(C, H, W)``, or raise an error that says what came instead."""
    sizes = list(shape) if isinstance(shape, Sequence) and not isinstance(shape, str) else []
    if len(sizes) != 3 or not all(type(size) is int and size >= 1 for size in sizes):
        raise ValueError(
            f"shape must be (C, H, W), three integers from 1: channels, height, width; got {describe(shape)}"
        )
    return sizes[0], sizes[1], sizes[2]


def spectrum(
    shape: tuple[int, int, int], statistics: ImageStatistics | None, decay: float | None
) -> torch.Tensor:
    """Return how strong each wave is, ``(H, W)`` of mean square 1: as ``1 / frequency ** decay``, None for the data's."""
    height, width = shape[1:]
    if decay is None and statistics is not None:
        return statistics.amplitudes(height, width)
    decay = 1.0 if decay is None else decay
    if not math.isfinite(check_number(decay, argument="decay")):
        raise ValueError(f"decay must be a number; got {describe(decay)}")
    falling = _fourier.frequencies(height, width).clamp(min=1 / max(height, width)) ** -float(decay)
    return falling / falling.square().mean().sqrt()


def check_spread(sd: float) -> float:
    """Return `sd` if it can be a standard deviation, or raise an error."""
    expected = "a number from 0"
    if not 0 <= check_number(sd, argument="sd", expected=expected) < math.inf:
        raise ValueError(f"sd must be {expected}; got {describe(sd)}")
    return sd


def normal(shape: tuple[int, ...], generators: Sequence[torch.Generator]) -> torch.Tensor:
    """Return standard normal numbers ``(N, *shape)``, each row from its own generator."""
    return torch.stack([torch.randn(shape, generator=generator) for generator in generators])


def _span(images: torch.Tensor) -> str:
    if not images.is_floating_point():
        return describe(images)
    return f"values from {float(images.min()):.3g} to {float(images.max()):.3g}"


def _palette(channels: int, statistics: ImageStatistics | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean colour ``(C,)`` and the matrix ``(C, C)`` that colours an uncorrelated pattern, in units of [0, 1]."""
    exact = torch.float64
    if statistics is not None:
        return statistics.mean.to(exact), statistics.colours().to(exact)
    colours = (
        torch.tensor(NATURAL_COLOURS, dtype=exact)
        if channels == 3
        else 0.25 * torch.eye(channels, dtype=exact)
    )
    return torch.full((channels,), 0.5, dtype=exact), colours
