"""Remove the placeholders that traced code has stored.

A forward may store what it computes anywhere: in a global dict, on a class, in a helper object. In a trace these are
placeholders, on which it would fail later. So all containers that the model's code names are copied before the trace, and
those that hold a placeholder afterwards are restored. Nothing else of the program is looked at, however large it is.
"""

from __future__ import annotations

import functools
import gc
import sys
import types
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, final

import torch
from torch import nn

from featurelens._guard import all_modules
from featurelens._structure import attributes_of, children_of, is_gone

_CONTAINERS = (dict, list, set, deque, OrderedDict, defaultdict)
_FOREIGN = {*sys.stdlib_module_names, "torch", "numpy", "featurelens"} - {"__main__"}
_SHELVES = {"weakref", "collections", "queue", "threading", "types"}  # whose objects hold others
_CACHE = type(functools.lru_cache(lambda: None))
_ENDS = (types.FrameType, types.FunctionType, types.ModuleType)
"""What may refer to a placeholder without storing it."""


@final
class Holders:
    """Containers that the code of a model can name, as they are now; `release` restores those that hold a placeholder."""

    def __init__(self, model: nn.Module) -> None:
        self._before: dict[int, tuple[Any, Any]] = {}
        kinds = {kind for module in all_modules(model) for kind in type(module).__mro__}
        waiting: list[Any] = [model, *kinds]
        known: set[int] = set()
        while waiting:
            item = waiting.pop()
            if id(item) in known or is_gone(item):
                continue
            if not isinstance(item, str | int | float | torch.Tensor):
                known.add(id(item))
                waiting += self._note(item)

    def _note(self, item: Any) -> list[Any]:
        """Copy what `item` holds; return that."""
        kind = type(item)
        if isinstance(item, types.FunctionType | types.ModuleType | type) and _is_foreign(item):
            return []
        if kind in _CONTAINERS:
            self._before[id(item)] = item, item.copy()
            return [child for _, child in children_of(item) or ()]
        if kind is tuple:
            return list(item)
        if kind is types.CellType:
            self._before[id(item)] = item, _content(item)
            return [_content(item)]
        if isinstance(item, functools.partial):
            return [item.func, item.args, item.keywords]
        if isinstance(item, types.MethodType):
            return [item.__func__, item.__self__]
        if isinstance(item, types.FunctionType):
            return [
                *self._named(item),
                vars(item),
                *(item.__closure__ or ()),
                item.__defaults__,
                item.__kwdefaults__,
            ]
        if isinstance(item, type):
            self._before[id(item)] = item, dict(vars(item))
            return list(vars(item).values())
        if isinstance(item, types.ModuleType):
            return [vars(item)]
        if isinstance(item, property | classmethod | staticmethod):
            return [item.fget if isinstance(item, property) else item.__func__]
        if isinstance(item, nn.Module) or kind.__module__ in _SHELVES or not _is_foreign(kind):
            return [attributes_of(item), kind]
        return [getattr(item, "__wrapped__", None)] if isinstance(item, _CACHE) else []

    def _named(self, function: types.FunctionType) -> list[Any]:
        """Copy the globals of a function and of the modules that it names; return those of their items that it names."""
        names, found, known = _names(function.__code__), list[Any](), set[int]()
        spaces = [function.__globals__]
        for space in spaces:  # the list grows meanwhile
            known.add(id(space))
            self._before.setdefault(id(space), (space, space.copy()))
            for item in (space[name] for name in names if name in space):
                if not isinstance(item, types.ModuleType):
                    found.append(item)
                elif not _is_foreign(item) and id(vars(item)) not in known:
                    spaces.append(vars(item))
        return found

    def release(self, tracer: Callable[[], Any]) -> str | None:
        """Remove whatever holds a placeholder of the tracer; return what still holds one, None if nothing does."""
        if tracer() is None:
            return None
        gc.collect()
        if tracer() is None:
            return None
        held = gc.get_referrers(tracer())
        tainted = {id(found) for found in held}
        ours = {id(held), id(self._before), id(tainted)}
        strange: dict[str, None] = {}
        noted: Any = None
        for item in held:  # the list grows meanwhile
            referrers = gc.get_referrers(item)
            ours.add(id(referrers))
            for holder in referrers:
                if id(holder) in ours | tainted or isinstance(holder, _ENDS):
                    continue
                # From Python 3.13 on, an object refers to the values of its attributes in place of its dict.
                noted = holder if id(holder) in self._before else attributes_of(holder)
                if isinstance(holder, _CACHE):
                    holder.cache_clear()
                elif id(noted) in self._before:
                    _put_back(noted, self._before[id(noted)][1], tainted)
                elif not isinstance(holder, type):
                    tainted.add(id(holder))
                    held.append(holder)
                    strange[type(holder).__name__] = None
            del referrers
            if len(held) > _MOST:
                break
        del held, item, holder, noted
        gc.collect()
        return None if tracer() is None else ", ".join(strange) or "an unknown object"


_MOST = 1000


@contextmanager
def new_objects_collected() -> Iterator[None]:
    """Collect what the block leaves in cycles; only objects made in it are looked at, however large the program is."""
    if gc.get_freeze_count():  # the program itself has set objects apart
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.collect()
        gc.unfreeze()


def _is_foreign(item: Any) -> bool:
    where = item.__name__ if isinstance(item, types.ModuleType) else item.__module__
    return str(where).partition(".")[0] in _FOREIGN


def _names(code: types.CodeType) -> set[str]:
    """Return the names of globals and attributes in a function's code, and in that of functions inside it."""
    inner = (_names(constant) for constant in code.co_consts if isinstance(constant, types.CodeType))
    return set(code.co_names).union(*inner)


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # empty
        return None


def _put_back(holder: Any, before: Any, tainted: set[int]) -> None:
    """Restore the items that a container had in place of tainted ones."""
    if isinstance(holder, types.CellType):
        holder.cell_contents = before
    elif isinstance(holder, type):
        for name in [name for name, value in vars(holder).items() if id(value) in tainted]:
            setattr(holder, name, before[name]) if name in before else delattr(holder, name)
    elif isinstance(holder, dict):
        for key in [key for key, value in holder.items() if id(value) in tainted or id(key) in tainted]:
            if key in before:
                holder[key] = before[key]
            else:
                del holder[key]
    elif isinstance(holder, set):
        holder.intersection_update(before)
        holder.update(before)
    else:
        holder.clear()
        holder.extend(before)
