"""Run a model once and keep what its layers return: what calls, data sets, streams and stores have in common."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, final

import torch
from torch import nn

from featurelens._channels import ChannelAxes, Unsuitable
from featurelens._checks import describe, warn
from featurelens._failure import explained
from featurelens._guard import snapshot
from featurelens._hooks import (
    StopForward,
    hooked,
    is_rehearsal,
    named_modules,
    on_device_of,
    submodule,
    visiting,
)
from featurelens._structure import CannotCopy, map_tensors, tensors
from featurelens.layers import Choice, aliases_of, not_reached
from featurelens.recording.early_stop import EarlyStop
from featurelens.recording.insertion import CannotRewrite
from featurelens.recording.reductions import Reduction, channels_first, over_positions
from featurelens.recording.rewrite import NotCalled, Rewriting
from featurelens.storage.activations import Activations

Call = tuple[str, int | None]
"""A layer's name and the number of one of its calls, None for all of them."""

Arguments = tuple[tuple[Any, ...], dict[str, Any]]
Measures = Mapping[Call, Reduction] | None


@final
@dataclass(frozen=True)
class Keeper:
    """Turns a layer's output into what is kept of it: reduced, detached, converted and copied inside the hook."""

    detach: bool = True
    clone: bool = False
    device: torch.device | None = None
    dtype: torch.dtype | None = None

    @property
    def hands_on_copies(self) -> bool:
        """Whether the recorded tensor is the one on the path of the gradients, and the model gets the copy."""
        return self.clone and not self.detach

    def keep(self, output: Any, reduction: Reduction = None) -> Any:
        """Return what is kept of an output."""
        value = output
        if callable(reduction):
            value = reduction(map_tensors(torch.Tensor.detach, output) if self.detach else output)
            if not tensors(value):
                raise TypeError(f"it must return a tensor or a structure of tensors; got {describe(value)}")
        return map_tensors(partial(self._converted, reduction), value)

    def _converted(self, reduction: Reduction, tensor: torch.Tensor) -> torch.Tensor:
        original = tensor.detach() if self.detach else tensor
        reduces = isinstance(reduction, str) and original.ndim > 2
        kept = over_positions(original, str(reduction)) if reduces else original
        kept = kept.to(device=self.device, dtype=self.dtype if kept.is_floating_point() else None)
        if kept is not original or (self.hands_on_copies and reduction is None):
            return kept
        # Inference tensors have no version that would show a change in place.
        return kept.clone() if self.clone or kept.is_inference() else kept

    def hand_on(self, output: Any) -> Any:
        """Return what the model continues with; None for its own output."""
        return map_tensors(torch.Tensor.clone, output) if self.hands_on_copies else None


@final
class Engine:
    """A model, the layers chosen of it, and how to reach and to keep what they return."""

    def __init__(
        self,
        model: nn.Module,
        choices: list[Choice],
        keeper: Keeper,
        reductions: Mapping[Call, Reduction],
        *,
        rewriting: Rewriting | None,
        evaluate: bool,
        stop_early: bool,
    ) -> None:
        self.model, self.choices, self.keeper, self.reductions = model, choices, keeper, reductions
        self.rewriting, self.evaluate = rewriting, evaluate
        self.early_stop = EarlyStop(model, choices) if stop_early else None
        modules = named_modules(model, all_names=True)
        axes = ChannelAxes(model)
        self.axis_of = {c.name: partial(axes.of, modules.get(c.name)) for c in choices}
        self.aliases = aliases_of(choices)

    @property
    def layers(self) -> tuple[str, ...]:
        """The names of the chosen layers, in order; ``#k`` where one call was asked for."""
        return tuple(c.name if c.call is None else f"{c.name}#{c.call}" for c in self.choices)

    def reduction_of(self, name: str, call: int | None) -> Reduction:
        """Return how a call of a layer is reduced."""
        return self.reductions.get((name, call), self.reductions.get((name, None)))

    def visiting(self) -> AbstractContextManager[object]:
        """Guard the model for one pass, or many."""
        return visiting(self.model, evaluate=self.evaluate, autograd=not self.keeper.detach)

    def run(
        self,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        where: str = "a batch",
        output: bool = True,
        measures: Measures = None,
    ) -> Activations:
        """Run the model once and return what was recorded; `measures` stand in for the layers' reductions."""
        given = on_device_of(self.model, (args, kwargs))
        _warn_if_not_finite(given)
        if self.early_stop is None:
            capture = Capture(self, measures)
            self._pass(given, capture, where, output)
        else:
            capture = self._run_until_stop(self.early_stop, given, where, output, measures)
        return capture.finish()

    @contextmanager
    def recording(self) -> Iterator[Activations]:
        """Record the user's own runs of the model in the block; random numbers drawn there stay drawn."""
        capture = Capture(self)

        def note(module: nn.Module, args: Any, output: Any) -> None:
            capture.activations.output = self.keeper.keep(output)

        def check(module: nn.Module, args: Any, kwargs: Any) -> None:
            _warn_if_not_finite((args, kwargs))

        try:
            with (
                visiting(self.model, evaluate=self.evaluate, autograd=True, randomness=False),
                self._attached(capture),
                hooked({self.model: note}, before={self.model: check}),
            ):
                yield capture.activations
        except BaseException:
            capture.activations.freeze()
            raise
        capture.finish()

    def _attached(self, capture: Capture) -> AbstractContextManager[None]:
        """Send what the chosen layers return to `capture` inside the block."""
        if self.rewriting is not None:
            return self.rewriting.attached(capture.take)
        hooks = {}
        for name in capture.wanted:
            layer = submodule(self.model, name)
            if isinstance(layer, torch.jit.ScriptModule):
                raise TypeError(
                    f"layer {name!r} is scripted, and hooks do not run in scripted code: "
                    "record the module it was scripted from"
                )
            hooks[layer] = lambda module, inputs, output, name=name: capture.take(name, output)
        return hooked(hooks)

    def _pass(self, given: Arguments, capture: Capture, where: str, output: bool) -> bool:
        """Run the model once; return whether the pass ended where it should."""
        args, kwargs = given
        with self._attached(capture):
            try:
                returned = self.model(*args, **kwargs)
            except StopForward:
                return True
            except Exception as error:
                if capture.stopped:
                    return False
                if error is capture.error or isinstance(error, CannotRewrite | NotCalled):
                    raise
                raise explained(error, self.model, where, args, kwargs) from error
        if output and not capture.stopped:
            capture.activations.output = self.keeper.keep(returned)
        return not capture.stopped

    def _run_until_stop(
        self, stop: EarlyStop, given: Arguments, where: str, output: bool, measures: Measures
    ) -> Capture:
        """Run a pass that may end early; the first one runs again, whole, if the model catches what ends it."""
        structure = stop.structure(given, modes=not self.evaluate)
        last_calls = stop.last_calls(structure)
        capture = Capture(self, measures, last_calls)
        if last_calls and not stop.works:
            restore = snapshot(self.model)
            # The model may change its inputs in place.
            again: Any = map_tensors(torch.Tensor.clone, given) if tensors(given) else given
            stop.works = self._pass(given, capture, where, output)
            if not stop.works:
                stop.is_caught = True
                restore()
                capture = Capture(self, measures)
                self._pass(again, capture, where, output)
        else:
            self._pass(given, capture, where, output)
        if not capture.stops:
            stop.count(structure, capture.calls)
        return capture


@final
class Capture:
    """What one pass records; both backends hand layers' outputs to `take`, and `activations` is the live result.

    Attributes
    ----------
    calls
        How often each layer was called so far.
    stops, stopped
        Whether the forward pass is to end early, and whether it was told to.
    error
        An error raised here and not by the model.
    """

    def __init__(
        self,
        engine: Engine,
        measures: Measures = None,
        last_calls: Mapping[str, int] | None = None,
    ) -> None:
        self.choices, self._axis_of = engine.choices, engine.axis_of
        # Statistics are taken from the layer's own memory.
        self._keeper = engine.keeper if measures is None else Keeper()
        self._reductions = engine.reductions if measures is None else measures
        self.calls: dict[str, int] = {}
        self.stops, self.stopped = bool(last_calls), False
        self.error: Exception | None = None
        self.activations = Activations(_live=self._named, aliases=engine.aliases)
        self._outstanding = dict(last_calls or {})
        self.wanted: dict[str, set[int | None]] = {}
        for choice in self.choices:
            self.wanted.setdefault(choice.name, set()).add(choice.call)
        self._taken: dict[str, dict[int, Any]] = {}
        self._shared: dict[str, list[tuple[torch.Tensor, int]]] = {}

    def take(self, name: str, output: Any) -> Any:
        """Keep what layer `name` returned; return what the model continues with, None for `output` itself.

        Ends the forward pass once nothing more is outstanding.
        """
        # Checkpointing computes a part again during the backward pass: that is no further call.
        if self.stopped or is_rehearsal() or torch._C._current_graph_task_id() != -1:
            return self._keeper.hand_on(output)
        call = self.calls[name] = self.calls.get(name, 0) + 1
        if not self.wanted[name].isdisjoint((call, None)):
            output = self._keep(name, call, output)
        if self._outstanding.get(name) == call:
            del self._outstanding[name]
            if not self._outstanding:
                self.stopped = True
                raise StopForward
        return self._keeper.hand_on(output)

    def _keep(self, name: str, call: int, output: Any) -> Any:
        """Keep what a call returned, and return it, or a copy that is safe from changes in place."""
        reduction = self._reductions.get((name, call), self._reductions.get((name, None)))
        try:
            if self._keeper.hands_on_copies:  # the output may be an input that is later changed in place
                output = map_tensors(torch.Tensor.clone, output)
            read = output
            if reduction in ("mean", "max"):
                read = channels_first(output, reduction, name, self._axis_of[name])
            value = self._keeper.keep(read, reduction)
        except Unsuitable as error:
            self.error = error
            raise
        except CannotCopy as error:
            said = f"layer {name!r} returned {describe(output)}, which cannot be kept: {error}; choose what to keep with "
            self.error = RuntimeError(f"{said}reduce={{{name!r}: function}}")
            raise self.error from error
        except Exception as error:
            task = "reduce" if callable(reduction) else "keeping the output"
            self.error = RuntimeError(f"{task} failed on layer {name!r}: {type(error).__name__}: {error}")
            raise self.error from error
        self._taken.setdefault(name, {})[call] = value
        if not self._keeper.clone:  # the value may share memory with the model
            kept = [tensor for tensor in tensors(value) if not tensor.is_inference()]
            self._shared.setdefault(name, []).extend((tensor, tensor._version) for tensor in kept)
        return output

    def finish(self) -> Activations:
        """Check that every chosen layer was reached, and freeze the result."""
        reached = {id(choice.selector) for choice in self.choices if self._is_reached(choice)}
        for choice in self.choices:
            if not self._is_reached(choice) and (choice.exact or id(choice.selector) not in reached):
                raise LookupError(not_reached(choice, self.calls.get(choice.name, 0)))
        self.activations.freeze()
        return self.activations

    def _named(self) -> dict[str, Any]:
        """Return what was kept so far by the keys of the result."""
        for name, shared in self._shared.items():
            if any(tensor._version != version for tensor, version in shared):
                raise RuntimeError(
                    f"layer {name!r} was recorded with clone=False and then changed in place by a later layer, "
                    "such as ReLU(inplace=True); record it with clone=True"
                )
        named = {}
        for choice in self.choices:
            calls = self._taken.get(choice.name, {})
            if choice.call is None and len(calls) == 1:
                named[choice.name] = next(iter(calls.values()))
            elif choice.call is None:
                named |= {f"{choice.name}#{call}": value for call, value in calls.items()}
            elif choice.call in calls:
                named[f"{choice.name}#{choice.call}"] = calls[choice.call]
        return named

    def _is_reached(self, choice: Choice) -> bool:
        calls = self._taken.get(choice.name, {})
        return choice.call in calls if choice.call is not None else bool(calls)


def _warn_if_not_finite(value: Any) -> None:
    """Warn about NaN and infinity among a model's inputs, but not about minus infinity, which masks hold."""
    for tensor in tensors(value):
        # 8-bit types have no arithmetic.
        dense = tensor.layout == torch.strided and not (tensor.is_meta or tensor.is_nested)
        if not dense or not tensor.is_floating_point() or tensor.element_size() == 1:
            continue
        # The sum is finite if every value is; reading once is all that the usual case costs.
        if math.isfinite(tensor.sum().item()):
            continue
        nan, infinite = int(torch.isnan(tensor).sum()), int(torch.isposinf(tensor).sum())
        if nan or infinite:
            warn(
                f"the batch, a {describe(tensor)}, holds {nan} NaN and {infinite} infinite values; "
                "activations are recorded as the layers return them"
            )
