"""Short stand-ins for models and batches, to tell whether two are the same."""

from __future__ import annotations

import dataclasses
import decimal
import enum
import functools
import hashlib
import logging
import pathlib
import re
import threading
import types
import weakref
from typing import Any, final

import numpy as np
import torch
from torch import nn

from featurelens._structure import children_of, map_tensors, outline, tensors
from featurelens.storage.npy import file_dtype

_VALUES_OF_A_ROW = 1024
_INTERNAL = frozenset(vars(nn.Module()))
_HOOKS = ("_forward_pre_hooks", "_forward_hooks")


def model_digest(model: nn.Module) -> tuple[str, str]:
    """Return the sha256 of everything that decides what `model` computes, and the name of what cannot be seen of it.

    That is, for every module, the code of its class, what its ``state_dict`` holds, parameters and buffers that this
    leaves out, its hooks, and its attributes: tensors, arrays, plain values, functions with their code, containers,
    dataclasses, and objects of the packages that its modules come from. torch's own code is known by the names of its classes.
    """
    modules = dict(model.named_modules())
    seen = _Digest(
        {type(module).__module__.partition(".")[0] for module in modules.values()}, set(modules.values())
    )
    for name, module in modules.items():
        seen.add(name)
        seen.add_module(module, name)
    return seen.sha256.hexdigest(), seen.hidden


@final
class _Digest:
    """A sha256 over values; `hidden` names the first that cannot be looked at."""

    def __init__(self, packages: set[str], modules: set[nn.Module]) -> None:
        self.sha256, self.hidden, self.modules = hashlib.sha256(), "", modules
        self._packages = packages - {"torch"}
        self._known: dict[int, tuple[int, Any]] = {}  # with the objects, whose ids others would take

    def add(self, text: str) -> None:
        self.sha256.update(f"{text};".encode())

    def add_module(self, module: nn.Module, name: str) -> None:
        self.add_value(type(module), name)
        own: dict[str, Any] = {}
        if not isinstance(module, nn.modules.lazy.LazyModuleMixin):
            module._save_to_state_dict(own, "", True)
        own |= dict(module.named_parameters(recurse=False)) | dict(module.named_buffers(recurse=False))
        own |= {hooks: list(vars(module).get(hooks, {}).values()) for hooks in _HOOKS}
        packed = type(module)._save_to_state_dict is not nn.Module._save_to_state_dict
        if not (packed or isinstance(module, torch.jit.ScriptModule)):
            own |= {key: value for key, value in vars(module).items() if key not in _INTERNAL}
        self.add_value(own, name)

    def add_value(self, value: Any, where: str) -> None:
        """Add a value; `where` names it in a message."""
        if isinstance(value, torch.Tensor):
            self.add(outline(value))
            for part in _parts(value):
                self.sha256.update(_content(part))
        elif isinstance(value, np.ndarray) and value.dtype != object:
            self.add(f"{value.dtype} {value.shape}")
            self.sha256.update(value.tobytes())
        elif isinstance(value, _PLAIN):
            self.add(f"{type(value).__qualname__} {value!r}")
        elif id(value) in self._known:
            self.add(f"number {self._known[id(value)][0]} again")
        else:
            self._known[id(value)] = len(self._known), value
            self._add_object(value, where)

    def _add_object(self, value: Any, where: str) -> None:
        self.add(type(value).__qualname__)
        if isinstance(value, types.FunctionType):
            self._add_code(value.__code__)
            self.add_value([value.__defaults__, value.__kwdefaults__], where)
            self.add_value([_content_of(cell) for cell in value.__closure__ or ()], where)
        elif isinstance(value, types.MethodType | functools.partial):
            parts = value.__reduce__()[1:] if isinstance(value, functools.partial) else (value.__func__,)
            self.add_value(list(parts), where)
        elif isinstance(value, (type, types.BuiltinFunctionType, *_METHODS)):
            self.add(value.__qualname__)
            if isinstance(value, type) and self._is_the_models(value):
                for item in vars(value).values():
                    self._add_method(item)
                self.add_value(list(value.__bases__), where)
        elif isinstance(value, nn.Module):
            if value not in self.modules:  # others are added under their own names
                self.add_module(value, where)
        elif isinstance(value, set | frozenset):
            self.add(" ".join(sorted(self._of(item, where) for item in value)))
        elif (items := self._items_of(value)) is not None:
            for key, item in items:
                self.add_value(key, where)
                self.add_value(item, f"{where}.{key}")
        elif not isinstance(value, _HARMLESS):
            self.hidden = self.hidden or f"{where.removeprefix('.')}, a {type(value).__name__}"

    def _of(self, item: Any, where: str) -> str:
        """The digest of an item of a set, which has no place."""
        alone = _Digest(self._packages, self.modules)
        alone.add_value(item, where)
        self.hidden = self.hidden or alone.hidden
        return alone.sha256.hexdigest()

    def _items_of(self, value: Any) -> list[tuple[Any, Any]] | None:
        if isinstance(value, np.ndarray):
            return list(enumerate(value.flat))
        kind = type(value)
        plain = kind.__module__ in _KNOWN or dataclasses.is_dataclass(value) or self._is_the_models(kind)
        return children_of(value) if plain else None

    def _is_the_models(self, kind: type) -> bool:
        return str(kind.__module__).partition(".")[0] in self._packages

    def _add_method(self, item: Any) -> None:
        """Add the code of a method, and of what a decorator put it into; what else decorators hold decides nothing."""
        if isinstance(item, types.FunctionType) and id(item) not in self._known:
            self._known[id(item)] = len(self._known), item
            self._add_code(item.__code__)
            for cell in item.__closure__ or ():
                self._add_method(_content_of(cell))

    def _add_code(self, code: types.CodeType) -> None:
        self.add(f"{code.co_names} {code.co_varnames} {code.co_code.hex()}")
        for constant in code.co_consts:
            if isinstance(constant, types.CodeType):
                self._add_code(constant)
            else:
                self.add(outline(constant))


_PLAIN = (
    *(type(None), bool, int, float, complex, str, bytes, bytearray, range, slice, enum.Enum, np.generic),
    *(
        decimal.Decimal,
        pathlib.PurePath,
        torch.dtype,
        torch.device,
        torch.Size,
        torch.layout,
        torch.memory_format,
    ),
)
_METHODS = (types.MethodDescriptorType, types.WrapperDescriptorType, np.ufunc)
_HARMLESS = (types.ModuleType, logging.Logger, weakref.ref, type(threading.Lock()), type(threading.RLock()))
_KNOWN = {"builtins", "collections", "types", "argparse"}


def _content_of(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # empty
        return None


def _parts(tensor: torch.Tensor) -> list[torch.Tensor]:
    """Plain tensors that hold all that a tensor of any kind does."""
    tensor = tensor.detach()
    if hasattr(tensor, "to_local"):  # of a DTensor, what is on this rank
        return _parts(tensor.to_local())
    if tensor.is_meta or nn.parameter.is_lazy(tensor):
        return []
    if tensor.is_quantized:
        scheme = str(tensor.qscheme())
        if "per_tensor" in scheme:
            return [tensor.int_repr(), torch.tensor([tensor.q_scale(), float(tensor.q_zero_point())])]
        return [tensor.int_repr(), tensor.q_per_channel_scales(), tensor.q_per_channel_zero_points()]
    if tensor.is_nested:
        return [part for row in tensor.unbind() for part in _parts(row)]
    if tensor.layout == torch.sparse_coo:
        tensor = tensor.coalesce()
        return [tensor.indices(), *_parts(tensor.values())]
    if tensor.layout in (torch.sparse_csr, torch.sparse_bsr):
        return [tensor.crow_indices(), tensor.col_indices(), *_parts(tensor.values())]
    if tensor.layout in (torch.sparse_csc, torch.sparse_bsc):
        return [tensor.ccol_indices(), tensor.row_indices(), *_parts(tensor.values())]
    if tensor.layout != torch.strided:
        return _parts(tensor.to_dense())
    tensor = tensor.resolve_conj().resolve_neg()
    return [torch.view_as_real(tensor) if tensor.dtype == torch.complex32 else tensor]


def modules_digest(model: nn.Module) -> str:
    """Return the sha256 of what ``print(model)`` shows: the modules' names, types and settings."""
    told = re.sub(" at 0x[0-9a-fA-F]+", "", repr(model))  # addresses differ from one process to the next
    return hashlib.sha256(told.encode()).hexdigest()


def training_digest(model: nn.Module) -> str:
    """Return the sha256 of which modules are in train mode."""
    told = ";".join(f"{name} {module.training}" for name, module in model.named_modules())
    return hashlib.sha256(told.encode()).hexdigest()


def batch_digest(inputs: Any) -> str:
    """Return the sha256 of what the model is given: shapes, dtypes, and up to about a thousand values of each row.

    The values lie evenly over the row. Reading all of them would take longer than the forward pass of a small
    model on a fast device, and would tell one thing more: changes that touch none of these.
    """
    digest = _Digest(set(), set())
    given = tensors(inputs)
    for value in given:
        digest.add(outline(value))
        for tensor in _parts(value):
            if tensor.numel():
                rows = tensor.reshape(len(tensor), -1) if tensor.ndim else tensor.reshape(1, 1)
                step = rows.shape[1] // _VALUES_OF_A_ROW
                digest.sha256.update(_content(rows[:, :: step | 1]))  # odd: not always one column of an image
    digest.add_value(map_tensors(lambda tensor: None, inputs) if given else inputs, "")
    return digest.sha256.hexdigest()


def function_digest(function: Any) -> str:
    """Return the sha256 of a function: its code, constants, defaults and what it closes over."""
    digest = _Digest(set(), set())
    digest.add_value(function, "")
    return digest.sha256.hexdigest()


def _content(tensor: torch.Tensor) -> Any:
    flat = tensor.cpu().contiguous().reshape(-1)
    return flat.view(file_dtype(flat.dtype)).view(torch.uint8).numpy().data if flat.numel() else b""
