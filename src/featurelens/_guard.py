"""The guard on a model's state: whatever runs in its block, the model is afterwards what it was before.

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
import sys
import types
import warnings
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, final

import numpy as np
import torch
from torch import nn

from featurelens._structure import attributes_of

Undo = Callable[[], None]

_LARGE = 2**20  # bytes: below, a lazy copy saves nothing

_ATOMS = {bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device, torch.Size, type}
_ATOMS |= {types.FunctionType, types.MethodType, types.BuiltinFunctionType}
_DICTS = {dict, OrderedDict, defaultdict, Counter}
_CONTAINERS = _DICTS | {list, set, deque}
_MEMBERS = {"_parameters", "_buffers", "_modules"}  # parameters and modules are looked after by themselves


def all_modules(model: nn.Module) -> list[nn.Module]:
    """All modules, shared ones once, in no promised order; several times faster than Module.modules()."""
    found, known = [model], {id(model)}
    for module in found:  # which grows meanwhile
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

    The block receives a function that takes everything back to the block's start, for another run from there.

    Inside the block the model runs on copies of its buffers and of other tensors among its attributes, so that
    what it returns of them stays as it is when the originals are put back. Tensors that share memory share it in
    the copies too, and the memory of large ones is only copied once something writes to it. Containers among the
    attributes are restored, containers inside them, NumPy arrays, modules that are not registered, and helper objects
    whose class comes from the same package as one of the modules. Parameters that the block replaced are put back.
    A parameter that it changed in place cannot be, as that would need a copy of the whole model: a RuntimeWarning
    says so.

    Parameters
    ----------
    randomness
        Restore the global random state, and that of generators among the attributes.
    gradients
        Set ``.grad`` aside for the block; with False, what a backward pass in the block adds to it stays.
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
    modules = all_modules(model)
    parameters = list({id(p): p for m in modules for p in m._parameters.values() if p is not None}.values())
    undo: list[Undo] = []

    def restore() -> None:
        for step in reversed(undo):
            step()

    try:
        if randomness:
            undo.append(_random_state_kept())
        undo.append(_parameters_kept(model, parameters, gradients))
        undo.append(_State(modules, randomness).restore)
        if evaluate:
            undo.append(_evaluated(modules))
    except BaseException:
        restore()
        raise
    return restore


def _evaluated(modules: list[nn.Module]) -> Undo:
    """Put modules into eval mode; the flags of ordinary ones come back with their attributes."""
    scripted = [m for m in modules if m.training and isinstance(m, torch.jit.ScriptModule)]
    for module in modules:
        if module.training and not isinstance(module, torch.jit.ScriptModule):
            vars(module)["training"] = False  # nn.Module.__setattr__ takes ten times as long
    for module in scripted:
        module.training = False  # the flag lives in compiled code

    def undo() -> None:
        for module in scripted:
            module.training = True

    return undo


@final
class _State:
    """The attributes of modules, with copies of their tensors put in the place of the originals."""

    def __init__(self, modules: list[nn.Module], randomness: bool) -> None:
        self.attributes = [(attributes := vars(module), attributes.copy()) for module in modules]
        self.empty: list[Any] = []  # nearly all: every module has ten for hooks
        self.filled: list[tuple[Any, Any]] = []
        self.generators: list[Undo] = []
        self.tensors: dict[int, torch.Tensor] = {}
        self._randomness = randomness
        self._packages = {type(module).__module__.partition(".")[0] for module in modules} - {"torch"} | {
            "types"
        }
        self._modules = set(map(id, modules))
        self._arrays: list[tuple[Any, Any]] = []
        self._known: set[int] = set()
        self._places: list[tuple[Any, Any]] = []  # containers and the keys under which they hold tensors
        for attributes, _ in self.attributes:
            for name, value in attributes.items():
                kind = type(value)
                if kind in _ATOMS or (kind is tuple and _ATOMS.issuperset(map(type, value))):
                    continue
                if kind in _CONTAINERS and not value:
                    self.empty.append(value)
                elif name in _MEMBERS:
                    if kind in _CONTAINERS:  # a scripted module's are views of compiled code
                        self.filled.append((value, value.copy()))
                    if name == "_buffers":
                        held = {key: tensor for key, tensor in value.items() if tensor is not None}
                        self.tensors.update((id(tensor), tensor) for tensor in held.values())
                        self._places += [(value, key) for key in held]
                elif self._holds_tensors(value):
                    self._places.append((attributes, name))
        self._copies = _copies(self.tensors.values())
        for container, key in self._places:
            if isinstance(container, set):
                container.remove(key)
                container.add(self._copied(key))
            else:
                container[key] = self._copied(container[key])

    def restore(self) -> None:
        """Put everything back."""
        for container in filter(None, self.empty):
            container.clear()
        for container, content in self.filled:
            _refill(container, content)
        for attributes, saved in self.attributes:
            if not _same_items(attributes, saved):
                attributes.clear()
                attributes.update(saved)
        for array, content in self._arrays:
            array[...] = content
        for undo in self.generators:
            undo()
        _unlink(self.tensors, self._copies)

    def _holds_tensors(self, value: Any) -> bool:
        """Note what is to be restored of an attribute; return whether a copy must take its place."""
        kind = type(value)
        if kind is torch.Tensor or (isinstance(value, torch.Tensor) and not isinstance(value, nn.Parameter)):
            self.tensors[id(value)] = value
            return True
        if isinstance(value, tuple):
            holding = [self._holds_tensors(item) for item in value if type(item) not in _ATOMS]
            return any(holding) and (kind is tuple or hasattr(value, "_fields"))
        if kind in _CONTAINERS:
            self._note(value, value.copy())
        elif isinstance(value, np.ndarray):
            if value.flags.writeable:
                self._arrays.append((value, value.copy()))
        elif isinstance(value, nn.Parameter):
            return False
        elif isinstance(value, nn.Module):
            self._add_hidden(value)
        elif kind.__module__.partition(".")[0] in self._packages:
            if isinstance(value, dict | list):
                self._note(value, dict(value) if isinstance(value, dict) else list(value))
            if (own := attributes_of(value)) is not None:
                self._note(own, own.copy())
        elif self._randomness and (undo := _generator_kept(value)) is not None:
            self.generators.append(undo)
        return False

    def _add_hidden(self, module: nn.Module) -> None:
        """Note what is to be restored of a module that is not registered, but an attribute of another kind."""
        for inner in all_modules(module):
            if id(inner) not in self._modules:
                self._modules.add(id(inner))
                self.attributes.append((vars(inner), vars(inner).copy()))

    def _note(self, container: Any, content: Any) -> None:
        """Note the content of a container, and of what it contains."""
        if not container:
            self.empty.append(container)
        elif id(container) not in self._known:
            self._known.add(id(container))
            self.filled.append((container, content))
            if isinstance(container, dict):
                items: Iterable[Any] = content.items()
            else:
                items = (
                    zip(content, content, strict=True) if isinstance(container, set) else enumerate(content)
                )
            for key, item in items:
                if type(item) not in _ATOMS and self._holds_tensors(item):
                    self._places.append((container, key))

    def _copied(self, value: Any) -> Any:
        if isinstance(value, tuple):
            items = map(self._copied, value)
            return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
        return self._copies.get(id(value), value)


def _copies(originals: Iterable[torch.Tensor]) -> dict[int, torch.Tensor]:
    """Copies of tensors by id; of those that share memory, copies that share theirs."""
    copies: dict[int, torch.Tensor] = {}
    sharing: dict[int, list[torch.Tensor]] = {}
    for tensor in originals:
        try:
            if type(tensor) is torch.Tensor and not (tensor.requires_grad or tensor.is_quantized):
                sharing.setdefault(tensor.untyped_storage()._cdata, []).append(tensor)
                continue
        except (RuntimeError, NotImplementedError):
            pass  # kinds without a storage: sparse, nested, functorch's
        copies[id(tensor)] = _with_attributes(tensor.clone(), tensor)  # which gradients go through
    for group in sharing.values():
        first = group[0]
        if len(group) == 1 and first.numel() * first.element_size() < _LARGE:
            copies[id(first)] = _with_attributes(first.clone(), first)
        else:
            with torch.no_grad():
                storage = _copied_storage(first)
                copies |= {id(tensor): _with_attributes(_over(storage, tensor), tensor) for tensor in group}
    return copies


def _with_attributes(copy: torch.Tensor, original: torch.Tensor) -> torch.Tensor:
    if original.__dict__:
        copy.__dict__.update(original.__dict__)
    return copy


def _copied_storage(tensor: torch.Tensor) -> Any:
    """A copy of a tensor's memory; of much memory, one that is made when either is first written to."""
    storage = tensor.untyped_storage()
    if storage.nbytes() >= _LARGE and storage.resizable():  # torch does not own others: a file's, NumPy's
        with suppress(RuntimeError):
            return torch._lazy_clone(tensor).untyped_storage()
    return storage.clone()  # type: ignore[no-untyped-call]


def _over(storage: Any, tensor: torch.Tensor) -> torch.Tensor:
    """A tensor like `tensor` over another storage."""
    like = torch.empty(0, dtype=tensor.dtype, device=tensor.device)
    like.set_(storage, tensor.storage_offset(), tensor.shape, tensor.stride())
    like = like.conj() if tensor.is_conj() else like
    return like._neg_view() if tensor.is_neg() else like


def _unlink(originals: dict[int, torch.Tensor], copies: dict[int, torch.Tensor]) -> None:
    """Give each original its memory back, where it always was, also if a copy lives on in what was recorded."""
    lazy = [tensor for tensor in originals.values() if _is_lazy(tensor)]
    for tensor in lazy:
        _make_own(copies.pop(id(tensor)))
    for tensor in lazy:
        tensor.data_ptr()  # asking for an address that may be written to ends the sharing


def _make_own(copy: torch.Tensor) -> None:
    """Copy the memory of a lazy copy that others than the caller and this function hold."""
    if _is_lazy(copy) and torch._C._storage_Use_Count(copy.untyped_storage()._cdata) > 2:
        copy.data_ptr()


def _is_lazy(tensor: torch.Tensor) -> bool:
    try:
        lazy: bool = torch._C._is_cow_tensor(tensor)  # type: ignore[attr-defined]
    except (RuntimeError, NotImplementedError):  # it has no storage
        return False
    return lazy


def _refill(container: Any, content: Any) -> None:
    if isinstance(container, dict):
        if not _same_items(container, content):
            container.clear()
            container.update(content)
    elif len(container) != len(content) or not all(map(operator.is_, container, content)):
        container.clear()
        container.update(content) if isinstance(container, set) else container.extend(content)


def _same_items(now: dict[str, Any], before: dict[str, Any]) -> bool:
    return (
        len(now) == len(before)
        and all(map(operator.is_, now.values(), before.values()))
        and all(map(operator.is_, now, before))  # the keys: names, which Python keeps once
    )


def _parameters_kept(model: nn.Module, parameters: list[nn.Parameter], gradients: bool) -> Undo:
    saved = [(p, _address(p), p.data, _version(p), p.requires_grad, p.grad) for p in parameters]
    if gradients:
        for parameter in parameters:
            if parameter.grad is not None:  # what a backward pass in the block adds goes to another
                parameter.grad = None

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


def _version(tensor: torch.Tensor) -> int:
    return 0 if tensor.is_inference() else tensor._version


def _address(tensor: torch.Tensor) -> int | None:
    """Where the values lie; None for kinds that have no address (sparse, functorch's)."""
    try:
        return tensor.data_ptr()
    except RuntimeError:
        return None


def _warn_of_changes(model: nn.Module, changed: list[nn.Parameter]) -> None:
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    listed = ", ".join(names.get(id(parameter), "?") for parameter in changed[:3])
    warnings.warn(
        f"parameters changed in place while the model was recorded ({listed}); featurelens restores buffers and modes "
        "but keeps no copy of the parameters: do not train inside a recording block",
        RuntimeWarning,
        stacklevel=7,
    )


def _random_state_kept() -> Undo:
    state = random_state()
    return lambda: set_random_state(state)


def random_state() -> list[Any]:
    """The state of every global generator that a forward pass may draw from."""
    return [read() for read, _ in _generators()]


def set_random_state(state: list[Any]) -> None:
    """Set every global generator to the state that `random_state` returned."""
    for (_, write), saved in zip(_generators(), state, strict=False):
        write(saved)


def same_random_state(one: Any, other: Any) -> bool:
    """Whether nothing was drawn between two calls of `random_state`."""
    if isinstance(one, dict):
        return all(same_random_state(one[key], other[key]) for key in one if key in other)
    if isinstance(one, list | tuple):
        return all(map(same_random_state, one, other))
    same = one == other
    return bool(same if isinstance(same, bool) else same.all())


def _generators() -> list[tuple[Callable[[], Any], Callable[[Any], Any]]]:
    """How to read and to set each global generator that a forward pass may draw from."""
    found: list[Any] = [(torch.get_rng_state, torch.set_rng_state), (random.getstate, random.setstate)]
    if "numpy.random" in sys.modules:
        numpy = sys.modules["numpy.random"]
        found.append((numpy.get_state, numpy.set_state))
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        found.append((torch.cuda.get_rng_state_all, torch.cuda.set_rng_state_all))
    if torch.backends.mps.is_available():
        found.append((torch.mps.get_rng_state, torch.mps.set_rng_state))
    return found


def _generator_kept(value: Any) -> Undo | None:
    """How to restore a generator of the user's own; None if `value` is none."""
    if isinstance(value, torch.Generator):
        state = value.get_state()

        def rewind() -> None:
            value.set_state(state)

        return rewind
    if isinstance(value, random.Random) and not isinstance(value, random.SystemRandom):
        drawn = value.getstate()
        return lambda: value.setstate(drawn)
    if type(value).__module__.startswith("numpy.random"):
        source = getattr(value, "bit_generator", None) or getattr(value, "_bit_generator", value)
        if hasattr(source, "state"):
            seeded = source.state

            def undo() -> None:
                source.state = seeded

            return undo
    return None
