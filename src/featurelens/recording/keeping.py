"""What is kept of a layer's output: reduced, detached, converted and copied inside the hook."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import torch
from torch import nn

from featurelens._checks import check_choice, describe
from featurelens._structure import items_of, map_tensors, tensors
from featurelens.layers import Choice, Selector, choose

Reduction: TypeAlias = Literal["mean", "max"] | Callable[[Any], Any] | None
"""What to keep of a layer's output: all of it, its mean or maximum over positions, or what a function says."""


class Unsuitable(ValueError):
    """What a layer returned is not what was asked for; its message needs no more words."""


@dataclass(frozen=True)
class Keeper:
    """Turns a layer's output into what is kept of it."""

    detach: bool
    clone: bool
    device: torch.device | None
    dtype: torch.dtype | None

    def keep(self, output: Any, reduction: Reduction) -> tuple[Any, list[tuple[torch.Tensor, int]]]:
        """Return the value to keep, and the tensors in it that still share memory with the model's.

        Those come with their version, so that a later change in place can be told.
        """
        shared: list[tuple[torch.Tensor, int]] = []
        value = output
        if callable(reduction):
            value = reduction(map_tensors(torch.Tensor.detach, output) if self.detach else output)
            if not tensors(value):
                raise TypeError(
                    f"it must return a tensor, or something with tensors in it; got {describe(value)}"
                )

        def convert(tensor: torch.Tensor) -> torch.Tensor:
            kept = tensor.detach() if self.detach else tensor
            before = kept
            if isinstance(reduction, str) and kept.ndim > 2:
                kept = _over_positions(kept, reduction)
            kept = kept.to(device=self.device, dtype=self.dtype if kept.is_floating_point() else None)
            if kept is not before:
                return kept
            if self.hands_on_copies and reduction is None:
                return kept  # the model goes on with the copy, see `hand_on`
            if self.clone or kept.is_inference():  # inference tensors have no version to tell a change by
                return kept.clone()
            shared.append((kept, kept._version))
            return kept

        return map_tensors(convert, value), shared

    @property
    def hands_on_copies(self) -> bool:
        """Whether the recorded tensor is the one on the path of the gradients, and the model gets the copy."""
        return self.clone and not self.detach

    def hand_on(self, output: Any) -> Any:
        """Return what the model goes on with; None for the very thing it returned."""
        return map_tensors(torch.Tensor.clone, output) if self.hands_on_copies else None

    def keep_output(self, output: Any) -> Any:
        """Return the model's output as it is kept: never reduced, and copied, as it is the user's in a block."""

        def convert(tensor: torch.Tensor) -> torch.Tensor:
            kept = tensor.detach() if self.detach else tensor
            moved = kept.to(device=self.device, dtype=self.dtype if kept.is_floating_point() else None)
            return moved.clone() if self.clone and self.detach and moved is kept else moved

        return map_tensors(convert, output)


def check_axes(output: Any, reduction: Reduction, layer: str) -> None:
    """Raise an error if only the user can tell which axis of a layer's output holds the channels."""
    if callable(reduction):
        return
    for tensor in tensors(output):
        if tensor.is_nested:
            raise Unsuitable(
                f"layer {layer!r} returns sequences of different lengths (a nested tensor): say what to keep with "
                f"reduce={{{layer!r}: lambda z: torch.nested.to_padded_tensor(z, 0.0)}}, or a function of your own"
            )
        if tensor.ndim == 3:
            z = _expression(output, tensor)
            tokens, channels = f"{z}.transpose(1, 2)", z
            if reduction is not None:
                tokens, channels = (
                    f"{z}.{'mean' if reduction == 'mean' else 'amax'}({axis})" for axis in (1, 2)
                )
            raise Unsuitable(
                f"layer {layer!r} returns {tuple(tensor.shape)}, which may be (N, L, D) or (N, C, L): say "
                f"reduce={{{layer!r}: lambda z: {tokens}}} for the features of tokens, lambda z: {channels} for channels"
            )


def _expression(output: Any, tensor: torch.Tensor) -> str:
    """How Python code comes from a layer's output, called z, to a tensor in it."""
    if output is tensor:
        return "z"
    for key, item in items_of(output) or ():
        if any(found is tensor for found in tensors(item)):
            step = f"[{key!r}]" if isinstance(output, Mapping | list | tuple) else f".{key}"
            return "z" + step + _expression(item, tensor)[1:]
    return "z"


def reduced(output: Any, reduction: Reduction) -> Any:
    """Return what `reduction` makes of a layer's output."""
    if callable(reduction):
        return reduction(output)
    if reduction is None:
        return output
    how = reduction
    return map_tensors(lambda tensor: _over_positions(tensor, how) if tensor.ndim > 2 else tensor, output)


def _over_positions(tensor: torch.Tensor, reduction: str) -> torch.Tensor:
    positions = tuple(range(2, tensor.ndim))
    return tensor.mean(positions) if reduction == "mean" else tensor.amax(positions)


def reductions(
    model: nn.Module,
    choices: Iterable[Choice],
    reduce: Reduction | Mapping[Selector, Reduction],
    operations: Iterable[str],
) -> dict[tuple[str, int | None], Reduction]:
    """Return the reduction of each chosen layer, by its name and call.

    Raises
    ------
    ValueError
        If `reduce` is no reduction, or names a layer that is not recorded.
    """
    if not isinstance(reduce, Mapping):
        _check_reduction(reduce)
        return {(choice.name, choice.call): reduce for choice in choices}
    found = {}
    recorded = {choice.name for choice in choices}
    for selector, reduction in reduce.items():
        _check_reduction(reduction)
        for choice in choose(model, selector, operations):
            if choice.exact and choice.name not in recorded:
                raise ValueError(f"reduce names {selector!r}, which is not among the recorded layers")
            found[choice.name, choice.call] = reduction
    return found


def _check_reduction(reduction: object) -> None:
    if not callable(reduction):
        further = ", a function or a mapping of layers to these"
        check_choice(reduction, (None, "mean", "max"), argument="reduce", further=further)
