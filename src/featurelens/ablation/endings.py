"""How a model's outputs come about: whether a sigmoid makes them, so that they are probabilities."""

from __future__ import annotations

from typing import Any, final

import torch
from torch.overrides import TorchFunctionMode

from featurelens._structure import tensors

_SIGMOIDS = {"sigmoid", "sigmoid_", "special_expit", "softmax", "_softmax"}
# What these make of probabilities alone are probabilities.
_KEEP = {
    "clamp",
    "clip",
    "clamp_",
    "to",
    "float",
    "double",
    "clone",
    "contiguous",
    "detach",
    "mean",
    "cat",
    "stack",
}
_KEEP |= {
    "squeeze",
    "unsqueeze",
    "reshape",
    "view",
    "flatten",
    "select",
    "__getitem__",
    "permute",
    "transpose",
    "rsub",
}
_KEEP |= {"mul", "__rsub__", "max", "amax", "prod"}


@final
class Probabilities(TorchFunctionMode):
    """The tensors that a sigmoid or softmax made in its block, and what was made of these alone.

    >>> with Probabilities() as found:
    ...     logits = torch.zeros(2) + 1
    ...     p = logits.sigmoid()[:, None].clamp(0.01, 0.99)
    >>> p in found, logits in found
    (True, False)
    """

    def __init__(self) -> None:
        super().__init__()
        self._found: dict[int, torch.Tensor] = {}  # kept alive, so that no other tensor gets the id of one

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name, read = getattr(func, "__name__", ""), tensors([args, kwargs or {}])
        if name in _SIGMOIDS or (name in _KEEP and read and all(tensor in self for tensor in read)):
            self._found.update((id(tensor), tensor) for tensor in tensors(result))
        return result

    def __contains__(self, tensor: torch.Tensor) -> bool:
        return id(tensor) in self._found
