"""Reduce a layer's output: its mean or maximum over positions, or a function of the user's."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, TypeAlias

import torch
from torch import nn

from featurelens._channels import Unsuitable
from featurelens._checks import check_choice
from featurelens._structure import children_of, map_tensors, tensors
from featurelens.layers import Choice, Selector, choose

Reduction: TypeAlias = Literal["mean", "max"] | Callable[[Any], Any] | None
"""What to keep of a layer's output: all of it, its mean or maximum over positions, or a function of it."""


def channels_first(
    output: Any, reduction: Reduction, layer: str, axis_of: Callable[[tuple[int, ...]], int | None]
) -> Any:
    """Return a layer's output with its channels in axis 1; raise an error if only the user can tell where they are."""
    if callable(reduction):
        return output

    def moved(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.is_nested:
            raise Unsuitable(
                f"layer {layer!r} returns sequences of different lengths (a nested tensor): choose what to keep with "
                f"reduce={{{layer!r}: lambda z: torch.nested.to_padded_tensor(z, 0.0)}}, or a function of your own"
            )
        axis = axis_of(tuple(tensor.shape))
        if axis is None:
            z = _expression(output, tensor)
            last, first = f"{z}.movedim(-1, 1)", z
            kinds, features = "(N, L, D) or (N, C, L)", "the features of tokens"
            if tensor.ndim > 3:
                kinds, features = "(N, H, W, C) or (N, C, H, W)", "channels in the last axis"
            if reduction is not None:
                places = (tuple(range(1, tensor.ndim - 1)), tuple(range(2, tensor.ndim)))
                method = "mean" if reduction == "mean" else "amax"
                last, first = (f"{z}.{method}({place if len(place) > 1 else place[0]})" for place in places)
            raise Unsuitable(
                f"layer {layer!r} returns {tuple(tensor.shape)}, which may be {kinds}: use "
                f"reduce={{{layer!r}: lambda z: {last}}} for {features}, lambda z: {first} for channels"
            )
        return tensor if axis == 1 else tensor.movedim(axis, 1)

    return map_tensors(moved, output)


def _expression(output: Any, tensor: torch.Tensor) -> str:
    """Return the Python expression that takes a tensor out of a layer's output, called z."""
    if output is tensor:
        return "z"
    for key, item in children_of(output) or ():
        if any(found is tensor for found in tensors(item)):
            step = f"[{key!r}]" if isinstance(output, Mapping | list | tuple) else f".{key}"
            return "z" + step + _expression(item, tensor)[1:]
    return "z"


def reduced(output: Any, reduction: Reduction) -> Any:
    """Return a layer's output, reduced."""
    if callable(reduction):
        return reduction(output)
    if reduction is None:
        return output
    return map_tensors(
        lambda tensor: over_positions(tensor, reduction) if tensor.ndim > 2 else tensor, output
    )


def over_positions(tensor: torch.Tensor, reduction: str) -> torch.Tensor:
    """Return the mean or maximum over all axes after the first two."""
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
