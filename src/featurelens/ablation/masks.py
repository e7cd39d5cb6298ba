"""Which channels are ablated, alone or in groups, and what replaces them."""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self, TypeAlias, final

import numpy as np
import torch

from featurelens._checks import as_list, check_choice, check_dense, check_whole, describe, to_tensor

Mode: TypeAlias = Literal["keep", "drop"]
"""Whether the named channels are the only ones that stay, or the ones that go."""
Name: TypeAlias = int | str
"""The number of a channel, or the number or name of a group."""
Filler: TypeAlias = Literal["zero", "mean", "resample"] | torch.Tensor
Fill: TypeAlias = Filler | np.ndarray[Any, Any]
"""What replaces an ablated channel; arrays become tensors when they are checked."""

FILLS = ("zero", "mean", "resample")
MODES = ("keep", "drop")


@final
@dataclass(frozen=True)
class Groups:
    """Groups of channels by name: a number of equal groups, lists of channels, or None for single channels.

    `noun` is what results call them: "channel", "group" or "head".
    """

    given: int | dict[Name, list[int]] | None
    noun: str = "channel"

    @classmethod
    def of(cls, groups: Any) -> Self:
        """Check what the user passed.

        Raises
        ------
        TypeError, ValueError
            If it is no number, list of lists, or dict of lists, or a list does not hold different channel numbers.
        """
        if groups is None:
            return cls(None)
        if isinstance(groups, Mapping):
            listed = dict(groups)
        elif isinstance(groups, list | tuple):
            listed = dict(enumerate(groups))
        else:
            return cls(check_whole(groups, argument="groups", least=1), "group")
        if not listed or not all(isinstance(name, int | str) for name in listed):
            raise ValueError(f"groups must be at least one list of channels; got {describe(groups)}")
        for name, channels in listed.items():
            listed[name] = check_channels(channels, argument=f"groups[{name!r}]")
            if not listed[name]:
                raise ValueError(f"groups[{name!r}] must name at least one channel; got none")
        return cls(listed, "group")

    def check(self, names: Any, total: int | None = None, *, argument: str = "channels") -> list[Name]:
        """Return channels or groups as a list, if they exist in a layer of `total` channels (None: not known yet)."""
        if not isinstance(self.given, dict):
            groups = total if self.given is None else self.given
            return list(check_channels(names, groups, argument=argument))
        one = isinstance(names, int | str)
        listed = [names] if one else as_list(names, argument=argument, expected="names of groups")
        for name in listed:
            if name not in self.given:
                known = ", ".join(map(repr, self.given))
                raise ValueError(f"{argument} must be among the groups {known}; got {describe(name)}")
            if listed.count(name) > 1:
                raise ValueError(
                    f"{argument} must be different groups; {name!r} is given {listed.count(name)} times"
                )
        return listed

    def names(self, total: int) -> list[Name]:
        """Return what can be ablated in a layer of `total` channels: channels or groups."""
        if isinstance(self.given, dict):
            return list(self.given)
        return list(range(total if self.given is None else self.given))

    def chosen(self, names: list[Name] | None, total: int, *, argument: str = "channels") -> list[Name]:
        """Return the channels or groups to ablate, all of them if None; there must be at least one."""
        if names is None:
            return self.names(total)
        if not names:
            raise ValueError(f"{argument} must name at least one channel; got none")
        return self.check(names, total, argument=argument)

    def members(self, names: list[Name], total: int) -> torch.Tensor:
        """Return the mask `(len(names), total)` of the channels of each group.

        >>> Groups.of(2).members([1], 4)
        tensor([[False, False,  True,  True]])
        """
        mask = torch.zeros(len(names), total, dtype=torch.bool)
        if self.given is None:
            return mask.scatter_(1, torch.tensor([[int(name)] for name in names]), True)
        size = total // self.given if isinstance(self.given, int) else 0
        if isinstance(self.given, int) and size * self.given != total:
            raise ValueError(f"groups={self.given} must divide the number of channels; the layer has {total}")
        for row, name in enumerate(names):
            if isinstance(self.given, dict):
                channels = check_channels(self.given[name], total, argument=f"groups[{name!r}]")
                mask[row, channels] = True
            else:
                first = int(name) * size
                mask[row, first : first + size] = True
        return mask


@final
@dataclass(frozen=True)
class Variants:
    """Which variants are scored: of one channel or group each or, `cumulative`, of more and more of them.

    Without `names` these are all of the layer's, for cumulative variants in random order.
    """

    groups: Groups
    names: list[Name] | None
    mode: Mode
    cumulative: bool = False

    def mask(self, total: int, generator: torch.Generator) -> tuple[list[Name], torch.Tensor]:
        """Return the channels of a layer with `total` of them, and the mask `(V, total)` of the variants."""
        names = self.names
        if names is None and self.cumulative:
            names = self.groups.names(total)
            names = [names[place] for place in torch.randperm(len(names), generator=generator).tolist()]
        names = self.groups.chosen(names, total, argument="order" if self.cumulative else "channels")
        mask = self.groups.members(names, total)
        mask = mask.cumsum(0).bool() if self.cumulative else mask
        return names, mask if self.mode == "drop" else ~mask


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
        """Return one value, or a tensor for one or all images, to put into the plain `output` of the layer's given call."""
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
            fill = fill.view([-1 if axis == channels else 1 for axis in range(1, output.ndim)])
        return fill.to(output)[None]


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
        fill = to_tensor(fill, "fill")
    if not isinstance(fill, torch.Tensor):
        check_choice(fill, FILLS, argument="fill", further=" or a tensor")
    else:
        check_dense(fill, argument="fill")
        if not fill.is_floating_point() or not bool(torch.isfinite(fill).all()):
            raise ValueError(f"fill must hold finite floating-point numbers; got {describe(fill)}")
    checked: Filler = fill
    return checked


def check_chunk(chunk: object) -> int | None:
    """Return `chunk` if it is None or a whole number from 1, or raise an error."""
    return None if chunk is None else check_whole(chunk, argument="chunk", least=1)


def check_channels(channels: object, total: int | None = None, *, argument: str = "channels") -> list[int]:
    """Return channels as a list; they must be different numbers from 0 to `total` - 1 (None: not known yet)."""
    one = isinstance(channels, str) or getattr(channels, "ndim", 1) == 0
    several = isinstance(channels, Iterable) and not one
    listed: list[Any] = [channels]
    if several:
        listed = as_list(channels, argument=argument, expected="whole numbers")
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


def check_positions(positions: Any) -> torch.Tensor | None:
    """Return a mask of positions as a tensor; whether it fits the layer is checked once the layer has run."""
    if isinstance(positions, np.ndarray):
        positions = to_tensor(positions, "positions")
    if positions is None:
        return None
    if not isinstance(positions, torch.Tensor) or positions.dtype is not torch.bool or not positions.ndim:
        raise TypeError(
            f"positions must be a mask of True and False, such as (H, W); got {describe(positions)}"
        )
    check_dense(positions, argument="positions")
    if not bool(positions.any()):
        raise ValueError(f"positions must mark at least one position; got {describe(positions)}, all False")
    return positions
