"""An independent account of everything that makes up a model, to compare before and after."""

import hashlib
import weakref
from collections import deque

import torch


def snapshot(model):
    """Return a plain structure that is equal if and only if the model is as it was."""
    state = {}
    for name, module in model.named_modules():
        state[name, "attributes"] = {key: _value(value) for key, value in vars(module).items()}
        for kind in ("_parameters", "_buffers"):
            state[name, kind] = {key: _value(value) for key, value in vars(module)[kind].items()}
    return state


def random_state():
    return torch.get_rng_state().tolist()


def _value(value):
    if type(value) in weakref.ProxyTypes:  # even isinstance raises if its object is gone
        return id(value)
    if isinstance(value, torch.nn.parameter.UninitializedTensorMixin):
        return "lazy"
    if isinstance(value, torch.Tensor) and value.is_meta:
        return id(value), tuple(value.shape)
    if isinstance(value, torch.Tensor) and value.layout != torch.strided:
        return id(value), _value(value.to_dense())[1:4]
    if isinstance(value, torch.Tensor):
        content = (
            value.detach().contiguous().view(torch.uint8) if value.numel() and value.ndim else value.detach()
        )
        # Of a clone: torch copies memory that NumPy has seen in another way.
        digest = hashlib.sha1(content.cpu().clone().numpy().tobytes()).hexdigest()
        return (
            id(value),
            tuple(value.shape),
            value.dtype,
            digest,
            value.requires_grad,
            id(value.grad) if value.is_leaf else None,
        )
    if isinstance(value, dict):
        return [(key, _value(item)) for key, item in value.items()]
    if isinstance(value, list | tuple | deque | set):
        return [_value(item) for item in value]
    if isinstance(value, bool | int | float | str | None):
        return value
    return id(value)
