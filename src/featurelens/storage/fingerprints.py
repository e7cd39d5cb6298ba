"""Short stand-ins for models and batches, to tell whether two are the same."""

from __future__ import annotations

import hashlib
import re
from typing import Any, final

import numpy as np
import torch
from torch import nn

from featurelens._structure import items_of, outline, tensors
from featurelens.storage.npy import file_dtype

_VALUES_OF_A_ROW = 1024
_INTERNAL = frozenset(vars(nn.Module()))


def model_digest(model: nn.Module) -> tuple[str, str]:
    """Return the sha256 of everything that decides what `model` computes, and the name of what cannot be seen of it.

    That is, for every module, what its ``state_dict`` holds, parameters and buffers that this leaves out, and tensors,
    arrays and plain values among its attributes, also in containers and in objects whose class is defined in
    the same file as a module.
    """
    seen = _Digest({type(module).__module__ for module in model.modules()})
    for name, module in model.named_modules():
        seen.add(name)
        seen.add_module(module, name)
    return seen.sha256.hexdigest(), seen.hidden


@final
class _Digest:
    """A sha256 over values; `hidden` names the first that cannot be looked at."""

    def __init__(self, files: set[str]) -> None:
        self.sha256, self.hidden = hashlib.sha256(), ""
        self._files = {file for file in files if not file.startswith("torch.")}
        self._known: dict[int, tuple[int, Any]] = {}  # with the objects, whose ids others would take

    def add(self, text: str) -> None:
        self.sha256.update(f"{text};".encode())

    def add_module(self, module: nn.Module, name: str) -> None:
        own: dict[str, Any] = {}
        if not isinstance(module, nn.modules.lazy.LazyModuleMixin):
            module._save_to_state_dict(own, "", True)
        own |= dict(module.named_parameters(recurse=False)) | dict(module.named_buffers(recurse=False))
        self.add_value(own, name)
        packed = type(module)._save_to_state_dict is not nn.Module._save_to_state_dict
        if not (packed or isinstance(module, torch.jit.ScriptModule)):
            attributes = {key: value for key, value in vars(module).items() if key not in _INTERNAL}
            self.add_value(attributes, name)

    def add_value(self, value: Any, where: str) -> None:
        """Add a value; `where` names it in a message."""
        if isinstance(value, torch.Tensor):
            self.add(f"{value.dtype} {tuple(value.shape) if not value.is_nested else value.size(0)}")
            for part in _parts(value):
                self.sha256.update(_content(part))
        elif isinstance(value, np.ndarray):
            self.add(f"{value.dtype} {value.shape}")
            self.sha256.update(value.tobytes() if value.dtype != object else b"")
        elif isinstance(value, nn.Module) or value is None:
            self.add(type(value).__name__)  # its content is added under its own name
        elif isinstance(value, bool | int | float | complex | str | bytes | torch.dtype | torch.Size):
            self.add(repr(value))
        elif id(value) in self._known:
            self.add(f"number {self._known[id(value)][0]} again")
        else:
            self._known[id(value)] = len(self._known), value
            self._add_items(value, where)

    def _add_items(self, value: Any, where: str) -> None:
        self.add(type(value).__qualname__)
        if isinstance(value, set | frozenset):
            self.add(" ".join(sorted(map(repr, value))))
            return
        own = type(value).__module__ in self._files or type(value).__module__ in (
            "builtins",
            "collections",
            "types",
        )
        for key, item in (items_of(value) or ()) if own else ():
            self.add(repr(key))
            self.add_value(item, f"{where}.{key}")
        if isinstance(value, torch._C.ScriptObject | torch._C.Generator):
            self.hidden = self.hidden or f"{where.removeprefix('.')}, a {type(value).__name__}"


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
    digest = _Digest(set())
    for value in tensors(inputs):
        digest.add(f"{value.dtype} {tuple(value.shape) if not value.is_nested else value.size(0)}")
        for tensor in _parts(value):
            if tensor.numel():
                rows = tensor.reshape(len(tensor), -1) if tensor.ndim else tensor.reshape(1, 1)
                step = rows.shape[1] // _VALUES_OF_A_ROW
                digest.sha256.update(_content(rows[:, :: step | 1]))  # odd: not always one column of an image
    digest.add(outline(inputs, lambda leaf: type(leaf).__name__))
    return digest.sha256.hexdigest()


def _content(tensor: torch.Tensor) -> Any:
    flat = tensor.cpu().contiguous().reshape(-1)
    return flat.view(file_dtype(flat.dtype)).view(torch.uint8).numpy().data if flat.numel() else b""
