"""Runs a model and records: what calls, data sets, streams and stores have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, final

import torch
from torch import nn

from featurelens._batches import Batch, Plan
from featurelens._failure import explain
from featurelens._guard import all_modules, snapshot
from featurelens._hooks import StopForward, device_of, named_modules, visiting
from featurelens._shares import Share
from featurelens._structure import has_channels_first, map_tensors, outline, shapes, tensors
from featurelens.layers import Choice
from featurelens.recording.backends import Backend
from featurelens.recording.capture import Capture
from featurelens.recording.inputs import Inputs, Rows, given_by, is_time_first, to_device, warn_if_not_finite
from featurelens.recording.keeping import Keeper, Reduction
from featurelens.recording.rewrite import CannotRewrite
from featurelens.storage.activations import Activations

Call = tuple[str, int | None]
_MOST_STRUCTURES = 100


@final
class Engine:
    """A model, the layers chosen of it, and how to reach and to keep what they return."""

    def __init__(
        self,
        model: nn.Module,
        choices: list[Choice],
        backend: Backend,
        keeper: Keeper,
        reductions: Mapping[Call, Reduction],
        *,
        evaluate: bool,
        stop_early: bool,
    ) -> None:
        self.model, self.choices, self.backend = model, choices, backend
        self.keeper, self.reductions = keeper, reductions
        self.evaluate, self.stop_early = evaluate, stop_early
        modules = named_modules(model, all_names=True)
        self.channels_first = {c.name for c in choices if has_channels_first(modules.get(c.name))}
        self.time_first = {c.name for c in choices if _inside_time_first(modules, c.name)}
        self._calls: dict[str, dict[str, int]] = {}  # of a whole pass, by the structure of its inputs
        self._stops, self._catches = False, False  # what a first attempt to end a pass has shown

    @property
    def layers(self) -> tuple[str, ...]:
        """The names of the chosen layers, in order; ``#k`` where one call was asked for."""
        return tuple(c.name if c.call is None else f"{c.name}#{c.call}" for c in self.choices)

    def reduction_of(self, name: str, call: int | None) -> Reduction:
        """Return how a call of a layer is reduced."""
        return self.reductions.get((name, call), self.reductions.get((name, None)))

    @contextmanager
    def visiting(self) -> Iterator[None]:
        """Guard the model for one pass, or many."""
        with visiting(self.model, evaluate=self.evaluate, autograd=not self.keeper.detach):
            yield

    def capture(self, last_calls: Mapping[str, int] | None = None) -> Capture:
        """Begin to record one pass, which ends after `last_calls` of each layer."""
        return Capture(self.choices, self.keeper, self.reductions, self.channels_first, last_calls)

    def run(
        self,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        where: str = "a batch",
        output: bool = True,
        begin: Callable[[Mapping[str, int] | None], Capture] | None = None,
    ) -> Activations:
        """Run the model once and return what was recorded; `begin` makes another capture than `capture` does."""
        device = device_of(self.model)
        if device is not None:
            args, kwargs = to_device(args, device), {key: to_device(v, device) for key, v in kwargs.items()}
        warn_if_not_finite((args, kwargs))
        begin = begin or self.capture
        inputs = self._structure(args, kwargs) if self.stop_early else ""
        capture = begin(self._last_calls(inputs) if self.stop_early and not self._catches else None)
        if capture.stops and not self._stops:
            capture = self._try_to_stop(args, kwargs, capture, begin, where, output)
        else:
            self._pass(args, kwargs, capture, where, output)
        if self.stop_early and not capture.stops:
            self._calls = {inputs: capture.calls, **dict(list(self._calls.items())[:_MOST_STRUCTURES])}
        return capture.finish()

    def _try_to_stop(
        self,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        capture: Capture,
        begin: Callable[[Mapping[str, int] | None], Capture],
        where: str,
        output: bool,
    ) -> Capture:
        """Run the first pass that is to end early; if the model catches what ends it, run it whole from its start."""
        restore = snapshot(self.model)
        again: tuple[Any, Any] = (args, kwargs)
        if tensors(again):  # which the model may change in place
            again = map_tensors(torch.Tensor.clone, again)
        if self._pass(args, kwargs, capture, where, output):
            self._stops = True
            return capture
        self._catches = True
        restore()
        capture = begin(None)
        self._pass(again[0], again[1], capture, where, output)
        return capture

    def _pass(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], capture: Capture, where: str, output: bool
    ) -> bool:
        """Run the model once; return whether the pass ended where it was to end."""
        with self.backend.attached(capture):
            try:
                returned = self.model(*args, **kwargs)
            except StopForward:
                return True
            except Exception as error:
                if capture.stopped:
                    return False
                if error is capture.error or isinstance(error, CannotRewrite):
                    raise
                raise RuntimeError(explain(error, self.model, where, args, kwargs)) from error
        if output and not capture.stopped:
            capture.activations.output = self.keeper.keep_output(returned)
        return not capture.stopped

    def _structure(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
        """What passes with the same number of calls have in common."""
        modes = "" if self.evaluate else [module.training for module in all_modules(self.model)]
        return f"{outline((args, kwargs))} {modes}"

    def _last_calls(self, inputs: str) -> dict[str, int] | None:
        """After how many calls of each layer a pass may end; None if a whole one is needed to count them."""
        if any(not choice.name for choice in self.choices):  # the model itself
            return None
        counted = self._calls.get(inputs, {})
        if not counted and any(choice.call is None for choice in self.choices):
            return None
        last: dict[str, int] = {}
        for choice in self.choices:
            calls = counted.get(choice.name, 0) if choice.call is None else choice.call
            if calls:
                last[choice.name] = max(calls, last.get(choice.name, 0))
        return last

    def plan(self, loader: Iterable[Any], share: Share, inputs: Inputs, rows: Rows) -> Plan:
        """Return which batches of `loader` make up the share."""
        return Plan(loader, share, given=lambda batch: given_by(batch, self.model, inputs, rows))

    def check_rows(self, name: str, value: Any, rows: int | None) -> None:
        """Raise a ValueError unless axis 0 of what was recorded of a layer is that of the batch."""
        layer, _, call = name.partition("#")
        reduction = self.reduction_of(layer, int(call) if call else None)
        found = [tensor.size(0) if tensor.ndim else None for tensor in tensors(value)]
        if not callable(reduction) and layer in self.time_first and any(t.ndim == 3 for t in tensors(value)):
            raise ValueError(
                f"layer {layer!r} returned {shapes(value)}, in which axis 0 is time, as batch_first=False says: bring the "
                f"batch there with reduce={{{layer!r}: function}}"
            )
        if rows is not None and any(size != rows for size in found):
            raise ValueError(
                f"layer {layer!r} returned {shapes(value)} for a batch of {rows}: axis 0 is not the batch, so "
                f"batches cannot be joined; bring it there with reduce={{{layer!r}: function}}, or leave the layer out"
            )


def shown(batches: Iterable[Batch], plan: Plan, progress: bool, *, done: int = 0) -> Iterable[Batch]:
    """Return `batches` under a progress bar, if standard error is a terminal; `done` of them lie behind."""
    from tqdm import tqdm

    bar: Iterable[Batch] = tqdm(
        batches,
        desc="recording",
        unit="batch",
        disable=None if progress else True,
        total=None if plan.total is None else len(plan.block),
        initial=done,
    )
    return bar


def _inside_time_first(modules: Mapping[str, nn.Module], name: str) -> bool:
    parts = name.split(".")
    around = (".".join(parts[:end]) for end in range(1, len(parts) + 1))
    return any(part in modules and is_time_first(modules[part]) for part in around) or (
        "" in modules and is_time_first(modules[""])
    )
