"""The parts of which objectives are sums, each with the arithmetic that gives its value for many images at once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Self, final

import torch
from torch import nn

from featurelens._checks import count, describe
from featurelens.layers import Selector


@dataclass(frozen=True)
class Term(ABC):
    """One part of an objective. Terms of the same `kind` (and layer) are evaluated in one go."""

    @property
    def kind(self) -> Hashable:
        """What terms must have in common to be evaluated together."""
        return type(self)

    @abstractmethod
    def __str__(self) -> str: ...

    @classmethod
    @abstractmethod
    def values(cls, terms: Sequence[Self], observed: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """Return ``(K,)``: the value of ``terms[k]`` for row ``rows[k]`` of `observed`.

        `observed` is what the terms' layer returned for a batch, or the images themselves for a penalty.
        """


@dataclass(frozen=True)
class LayerTerm(Term):
    """A term that looks at what a layer returns."""

    layer: Selector

    def check(self, shape: tuple[int, ...]) -> None:
        """Raise an error unless the term fits a layer that returns `shape`."""

    @property
    def layer_name(self) -> str:
        """The layer as the user wrote it."""
        if isinstance(self.layer, str):
            return self.layer or "the output"
        return type(self.layer).__name__ if isinstance(self.layer, nn.Module) else str(self.layer)


@dataclass(frozen=True)
class ChannelTerm(LayerTerm):
    """A term that tells the channels of what a layer returns from its positions."""

    axis: int | None = field(default=None, kw_only=True)

    @property
    def kind(self) -> Hashable:
        return type(self), self.channel_axis

    @property
    def channel_axis(self) -> int:
        """Which axis holds the channels."""
        return 1 if self.axis is None else self.axis

    def check(self, shape: tuple[int, ...]) -> None:
        axis = self.channel_axis + len(shape) if self.channel_axis < 0 else self.channel_axis
        if not 1 <= axis < len(shape):
            raise LookupError(
                f"layer {self.layer_name!r} returns shape {shape}, which has no axis {self.channel_axis} of channels"
            )


@dataclass(frozen=True)
class Activation(ChannelTerm):
    """A term that is the mean over positions of some activation, or of ``-exp(-activation)``."""

    exponential: bool = field(default=False, kw_only=True)

    @property
    def kind(self) -> Hashable:
        return super().kind, self.exponential

    @property
    @abstractmethod
    def unit(self) -> str:
        """What is active, in words."""

    def __str__(self) -> str:
        return f"-exp(-{self.unit})" if self.exponential else self.unit

    def over_positions(self, activations: torch.Tensor) -> torch.Tensor:
        """Reduce ``(K, ...)`` to ``(K,)``."""
        activations = activations.flatten(1).float() if activations.ndim > 1 else activations[:, None].float()
        return (-(-activations).exp() if self.exponential else activations).mean(1)

    def channels(self, shape: tuple[int, ...]) -> int:
        """How many channels an output of `shape` has."""
        return shape[self.channel_axis]


@dataclass(frozen=True)
class Unit(Activation):
    """One channel of a layer."""

    index: int

    @property
    def unit(self) -> str:
        return f"{self.layer_name}:{self.index}" if self.layer != "" else f"logit {self.index}"

    def check(self, shape: tuple[int, ...]) -> None:
        super().check(shape)
        channels = self.channels(shape)
        if not -channels <= self.index < channels:
            raise LookupError(
                f"layer {self.layer_name!r} has {count(channels, 'channel')}, 0 to {channels - 1}; "
                f"got channel {self.index}"
            )


@final
@dataclass(frozen=True)
class Channel(Unit):
    """The mean of a channel over all positions."""

    @classmethod
    def values(cls, terms: Sequence[Self], observed: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        index = torch.tensor([term.index for term in terms], device=observed.device)
        return terms[0].over_positions(observed.movedim(terms[0].channel_axis, 1)[rows, index])


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
        if self.position is not None:
            axis = self.channel_axis % len(shape)
            sizes = shape[1:axis] + shape[axis + 1 :]
            fits = len(sizes) == len(self.position) and all(
                -size <= at < size for at, size in zip(self.position, sizes, strict=True)
            )
            if not fits:
                raise LookupError(
                    f"layer {self.layer_name!r} has positions within {sizes}; got position {self.position}"
                )

    @classmethod
    def values(cls, terms: Sequence[Self], observed: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        observed = observed.movedim(terms[0].channel_axis, 1)
        centre = tuple(size // 2 for size in observed.shape[2:])
        places = [(term.index, *(centre if term.position is None else term.position)) for term in terms]
        index = torch.tensor(places, device=observed.device).T
        return terms[0].over_positions(observed[(rows, *index)])


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
        if len(self.vector) != self.channels(shape):
            raise ValueError(
                f"layer {self.layer_name!r} has {count(self.channels(shape), 'channel')}; "
                f"got a direction of {len(self.vector)}"
            )

    @classmethod
    def values(cls, terms: Sequence[Self], observed: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        vectors = torch.tensor([term.vector for term in terms], dtype=observed.dtype, device=observed.device)
        activations = (
            observed.movedim(terms[0].channel_axis, 1)[rows].flatten(2) if observed.ndim > 2 else None
        )
        if activations is None:
            return terms[0].over_positions((observed[rows] * vectors).sum(1))
        return terms[0].over_positions(torch.einsum("kcp,kc->kp", activations, vectors))


@final
@dataclass(frozen=True)
class LayerEnergy(LayerTerm):
    """The mean square of everything a layer returns."""

    def __str__(self) -> str:
        return f"energy of {self.layer_name}"

    @classmethod
    def values(cls, terms: Sequence[Self], observed: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        return observed.float().square().flatten(1).mean(1)[rows]


@final
@dataclass(frozen=True)
class Diversity(ChannelTerm):
    """Minus the mean cosine between the Gram matrices of the images that `values` is given."""

    def __str__(self) -> str:
        return f"diversity in {self.layer_name}"

    @classmethod
    def values(cls, terms: Sequence[Self], observed: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        observed = observed.movedim(terms[0].channel_axis, 1)[rows].float()
        maps = observed.flatten(2) if observed.ndim > 2 else observed[:, :, None]
        grams = torch.nn.functional.normalize((maps @ maps.mT).flatten(1), dim=1)
        cosines = grams @ grams.T
        others = max(len(rows) - 1, 1)
        return -(cosines.sum(1) - cosines.diagonal()) / others


@final
@dataclass(frozen=True)
class Custom(LayerTerm):
    """What a function of the user's makes of everything a layer returns."""

    name: str
    function: Callable[[torch.Tensor], torch.Tensor] = field(repr=False)  # its repr differs from run to run

    @property
    def kind(self) -> Hashable:
        return type(self), self.function

    def __str__(self) -> str:
        return f"{self.name} of {self.layer_name}"

    @classmethod
    def values(cls, terms: Sequence[Self], observed: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        values: object = terms[0].function(observed)
        if not isinstance(values, torch.Tensor) or values.shape != observed.shape[:1]:
            raise ValueError(
                f"{terms[0].name} must return a number for each image, a tensor ({len(observed)},), for activations "
                f"{tuple(observed.shape)}; got {describe(values)}"
            )
        return values.float()[rows]


@dataclass(frozen=True)
class Penalty(Term):
    """An amount of something unwanted in the image."""


@final
@dataclass(frozen=True)
class TotalVariation(Penalty):
    """The mean absolute difference of neighbouring pixels."""

    def __str__(self) -> str:
        return "total variation"

    @classmethod
    def values(cls, terms: Sequence[Self], observed: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        down, across = observed.diff(dim=-2).abs(), observed.diff(dim=-1).abs()
        return (down.flatten(1).sum(1) + across.flatten(1).sum(1))[rows] / max(
            down[0].numel() + across[0].numel(), 1
        )


@final
@dataclass(frozen=True)
class SquaredNorm(Penalty):
    """The mean squared distance from mid-grey."""

    def __str__(self) -> str:
        return "l2"

    @classmethod
    def values(cls, terms: Sequence[Self], observed: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        return (observed - 0.5).square().flatten(1).mean(1)[rows]


@final
@dataclass(frozen=True)
class Laplacian(Penalty):
    """The mean square of the discrete Laplacian, edges continued outwards."""

    def __str__(self) -> str:
        return "laplacian"

    @classmethod
    def values(cls, terms: Sequence[Self], observed: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        wide = torch.nn.functional.pad(observed, (1, 1, 1, 1), mode="replicate")
        around = wide[..., 2:, 1:-1] + wide[..., :-2, 1:-1] + wide[..., 1:-1, 2:] + wide[..., 1:-1, :-2]
        return (around - 4 * observed).square().flatten(1).mean(1)[rows]
