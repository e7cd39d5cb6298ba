"""Run only what comes after a layer, for any model: its own forward, with everything before the layer replayed.

One plain forward pass is recorded. To run variants of the layer's output, the model's forward is called again on
a batch that holds them all, but every module call that ended before the layer was called returns its recorded
value. The model's own Python code runs again on the larger batch, with all that it computes between modules, such as
skip connections; a recorded value is enlarged only where that code reads it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, final
from weakref import ref

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from featurelens._batches import Given
from featurelens._checks import count
from featurelens._failure import explained
from featurelens._hooks import forwards
from featurelens._random import random_state, same_random_state
from featurelens._structure import map_tensors, tensors
from featurelens.ablation.layer import AblatedLayer
from featurelens.layers import not_reached

_RUNNING = object()  # the value of a call that has not returned yet
# These turn a tensor into a Python value: a model that branches on it would send all variants of a batch one way.
_NUMBERS = {"__bool__", "__int__", "__float__", "__index__", "item", "tolist", "numpy", "equal", "is_nonzero"}

Change = Callable[[torch.Tensor, int], torch.Tensor]
"""Makes variants of the layer's features, given the number of its call."""


Reader = Callable[[list[torch.Tensor], bool], object]
"""Told of the tensors that an operation reads, and whether it turns them into Python values."""


class Diverged(Exception):
    """A replay differs from the recorded pass."""


@dataclass(eq=False)
class _Call:
    """A module call that began before the layer was called, and what it returned if it also ended before."""

    module: nn.Module
    value: Any = _RUNNING


@final
class PlainPass:
    """One forward pass with nothing ablated, and all that is needed to run it again from the layer on.

    Attributes
    ----------
    features
        The layer's output, or the part of it that has channels, by the number of the call, for the selected calls.
    calls
        How often the layer was called.
    output
        What the model returned.
    reads_values
        Whether code that a replay would run again turns tensors into Python values.
    mixes_images
        Whether a later tensor is too small to hold one value per image, so images were mixed.
    draws
        Whether random numbers were drawn, which would differ for a larger batch.
    largest
        Elements of the largest tensor that a replay makes, among those with the batch in axis 0.
    front
        What a replay makes variants of: the features of the first selected call.
    """

    independent = False  # nothing is known of how images of a batch act on each other

    def __init__(self, layer: AblatedLayer, given: Given) -> None:
        """Run a batch through the model, as it is, inside a visit to it.

        Raises
        ------
        TypeError, ValueError, LookupError
            If the layer returns something without channels, or is not called.
        RuntimeError
            If the model fails.
        """
        self.layer, self.given, self.size = layer, given, given.rows or 0
        self._watch = Watch(self.size, self._note_readers)
        self.features: dict[int, torch.Tensor] = {}
        self.calls = 0
        self.output: Any = None
        self.draws = self._decided = False
        self._error: Exception | None = None  # about the layer's output
        self._calls: list[_Call] = []
        self._open: list[_Call] = []
        self._copies = _Copies()
        self._readers: dict[int, set[_Call]] = {}  # id of a tensor -> the innermost calls that read it
        self._deciders: set[_Call] = set()  # the innermost calls that turned tensors into Python values
        self._needed: set[int] = set()  # ids of the copies that a replay reads
        try:
            self._run()
        except Exception as error:
            if error is self._error:
                raise
            raise explained(error, layer.model, "a batch", given.args, given.kwargs) from error
        if not self.features:
            raise LookupError(not_reached(layer.choice, self.calls))
        self.front = next(iter(self.features.values()))
        self.reads_values = self._decided or self._watch.reads_values
        self.mixes_images, self.largest = self._watch.mixes_images, self._watch.largest
        del self._watch  # it knows this object, which would keep its tensors until Python looks for cycles

    def advance(self, features: torch.Tensor) -> torch.Tensor:
        """Return what `front` would be for other features of the layer."""
        return features

    def check_channels_agree(self) -> None:
        """Raise an error unless the calls that are ablated together have equally many channels."""
        axis, name = self.layer.channel_axis, self.layer.choice.name
        channels = {call: features.shape[axis] for call, features in self.features.items()}
        if len(set(channels.values())) > 1:
            listed = ", ".join(f"{name}#{call} ({count(n, 'channel')})" for call, n in channels.items())
            raise ValueError(
                f"layer {name!r} is called {len(channels)} times, with different numbers of channels; choose one call: {listed}"
            )

    def replay(self, rows: torch.Tensor, change: Change) -> Any:
        """Run what comes after the layer on a batch of other rows, and return the output `(R, ...)`.

        `rows` `(R,)` are the images that they are variants of. `change` makes them from `front`, and from what the layer
        returns for the larger batch in later calls.

        Raises
        ------
        Diverged
            If the model does not do what it did before.
        """
        first = next(iter(self.features))
        place, call = 0, 0

        def enlarged(tensor: torch.Tensor) -> torch.Tensor:
            if id(tensor) not in self._needed or tensor.ndim == 0 or len(tensor) != self.size:
                return tensor
            return tensor.index_select(0, rows)

        def answer(module: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
            nonlocal place
            if call:
                return forward(*args, **kwargs)
            if place == len(self._calls) or self._calls[place].module is not module:
                raise Diverged("calls before the layer that differ")
            recorded = self._calls[place]
            place += 1
            if recorded.value is _RUNNING:
                return forward(*args, **kwargs)
            last = recorded is self._calls[-1]
            return recorded.value if last else map_tensors(enlarged, recorded.value)

        def vary(output: Any) -> Any:
            nonlocal call
            if call:
                call += 1
                if call not in self.features:
                    return output
                return self.layer.put(output, change(self.layer.check(output, len(rows)), call))
            if place < len(self._calls):
                return output  # an earlier call than the selected one
            call = first
            others = map_tensors(enlarged, output) if self.layer.part is not None else output
            return self.layer.put(others, change(self.front, first))

        with forwards(self.layer.model, answer), self.layer.hooked(vary):
            args, kwargs = map_tensors(enlarged, (self.given.args, self.given.kwargs))
            return self.layer.model(*args, **kwargs)

    def _run(self) -> None:
        def copied(tensor: torch.Tensor) -> torch.Tensor:  # which a model may change in place
            copy = tensor.clone()
            self._copies.add(copy, tensor)
            return copy

        args, kwargs = map_tensors(copied, (self.given.args, self.given.kwargs))
        before = random_state()
        with forwards(self.layer.model, self._call), self.layer.hooked(self._take), self._watch:
            self.output = self.layer.model(*args, **kwargs)
        self._note_readers(tensors(self.output), False)
        self.draws = not same_random_state(before, random_state())
        self._copies = _Copies()  # releases the originals

    def _note_readers(self, read: list[torch.Tensor], decides: bool) -> None:
        if decides:
            self._deciders.update(self._open[-1:])
        for tensor in read:
            if self.features:
                self._needed.update(map(id, self._copies.of(tensor)))
            else:
                self._readers.setdefault(id(tensor), set()).update(self._open[-1:])

    def _call(self, module: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        if self.features:
            return forward(*args, **kwargs)
        place, call = len(self._calls), _Call(module)
        self._calls.append(call)
        self._open.append(call)
        try:
            value = forward(*args, **kwargs)
        finally:
            self._open.pop()
        if not self.features:
            with self._watch.paused():
                call.value = map_tensors(self._copies.take, value)
            for inner in self._calls[place + 1 :]:  # a replay skips the whole call
                self._copies.drop(inner.value, but=call.value)
            del self._calls[place + 1 :]
        return value

    def _take(self, output: Any) -> None:
        self.calls += 1
        if self.layer.choice.call not in (None, self.calls):
            return
        with self._watch.paused():
            try:
                found = self.layer.check(output, self.size)
                features = found.clone()
            except (TypeError, ValueError) as error:
                self._error = error
                raise
        if not self.features:
            self._look_back()
        self.features[self.calls] = features
        self._watch.follow(found)

    def _look_back(self) -> None:
        """When the layer is reached, find out what the code that will run again has read so far."""
        around = set(self._open)
        for tensor in self._copies.originals():
            if around & self._readers.get(id(tensor), set()):
                self._needed.update(map(id, self._copies.of(tensor)))
        self._decided = bool(around & self._deciders)
        self._readers.clear()


@final
class _Copies:
    """Copies of tensors as they were when calls returned them; an unchanged tensor is copied once."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[torch.Tensor, list[tuple[int | None, torch.Tensor]]]] = {}

    def of(self, tensor: torch.Tensor) -> list[torch.Tensor]:
        """Return all copies of a tensor, from before and after changes in place."""
        known = self._known.get(id(tensor))
        return [] if known is None else [copy for _, copy in known[1]]

    def originals(self) -> list[torch.Tensor]:
        """Return all tensors that have copies."""
        return [tensor for tensor, _ in self._known.values()]

    def add(self, tensor: torch.Tensor, copy: torch.Tensor) -> None:
        """Use `copy` as the copy of `tensor`."""
        self._known[id(tensor)] = (tensor, [(None, copy)])

    def drop(self, value: Any, *, but: Any) -> None:
        """Forget the copies in `value`, except those that are also in `but`."""
        dropped = {id(copy) for copy in tensors(value)} - {id(copy) for copy in tensors(but)}
        for identity, (_, copies) in list(self._known.items()):
            copies[:] = [entry for entry in copies if id(entry[1]) not in dropped]
            if not copies:
                del self._known[identity]

    def take(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return a copy of a tensor as it is now."""
        version = None if tensor.is_inference() else tensor._version
        _, copies = self._known.setdefault(id(tensor), (tensor, []))
        if not copies or version is None or copies[-1][0] != version:
            copies.append((version, tensor.clone()))
        return copies[-1][1]


@final
class Watch(TorchFunctionMode):
    """What the operations in its block do with a batch of `size` images, once it is told what to follow.

    Attributes
    ----------
    reads_values
        Whether tensors were turned into Python values.
    mixes_images
        Whether a tensor computed from the followed ones is too small to hold one value per image.
    largest
        Elements of the largest tensor that was made, among those with the batch in axis 0.
    """

    def __init__(self, size: int, reader: Reader | None = None) -> None:
        super().__init__()
        self.size, self._reader = size, reader
        self.reads_values = self.mixes_images = False
        self.largest = 1
        self._paused = False
        self._followed: dict[int, ref[torch.Tensor]] = {}

    def follow(self, tensor: torch.Tensor) -> None:
        """Follow what is computed from a tensor."""
        self._followed[id(tensor)] = ref(tensor)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Ignore operations in the block, which are not the model's."""
        self._paused = True
        try:
            yield
        finally:
            self._paused = False

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if self._paused:
            return result
        read, name = _tensors_among(args, kwargs), getattr(func, "__name__", "")
        if self._reader is not None:
            self._reader(read, name in _NUMBERS)
        if not self._followed:
            return result
        self.reads_values |= name in _NUMBERS
        if any((known := self._followed.get(id(tensor))) and known() is tensor for tensor in read):
            for tensor in tensors(result):
                self.mixes_images |= tensor.ndim == 0 or tensor.numel() < self.size
                self.follow(tensor)
            if name == "__setitem__":
                self.follow(args[0])
        made = isinstance(result, torch.Tensor) and not isinstance(result, nn.Parameter)
        if made and result.ndim and len(result) % self.size == 0:
            self.largest = max(self.largest, result.numel())
        return result


def _tensors_among(args: tuple[Any, ...], kwargs: dict[str, Any] | None) -> list[torch.Tensor]:
    """Return the tensors in a function's arguments, most of which are tensors or plain values."""
    found: list[torch.Tensor] = []
    for value in (*args, *kwargs.values()) if kwargs else args:
        if isinstance(value, torch.Tensor):
            found.append(value)
        elif isinstance(value, list | tuple | dict):
            found += tensors(value)
    return found
