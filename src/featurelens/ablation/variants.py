"""Variants of a layer's output: which channels are put out of action, and what stands in their place."""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, final

import numpy as np
import torch

from featurelens._checks import check_choice, check_whole, describe

Filler: TypeAlias = Literal["zero", "mean", "resample"] | torch.Tensor
Fill: TypeAlias = Filler | np.ndarray[Any, Any]
"""What stands in the place of an ablated channel; arrays become tensors when they are checked."""
Mode: TypeAlias = Literal["keep", "drop"]
"""Whether the named channels are the only ones left, or those that are taken out."""

FILLS = ("zero", "mean", "resample")
MODES = ("keep", "drop")


def ablate(values: torch.Tensor, mask: torch.Tensor, fill: torch.Tensor, axis: int) -> torch.Tensor:
    """Return `values` with the channels that `mask` marks replaced by `fill`.

    Parameters
    ----------
    values
        `(V, N, ...)`: V variants of a layer's output, or one output expanded to as many.
    mask
        `(V, C)`, True where a channel is ablated.
    fill
        Whatever fits the layer's output `(N, ...)` by broadcasting.
    axis
        Which axis of the layer's output holds the channels.
    """
    shape = [1] * values.ndim
    shape[0], shape[axis + 1] = mask.shape
    return torch.where(mask.view(shape), fill, values)


def one_by_one(channels: list[int], total: int, mode: Mode, device: torch.device) -> torch.Tensor:
    """Return the mask `(len(channels), total)` of variants that keep or drop one channel each."""
    named = torch.zeros(len(channels), total, dtype=torch.bool, device=device)
    named[torch.arange(len(channels)), channels] = True
    return named if mode == "drop" else ~named


def together(channels: list[int], total: int, mode: Mode, device: torch.device) -> torch.Tensor:
    """Return the mask `(1, total)` of the one variant that keeps or drops all of `channels`."""
    named = torch.zeros(1, total, dtype=torch.bool, device=device)
    named[:, channels] = True
    return named if mode == "drop" else ~named


def step_by_step(order: list[int], total: int, device: torch.device) -> torch.Tensor:
    """Return the mask `(len(order), total)` of variants that drop the first 1, 2, 3, ... channels of `order`."""
    return one_by_one(order, total, "drop", device).cumsum(0).bool()


@final
@dataclass(frozen=True, eq=False)
class Filling:
    """What is put in the place of ablated channels, for one batch.

    `fill` may also be a tensor for each call of the layer, by the number of the call. `order` says from which other
    image each image of the batch takes its values; it is there for "resample".
    """

    fill: Filler | Mapping[int, torch.Tensor]
    axis: int
    order: torch.Tensor | None = None

    @classmethod
    def for_batch(
        cls, fill: Filler | Mapping[int, torch.Tensor], axis: int, size: int, generator: torch.Generator
    ) -> Filling:
        """Return the filling for a batch of `size` images."""
        order = derangement(size, generator) if isinstance(fill, str) and fill == "resample" else None
        return cls(fill, axis, order)

    def values(self, output: torch.Tensor, call: int) -> torch.Tensor:
        """Return what fits the plain `output` `(N, ...)` of the layer's given call by broadcasting."""
        if isinstance(self.fill, Mapping):
            return self._given(self.fill[call], output)
        if isinstance(self.fill, torch.Tensor):
            return self._given(self.fill, output)
        if self.fill == "mean":
            others = [axis for axis in range(output.ndim) if axis != self.axis % output.ndim]
            return output.mean(others, keepdim=True)
        if self.order is not None:
            return output[self.order.to(output.device)]
        return output.new_zeros(())

    def _given(self, fill: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
        fill = fill.to(output)
        channels = output.shape[self.axis]
        if fill.shape == (channels,):
            shape = [1] * output.ndim
            shape[self.axis] = channels
            return fill.view(shape)
        if fill.shape == output.shape[1:]:
            return fill
        expected = dict.fromkeys([(channels,), tuple(output.shape[1:])])
        raise ValueError(
            f"fill must have shape {' or '.join(map(str, expected))}, as the layer returns "
            f"{tuple(output.shape)}; got {describe(fill)}"
        )


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
    """Return `fill`, an array as a tensor; whether it fits the layer is seen when the layer was called."""
    if isinstance(fill, np.ndarray):
        fill = torch.from_numpy(fill.copy())
    if not isinstance(fill, torch.Tensor):
        check_choice(fill, FILLS, argument="fill", further=" or a tensor")
    elif not fill.is_floating_point() or not bool(torch.isfinite(fill).all()):
        raise ValueError(f"fill must hold finite floating-point numbers; got {describe(fill)}")
    checked: Filler = fill
    return checked


def check_channels(channels: object, total: int | None = None) -> list[int]:
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
        raise TypeError(f"channels must be whole numbers; got {describe(channels)}") from None
    for channel, times in Counter(listed).items():
        if times > 1:
            raise ValueError(f"channels must be different; got {channel} {times} times")
        if channel < 0 or (total is not None and channel >= total):
            allowed = "numbers from 0" if total is None else f"from 0 to {total - 1}"
            raise ValueError(f"channels must be {allowed}; got {channel}")
    return listed


def chosen_channels(channels: list[int] | None, total: int) -> list[int]:
    """Return the channels to go through, all of `total` if None; there must be one at least."""
    if channels is None:
        return list(range(total))
    if not channels:
        raise ValueError("channels must name at least one channel; got none")
    return check_channels(channels, total)


def check_chunk(chunk: object) -> None:
    """Raise an error unless `chunk` is None or a whole number from 1."""
    if chunk is not None:
        check_whole(chunk, argument="chunk", least=1)
