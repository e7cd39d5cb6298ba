"""Nested values, tensor by tensor: find, map, move, copy and describe what containers and objects of any kind hold."""

from __future__ import annotations

import copy
import dataclasses
import enum
import types
import weakref
from collections import deque
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from functools import partial
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
    """A value holds an object that cannot be copied."""


def map_tensors(function: Callable[[torch.Tensor], Any], value: Any) -> Any:
    """Return a copy of `value` with `function` applied to every tensor in it; nothing that can change is shared.

    An object is rebuilt as `copy.deepcopy` does it, from its pickling protocol.

    Raises
    ------
    CannotCopy
        If it holds an object that cannot be copied, such as a generator or an open file.

    Examples
    --------
    >>> map_tensors(torch.Tensor.neg, {"a": (torch.tensor(1), "text")})
    {'a': (tensor(-1), 'text')}
    """
    if isinstance(value, torch.Tensor):  # nearly always
        return function(value)
    return _mapped(function, value, {})


def _mapped(function: Callable[[torch.Tensor], Any], value: Any, known: dict[int, Any]) -> Any:
    """Map `value`; `known` holds the copy of each object by the object's id, so that two references stay one object."""
    if isinstance(value, _ATOMS):
        return value
    if id(value) not in known:
        is_tensor = isinstance(value, torch.Tensor)
        known[id(value)] = function(value) if is_tensor else _rebuilt(function, value, known)
        known.setdefault(id(known), []).append(value)  # an id is only unique among living objects
    return known[id(value)]


def _rebuilt(function: Callable[[torch.Tensor], Any], value: Any, known: dict[int, Any]) -> Any:
    """Rebuild a container or an object from its mapped children."""

    def mapped(item: Any, _: Any = None) -> Any:
        return _mapped(function, item, known)

    if isinstance(value, np.ndarray):
        return value.copy()
    if type(value) is dict:
        rebuilt: dict[Any, Any] = {}
        known[id(value)] = rebuilt  # it may contain itself
        rebuilt.update({key: mapped(item) for key, item in value.items()})
        return rebuilt
    if isinstance(value, tuple):
        return _rebuilt_tuple(value, [mapped(item) for item in value], mapped)
    if isinstance(value, types.MappingProxyType):
        return types.MappingProxyType({key: mapped(item) for key, item in value.items()})
    try:
        parts = value.__reduce_ex__(4)
    except Exception as error:
        raise CannotCopy(f"an object of type {type(value).__name__} cannot be copied") from error
    if isinstance(parts, str):  # the name of a global
        return value
    return copy._reconstruct(value, known, *parts, deepcopy=mapped)  # type: ignore[attr-defined]


def _rebuilt_tuple(value: tuple[Any, ...], items: list[Any], mapped: Callable[[Any], Any]) -> Any:
    """Make a tuple of the type of `value`, without its own ``__new__`` where Python allows that."""
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
    known: dict[int, Any] = {}
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, torch.Tensor):
            found[id(item)] = item
        elif not isinstance(item, _ATOMS) and id(item) not in known:
            known[id(item)] = item
            waiting += [child for _, child in reversed(children_of(item) or ())]
    return list(found.values())


def first_tensor(value: Any) -> torch.Tensor | None:
    """Return the first tensor in `value`, None if there is none."""
    return next(iter(tensors(value)), None)


def nbytes(tensor: torch.Tensor) -> int:
    """Return the size of a tensor's values in bytes."""
    return sum(map(nbytes, tensor.unbind())) if tensor.is_nested else tensor.numel() * tensor.element_size()


def to_device(value: Any, device: torch.device) -> Any:
    """Return `value` with its tensors on `device`; `value` itself if they are there already."""
    # To the CPU, a copy that is not waited for would be read before it has arrived.
    moved = partial(torch.Tensor.to, device=device, non_blocking=device.type == "cuda")
    if isinstance(value, torch.Tensor):
        return moved(value)
    if all(tensor.device == device for tensor in tensors(value)):
        return value
    if type(value) is tuple:
        return tuple(to_device(item, device) for item in value)
    if type(value) is dict:
        return {key: to_device(item, device) for key, item in value.items()}
    if callable(
        move := getattr(value, "to", None)
    ):  # it knows what must stay, such as PackedSequence's lengths
        return move(device)
    return map_tensors(moved, value)


def children_of(value: Any) -> list[tuple[Any, Any]] | None:
    """Return the children of a container or an object with their key, index or attribute; None for anything else."""
    if is_gone(value) or isinstance(value, (torch.Tensor, np.ndarray, *_ATOMS)):
        return None
    if isinstance(value, Mapping):
        return list(value.items())
    if _is_sequence(value):
        return list(enumerate(value))
    slots = [name for kind in type(value).__mro__ for name in kind.__dict__.get("__slots__", ())]
    named = {name: getattr(value, name) for name in slots if hasattr(value, name) and name != "__dict__"}
    own = attributes_of(value)
    return list((named | (own or {})).items()) if named or slots or own is not None else None


def is_gone(value: Any) -> bool:
    """Say whether a value is a weak proxy of an object that is no more: even `isinstance` raises for it."""
    try:
        return type(value) in weakref.ProxyTypes and value.__class__ is None
    except ReferenceError:
        return True


def attributes_of(value: Any) -> dict[str, Any] | None:
    """Return the attributes that an object itself holds, without running any code of its class; None if it has none."""
    try:
        own = object.__getattribute__(value, "__dict__")
    except AttributeError:
        return None
    return own if isinstance(own, dict) else None


def outline(value: Any, of_leaf: Callable[[Any], str] | None = None, around: tuple[int, ...] = ()) -> str:
    """Describe a value's structure: types, names and plain values.

    `of_leaf` describes tensors and opaque objects; by default as dtype, shape and device, or as their type. Objects
    `around` the value, by id, are not described again.
    """
    if is_gone(value):
        return type(value).__name__
    if isinstance(value, _ATOMS) and not isinstance(value, nn.Module):
        return repr(value)
    items = None if id(value) in around else children_of(value)
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
    items = children_of(value)
    if items is None:
        return None
    named = [(key, shapes(item)) for key, item in items]
    if _is_sequence(value):
        return tuple(shape for _, shape in named)
    of_object = not (isinstance(value, Mapping) or dataclasses.is_dataclass(value))
    return {key: shape for key, shape in named if shape is not None or not of_object}


def plain(value: Any) -> Any:
    """Return `value` as tuples, lists, dicts and tensors only, for a file that can be read without this library.

    An object becomes a dict of its attributes, without those that cannot be written.

    Raises
    ------
    TypeError
        If a container holds something that cannot be written.
    """
    if value is None or isinstance(value, torch.Tensor | bool | int | float | str):
        return value
    items = children_of(value)
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


_LARGE = 2**20  # bytes; for smaller tensors a lazy copy saves nothing


def shared_copies(originals: Collection[torch.Tensor]) -> dict[int, torch.Tensor]:
    """Copy tensors, and return the copies by their originals' id; tensors that share memory have copies that share it.

    The memory of large tensors is only copied once something writes to it; `end_sharing` undoes that.
    """
    copies: dict[int, torch.Tensor] = {}
    sharing: dict[int, list[torch.Tensor]] = {}
    for tensor in originals:
        try:
            if type(tensor) is torch.Tensor and not (tensor.requires_grad or tensor.is_quantized):
                sharing.setdefault(tensor.untyped_storage()._cdata, []).append(tensor)
                continue
        except (RuntimeError, NotImplementedError):
            pass  # kinds without a storage: sparse, nested, functorch's
        copies[id(tensor)] = tensor.clone()  # which gradients go through
    for group in sharing.values():
        first = group[0]
        if len(group) == 1 and nbytes(first) < _LARGE:
            copies[id(first)] = first.clone()
        else:
            with torch.no_grad():
                storage = _copied_storage(first)
                copies |= {id(tensor): _over(storage, tensor) for tensor in group}
    for tensor in originals:
        if tensor.__dict__:
            copies[id(tensor)].__dict__.update(tensor.__dict__)
    return copies


def end_sharing(originals: Collection[torch.Tensor], copies: dict[int, torch.Tensor]) -> None:
    """Leave each original at its old address, even if a lazy copy of it lives on in what was recorded."""
    lazy = [tensor for tensor in originals if _is_lazy(tensor)]
    # No copy may be referred to from here, or the original would move. An interrupted restoration is repeated.
    shared = {
        storage._cdata: storage
        for storage in (copies.pop(key).untyped_storage() for key in map(id, lazy) if key in copies)
    }
    while shared:
        _make_own(shared.popitem()[1])
    for tensor in lazy:
        tensor.data_ptr()  # asking for an address that may be written to ends the sharing


def _make_own(storage: torch.UntypedStorage) -> None:
    """Copy the memory of a lazy copy if tensors outside the guard still lie in it."""
    if torch._C._storage_Use_Count(storage._cdata) > 1:
        storage.data_ptr()


def _copied_storage(tensor: torch.Tensor) -> Any:
    """Copy a tensor's memory; if it is large, only when either side is first written to."""
    storage = tensor.untyped_storage()
    if storage.nbytes() >= _LARGE and storage.resizable():  # torch does not own others: a file's, NumPy's
        with suppress(RuntimeError):
            return torch._lazy_clone(tensor).untyped_storage()
    return storage.clone()  # type: ignore[no-untyped-call]


def _over(storage: Any, tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor like `tensor` over another storage."""
    like = torch.empty(0, dtype=tensor.dtype, device=tensor.device)
    like.set_(storage, tensor.storage_offset(), tensor.shape, tensor.stride())
    like = like.conj() if tensor.is_conj() else like
    return like._neg_view() if tensor.is_neg() else like


def _is_lazy(tensor: torch.Tensor) -> bool:
    try:
        lazy: bool = torch._C._is_cow_tensor(tensor)  # type: ignore[attr-defined]
    except (RuntimeError, NotImplementedError):  # it has no storage
        return False
    return lazy
