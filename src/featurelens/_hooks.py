"""How featurelens visits a model: the context in which every verb runs it, temporary hooks, and early stopping.

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
from contextlib import ExitStack, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn

from featurelens._checks import check_module, describe
from featurelens._guard import Undo, all_modules, preserved
from featurelens._structure import tensors, to_device

_COMPILED = re.compile(r"(^|\.)_orig_mod(?=\.|$)")


class StopForward(BaseException):
    """Raised inside a forward pass once everything requested has been recorded.

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

    See `preserved` for what is restored, for `randomness` and `gradients`, and for what the block receives.
    """
    check_materialized(model)
    with (
        exclusively(model),
        preserved(model, randomness=randomness, gradients=gradients, evaluate=evaluate) as rewind,
        eager(),
        nullcontext() if autograd else torch.no_grad(),
    ):
        yield rewind


_rehearsing: ContextVar[bool] = ContextVar("rehearsing", default=False)


@contextmanager
def rehearsal() -> Iterator[None]:
    """Run a model in the block without recording it, although another run of it is being recorded."""
    token = _rehearsing.set(True)
    try:
        yield
    finally:
        _rehearsing.reset(token)


def is_rehearsal() -> bool:
    """Return whether the present run of a model must not be recorded."""
    return _rehearsing.get()


@contextmanager
def hooked(
    hooks: Mapping[nn.Module, Callable[..., Any]],
    before: Mapping[nn.Module, Callable[..., Any]] | None = None,
) -> Iterator[None]:
    """Register forward hooks, and hooks `before` forward, called as ``hook(module, args, kwargs)``, for the block."""
    with ExitStack() as stack:
        for module, hook in (before or {}).items():
            stack.callback(module.register_forward_pre_hook(hook, with_kwargs=True).remove)
        for module, hook in hooks.items():
            stack.callback(module.register_forward_hook(hook).remove)
        yield


@contextmanager
def forwards(model: nn.Module, call: Callable[..., Any]) -> Iterator[None]:
    """Send every module's forward through ``call(module, forward, args, kwargs)`` in the block.

    This wraps forward and not the module's call, so that a user's hooks run as usual.
    """

    def through(module: nn.Module, forward: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *args, **kwargs: call(module, forward, args, kwargs)

    saved: list[tuple[dict[str, Any], Any]] = []
    try:
        for module in all_modules(model):
            if not isinstance(module, torch.jit.ScriptModule):
                own = vars(module)
                saved.append((own, own.get("forward")))
                own["forward"] = through(module, module.forward)
        yield
    finally:
        for own, forward in saved:
            own["forward"] = forward
            if forward is None:
                del own["forward"]


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


def on_device_of(model: nn.Module, value: Any) -> Any:
    """Return what a model is given, with its tensors on the device of its first parameter that is in memory."""
    first = next((p for p in model.parameters() if not p.is_meta), next(model.parameters(), None))
    # accelerate's hooks move inputs to where they load the parameters.
    if first is None or (first.is_meta and _offloaded(model)):
        return value
    if not first.is_meta and (empty := [tensor for tensor in tensors(value) if tensor.is_meta]):
        raise TypeError(f"a batch must have values; got a {describe(empty[0])}")
    return to_device(value, first.device)


def check_weights(model: nn.Module) -> None:
    """Raise a TypeError if no parameter has values, and nothing loads them when they are needed."""
    parameters = list(model.parameters())
    if parameters and all(parameter.is_meta for parameter in parameters) and not _offloaded(model):
        raise TypeError(
            "the model's parameters are on the meta device, without values: load its weights first"
        )


def _offloaded(model: nn.Module) -> bool:
    return any(hasattr(module, "_hf_hook") for module in model.modules())


def named_modules(model: nn.Module, *, all_names: bool = False) -> dict[str, nn.Module]:
    """Return every module by its name, the model itself as ``""``; a shared one by its first name, or by `all_names`.

    A compiled part is listed as the module inside it, under the name of the part.
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
            if not _stances:  # the last to leave restores what the first found
                stance.__exit__(None, None, None)


_locks: WeakKeyDictionary[nn.Module, threading.RLock] = WeakKeyDictionary()
_locks_lock = threading.Lock()


@contextmanager
def exclusively(model: nn.Module) -> Iterator[None]:
    """Make other threads that record the same model wait until the block ends: what they save and restore would mix."""
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
