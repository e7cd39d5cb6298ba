"""Short stand-ins for models and batches, to tell whether two are the same."""

from __future__ import annotations

import hashlib
import re
from typing import Any

import torch
from torch import nn

from featurelens._structure import tensors
from featurelens.storage.npy import file_dtype

_VALUES_OF_A_ROW = 1024


def parameters_digest(model: nn.Module) -> str:
    """Return the sha256 of every parameter and buffer: names, dtypes, shapes and bytes."""
    digest = hashlib.sha256()
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)};".encode())
        if not tensor.is_meta:
            digest.update(_content(tensor))
    return digest.hexdigest()


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
    digest = hashlib.sha256()
    for tensor in tensors(inputs):
        digest.update(f"{tensor.dtype} {tuple(tensor.shape)};".encode())
        if tensor.is_meta or tensor.numel() == 0:
            continue
        rows = tensor.reshape(len(tensor), -1) if tensor.ndim else tensor.reshape(1, 1)
        step = rows.shape[1] // _VALUES_OF_A_ROW
        digest.update(_content(rows[:, :: step | 1]))  # odd, so as not to stay in one column of an image
    return digest.hexdigest()


def _content(tensor: torch.Tensor) -> Any:
    dense = tensor.detach() if tensor.layout == torch.strided else tensor.detach().to_dense()
    flat = dense.cpu().contiguous().reshape(-1)
    return flat.view(file_dtype(flat.dtype)).view(torch.uint8).numpy().data if flat.numel() else b""
