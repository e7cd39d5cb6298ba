"""What a layer returns, tensor by tensor: containers, dataclasses and objects of any kind keep their shape."""

from __future__ import annotations

import copy
import dataclasses
import enum
import types
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

# What can be shared, as nothing changes it in place; modules are the model's own.
_ATOMS = (
    *(type(None), bool, int, float, complex, str, bytes, range, slice, enum.Enum, np.generic, np.dtype),
    *(torch.dtype, torch.device, torch.Size, torch.layout, torch.memory_format, nn.Module),
    *(type, types.ModuleType, types.FunctionType, types.BuiltinFunctionType, types.MethodType),
)


class CannotCopy(TypeError):
    """A value holds an object of which no copy can be made."""


def map_tensors(function: Callable[[torch.Tensor], Any], value: Any) -> Any:
    """Return a copy of `value` with `function` applied to every tensor in it; nothing that can change is shared.

    An object is rebuilt as `copy.deepcopy` does it, from what it says of itself for pickling.

    Raises
    ------
    CannotCopy
        If there is an object in it of which no copy can be made, such as a generator or an open file.

    Examples
    --------
    >>> map_tensors(torch.Tensor.neg, {"a": (torch.tensor(1), "text")})
    {'a': (tensor(-1), 'text')}
    """
    if isinstance(value, torch.Tensor):  # nearly always
        return function(value)
    return _mapped(function, value, {})


def _mapped(function: Callable[[torch.Tensor], Any], value: Any, known: dict[int, Any]) -> Any:
    """Map `value`; `known` has what was made of objects by their id, so that two of one object stay one."""
    if isinstance(value, _ATOMS):
        return value
    if id(value) not in known:
        known[id(value)] = _rebuilt(function, value, known)
        known.setdefault(id(known), []).append(value)  # an id is that of an object only while it lives
    return known[id(value)]


def _rebuilt(function: Callable[[torch.Tensor], Any], value: Any, known: dict[int, Any]) -> Any:
    if isinstance(value, torch.Tensor):
        return function(value)
    if isinstance(value, np.ndarray):
        return value.copy()

    def mapped(item: Any, _: Any = None) -> Any:
        return _mapped(function, item, known)

    if type(value) is dict:
        rebuilt: dict[Any, Any] = {}
        known[id(value)] = rebuilt  # it may contain itself
        rebuilt.update({key: mapped(item) for key, item in value.items()})
        return rebuilt
    if type(value) is list:
        items: list[Any] = []
        known[id(value)] = items
        items.extend(map(mapped, value))
        return items
    if isinstance(value, tuple):
        return _tuple(value, [mapped(item) for item in value], mapped)
    if isinstance(value, types.MappingProxyType):
        return types.MappingProxyType({key: mapped(item) for key, item in value.items()})
    if type(value) in (set, frozenset):
        return type(value)(map(mapped, value))
    try:
        parts = value.__reduce_ex__(4)
    except Exception as error:
        raise CannotCopy(f"an object of type {type(value).__name__} cannot be copied") from error
    if isinstance(parts, str):  # the name of a global
        return value
    return copy._reconstruct(value, known, *parts, deepcopy=mapped)  # type: ignore[attr-defined]


def _tuple(value: tuple[Any, ...], items: list[Any], mapped: Callable[[Any], Any]) -> Any:
    """A tuple of the kind of `value`, made without its own ``__new__`` where Python allows that."""
    try:
        rebuilt = tuple.__new__(type(value), items)
    except TypeError:  # torch.return_types
        return type(value)(items)
    for name, item in getattr(value, "__dict__", {}).items():
        rebuilt.__dict__[name] = mapped(item)
    return rebuilt


def tensors(value: Any) -> list[torch.Tensor]:
    """Return every tensor in `value`, in order, each once."""
    found: dict[int, torch.Tensor] = {}
    _find(value, found, {})
    return list(found.values())


def _find(value: Any, found: dict[int, torch.Tensor], known: dict[int, Any]) -> None:
    if isinstance(value, torch.Tensor):
        found[id(value)] = value
    elif not isinstance(value, _ATOMS) and id(value) not in known:
        known[id(value)] = value
        for _, item in items_of(value) or ():
            _find(item, found, known)


def first_tensor(value: Any) -> torch.Tensor | None:
    """Return the first tensor in `value`, None if there is none."""
    return next(iter(tensors(value)), None)


def nbytes(tensor: torch.Tensor) -> int:
    """Return the size of a tensor's values in bytes."""
    return sum(map(nbytes, tensor.unbind())) if tensor.is_nested else tensor.numel() * tensor.element_size()


def items_of(value: Any) -> list[tuple[Any, Any]] | None:
    """Return what a container or an object consists of, by key, place or attribute; None for anything else."""
    if isinstance(value, (torch.Tensor, np.ndarray, *_ATOMS)):
        return None
    if isinstance(value, Mapping):
        return list(value.items())
    if _is_sequence(value):
        return list(enumerate(value))
    slots = [name for kind in type(value).__mro__ for name in kind.__dict__.get("__slots__", ())]
    named = {name: getattr(value, name) for name in slots if hasattr(value, name) and name != "__dict__"}
    own = attributes_of(value)
    return list((named | (own or {})).items()) if named or slots or own is not None else None


def attributes_of(value: Any) -> dict[str, Any] | None:
    """Return the attributes that an object itself holds, without running any code of its class; None if it has none."""
    try:
        own = object.__getattribute__(value, "__dict__")
    except AttributeError:
        return None
    return own if isinstance(own, dict) else None


def concatenate(batches: list[Any], join: Callable[[list[torch.Tensor]], Any] | None = None) -> Any:
    """Join what a layer returned for several batches along axis 0, tensor by tensor, or as `join` says.

    Raises
    ------
    ValueError
        If the batches differ in structure, in a shape beyond axis 0, or in something that is not a tensor.
    """
    outlines = sorted({outline(batch, lambda leaf: type(leaf).__name__) for batch in batches})
    if len(outlines) > 1:
        raise ValueError(f"what it returns differs between batches: {outlines[0]} and {outlines[1]}")
    parts = zip(*map(tensors, batches), strict=True)
    joined = iter([(join or cat)(list(part)) for part in parts])
    return map_tensors(lambda tensor: next(joined), batches[0])


def cat(parts: list[torch.Tensor]) -> torch.Tensor:
    """Join tensors along axis 0.

    Raises
    ------
    ValueError
        If they differ in a shape beyond it, or have none.
    """
    if any(part.is_nested for part in parts):
        rows = [row for part in parts for row in part.unbind()]
        return torch.nested.nested_tensor(rows, layout=parts[0].layout)
    if any(part.ndim == 0 or part.shape[1:] != parts[0].shape[1:] for part in parts):
        shapes = sorted({str(tuple(part.shape)) for part in parts})
        raise ValueError(f"its shape differs between batches beyond axis 0: {' and '.join(shapes)}")
    return torch.cat(parts)


def outline(value: Any, of_leaf: Callable[[Any], str] | None = None, around: tuple[int, ...] = ()) -> str:
    """Say what a value consists of: types, names and plain values.

    `of_leaf` says it of tensors, and of objects that cannot be looked into; by default dtype, shape and device, and the
    type. Objects `around` the value, by their id, are not looked into again.
    """
    if isinstance(value, _ATOMS) and not isinstance(value, nn.Module):
        return repr(value)
    items = None if id(value) in around else items_of(value)
    if items is not None:
        inner = [f"{key!r}: {outline(item, of_leaf, (*around, id(value)))}" for key, item in items]
        if isinstance(value, set | frozenset):  # which have no order
            inner = sorted(outline(item, of_leaf, (*around, id(value))) for item in value)
        return f"{type(value).__name__}({', '.join(inner)})"
    if of_leaf is not None:
        return of_leaf(value)
    if isinstance(value, torch.Tensor) and value.is_nested:
        return " and ".join(outline(row) for row in value.unbind())
    if isinstance(value, torch.Tensor):
        return f"{value.dtype} {tuple(value.shape)} {value.device} {value.layout}"
    return f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__


def shapes(value: Any) -> Any:
    """Return the shapes of the tensors in `value`, in the same structure as plain tuples and dicts.

    >>> shapes((torch.zeros(2, 3), [torch.zeros(4)]))
    ((2, 3), ((4,),))
    """
    if isinstance(value, torch.Tensor):
        return (value.size(0), "nested") if value.is_nested else tuple(value.shape)
    items = items_of(value)
    if items is None:
        return None
    named = [(key, shapes(item)) for key, item in items]
    if _is_sequence(value):
        return tuple(shape for _, shape in named)
    of_object = not (isinstance(value, Mapping) or dataclasses.is_dataclass(value))
    return {key: shape for key, shape in named if shape is not None or not of_object}


def plain(value: Any) -> Any:
    """Return `value` in tuples, lists, dicts and tensors only, for a file that anybody can read.

    An object becomes a dict of those of its attributes that can be written.

    Raises
    ------
    TypeError
        If there is something else in a container.
    """
    if value is None or isinstance(value, torch.Tensor | bool | int | float | str):
        return value
    items = items_of(value)
    if items is None:
        raise TypeError(f"activations with an object of type {type(value).__name__} in them cannot be saved")
    if _is_sequence(value):
        kept = (plain(item) for _, item in items)
        return tuple(kept) if isinstance(value, tuple) else list(kept)
    if isinstance(value, Mapping) or dataclasses.is_dataclass(value):
        return {key: plain(item) for key, item in items}
    return {key: kept for key, item in items if (kept := _plain_or_none(item)) is not None}


def _plain_or_none(value: Any) -> Any:
    try:
        return plain(value)
    except TypeError:
        return None


def _is_sequence(value: Any) -> bool:
    return isinstance(value, list | tuple | set | frozenset | deque)


def has_channels_first(module: nn.Module | None) -> bool:
    """Return whether the channels of an output with three axes are surely in axis 1, as it is `(N, C, L)`.

    Such are the layers of torch made for series, and their subclasses. What others return may be `(N, L, D)`.
    """
    return any(kind.__name__.endswith("1d") for kind in type(module).mro())
