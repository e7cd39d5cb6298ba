"""What a layer returns, tensor by tensor: tuples, lists, dicts, named tuples and dataclasses keep their shape."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import nn


def map_tensors(function: Callable[[torch.Tensor], Any], value: Any) -> Any:
    """Return `value` with `function` applied to every tensor in it; everything else is kept as it is.

    >>> map_tensors(torch.Tensor.neg, {"a": (torch.tensor(1), "text")})
    {'a': (tensor(-1), 'text')}
    """
    if isinstance(value, torch.Tensor):
        return function(value)
    return _rebuild(value, {key: map_tensors(function, item) for key, item in _items(value)})


def tensors(value: Any) -> Iterator[torch.Tensor]:
    """Yield every tensor in `value`, in order."""
    if isinstance(value, torch.Tensor):
        yield value
    for _, item in _items(value):
        yield from tensors(item)


def concatenate(batches: list[Any]) -> Any:
    """Join what a layer returned for several batches along axis 0, leaf by leaf.

    Raises
    ------
    ValueError
        If the batches differ in structure, in a shape beyond axis 0, or in a leaf that is not a tensor.
    """
    first = batches[0]
    if isinstance(first, torch.Tensor):
        if any(
            not isinstance(batch, torch.Tensor) or batch.shape[1:] != first.shape[1:] for batch in batches
        ):
            shapes = sorted({str(tuple(getattr(batch, "shape", ()))) for batch in batches})
            raise ValueError(f"its shape differs between batches beyond axis 0: {' and '.join(shapes)}")
        return torch.cat(batches)
    if any(type(batch) is not type(first) for batch in batches):
        raise ValueError(f"its type differs between batches: {sorted({type(b).__name__ for b in batches})}")
    items = [_items(batch) for batch in batches]
    if not items[0]:
        if any(batch != first for batch in batches):
            raise ValueError(f"it returns {type(first).__name__} values that differ between batches")
        return first
    keys = [[key for key, _ in batch] for batch in items]
    if any(batch != keys[0] for batch in keys):
        raise ValueError(f"its structure differs between batches: {keys[0]} and then others")
    return _rebuild(
        first, {key: concatenate([batch[at][1] for batch in items]) for at, key in enumerate(keys[0])}
    )


def shapes(value: Any) -> Any:
    """Return the shapes of the tensors in `value`, in the same structure as plain tuples and dicts.

    >>> shapes((torch.zeros(2, 3), [torch.zeros(4)]))
    ((2, 3), ((4,),))
    """
    if isinstance(value, torch.Tensor):
        return (len(value), "nested") if value.is_nested else tuple(value.shape)
    if isinstance(value, Mapping) or _is_dataclass(value):
        return {key: shapes(item) for key, item in _items(value)}
    if isinstance(value, list | tuple):
        return tuple(shapes(item) for item in value)
    return None


def plain(value: Any) -> Any:
    """Return `value` in tuples, lists, dicts and tensors only, for a file that anybody can read.

    Raises
    ------
    TypeError
        If there is anything else in it than these, None, numbers and text.
    """
    if value is None or isinstance(value, torch.Tensor | bool | int | float | str):
        return value
    if isinstance(value, Mapping) or _is_dataclass(value):
        return {key: plain(item) for key, item in _items(value)}
    if isinstance(value, list | tuple):
        return (list if isinstance(value, list) else tuple)(plain(item) for item in value)
    raise TypeError(f"activations with an object of type {type(value).__name__} in them cannot be saved")


def _items(value: Any) -> list[tuple[Any, Any]]:
    if isinstance(value, Mapping):
        return list(value.items())
    if isinstance(value, list | tuple):
        return list(enumerate(value))
    if _is_dataclass(value):
        return [(field.name, getattr(value, field.name)) for field in dataclasses.fields(value)]
    return []


def _rebuild(value: Any, items: dict[Any, Any]) -> Any:
    if not items:
        return value
    if isinstance(value, tuple):
        return type(value)(*items.values()) if hasattr(value, "_fields") else type(value)(items.values())
    # A shallow copy keeps the user's own type and whatever else it carries; the leaves are then replaced in it.
    rebuilt = copy.copy(value)
    for key, item in items.items():
        if isinstance(value, list | Mapping):
            rebuilt[key] = item
        else:
            object.__setattr__(rebuilt, key, item)  # also for frozen dataclasses
    return rebuilt


def _is_dataclass(value: Any) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def has_channels_first(module: nn.Module | None) -> bool:
    """Return whether the channels of an output with three axes are surely in axis 1, as it is `(N, C, L)`.

    Such are the layers of torch made for series, and their subclasses. What others return may be `(N, L, D)`.
    """
    return any(kind.__name__.endswith("1d") for kind in type(module).mro())
