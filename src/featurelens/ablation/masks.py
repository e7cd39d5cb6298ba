"""Which channels of which layer are ablated, and what replaces them."""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, Self, TypeAlias, final

import numpy as np
import torch
from torch import nn

from featurelens._channels import ChannelAxes, axis_by_type
from featurelens._checks import check_choice, check_whole, describe
from featurelens._hooks import hooked, submodule
from featurelens.layers import Choice, Selector, choose
from featurelens.recording.inputs import arguments

Filler: TypeAlias = Literal["zero", "mean", "resample"] | torch.Tensor
Fill: TypeAlias = Filler | np.ndarray[Any, Any]
"""What replaces an ablated channel; arrays become tensors when they are checked."""
Mode: TypeAlias = Literal["keep", "drop"]
"""Whether the named channels are the only ones that stay, or the ones that go."""

FILLS = ("zero", "mean", "resample")
MODES = ("keep", "drop")


@final
@dataclass(frozen=True)
class AblatedLayer:
    """A layer of `model`, or one of its calls, and the axis of its channels (None: 1, if that is unambiguous)."""

    model: nn.Module
    choice: Choice
    axis: int | None
    axes: ChannelAxes

    @classmethod
    def find(cls, model: nn.Module, layer: Selector, axis: int | None) -> Self:
        """Return the one layer that `layer` selects.

        Raises
        ------
        TypeError, ValueError, LookupError
            If there is not exactly one, or `axis` is wrong.
        """
        axis = None if axis is None else check_whole(axis, argument="axis")
        if axis == 0:
            raise ValueError("axis 0 is the batch; the channels must be in another axis")
        if isinstance(layer, list | tuple):
            raise TypeError(f"layer must be a single layer; got {describe(layer)}")
        choices = choose(model, layer)
        if len(choices) > 1:
            names = ", ".join(choice.name for choice in choices[:4]) + (", ..." if len(choices) > 4 else "")
            raise ValueError(
                f"layer must be a single layer; {describe(layer)} matches {len(choices)}: {names}"
            )
        if axis is None:
            axis = axis_by_type(submodule(model, choices[0].name))
        return cls(model, choices[0], axis, ChannelAxes(model))

    @property
    def name(self) -> str:
        """The layer's exact name, with ``#k`` if one call was selected."""
        return self.choice.name if self.choice.call is None else f"{self.choice.name}#{self.choice.call}"

    @property
    def module(self) -> nn.Module:
        """The layer itself."""
        return submodule(self.model, self.choice.name)

    @property
    def channel_axis(self) -> int:
        """The axis of the channels in an output that passed `check`."""
        return 1 if self.axis is None else self.axis

    def check(self, output: Any, size: int | None = None) -> torch.Tensor:
        """Return the layer's output for a batch of `size`, or raise an error if it has no channels to ablate."""
        if not isinstance(output, torch.Tensor):
            raise TypeError(
                f"layer {self.name!r} must return a tensor to have its channels ablated; got {describe(output)}"
            )
        if output.ndim < 2 or (size is not None and len(output) != size) or not output.is_floating_point():
            batch = "" if size is None else f" for a batch of {size}"
            raise ValueError(
                f"layer {self.name!r} must return floating-point numbers (N, C, ...){batch}; got {describe(output)}"
            )
        if self.axis is None and self.axes.of(None, tuple(output.shape)) is None:
            kind, what = (
                ("(N, L, D)", "features of tokens") if output.ndim == 3 else ("(N, H, W, C)", "the last axis")
            )
            raise ValueError(
                f"layer {self.name!r} returns {describe(output)}, which may be {kind}: use axis=-1 to ablate {what}, "
                "axis=1 for channels"
            )
        axis = self.channel_axis
        if not -output.ndim < axis < output.ndim:
            raise ValueError(
                f"axis {axis} does not hold channels: layer {self.name!r} returns {describe(output)}"
            )
        return output

    def images_in(self, batch: Any, *, where: str = "images") -> torch.Tensor:
        """Return the one tensor in a batch that the model takes: the batch itself, or without its labels."""
        if isinstance(batch, np.ndarray) and batch.dtype.kind in "biuf":
            batch = torch.from_numpy(batch.copy())
        images: torch.Tensor = batch
        if not isinstance(batch, torch.Tensor):
            args, kwargs = arguments(batch, self.model)
            images, *more = [*args, *kwargs.values()]
            if more or not isinstance(images, torch.Tensor):
                raise TypeError(f"{where} must be a tensor (N, ...); got {describe(batch)}")
        if images.ndim == 0 or not len(images):
            raise ValueError(f"{where} must be (N, ...) with N at least 1; got {describe(images)}")
        if images.is_floating_point() and not bool(torch.isfinite(images).all()):
            broken = int((~torch.isfinite(images)).sum())
            raise ValueError(
                f"{where} must be finite; got {describe(images)} with {broken} NaN or infinite values"
            )
        return images

    @contextmanager
    def hooked(self, receive: Callable[[Any], Any]) -> Iterator[None]:
        """Pass the layer's output to `receive` inside the block; if that returns something, it replaces the output."""
        layer = self.module
        if isinstance(layer, torch.jit.ScriptModule):
            raise TypeError(
                f"a scripted {layer.original_name} cannot be ablated, as hooks do not run in scripted code: "
                "use the module it was scripted from"
            )
        with hooked({layer: lambda module, args, output: receive(output)}):
            yield


def ablate(values: torch.Tensor, mask: torch.Tensor, fill: torch.Tensor, axis: int) -> torch.Tensor:
    """Return `values` with the channels that `mask` marks replaced by `fill`.

    Parameters
    ----------
    values
        `(V, N, ...)`: V variants of a layer's output, or one output expanded to as many.
    mask
        `(V, C)`, True for the channels to ablate.
    fill
        Anything that broadcasts to the layer's output `(N, ...)`.
    axis
        The axis of the channels in the layer's output.
    """
    shape = [1] * values.ndim
    shape[0], shape[axis + 1] = mask.shape
    return torch.where(mask.view(shape), fill, values)


def one_by_one(channels: list[int], total: int, mode: Mode) -> torch.Tensor:
    """Return the mask `(len(channels), total)` of variants that keep or drop one channel each."""
    named = torch.zeros(len(channels), total, dtype=torch.bool)
    named[torch.arange(len(channels)), channels] = True
    return named if mode == "drop" else ~named


@final
class Replacement:
    """What replaces the ablated channels in a batch of `size` images.

    `fill` may also map the number of each of the layer's calls to a tensor.
    """

    def __init__(
        self, fill: Filler | Mapping[int, torch.Tensor], axis: int, size: int, generator: torch.Generator
    ) -> None:
        self.fill, self.axis = fill, axis
        resampled = isinstance(fill, str) and fill == "resample"
        self._source = derangement(size, generator) if resampled else None

    def values(self, output: torch.Tensor, call: int) -> torch.Tensor:
        """Return a tensor that broadcasts to the plain `output` `(N, ...)` of the layer's given call."""
        fill = self.fill[call] if isinstance(self.fill, Mapping) else self.fill
        if self._source is not None:
            return output[self._source.to(output.device)]
        channels = self.axis % output.ndim
        if not isinstance(fill, torch.Tensor):
            others = [axis for axis in range(output.ndim) if axis != channels]
            return output.mean(others, keepdim=True) if fill == "mean" else output.new_zeros(())
        shapes = [(output.shape[channels],), tuple(output.shape[1:])]
        if fill.shape not in shapes:
            raise ValueError(
                f"fill must have shape {' or '.join(map(str, dict.fromkeys(shapes)))}, as the layer returns "
                f"{tuple(output.shape)}; got {describe(fill)}"
            )
        if fill.shape == shapes[0]:
            fill = fill.view([-1 if axis == channels else 1 for axis in range(output.ndim)])
        return fill.to(output)


@final
@dataclass
class ChannelHooks:
    """Hooks that ablate channels in every forward pass, and count passes, calls of the layer and changes."""

    layer: AblatedLayer
    channels: list[int]
    mode: Mode
    fill: Filler
    generator: torch.Generator
    passes: int = 0
    calls: int = 0
    most_calls: int = 0
    changes: int = 0

    def begin(self, module: nn.Module, args: Any) -> None:
        """Count calls of the layer anew for each forward pass."""
        self.passes += 1
        self.calls = 0

    def change(self, output: Any) -> torch.Tensor | None:
        """Return the layer's output with channels ablated; None for calls that were not selected."""
        self.calls += 1
        self.most_calls = max(self.most_calls, self.calls)
        if self.layer.choice.call not in (None, self.calls):
            return None
        self.changes += 1
        features, axis = self.layer.check(output), self.layer.channel_axis
        total = features.shape[axis]
        named = one_by_one(check_channels(self.channels, total), total, "drop").any(0, keepdim=True)
        mask = (named if self.mode == "drop" else ~named).to(features.device)
        fill = Replacement(self.fill, axis, len(features), self.generator).values(features, self.calls)
        return ablate(features[None], mask, fill, axis % features.ndim)[0]


def derangement(size: int, generator: torch.Generator) -> torch.Tensor:
    """Return a random order of ``range(size)``, drawn on the CPU, in which nothing stays in its place.

    >>> derangement(2, torch.Generator().manual_seed(0))
    tensor([1, 0])
    """
    if size < 2:
        raise ValueError(
            f"fill='resample' takes a channel from another image of the batch; got a batch of {size}"
        )
    circle = torch.randperm(size, generator=generator)
    order = torch.empty_like(circle)
    order[circle] = circle.roll(1)
    return order


def check_fill(fill: Any) -> Filler:
    """Return `fill`, an array as a tensor; whether it fits the layer is checked once the layer has run."""
    if isinstance(fill, np.ndarray):
        fill = torch.from_numpy(fill.copy())
    if not isinstance(fill, torch.Tensor):
        check_choice(fill, FILLS, argument="fill", further=" or a tensor")
    elif not fill.is_floating_point() or not bool(torch.isfinite(fill).all()):
        raise ValueError(f"fill must hold finite floating-point numbers; got {describe(fill)}")
    checked: Filler = fill
    return checked


def check_chunk(chunk: object) -> None:
    """Raise an error unless `chunk` is None or a whole number from 1."""
    if chunk is not None:
        check_whole(chunk, argument="chunk", least=1)


def check_channels(channels: object, total: int | None = None, *, argument: str = "channels") -> list[int]:
    """Return channels as a list; they must be different numbers from 0 to `total` - 1 (None: not known yet)."""
    if isinstance(channels, torch.Tensor | np.ndarray | np.generic):
        channels = channels.tolist()
    several = isinstance(channels, Iterable) and not isinstance(channels, str)
    listed: list[Any] = list(channels) if several else [channels]  # type: ignore[call-overload]
    try:
        if any(isinstance(channel, bool) for channel in listed):
            raise TypeError
        listed = [operator.index(channel) for channel in listed]
    except TypeError:
        raise TypeError(f"{argument} must be whole numbers; got {describe(channels)}") from None
    for channel, times in Counter(listed).items():
        if times > 1:
            raise ValueError(f"{argument} must be different numbers; {channel} is given {times} times")
        if channel < 0 or (total is not None and channel >= total):
            allowed = "numbers from 0" if total is None else f"from 0 to {total - 1}"
            raise ValueError(f"{argument} must be {allowed}; got {channel}")
    return listed


def chosen_channels(channels: list[int] | None, total: int, *, argument: str = "channels") -> list[int]:
    """Return the channels to ablate, all of `total` if None; there must be at least one."""
    if channels is None:
        return list(range(total))
    if not channels:
        raise ValueError(f"{argument} must name at least one channel; got none")
    return check_channels(channels, total, argument=argument)
