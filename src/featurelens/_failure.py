"""Explain where a model failed and on what input."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from featurelens._checks import describe, first_line
from featurelens._hooks import named_modules
from featurelens._structure import tensors


def explained(
    error: Exception, model: nn.Module, where: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> RuntimeError:
    """Return an error that names the layer that raised `error`, the error and the model's arguments.

    Where memory is out, it is still a `torch.OutOfMemoryError`: programs catch it and try again with less.
    """
    given = ", ".join(
        [*map(describe, args), *(f"{name}={describe(value)}" for name, value in kwargs.items())]
    )
    # Without the list of signatures that follows in torch's message.
    reason = first_line(error).removesuffix(", but expected one of:")
    kind = type(error).__name__
    out_of_memory = isinstance(error, torch.OutOfMemoryError)
    return (torch.OutOfMemoryError if out_of_memory else RuntimeError)(
        f"the model failed on {where} ({given}){_layer(error, model)}: {kind}: {reason}{_hint(model, (args, kwargs))}"
    )


def _hint(model: nn.Module, given: Any) -> str:
    """Return what may help, if inputs are NumPy arrays or of another precision than the parameters."""
    if _has_array(given):
        return "; it was given a NumPy array and may need a tensor: torch.from_numpy(array)"
    wanted = {p.dtype for p in model.parameters() if p.is_floating_point()}
    other = next((t.dtype for t in tensors(given) if t.is_floating_point() and t.dtype not in wanted), None)
    if len(wanted) != 1 or other is None:
        return ""
    return f"; its parameters are {str(wanted.pop())[6:]}, and it was given {str(other)[6:]}"


def _has_array(value: Any) -> bool:
    if isinstance(value, Mapping):
        return _has_array(list(value.values()))
    return isinstance(value, np.ndarray) or (
        isinstance(value, list | tuple) and any(_has_array(item) for item in value)
    )


def _layer(error: Exception, model: nn.Module) -> str:
    """Name the innermost of the model's layers whose code was running."""
    names = {id(module): name for name, module in named_modules(model).items() if name}
    found = ""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        module = frame.f_locals.get("self")
        if isinstance(module, nn.Module) and id(module) in names:
            found = f" in layer {names[id(module)]!r}, {type(module).__name__}"
            if not list(module.children()):
                found += f"({module.extra_repr()})"
    return found
