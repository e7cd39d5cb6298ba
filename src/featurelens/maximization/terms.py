"""The terms that objectives are sums of: what each looks at, and its value for many images at once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Self, final

import torch
from torch import nn

from featurelens._checks import count, describe
from featurelens.layers import Selector


@dataclass(frozen=True)
class Term(ABC):
    """One term of an objective. Terms of the same `kind` on the same layer are evaluated together."""

    shared: ClassVar[tuple[str, ...]] = ()
    """Attributes that terms evaluated together must have in common."""

    @property
    def kind(self) -> Hashable:
        """What terms must have in common to be evaluated together."""
        return type(self), *(getattr(self, name) for name in self.shared)

    @abstractmethod
    def __str__(self) -> str: ...

    @abstractmethod
    def values(self, terms: Sequence[Self], observed: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """Return ``(K,)``: the value of ``terms[k]``, all of this term's kind, for row ``rows[k]`` of `observed`.

        `observed` is what the terms' layer returned for a batch, or the images themselves for a penalty.
        """


@dataclass(frozen=True)
class LayerTerm(Term):
    """A term that looks at the output of a layer."""

    layer: Selector

    @property
    def layer_name(self) -> str:
        """The layer as the user wrote it."""
        if isinstance(self.layer, str):
            return self.layer or "the output"
        return type(self.layer).__name__ if isinstance(self.layer, nn.Module) else str(self.layer)


def check_axis(axis: int, shape: tuple[int, ...], layer: str) -> None:
    """Raise an error unless `axis` can hold the channels of a layer that returns `shape`."""
    if not 1 <= (axis + len(shape) if axis < 0 else axis) < len(shape):
        raise LookupError(f"layer {layer!r} returns shape {shape}, which has no channel axis {axis}")


@dataclass(frozen=True)
class ChannelTerm(LayerTerm):
    """A term for which one axis of the layer's output holds the channels."""

    axis: int | None = field(default=None, kw_only=True)
    shared: ClassVar[tuple[str, ...]] = ("channel_axis",)

    @property
    def channel_axis(self) -> int:
        """Which axis holds the channels."""
        return 1 if self.axis is None else self.axis

    def check(self, shape: tuple[int, ...]) -> None:
        """Raise an error unless the term fits a layer that returns `shape`."""
        check_axis(self.channel_axis, shape, self.layer_name)


@dataclass(frozen=True)
class Activation(ChannelTerm):
    """A term that is the mean over positions of an activation, or of ``-exp(-activation)``."""

    exponential: bool = field(default=False, kw_only=True)
    shared = ("channel_axis", "exponential")

    @property
    @abstractmethod
    def unit(self) -> str:
        """The name of what is active."""

    def __str__(self) -> str:
        return f"-exp(-{self.unit})" if self.exponential else self.unit

    def over_positions(self, activations: torch.Tensor) -> torch.Tensor:
        """Reduce ``(K, ...)`` to ``(K,)``."""
        activations = activations.reshape(len(activations), -1).float()
        return (-(-activations).exp() if self.exponential else activations).mean(1)


@dataclass(frozen=True)
class Unit(Activation):
    """One channel of a layer."""

    index: int

    @property
    def unit(self) -> str:
        return f"{self.layer_name}:{self.index}" if self.layer != "" else f"logit {self.index}"

    def check(self, shape: tuple[int, ...]) -> None:
        super().check(shape)
        channels = shape[self.channel_axis]
        if not -channels <= self.index < channels:
            raise LookupError(
                f"layer {self.layer_name!r} has {count(channels, 'channel')}, 0 to {channels - 1}; "
                f"got channel {self.index}"
            )


@final
class Channel(Unit):
    """The mean of a channel over all positions."""

    def values(self, terms: Sequence[Self], observed: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        index = torch.tensor([term.index for term in terms], device=observed.device)
        return self.over_positions(observed.movedim(self.channel_axis, 1)[rows, index])


@final
@dataclass(frozen=True)
class Neuron(Unit):
    """A channel at one position, None for the centre."""

    position: tuple[int, ...] | None = None

    @property
    def unit(self) -> str:
        return f"{super().unit} at {'the centre' if self.position is None else self.position}"

    def check(self, shape: tuple[int, ...]) -> None:
        super().check(shape)
        if self.position is None:
            return
        axis = self.channel_axis % len(shape)
        sizes = shape[1:axis] + shape[axis + 1 :]
        inside = (-size <= at < size for at, size in zip(self.position, sizes, strict=False))
        if len(sizes) != len(self.position) or not all(inside):
            raise LookupError(
                f"positions in layer {self.layer_name!r} must be within {sizes}; got position {self.position}"
            )

    def values(self, terms: Sequence[Self], observed: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        observed = observed.movedim(self.channel_axis, 1)
        centre = tuple(size // 2 for size in observed.shape[2:])
        places = [(term.index, *(centre if term.position is None else term.position)) for term in terms]
        index = torch.tensor(places, device=observed.device).T
        return self.over_positions(observed[(rows, *index)])


@final
@dataclass(frozen=True)
class Direction(Activation):
    """The scalar product with a vector over the channels, averaged over positions."""

    vector: tuple[float, ...]

    @property
    def unit(self) -> str:
        return f"direction in {self.layer_name}"

    def check(self, shape: tuple[int, ...]) -> None:
        super().check(shape)
        channels = shape[self.channel_axis]
        if len(self.vector) != channels:
            raise ValueError(
                f"layer {self.layer_name!r} has {count(channels, 'channel')}; "
                f"got a direction of {len(self.vector)}"
            )

    def values(self, terms: Sequence[Self], observed: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        vectors = torch.tensor([term.vector for term in terms], dtype=observed.dtype, device=observed.device)
        maps = observed.movedim(self.channel_axis, 1)[rows]
        if maps.ndim == 2:
            return self.over_positions((maps * vectors).sum(1))
        return self.over_positions(torch.einsum("kcp,kc->kp", maps.flatten(2), vectors))


@final
class Diversity(ChannelTerm):
    """Minus the mean cosine between the Gram matrices of the images in `rows`."""

    def __str__(self) -> str:
        return f"diversity in {self.layer_name}"

    def values(self, terms: Sequence[Self], observed: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        maps = observed.movedim(self.channel_axis, 1)[rows].float()
        maps = maps.reshape(*maps.shape[:2], -1)
        grams = torch.nn.functional.normalize((maps @ maps.mT).flatten(1), dim=1)
        cosines = grams @ grams.T
        return -(cosines.sum(1) - cosines.diagonal()) / max(len(rows) - 1, 1)


@final
class LayerEnergy(LayerTerm):
    """The mean square of a layer's output."""

    def __str__(self) -> str:
        return f"energy of {self.layer_name}"

    def values(self, terms: Sequence[Self], observed: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        return observed.float().square().flatten(1).mean(1)[rows]


@final
@dataclass(frozen=True)
class Custom(LayerTerm):
    """A function of the user's on a layer's output."""

    name: str
    function: Callable[[torch.Tensor], torch.Tensor] = field(repr=False)  # its repr differs from run to run
    shared = ("function",)

    def __str__(self) -> str:
        return f"{self.name} of {self.layer_name}"

    def values(self, terms: Sequence[Self], observed: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        values: object = self.function(observed)
        if not isinstance(values, torch.Tensor) or values.shape != observed.shape[:1]:
            raise ValueError(
                f"the function {self.name} must return one number for each image, a tensor ({len(observed)},), for activations "
                f"{tuple(observed.shape)}; got {describe(values)}"
            )
        return values.float()[rows]


class Penalty(Term):
    """An amount of something unwanted in the image."""

    name: ClassVar[str]

    def __str__(self) -> str:
        return self.name


@final
class TotalVariation(Penalty):
    """The mean absolute difference of neighbouring pixels."""

    name = "total variation"

    def values(self, terms: Sequence[Self], observed: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        steps = [observed.diff(dim=axis).abs().flatten(1) for axis in range(2, observed.ndim)]
        pairs = max(sum(each.shape[1] for each in steps), 1)
        return torch.stack([each.sum(1) for each in steps]).sum(0)[rows] / pairs


@final
class SquaredNorm(Penalty):
    """The mean squared distance from mid-grey."""

    name = "l2"

    def values(self, terms: Sequence[Self], observed: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        return (observed - 0.5).square().flatten(1).mean(1)[rows]


@final
class Laplacian(Penalty):
    """The mean square of the discrete Laplacian, edges continued outwards."""

    name = "laplacian"

    def values(self, terms: Sequence[Self], observed: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        laplacian = torch.zeros_like(observed)
        for axis in range(2, observed.ndim):
            first, last = observed.narrow(axis, 0, 1), observed.narrow(axis, -1, 1)
            laplacian = laplacian + observed.diff(n=2, dim=axis, prepend=first, append=last)
        return laplacian.square().flatten(1).mean(1)[rows]
