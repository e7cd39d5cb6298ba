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
import threading
import warnings
from collections import OrderedDict, defaultdict, deque
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any
from weakref import WeakKeyDictionary

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


def all_modules(model: nn.Module) -> list[nn.Module]:
    """All modules, shared ones once, in no promised order; several times faster than Module.modules()."""
    found: dict[int, nn.Module] = {}
    waiting = [model]
    while waiting:
        module = waiting.pop()
        if id(module) not in found:
            found[id(module)] = module
            waiting += [child for child in module._modules.values() if child is not None]
    return list(found.values())


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
    flags = [(module, module.training) for module in all_modules(model)]
    try:
        for module, _ in flags:
            _set_training(module, False)
        yield
    finally:
        for module, training in flags:
            _set_training(module, training)


def _set_training(module: nn.Module, training: bool) -> None:
    if isinstance(module, torch.jit.ScriptModule):
        module.training = training  # the flag lives in compiled code
    else:
        vars(module)["training"] = training  # nn.Module.__setattr__ takes ten times as long


@contextmanager
def preserved(model: nn.Module, *, randomness: bool = True, gradients: bool = True) -> Iterator[None]:
    """Give back every module's attributes, hooks and buffers, and the random state, as they were before the block.

    Inside the block the model runs on copies of its buffers, so that what it does to them, and what it returns of
    them, is untouched when the originals are put back. Containers directly among a module's attributes are put
    back too, and parameters that the block replaced. A parameter that it changed in place cannot be, as the
    guard would need a copy of the whole model: that is told in a RuntimeWarning. Without `gradients`, what a
    backward pass in the block adds to ``.grad`` stays.
    """
    with ExitStack() as stack:
        if randomness:
            stack.callback(_restore_random_state, _random_state({p.device for p in _parameters(model)}))
        stack.enter_context(_parameters_preserved(model, gradients))
        stack.enter_context(_attributes_preserved(model))
        yield


@contextmanager
def _attributes_preserved(model: nn.Module) -> Iterator[None]:
    """Guard attributes, the containers among them, and buffers."""
    attributes = [(module, vars(module).copy()) for module in all_modules(model)]
    containers = [value for _, saved in attributes for value in saved.values() if type(value) in _CONTAINERS]
    empty = [
        container for container in containers if not container
    ]  # nearly all: every module has ten for hooks
    filled = [(container, container.copy()) for container in containers if container]
    copies: dict[int, torch.Tensor] = {}
    try:
        for module, saved in attributes:
            _use_copies(saved.get("_buffers", {}), copies)
            _use_copies(vars(module), copies)
        yield
    finally:
        for container in filter(None, empty):
            container.clear()
        for container, content in filled:
            _restore_container(container, content)
        for module, saved in attributes:
            if not _same_items(vars(module), saved):
                vars(module).clear()
                vars(module).update(saved)


_CONTAINERS = {dict, OrderedDict, defaultdict, list, set, deque}


def _use_copies(values: dict[str, Any], copies: dict[int, torch.Tensor]) -> None:
    """Replace the tensors among `values` by copies, the same tensor by the same copy."""
    for name, value in values.items():
        if isinstance(value, torch.Tensor):
            if id(value) not in copies:
                copies[id(value)] = value.clone()
            values[name] = copies[id(value)]


def _restore_container(container: Any, content: Any) -> None:
    if isinstance(container, dict):
        if not _same_items(container, content):
            container.clear()
            container.update(content)
    elif isinstance(container, set):
        container.clear()
        container.update(content)
    else:
        container.clear()
        container.extend(content)


def _same_items(now: dict[str, Any], before: dict[str, Any]) -> bool:
    return list(now) == list(before) and all(map(operator.is_, now.values(), before.values()))


@contextmanager
def _parameters_preserved(model: nn.Module, gradients: bool) -> Iterator[None]:
    saved = [
        (p, _storage(p), p._version if not p.is_inference() else 0, p.requires_grad, p.grad)
        for p in _parameters(model)
    ]
    try:
        yield
    finally:
        changed = []
        for parameter, storage, version, requires_grad, grad in saved:
            if not parameter.is_inference() and parameter._version != version:
                changed.append(parameter)
            if storage is not None and parameter.data_ptr() != storage.data_ptr():
                parameter.data = storage
            if parameter.requires_grad != requires_grad:
                parameter.requires_grad_(requires_grad)
            if gradients and parameter.grad is not grad:
                parameter.grad = grad
        _warn_of_changes(model, changed)


def _parameters(model: nn.Module) -> list[nn.Parameter]:
    """All parameters, shared ones once; several times faster than Module.parameters()."""
    found = {
        id(p): p
        for module in model.modules()
        for p in vars(module).get("_parameters", {}).values()
        if p is not None
    }
    return list(found.values())


def _storage(parameter: nn.Parameter) -> torch.Tensor | None:
    """The parameter's memory as a tensor of its own, None for kinds that have no address (sparse, functorch's)."""
    try:
        parameter.data_ptr()
        return parameter.data
    except RuntimeError:
        return None


def _warn_of_changes(model: nn.Module, changed: list[nn.Parameter]) -> None:
    if changed:
        names = {id(parameter): name for name, parameter in model.named_parameters()}
        listed = ", ".join(names.get(id(parameter), "?") for parameter in changed[:3])
        warnings.warn(
            f"parameters changed in place while the model was recorded ({listed}); featurelens gives back "
            "buffers and modes but keeps no copy of the parameters: do not train inside a recording block",
            RuntimeWarning,
            stacklevel=6,
        )


_locks: WeakKeyDictionary[nn.Module, threading.RLock] = WeakKeyDictionary()
_locks_lock = threading.Lock()


@contextmanager
def exclusively(model: nn.Module) -> Iterator[None]:
    """Let other threads that record the same model wait until the block ends: what each saves would mix."""
    with _locks_lock:
        lock = _locks.setdefault(model, threading.RLock())
    with lock:
        yield


def check_materialized(model: nn.Module) -> None:
    """Raise a ValueError if a lazy layer has not seen its first batch yet."""
    if any(isinstance(module, nn.modules.lazy.LazyModuleMixin) for module in all_modules(model)):
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
            if nn.parameter.is_lazy(tensor):
                raise ValueError(
                    f"parameter {name!r} is not initialized yet: run one batch through the lazy model, then record it"
                )


def random_state(model: nn.Module) -> dict[str, Any]:
    """Return the state of every global generator that the model's forward may draw from."""
    return _random_state({parameter.device for parameter in _parameters(model)})


def same_random_state(one: Any, other: Any) -> bool:
    """Return whether nothing was drawn between two calls of `random_state`."""
    if isinstance(one, dict):
        return all(same_random_state(one[key], other[key]) for key in one if key in other)
    if isinstance(one, list | tuple):
        return all(map(same_random_state, one, other))
    same = one == other
    return bool(same if isinstance(same, bool) else same.all())


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
