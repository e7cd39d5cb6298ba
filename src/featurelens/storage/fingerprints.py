"""Digests of models and batches, to tell whether two are the same."""

from __future__ import annotations

import dataclasses
import decimal
import enum
import functools
import hashlib
import io
import logging
import pathlib
import re
import threading
import types
import weakref
from collections.abc import Set as AbstractSet
from contextlib import suppress
from typing import Any, final

import numpy as np
import torch
from torch import nn

from featurelens._structure import children_of, map_tensors, outline, tensors

_VALUES_OF_A_ROW = 1024
_INTERNAL = frozenset(vars(nn.Module()))
_PLAIN = (
    *(type(None), bool, int, float, complex, str, bytes, bytearray, range, slice, enum.Enum, np.generic),
    *(decimal.Decimal, pathlib.PurePath, torch.Size, torch.dtype, torch.device, torch.layout),
    torch.memory_format,
)
_NAMED = (type, types.BuiltinFunctionType, types.MethodDescriptorType, types.WrapperDescriptorType, np.ufunc)
_HARMLESS = (types.ModuleType, logging.Logger, weakref.ref, type(threading.Lock()), type(threading.RLock()))
_CONTAINERS = {"builtins", "collections", "types", "argparse"}


def model_digest(model: nn.Module) -> tuple[str, str]:
    """Return the sha256 of everything that decides what `model` computes, and the name of what cannot be inspected.

    That is, for every module, the code of its class, what its ``state_dict`` holds, parameters and buffers that this
    leaves out, its hooks, and its attributes: tensors, arrays, plain values, functions with their code, containers,
    dataclasses, and objects of the packages that its modules come from. torch's own code is known by its classes' names.
    """
    modules = dict(model.named_modules())
    packages = {type(module).__module__.partition(".")[0] for module in modules.values()}
    digest = _Digest(packages - {"torch"}, set(modules.values()))
    for name, module in modules.items():
        digest.add(name)
        digest.add_module(module, name)
    return digest.sha256.hexdigest(), digest.hidden


def modules_digest(model: nn.Module) -> str:
    """Return the sha256 of what ``print(model)`` shows: the modules' names, types and settings."""
    shown = re.sub(" at 0x[0-9a-fA-F]+", "", repr(model))  # addresses differ from one process to the next
    return hashlib.sha256(shown.encode()).hexdigest()


def training_digest(model: nn.Module) -> str:
    """Return the sha256 of which modules are in train mode."""
    modes = ";".join(f"{name} {module.training}" for name, module in model.named_modules())
    return hashlib.sha256(modes.encode()).hexdigest()


def function_digest(function: Any) -> str:
    """Return the sha256 of a function: its code, constants, defaults and what it closes over."""
    digest = _Digest()
    digest.add_value(function, "")
    return digest.sha256.hexdigest()


def batch_digest(inputs: Any) -> str:
    """Return the sha256 of what the model is given: shapes, dtypes, and up to about a thousand values of each row.

    The values lie evenly over the row. Reading all of them would take longer than the forward pass of a small
    model on a fast device, and would only reveal changes that touch none of these.
    """
    digest = _Digest()
    given = tensors(inputs)
    for value in given:
        digest.add(outline(value))
        digest.add_tensor(value, sample=True)
    digest.add_value(map_tensors(lambda tensor: None, inputs) if given else inputs, "")
    return digest.sha256.hexdigest()


@final
class _Digest:
    """A sha256 over values; `hidden` names the first that cannot be inspected."""

    def __init__(
        self, packages: AbstractSet[str] = frozenset(), modules: AbstractSet[nn.Module] = frozenset()
    ) -> None:
        self.sha256, self.hidden = hashlib.sha256(), ""
        self._packages, self._modules = packages, modules
        self._known: dict[int, tuple[int, Any]] = {}  # with the objects, whose ids others would take

    def add(self, text: str) -> None:
        self.sha256.update(f"{text};".encode())

    def add_module(self, module: nn.Module, name: str) -> None:
        self.add_value(type(module), name)
        own: dict[str, Any] = {}
        if not isinstance(module, nn.modules.lazy.LazyModuleMixin):
            module._save_to_state_dict(own, "", True)
        own |= dict(module.named_parameters(recurse=False)) | dict(module.named_buffers(recurse=False))
        for hooks in ("_forward_pre_hooks", "_forward_hooks"):
            own[hooks] = list(vars(module).get(hooks, {}).values())
        packed = type(module)._save_to_state_dict is not nn.Module._save_to_state_dict
        if not (packed or isinstance(module, torch.jit.ScriptModule)):
            own |= {key: value for key, value in vars(module).items() if key not in _INTERNAL}
        self.add_value(own, name)

    def add_tensor(self, tensor: torch.Tensor, *, sample: bool = False) -> None:
        """Add the values of a tensor of any kind, or a sample of each row's."""
        tensor = tensor.detach()
        if hasattr(tensor, "to_local"):  # of a DTensor, what is on this rank
            tensor = tensor.to_local()
        if tensor.is_meta or nn.parameter.is_lazy(tensor) or tensor.numel() == 0:
            return
        if tensor.layout == torch.strided and not (tensor.is_nested or tensor.is_quantized):
            if sample and tensor.ndim > 1:
                step = tensor[0].numel() // _VALUES_OF_A_ROW | 1  # odd: not always one column of an image
                tensor = tensor.flatten(1)[:, ::step]
            flat = tensor.cpu().resolve_conj().resolve_neg().contiguous().reshape(-1)
            self.sha256.update(flat.view(torch.uint8).numpy().data)
        else:
            tensor = tensor.to_dense() if tensor.layout == torch._mkldnn else tensor  # type: ignore[attr-defined]
            torch.save(tensor.cpu(), file := io.BytesIO())
            self.sha256.update(file.getbuffer())

    def add_value(self, value: Any, where: str) -> None:
        """Add a value; `where` names it in a message."""
        if isinstance(value, torch.Tensor):
            self.add(outline(value))
            self.add_tensor(value)
        elif isinstance(value, np.ndarray) and value.dtype != object:
            self.add(f"{value.dtype} {value.shape}")
            self.sha256.update(value.tobytes())
        elif isinstance(value, _PLAIN):
            self.add(f"{type(value).__qualname__} {value!r}")
        elif id(value) in self._known:
            self.add(f"number {self._known[id(value)][0]} again")
        else:
            self._known[id(value)] = len(self._known), value
            self.add(type(value).__qualname__)
            self._add_object(value, where)

    def _add_object(self, value: Any, where: str) -> None:
        if isinstance(value, types.FunctionType):
            self._add_code(value.__code__)
            self.add_value([value.__defaults__, value.__kwdefaults__, _closure(value)], where)
        elif isinstance(value, types.MethodType):
            self.add_value(value.__func__, where)
        elif isinstance(value, functools.partial):
            self.add_value([value.func, value.args, value.keywords], where)
        elif isinstance(value, _NAMED):
            self.add(value.__qualname__)
            if isinstance(value, type) and self._is_of_the_model(value):
                for item in vars(value).values():
                    self._add_method(item)
                self.add_value(list(value.__bases__), where)
        elif isinstance(value, nn.Module):
            if value not in self._modules:  # others are added under their own names
                self.add_module(value, where)
        elif isinstance(value, set | frozenset):
            digests = [_Digest(self._packages, self._modules) for _ in value]  # a set has no order
            for digest, item in zip(digests, value, strict=True):
                digest.add_value(item, where)
                self.hidden = self.hidden or digest.hidden
            self.add(" ".join(sorted(digest.sha256.hexdigest() for digest in digests)))
        elif (items := self._children_of(value)) is not None:
            for key, item in items:
                self.add_value(key, where)
                self.add_value(item, f"{where}.{key}")
        elif not isinstance(value, _HARMLESS):
            self.hidden = self.hidden or f"{where.removeprefix('.')}, a {type(value).__name__}"

    def _children_of(self, value: Any) -> list[tuple[Any, Any]] | None:
        if isinstance(value, np.ndarray):
            return list(enumerate(value.flat))
        kind = type(value)
        open_to_view = kind.__module__ in _CONTAINERS or dataclasses.is_dataclass(value)
        return children_of(value) if open_to_view or self._is_of_the_model(kind) else None

    def _is_of_the_model(self, kind: type) -> bool:
        return str(kind.__module__).partition(".")[0] in self._packages

    def _add_method(self, item: Any) -> None:
        """Add the code of a method, and of what decorators wrapped; the decorators' other state decides nothing."""
        if isinstance(item, types.FunctionType) and id(item) not in self._known:
            self._known[id(item)] = len(self._known), item
            self._add_code(item.__code__)
            for content in _closure(item):
                self._add_method(content)

    def _add_code(self, code: types.CodeType) -> None:
        self.add(f"{code.co_names} {code.co_varnames} {code.co_code.hex()}")
        for constant in code.co_consts:
            if isinstance(constant, types.CodeType):
                self._add_code(constant)
            else:
                self.add(outline(constant))


def _closure(function: types.FunctionType) -> list[Any]:
    """Return what a function closes over."""
    contents = []
    for cell in function.__closure__ or ():
        with suppress(ValueError):  # a variable without a value
            contents.append(cell.cell_contents)
    return contents
