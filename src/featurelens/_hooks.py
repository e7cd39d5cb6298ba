"""How featurelens touches a model: hooks that end with their block, early stop, and the guard on its state.

Every room runs the user's model inside these context managers:

>>> from torch import nn
>>> model = nn.Sequential(nn.Dropout(0.5), nn.BatchNorm1d(3))
>>> with evaluating(model), preserved(model), eager():
...     _ = model(torch.rand(4, 3))
>>> model.training, model[1].num_batches_tracked.item()
(True, 0)
"""

from __future__ import annotations

import operator
import random
import sys
import warnings
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn

from featurelens._checks import check_module


class StopForward(BaseException):
    """Raised inside a forward pass once everything that was asked for is there.

    A BaseException, so that a model's own ``except Exception`` cannot swallow it.
    """


def unwrap(model: nn.Module) -> nn.Module:
    """Return the module that the user wrote, inside torch.compile's or a parallel wrapper."""
    wrappers = (nn.DataParallel, nn.parallel.DistributedDataParallel)
    while True:
        if isinstance(model, wrappers):
            model = check_module(model.module)
        elif "_orig_mod" in model._modules:  # torch.compile's OptimizedModule, named without importing dynamo
            model = check_module(model._orig_mod)
        else:
            return model


def eager() -> AbstractContextManager[Any]:
    """Make compiled code run uncompiled inside the block: compiled graphs do not see hooks added later."""
    if "torch._dynamo" not in sys.modules:  # then nothing has been compiled, and importing it takes seconds
        return nullcontext()
    stance: AbstractContextManager[Any] = torch.compiler.set_stance("force_eager")
    return stance


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put every module into eval mode inside the block, then give each its own flag back.

    The flag is set directly: a user's ``train()`` may do more than set it.
    """
    flags = [(module, module.training) for module in model.modules()]
    try:
        for module, _ in flags:
            vars(module)["training"] = False  # nn.Module.__setattr__ takes ten times as long
        yield
    finally:
        for module, training in flags:
            vars(module)["training"] = training


@contextmanager
def preserved(model: nn.Module) -> Iterator[None]:
    """Give back every module's attributes, hooks and buffers and the random state as they were before the block.

    Parameters that the block replaced are put back too. A parameter that it changed in place cannot be, as the
    guard would need a copy of the whole model: that is told in a RuntimeWarning.
    """
    state = _State(model)
    try:
        yield
    finally:
        state.restore()


@contextmanager
def trained_only_aloud(model: nn.Module) -> Iterator[None]:
    """Warn if the block changed parameters in place, as an optimizer does."""
    versions = [(parameter, _version(parameter)) for parameter in model.parameters()]
    yield
    _warn_of_changes(model, [parameter for parameter, version in versions if _version(parameter) != version])


def _warn_of_changes(model: nn.Module, changed: list[nn.Parameter]) -> None:
    if changed:
        names = {id(parameter): name for name, parameter in model.named_parameters()}
        listed = ", ".join(names.get(id(parameter), "?") for parameter in changed[:3])
        warnings.warn(
            f"parameters changed in place while the model was recorded ({listed}); featurelens gives back "
            "buffers and modes but keeps no copy of the parameters: do not train inside a recording block",
            RuntimeWarning,
            stacklevel=5,
        )


class _State:
    """What a forward pass may change: shallow copies of all attributes, full copies of all buffers."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        modules = list(model.modules())
        self.attributes = [(module, vars(module).copy()) for module in modules]
        self.containers = [
            (value, value.copy())
            for _, attributes in self.attributes
            for value in attributes.values()
            if type(value) in {dict, OrderedDict, list, set}
        ]
        self.parameters = [
            (parameter, parameter.data, _version(parameter), parameter.requires_grad, parameter.grad)
            for parameter in _unique(modules, "_parameters")
        ]
        plain = [*_unique(modules, "_buffers"), *self._tensor_attributes()]
        self.buffers = [(tensor, tensor.data, tensor.detach().clone()) for tensor in plain]
        self.random = _random_state({parameter.device for parameter, *_ in self.parameters})

    def _tensor_attributes(self) -> Iterator[torch.Tensor]:
        """Tensors that a module keeps as ordinary attributes, beside its buffers."""
        for _, attributes in self.attributes:
            yield from (value for value in attributes.values() if isinstance(value, torch.Tensor))

    def restore(self) -> None:
        for module, attributes in self.attributes:
            if not _same_items(vars(module), attributes):
                vars(module).clear()
                vars(module).update(attributes)
        for container, content in self.containers:
            if container or content:
                _restore_container(container, content)
        for buffer, storage, content in self.buffers:
            if buffer.data_ptr() != storage.data_ptr():
                buffer.data = storage
            if not torch.equal(buffer, content):
                # .data leaves the version counter alone, so a graph that saved the buffer can still run backward
                buffer.data.copy_(content)
        changed = [
            parameter for parameter, *saved in self.parameters if _restore_parameter(parameter, *saved)
        ]
        _restore_random_state(self.random)
        _warn_of_changes(self.model, changed)


def _unique(modules: list[nn.Module], kind: str) -> list[Any]:
    """All parameters or buffers, shared ones once; several times faster than Module.parameters()."""
    found = {id(tensor): tensor for module in modules for tensor in vars(module)[kind].values()}
    return [tensor for tensor in found.values() if tensor is not None]


def _version(tensor: torch.Tensor) -> int:
    return -1 if tensor.is_inference() else tensor._version


def _restore_parameter(
    parameter: nn.Parameter,
    storage: torch.Tensor,
    version: int,
    requires_grad: bool,
    grad: torch.Tensor | None,
) -> bool:
    """Put back what can be put back; return whether the values were changed in place."""
    changed = _version(parameter) != version
    if parameter.data_ptr() != storage.data_ptr():
        parameter.data = storage
    if parameter.requires_grad != requires_grad:
        parameter.requires_grad_(requires_grad)
    if parameter.grad is not grad:
        parameter.grad = grad
    return changed


def _same_items(now: dict[str, Any], before: dict[str, Any]) -> bool:
    return list(now) == list(before) and all(map(operator.is_, now.values(), before.values()))


def _restore_container(container: Any, content: Any) -> None:
    if isinstance(container, dict):
        if not _same_items(container, content):
            container.clear()
            container.update(content)
    elif isinstance(container, list):
        container[:] = content
    else:
        container.clear()
        container.update(content)


def _random_state(devices: set[torch.device]) -> dict[str, Any]:
    """The state of every global generator a forward pass may draw from."""
    state: dict[str, Any] = {"torch": torch.get_rng_state(), "python": random.getstate()}
    if "numpy" in sys.modules:
        state["numpy"] = sys.modules["numpy"].random.get_state()
    if any(device.type == "cuda" for device in devices):
        state["cuda"] = torch.cuda.get_rng_state_all()
    if any(device.type == "mps" for device in devices):
        state["mps"] = torch.mps.get_rng_state()
    return state


def _restore_random_state(state: dict[str, Any]) -> None:
    torch.set_rng_state(state["torch"])
    random.setstate(state["python"])
    if "numpy" in state:
        sys.modules["numpy"].random.set_state(state["numpy"])
    if "cuda" in state:
        torch.cuda.set_rng_state_all(state["cuda"])
    if "mps" in state:
        torch.mps.set_rng_state(state["mps"])
