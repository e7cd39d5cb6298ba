"""The guard on a model's state: whatever runs in its block, the model is restored afterwards.

>>> from torch import nn
>>> model = nn.Sequential(nn.BatchNorm1d(3))
>>> with preserved(model):
...     _ = model(torch.rand(4, 3))
>>> model[0].num_batches_tracked.item()
0
"""

from __future__ import annotations

import operator
import random
import types
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, final

import numpy as np
import torch
from torch import nn

from featurelens._checks import warn
from featurelens._random import random_state, set_random_state
from featurelens._structure import attributes_of, children_of, end_sharing, is_gone, shared_copies

Undo = Callable[[], object]

_ATOMS = {bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device, torch.Size, type}
_ATOMS |= {types.FunctionType, types.MethodType, types.BuiltinFunctionType}
_DICTS = {dict, OrderedDict, defaultdict, Counter}
_CONTAINERS = _DICTS | {list, set, deque}
_MEMBERS = {"_parameters", "_buffers", "_modules"}  # parameters and modules are guarded separately


def all_modules(model: nn.Module) -> list[nn.Module]:
    """Return all modules, each once, in no particular order; several times faster than Module.modules()."""
    found, known = [model], {id(model)}
    for module in found:  # the list grows meanwhile
        for child in module._modules.values():
            if child is not None and id(child) not in known:
                known.add(id(child))
                found.append(child)
    return found


@contextmanager
def preserved(
    model: nn.Module, *, randomness: bool = True, gradients: bool = True, evaluate: bool = False
) -> Iterator[Undo]:
    """Restore every module's attributes, hooks, buffers and mode, and the random state, when the block ends.

    The block receives a function that resets everything to the block's start, for another run from there.

    Inside the block the model runs on copies of its buffers and of other tensors among its attributes, so that
    outputs that contain them stay valid when the originals are put back. Containers among the attributes are
    restored, and so are containers inside them, NumPy arrays, unregistered modules, and helper objects whose class
    comes from the same package as one of the modules. Parameters that the block replaced are put back. Parameters
    changed in place are not, as that would need a copy of the whole model: a RuntimeWarning names them.

    Parameters
    ----------
    randomness
        Restore the global random state, and that of generators among the attributes.
    gradients
        Set ``.grad`` aside for the block; with False, gradients added by a backward pass in the block are kept.
    evaluate
        Put every module into eval mode for the block. The flag is set directly: a user's ``train()`` may do more.
    """
    restore = snapshot(model, randomness=randomness, gradients=gradients, evaluate=evaluate)

    def rewind() -> None:
        nonlocal restore
        restore()
        restore = snapshot(model, randomness=randomness, gradients=gradients, evaluate=evaluate)

    try:
        yield rewind
    finally:
        restore()


def snapshot(
    model: nn.Module, *, randomness: bool = True, gradients: bool = True, evaluate: bool = False
) -> Undo:
    """Do what `preserved` does at the beginning of its block, and return what it does at the end."""
    # Without gradients a pass under autocast leaves casts of parameters behind, which older torch (2.6) hands to the next.
    modules, undos = all_modules(model), list[Undo]([torch.clear_autocast_cache])
    try:  # what is to be changed is saved first
        if randomness:
            undos.append(partial(set_random_state, random_state()))
        undos.append(_parameters_kept(model, modules, gradients))
        if gradients:
            _set_gradients_aside(modules)
        state = _ModuleState(modules, randomness)
        undos.append(state.restore)
        state.use_copies()
        if evaluate:
            undos.append(_evaluated(modules))
    except BaseException:
        _undo(undos)
        raise
    return partial(_undo, undos)


def _undo(undos: list[Undo]) -> None:
    """Call all, the last first; again where Ctrl-C interrupts one, as a half restored model would be broken."""
    error = None
    for undo in reversed(undos):
        try:
            undo()
        except (Exception, KeyboardInterrupt) as raised:  # noqa: BLE001  raised at the end
            error = raised
            if isinstance(raised, KeyboardInterrupt):
                undo()
    if error is not None:
        raise error


def _evaluated(modules: list[nn.Module]) -> Undo:
    """Put modules into eval mode; the flags of ordinary ones are restored with their attributes."""
    training = [module for module in modules if module.training]
    scripted = [module for module in training if isinstance(module, torch.jit.ScriptModule)]

    def set_scripted(mode: bool) -> None:
        for module in scripted:
            module.training = mode  # the flag lives in compiled code

    for module in training:
        if not isinstance(module, torch.jit.ScriptModule):
            vars(module)["training"] = False  # nn.Module.__setattr__ takes ten times as long
    set_scripted(False)
    return partial(set_scripted, True)


@final
class _ModuleState:
    """The attributes of modules; while it is open, copies stand in for the tensors among them."""

    def __init__(self, modules: list[nn.Module], randomness: bool) -> None:
        self._attributes = [(attributes := vars(module), attributes.copy()) for module in modules]
        self._empty: list[Any] = []  # most containers: every module has ten for hooks
        self._filled: list[tuple[Any, Any]] = []
        self._others: list[Undo] = []  # of arrays and generators
        self._tensors: dict[int, torch.Tensor] = {}
        self._places: list[tuple[Any, Any, Any]] = []  # a container, a key and the tensor or tuple under it
        self._randomness = randomness
        self._packages = {type(m).__module__.partition(".")[0] for m in modules} - {"torch"} | {"types"}
        self._known = set(map(id, modules))
        for attributes, _ in self._attributes:  # which grows by modules that are not registered
            for name, value in attributes.items():
                kind = type(value)
                if kind in _ATOMS or (kind is tuple and _ATOMS.issuperset(map(type, value))):
                    continue
                if kind in _CONTAINERS and not value:
                    self._empty.append(value)
                elif name in _MEMBERS:
                    if kind in _CONTAINERS:  # a scripted module's are views of compiled code
                        self._filled.append((value, value.copy()))
                    if name == "_buffers":
                        held = [(key, tensor) for key, tensor in value.items() if tensor is not None]
                        self._tensors.update((id(tensor), tensor) for _, tensor in held)
                        self._places += [(value, key, tensor) for key, tensor in held]
                elif self._holds_tensors(value):
                    self._places.append((attributes, name, value))
        self._copies = shared_copies(self._tensors.values())

    def use_copies(self) -> None:
        """Put the copies where the tensors are."""
        for container, key, value in self._places:
            if isinstance(container, set):
                container.remove(value)
                container.add(self._copied(value))
            else:
                container[key] = self._copied(value)

    def restore(self) -> None:
        """Put everything back."""
        for container in filter(None, self._empty):
            container.clear()
        for container, content in self._filled:
            _refill(container, content)
        for attributes, saved in self._attributes:
            _refill(attributes, saved)
        for undo in self._others:
            undo()
        end_sharing(self._tensors.values(), self._copies)

    def _holds_tensors(self, value: Any) -> bool:
        """Save what must be restored of an attribute; return whether a copy must take its place."""
        kind = type(value)
        if is_gone(value) or isinstance(value, nn.Parameter):
            return False
        if isinstance(value, torch.Tensor):
            self._tensors[id(value)] = value
            return True
        if isinstance(value, tuple):
            holding = [self._holds_tensors(item) for item in value if type(item) not in _ATOMS]
            return any(holding) and (kind is tuple or hasattr(value, "_fields"))
        if kind in _CONTAINERS:
            self._save(value, value.copy())
        elif isinstance(value, np.ndarray):
            if value.flags.writeable:
                self._others.append(partial(operator.setitem, value, ..., value.copy()))
        elif isinstance(value, nn.Module):
            hidden = [inner for inner in all_modules(value) if id(inner) not in self._known]
            self._known.update(map(id, hidden))
            self._attributes += [(vars(inner), vars(inner).copy()) for inner in hidden]
        elif kind.__module__.partition(".")[0] in self._packages:
            if isinstance(value, dict | list):
                self._save(value, dict(value) if isinstance(value, dict) else list(value))
            if (own := attributes_of(value)) is not None:
                self._save(own, own.copy())
        elif self._randomness and (undo := _generator_kept(value)) is not None:
            self._others.append(undo)
        return False

    def _save(self, container: Any, content: Any) -> None:
        """Save the content of a container, and of what it contains."""
        if not container:
            self._empty.append(container)
        elif id(container) not in self._known:
            self._known.add(id(container))
            self._filled.append((container, content))
            for key, item in children_of(content) or ():
                if type(item) not in _ATOMS and self._holds_tensors(item):
                    self._places.append((container, key, item))

    def _copied(self, value: Any) -> Any:
        if isinstance(value, tuple):
            items = map(self._copied, value)
            return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
        return self._copies.get(id(value), value)


def _refill(container: Any, content: Any) -> None:
    """Give a container its content back, unless it has it already; values are compared by identity."""
    if isinstance(container, dict):
        if not (
            len(container) == len(content)
            and all(map(operator.is_, container.values(), content.values()))
            and all(map(operator.is_, container, content))  # keys in order; Python keeps one object per name
        ):
            container.clear()
            container.update(content)
    elif len(container) != len(content) or not all(map(operator.is_, container, content)):
        container.clear()
        container.update(content) if isinstance(container, set) else container.extend(content)


def _parameters_kept(model: nn.Module, modules: list[nn.Module], gradients: bool) -> Undo:
    parameters = {
        id(p): p for module in modules for p in module._parameters.values() if p is not None
    }.values()
    saved = [(p, _address(p), p.data, _version(p), p.requires_grad, p.grad) for p in parameters]

    def undo() -> None:
        changed = []
        for parameter, address, data, version, requires_grad, grad in saved:
            if _version(parameter) != version:
                changed.append(parameter)
            if _address(parameter) != address or parameter.shape != data.shape:
                parameter.data = data
            if parameter.requires_grad != requires_grad:
                parameter.requires_grad_(requires_grad)
            if gradients and parameter.grad is not grad:
                parameter.grad = grad
        if changed:
            _warn_of_changes(model, changed)

    return undo


def _set_gradients_aside(modules: list[nn.Module]) -> None:
    """Make what a backward pass adds go to other tensors."""
    for parameter in (p for module in modules for p in module._parameters.values() if p is not None):
        if parameter.grad is not None:
            parameter.grad = None


def _version(tensor: torch.Tensor) -> int:
    return 0 if tensor.is_inference() else tensor._version


def _address(tensor: torch.Tensor) -> int | None:
    """Return where the values lie; None for kinds that have no address (sparse, functorch's)."""
    try:
        return tensor.data_ptr()
    except RuntimeError:
        return None


def _warn_of_changes(model: nn.Module, changed: list[nn.Parameter]) -> None:
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    listed = ", ".join(names.get(id(parameter), "?") for parameter in changed[:3])
    warn(
        f"parameters changed in place while the model was recorded ({listed}); featurelens restores buffers and modes "
        "but keeps no copy of the parameters: do not train inside a recording block",
        RuntimeWarning,
    )


def _generator_kept(value: Any) -> Undo | None:
    """Return how to restore a generator of the user's own; None if `value` is none."""
    if isinstance(value, torch.Generator):
        return partial(value.set_state, value.get_state())
    if isinstance(value, random.Random) and not isinstance(value, random.SystemRandom):
        return partial(value.setstate, value.getstate())
    if type(value).__module__.startswith("numpy.random"):
        source = getattr(value, "bit_generator", None) or getattr(value, "_bit_generator", value)
        if hasattr(source, "state"):
            return partial(setattr, source, "state", source.state)
    return None
