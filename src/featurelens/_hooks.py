"""How featurelens visits a model: the context in which every verb runs it, hooks that end with their block, early stop.

>>> from torch import nn
>>> model = nn.Sequential(nn.Dropout(0.5), nn.BatchNorm1d(3))
>>> with visiting(model):
...     _ = model(torch.rand(4, 3))
>>> model.training, model[1].num_batches_tracked.item()
(True, 0)
"""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn

from featurelens._checks import check_module
from featurelens._guard import Undo, all_modules, preserved

_COMPILED = re.compile(r"(^|\.)_orig_mod(?=\.|$)")


class StopForward(BaseException):
    """Raised inside a forward pass once everything that was asked for is there.

    A BaseException, so that a model's own ``except Exception`` cannot swallow it.
    """


@contextmanager
def visiting(
    model: nn.Module,
    *,
    evaluate: bool = True,
    autograd: bool = False,
    randomness: bool = True,
    gradients: bool = True,
) -> Iterator[Undo]:
    """Run `model` inside the block, in eval mode or its own, undisturbed by other threads, and restore it afterwards.

    `preserved` says what is restored, what `randomness` and `gradients` leave out of that, and what the block receives.
    """
    check_materialized(model)
    with (
        exclusively(model),
        preserved(model, randomness=randomness, gradients=gradients, evaluate=evaluate) as rewind,
        eager(),
        nullcontext() if autograd else torch.no_grad(),
    ):
        yield rewind


_rehearsals = threading.local()


@contextmanager
def rehearsal() -> Iterator[None]:
    """Run a model of which another run is being recorded, without that this one is."""
    before = is_rehearsal()
    _rehearsals.on = True
    try:
        yield
    finally:
        _rehearsals.on = before


def is_rehearsal() -> bool:
    """Return whether the present run of a model is not the one to be recorded."""
    return getattr(_rehearsals, "on", False)


@contextmanager
def hooked(hooks: Mapping[nn.Module, Callable[..., Any]]) -> Iterator[None]:
    """Register a forward hook on each module for the block."""
    handles = []
    try:
        for module, hook in hooks.items():
            handles.append(module.register_forward_hook(hook))
        yield
    finally:
        for handle in handles:
            handle.remove()


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


def device_of(model: nn.Module) -> torch.device | None:
    """Return the device of the model's first parameter; None if it has none."""
    waiting = [model]
    while waiting:
        module = waiting.pop()
        for parameter in module._parameters.values():
            if parameter is not None:
                return parameter.device
        waiting += [child for child in list(module._modules.values())[::-1] if child is not None]
    return None


def named_modules(model: nn.Module, *, all_names: bool = False) -> dict[str, nn.Module]:
    """Every module by its name, the model itself as ``""``; a shared one under its first name, or `all_names`.

    A part that was compiled is the module inside, under the name of the part.
    """
    named = model.named_modules(remove_duplicate=not all_names)
    return {_COMPILED.sub("", name): module for name, module in named}


def submodule(model: nn.Module, name: str) -> nn.Module:
    """Return the module that `named_modules` gives that name."""
    found: Any = model
    for part in filter(None, name.split(".")):
        found = found._modules[part]
        found = found._orig_mod if "_orig_mod" in found._modules else found
    module: nn.Module = found
    return module


_stance_lock = threading.Lock()
_stances: list[Any] = []  # of all threads; torch has one for the process


@contextmanager
def eager() -> Iterator[None]:
    """Make compiled code run uncompiled inside the block: compiled graphs do not see hooks added later."""
    if "torch._dynamo" not in sys.modules:  # then nothing has been compiled, and importing it takes seconds
        yield
        return
    with _stance_lock:
        _stances.append(torch.compiler.set_stance("force_eager") if not _stances else _stances[0])
    try:
        yield
    finally:
        with _stance_lock:
            stance = _stances.pop()
            if not _stances:  # whoever is last gives back what the first found
                stance.__exit__(None, None, None)


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
