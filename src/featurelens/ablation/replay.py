"""Run only what comes after a layer, for any model: its own forward, with everything before answered from memory.

One plain forward pass is remembered. To run variants of the layer's output, the model's forward is called again on
a batch that holds them all, but every module call that had ended before the layer was called is answered with what
it returned the first time. What the model computes between modules, skip connections among it, its own Python code
computes again on the larger batch; an answer is enlarged only where that code reads it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from weakref import ref

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from featurelens._checks import describe
from featurelens._guard import all_modules, random_state, same_random_state
from featurelens._hooks import submodule
from featurelens._structure import map_tensors, tensors
from featurelens.layers import Choice

_RUNNING = object()  # in the place of what a call has not returned yet
# These turn a tensor into a Python value: a model that branches on it would send all variants of a batch one way.
_NUMBERS = {"__bool__", "__int__", "__float__", "__index__", "item", "tolist", "numpy", "equal", "is_nonzero"}

Change = Callable[[torch.Tensor, int], torch.Tensor]
"""What becomes of the layer's output, given the number of its call."""


class Diverged(Exception):
    """A replay did not do what was remembered."""


@dataclass(eq=False)
class Step:
    """A module call that began before the layer was called, and what it returned if it also ended before."""

    module: nn.Module
    value: Any = _RUNNING


class Memory(TorchFunctionMode):
    """One plain forward pass, with all that is needed to run it again from a layer on.

    Attributes
    ----------
    features
        What the layer returned, by the number of the call, for the calls that were chosen.
    calls
        How often the layer was called.
    output
        What the model returned.
    reads_values
        Whether code that a replay would run again makes Python values of tensors.
    mixes_images
        Whether a tensor after the layer is too small to hold something of every image: one of all images together.
    draws
        Whether random numbers were drawn, of which a larger batch gets other ones.
    largest
        Elements of the largest tensor after the layer, among those with the batch in axis 0.
    error
        What was wrong with the layer's output.
    """

    def __init__(self, model: nn.Module, choice: Choice, axis: int | None, images: torch.Tensor) -> None:
        super().__init__()
        self.model, self.choice, self.axis, self.images = model, choice, axis, images
        self.layer = submodule(model, choice.name)
        self.features: dict[int, torch.Tensor] = {}
        self.calls = 0
        self.output: Any = None
        self.reads_values = self.mixes_images = self.draws = False
        self.largest = 1
        self.error: Exception | None = None
        self._resting = False
        self._steps: list[Step] = []
        self._copies = _Copies()
        self._open: list[Step] = []
        self._readers: dict[int, set[Step]] = {}  # id of a tensor -> the innermost calls that read it
        self._deciders: set[Step] = set()  # the innermost calls that made Python values of tensors
        self._needed: set[int] = set()  # ids of the copies that a replay reads
        self._following: dict[int, ref[torch.Tensor]] = {}  # what was computed of the layer's output, by id

    def remember(self) -> None:
        """Run the forward pass, on a copy of the images, which a model may change in place."""
        images = self.images.clone()
        self._copies.add(images, self.images)
        before = random_state()
        with _forwards(self.model, self._call), listening(self.layer, self._take), self:
            self.output = self.model(images)
        self._note_readers((self.output,), None)
        self.draws = not same_random_state(before, random_state())
        self._copies.clear()
        self._following.clear()

    def replay(self, times: int, change: Change) -> Any:
        """Run what comes after the layer on `times` variants at once, and return the output `(times * N, ...)`.

        `change` makes them: it is given the remembered output of the first chosen call, and what the layer
        returns for the larger batch in later ones.

        Raises
        ------
        Diverged
            If the model does not do what it did before.
        """
        first = next(iter(self.features))
        place, call = 0, 0

        def enlarged(tensor: torch.Tensor) -> torch.Tensor:
            if id(tensor) not in self._needed or tensor.ndim == 0 or len(tensor) != len(self.images):
                return tensor
            return tensor.repeat(times, *[1] * (tensor.ndim - 1))

        def answer(module: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
            nonlocal place
            if call:
                return forward(*args, **kwargs)
            if place == len(self._steps) or self._steps[place].module is not module:
                raise Diverged("calls before the layer that differ")
            step = self._steps[place]
            place += 1
            if step.value is _RUNNING:
                return forward(*args, **kwargs)
            return step.value if step is self._steps[-1] else map_tensors(enlarged, step.value)

        def vary(output: Any) -> Any:
            nonlocal call
            if call:
                call += 1
                return change(output, call) if call in self.features else output
            if place < len(self._steps):
                return output  # an earlier call than the one that was chosen
            call = first
            return change(self.features[first], first)

        with _forwards(self.model, answer), listening(self.layer, vary):
            return self.model(enlarged(self.images))

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if self._resting:
            return result
        self._note_readers(args, kwargs)
        name = getattr(func, "__name__", "")
        self._follow(name, args, kwargs, result)
        if name in _NUMBERS:
            self.reads_values |= bool(self.features)
            self._deciders.update(self._open[-1:])
        made = self.features and isinstance(result, torch.Tensor) and not isinstance(result, nn.Parameter)
        if made and result.ndim and len(result) % len(self.images) == 0:
            self.largest = max(self.largest, result.numel())
        return result

    def _follow(self, name: str, args: Any, kwargs: Any, result: Any) -> None:
        """Follow what is computed of the layer's output: nothing of it may hold all images in a single number."""
        if not any(self._follows(tensor) for tensor in tensors((args, kwargs))):
            return
        made = list(tensors(result))
        self.mixes_images |= any(tensor.ndim == 0 or tensor.numel() < len(self.images) for tensor in made)
        if name == "__setitem__":
            made.append(args[0])
        self._following.update((id(tensor), ref(tensor)) for tensor in made)

    def _follows(self, tensor: torch.Tensor) -> bool:
        known = self._following.get(id(tensor))
        return known is not None and known() is tensor

    def _note_readers(self, args: Any, kwargs: Any) -> None:
        if self.features:
            for tensor in tensors((args, kwargs)):
                self._needed.update(map(id, self._copies.of(tensor)))
        else:
            for tensor in tensors((args, kwargs)):
                self._readers.setdefault(id(tensor), set()).update(self._open[-1:])

    def _call(self, module: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        if self.features:
            return forward(*args, **kwargs)
        place, step = len(self._steps), Step(module)
        self._steps.append(step)
        self._open.append(step)
        try:
            value = forward(*args, **kwargs)
        finally:
            self._open.pop()
        if not self.features:
            with self._rest():
                step.value = self._copies.take(value)
            for inner in self._steps[place + 1 :]:  # the call is answered as a whole
                self._copies.drop(inner.value, but=step.value)
            del self._steps[place + 1 :]
        return value

    def _take(self, output: Any) -> None:
        self.calls += 1
        if self.choice.call not in (None, self.calls):
            return
        with self._rest():
            try:
                features = check_features(output, self.choice.name, len(self.images), self.axis).clone()
            except (TypeError, ValueError) as error:
                self.error = error
                raise
        if not self.features:
            self._look_back()
        self.features[self.calls] = features
        self._following[id(output)] = ref(output)

    @contextmanager
    def _rest(self) -> Iterator[None]:
        """Take no notice of operations in the block, which are not the model's."""
        self._resting = True
        try:
            yield
        finally:
            self._resting = False

    def _look_back(self) -> None:
        """The layer is reached: find out what is read by code that will run again."""
        around = set(self._open)
        for tensor in self._copies.originals():
            if around & self._readers.get(id(tensor), set()):
                self._needed.update(map(id, self._copies.of(tensor)))
        self.reads_values = bool(around & self._deciders)
        self._readers.clear()


class _Copies:
    """Copies of tensors as they were when calls returned them; an unchanged tensor is copied once."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[torch.Tensor, list[tuple[int | None, torch.Tensor]]]] = {}

    def of(self, tensor: torch.Tensor) -> list[torch.Tensor]:
        """Return all copies of a tensor, of before and after changes in place."""
        known = self._known.get(id(tensor))
        return [] if known is None else [copy for _, copy in known[1]]

    def originals(self) -> list[torch.Tensor]:
        """Return all tensors of which there are copies."""
        return [tensor for tensor, _ in self._known.values()]

    def take(self, value: Any) -> Any:
        """Return `value` with a copy for every tensor."""
        return map_tensors(self._copy, value)

    def add(self, tensor: torch.Tensor, copy: torch.Tensor) -> None:
        """Take `copy` for that of `tensor`."""
        self._known[id(tensor)] = (tensor, [(None, copy)])

    def drop(self, value: Any, *, but: Any) -> None:
        """Forget the copies in `value`, those that are also in `but` excepted."""
        dropped = {id(copy) for copy in tensors(value)} - {id(copy) for copy in tensors(but)}
        for identity, (tensor, copies) in list(self._known.items()):
            left = [entry for entry in copies if id(entry[1]) not in dropped]
            self._known[identity] = (tensor, left)
            if not left:
                del self._known[identity]

    def clear(self) -> None:
        """Let go of the originals."""
        self._known.clear()

    def _copy(self, tensor: torch.Tensor) -> torch.Tensor:
        version = None if tensor.is_inference() else tensor._version
        _, copies = self._known.setdefault(id(tensor), (tensor, []))
        if not copies or version is None or copies[-1][0] != version:
            copies.append((version, tensor.clone()))
        return copies[-1][1]


def check_features(output: Any, layer: str, size: int | None, axis: int | None) -> torch.Tensor:
    """Return what a layer returned for a batch of `size`, if it has channels to ablate."""
    if not isinstance(output, torch.Tensor):
        raise TypeError(
            f"layer {layer!r} must return a tensor to have its channels ablated; got {describe(output)}"
        )
    if output.ndim < 2 or (size is not None and len(output) != size) or not output.is_floating_point():
        batch = "" if size is None else f" for a batch of {size}"
        raise ValueError(
            f"layer {layer!r} must return floating-point numbers (N, C, ...){batch}; got {describe(output)}"
        )
    if axis is None:
        if output.ndim == 3:
            raise ValueError(
                f"layer {layer!r} returns (N, L, D), {describe(output)}: say axis=-1 to ablate features of tokens, "
                "axis=1 for channels"
            )
        axis = 1
    if not 0 < axis % output.ndim < output.ndim or not -output.ndim <= axis < output.ndim:
        raise ValueError(
            f"axis {axis} is not one that holds channels: layer {layer!r} returns {describe(output)}"
        )
    return output


@contextmanager
def listening(layer: nn.Module, receive: Callable[[Any], Any]) -> Iterator[None]:
    """Give what `layer` returns to `receive`, in the block; what that returns, unless None, takes its place."""
    if isinstance(layer, torch.jit.ScriptModule):
        raise TypeError(
            f"a scripted {layer.original_name} cannot be ablated, as hooks cannot see into scripted code: "
            "take the module it was scripted from"
        )
    handle = layer.register_forward_hook(lambda module, args, output: receive(output))
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def _forwards(model: nn.Module, call: Callable[..., Any]) -> Iterator[None]:
    """Send every module's forward through ``call(module, forward, args, kwargs)`` in the block.

    Around forward and not around the module, so that a user's hooks run as they always do.
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
            if forward is None:
                own.pop("forward", None)
            else:
                own["forward"] = forward
