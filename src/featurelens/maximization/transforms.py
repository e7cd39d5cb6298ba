"""Small random changes in every step, so that images do not depend on single pixels."""

from __future__ import annotations

import functools
import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Literal, TypeAlias, final

import torch
import torch.nn.functional as F

from featurelens._checks import check_number, check_whole, describe
from featurelens.maximization.layouts import LAYOUTS

Transforms: TypeAlias = Iterable["Transform | Callable[[torch.Tensor], torch.Tensor]"]

__all__ = ["Jitter", "Pad", "RandomRotate", "RandomScale", "Transform"]


class Transform(ABC):
    """A differentiable random transform of images `(N, C, H, W)`, signals ``(N, C, L)`` or volumes ``(N, C, D, H, W)``.

    Subclass it to write your own; a transform without random numbers can be a plain function of the images.

    Attributes
    ----------
    numbers : int
        How many random numbers from [0, 1) it needs for each image; 0 by default.

    Examples
    --------
    >>> class Darken(Transform):
    ...     numbers = 1
    ...
    ...     def __call__(self, images, numbers):
    ...         return images * (1 - 0.2 * numbers[:, :, None, None])
    >>> Darken()(torch.ones(2, 1, 8, 8), torch.rand(2, 1)).shape
    torch.Size([2, 1, 8, 8])
    """

    numbers: int = 0

    @abstractmethod
    def __call__(self, images: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
        """Return the transformed images; `numbers`, ``(N, self.numbers)``, are uniform in [0, 1)."""

    def needed(self, axes: int) -> int:
        """Return how many random numbers an image of `axes` spatial axes needs: always `numbers`, unless overridden."""
        return self.numbers


class AffineTransform(Transform):
    """A transform by a matrix; consecutive ones in a chain are merged into one matrix and one interpolation."""

    @abstractmethod
    def matrices(self, numbers: torch.Tensor, axes: int) -> torch.Tensor:
        """Return ``(N, axes + 1, axes + 1)``, from random `numbers`: each maps an output pixel to its source.

        Both are (x, y, 1) from the centre; the last spatial axis comes first, (x, 1) in signals and (x, y, z, 1) in volumes.
        """

    def __call__(self, images: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
        return warp(images, self.matrices(numbers, images.ndim - 2))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, vars(self).values()))})"


@final
class Pad(Transform):
    """Add a margin of `pixels` around the images, filled with `fill`: "reflect", or a grey from 0 to 1.

    Results are cropped to the images' size, so Pad alone has no effect; it gives later transforms room.

    Raises
    ------
    ValueError, TypeError
        If an argument is not one of the above.

    Examples
    --------
    >>> Pad(4)(torch.rand(2, 1, 28, 28), torch.rand(2, 0)).shape
    torch.Size([2, 1, 36, 36])
    """

    def __init__(self, pixels: int, *, fill: float | Literal["reflect"] = 0.5) -> None:
        self.pixels = check_whole(pixels, argument="pixels", least=0)
        given: object = fill
        grey = isinstance(given, float | int) and 0 <= given <= 1
        if not grey and not (isinstance(given, str) and given == "reflect"):
            raise ValueError(f"fill must be 'reflect' or a grey from 0 to 1; got {describe(fill)}")
        self.fill = fill

    def __call__(self, images: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
        """Return the images with their margin; no random `numbers` are needed.

        Raises
        ------
        ValueError
            If a reflected margin would be wider than the images.
        """
        margin = (self.pixels, self.pixels) * (images.ndim - 2)
        if self.fill == "reflect":
            if self.pixels >= min(images.shape[2:]):
                raise ValueError(f"a margin of {self.pixels} cannot be reflected from {describe(images)}")
            return F.pad(images, margin, mode="reflect")
        return F.pad(images, margin, value=float(self.fill))

    def __repr__(self) -> str:
        return f"Pad({self.pixels}, fill={self.fill!r})"


@final
class Jitter(AffineTransform):
    """Shift each image by whole pixels, at most `pixels` in each direction along each axis.

    Raises
    ------
    ValueError, TypeError
        If `pixels` is not a whole number of at least 0.

    Examples
    --------
    >>> Jitter(2)
    Jitter(2)
    """

    def __init__(self, pixels: int) -> None:
        self.pixels = check_whole(pixels, argument="pixels", least=0)

    def needed(self, axes: int) -> int:
        return axes

    def matrices(self, numbers: torch.Tensor, axes: int) -> torch.Tensor:
        matrices = _identities(numbers, axes)
        matrices[:, :axes, axes] = (numbers * (2 * self.pixels + 1)).floor() - self.pixels
        return matrices


@final
class RandomScale(AffineTransform):
    """Scale each image about its centre by a factor between `low` and `high`.

    Raises
    ------
    TypeError, ValueError
        If the factors are not positive numbers, the smaller first.

    Examples
    --------
    >>> RandomScale(0.9, 1.1)
    RandomScale(0.9, 1.1)
    """

    numbers = 1

    def __init__(self, low: float, high: float) -> None:
        low, high = check_number(low, argument="low"), check_number(high, argument="high")
        if not 0 < low <= high < math.inf:
            raise ValueError(f"low and high must be positive, the smaller first; got {low!r} and {high!r}")
        self.low, self.high = low, high

    def matrices(self, numbers: torch.Tensor, axes: int) -> torch.Tensor:
        factors = self.low + (self.high - self.low) * numbers[:, 0]
        return torch.diag_embed(torch.stack([1 / factors] * axes + [torch.ones_like(factors)], dim=1))


@final
class RandomRotate(AffineTransform):
    """Rotate each image about its centre by at most `degrees` in either direction.

    Volumes turn by as much about each of their three axes, one after the other; signals do not turn.

    Raises
    ------
    TypeError, ValueError
        If `degrees` is not a number from 0 to 180.

    Examples
    --------
    >>> RandomRotate(5)
    RandomRotate(5)
    """

    def __init__(self, degrees: float) -> None:
        expected = "a number from 0 to 180"
        if not 0 <= check_number(degrees, argument="degrees", expected=expected) <= 180:
            raise ValueError(f"degrees must be {expected}; got {degrees!r}")
        self.degrees = degrees

    def needed(self, axes: int) -> int:
        return axes * (axes - 1) // 2

    def matrices(self, numbers: torch.Tensor, axes: int) -> torch.Tensor:
        turns = []
        for number, (one, other) in enumerate(itertools.combinations(range(axes), 2)):
            angles = math.radians(self.degrees) * (2 * numbers[:, number] - 1)
            cos, sin = angles.cos(), angles.sin()
            turn, both = _identities(numbers, axes), slice(one, other + 1, other - one)
            turn[:, both, both] = torch.stack([cos, -sin, sin, cos], dim=1).view(-1, 2, 2)
            turns.append(turn)
        return functools.reduce(torch.matmul, turns) if turns else _identities(numbers, axes)


@final
class Chain:
    """Transforms one after the other, for images of `size` such as ``(H, W)``, to which the result is cropped."""

    def __init__(self, transforms: Literal["standard"] | Transforms | None, size: tuple[int, ...]) -> None:
        given: object = () if transforms is None else transforms
        if isinstance(given, str) and given == "standard":
            given = standard(size)
        if isinstance(given, str) or not isinstance(given, Iterable):
            kind = ValueError if isinstance(given, str) else TypeError
            raise kind(f"transforms must be 'standard', None or a list of them; got {describe(given)}")
        self.transforms = tuple(given)
        for transform in self.transforms:
            if not callable(transform):
                raise TypeError(f"a transform is callable on images (N, C, ...); got {describe(transform)}")
        self.needed = [t.needed(len(size)) if isinstance(t, Transform) else 0 for t in self.transforms]
        self.numbers = sum(self.needed)

    def __call__(self, images: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
        """Return the changed images; `numbers` are ``(N, self.numbers)`` from [0, 1)."""
        size = images.shape[2:]
        pending: torch.Tensor | None = None  # matrices of neighbouring affine transforms, not yet applied
        for transform, needed in zip(self.transforms, self.needed, strict=True):
            own, numbers = numbers[:, :needed], numbers[:, needed:]
            if isinstance(transform, AffineTransform):
                matrices = transform.matrices(own, len(size))
                pending = matrices if pending is None else pending @ matrices
                continue
            images, pending = warp(images, pending), None
            changed: object = (
                transform(images, own) if isinstance(transform, Transform) else transform(images)
            )
            if (
                not isinstance(changed, torch.Tensor)
                or changed.ndim != images.ndim
                or len(changed) != len(images)
            ):
                raise ValueError(
                    f"a transform must return as many images {LAYOUTS[images.ndim]} as it is given, {len(images)}; "
                    f"{describe(transform)} returned {describe(changed)}"
                )
            images = changed
        return _centre(warp(images, pending), size)


def warp(images: torch.Tensor, matrices: torch.Tensor | None) -> torch.Tensor:
    """Interpolate images where `matrices`, as of `AffineTransform`, say; what lies outside is mirrored in."""
    if matrices is None:
        return images
    if images.ndim == 3:  # a signal is an image of height 1
        flat = _identities(matrices, 2)
        flat[:, ::2, ::2] = matrices
        return warp(images[:, :, None], flat)[:, :, 0]
    sizes = images.shape[:1:-1]  # width, height, ...
    ratio = images.new_tensor([[*(other / size for other in sizes), 2 / size] for size in sizes])
    grid = F.affine_grid(matrices[:, :-1].to(images) * ratio, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)


def standard(size: tuple[int, ...]) -> list[Transform]:
    """Return what suits images of `size`: shifts by a sixteenth of it, scales by a tenth, turns of 5 degrees."""
    return [Jitter(max(1, round(min(size) / 16))), RandomScale(0.9, 1.1), RandomRotate(5)]


def _identities(numbers: torch.Tensor, axes: int) -> torch.Tensor:
    """Return an identity ``(N, axes + 1, axes + 1)`` for each row of `numbers`."""
    return torch.eye(axes + 1).to(numbers).repeat(len(numbers), 1, 1)


def _centre(images: torch.Tensor, size: torch.Size) -> torch.Tensor:
    found = images.shape[2:]
    if found == size:
        return images
    if any(has < wants for has, wants in zip(found, size, strict=True)):
        raise ValueError(
            f"the transforms returned images of {tuple(found)} pixels, smaller than the model's {tuple(size)}"
        )
    for axis, (has, wants) in enumerate(zip(found, size, strict=True), start=2):
        images = images.narrow(axis, (has - wants) // 2, wants)
    return images
