"""The rewrite backend: the model's forward replaced by its traced graph, with a listener behind each chosen layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, final

from torch import nn

from featurelens import _tracing
from featurelens._tracing import Trace
from featurelens.layers import Choice, not_reached
from featurelens.recording.insertion import insert, trace_for_rewriting
from featurelens.recording.program import Listener, Program, Runner


class NotCalled(LookupError):
    """A chosen layer is not called in a trace."""


@final
class Rewriting:
    """Replaces a model's forward while its block is open.

    The graph is traced when forward is called, and again for other attributes of the model or plain arguments. Its
    output is compared with the model's for every new shape of input.
    """

    def __init__(self, model: nn.Module, choices: Sequence[Choice]) -> None:
        self.model, self.choices = model, choices
        self.names = list(dict.fromkeys(choice.name for choice in choices))
        self._programs: dict[str, Program] = {}  # the last one

    @contextmanager
    def attached(self, take: Callable[[str, Any], Any]) -> Iterator[None]:
        taps = [Listener(name, take) for name in self.names]
        own = vars(self.model)
        replaced = own.get("forward")

        def forward(*args: Any, **kwargs: Any) -> Any:
            self._put(replaced)  # the model's own code runs, to be traced or compared
            try:
                program = self._rewritten(args, kwargs)
                return program.checked(self.model, Runner(self.model, taps, program), args, kwargs)
            finally:
                own["forward"] = forward

        own["forward"] = forward
        try:
            yield
        finally:
            self._put(replaced)

    def _put(self, forward: Any) -> None:
        own = vars(self.model)
        own.pop("forward", None)
        if forward is not None:
            own["forward"] = forward

    def _rewritten(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Program:
        fixed = _tracing.fixed_in(self.model, args, kwargs)
        key = f"{_tracing.settings(self.model)} {fixed}"
        if key not in self._programs:
            found = trace_for_rewriting(self.model, fixed)
            check_called(self.model, self.choices, [found])
            insert(found, self.names, lambda name, call, calls: f"_taps.{self.names.index(name)}")
            self._programs = {key: Program(found)}
        return self._programs[key]


def check_called(model: nn.Module, choices: Sequence[Choice], traces: Sequence[Trace]) -> None:
    """Raise an error for a layer that no trace calls, if it or nothing else is what the user asked for."""
    calls = {choice.name: max(_calls(found, choice.name) for found in traces) for choice in choices}
    reached = {id(choice.selector) for choice in choices if calls[choice.name] >= (choice.call or 1)}
    for choice in choices:
        if calls[choice.name] >= (choice.call or 1) or (not choice.exact and id(choice.selector) in reached):
            continue
        part = next((p for found in traces if (p := _tracing.whole_part(model, found, choice.name))), None)
        if part is None or calls[choice.name]:
            raise NotCalled(not_reached(choice, calls[choice.name]))
        raise NotCalled(
            f"layer {choice.name!r} is inside {part!r}, a {type(model.get_submodule(part)).__name__} that is traced "
            'as one step: record it with ActivationRecorder(..., backend="hooks")'
        )


def _calls(found: Trace, name: str) -> int:
    return len(found.calls.get(name, ())) or int(name in found.operations)
