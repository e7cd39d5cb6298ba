"""Two ways to reach a layer's output: hooks on the modules, or the model rewritten with a listener behind each."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, final

import torch
from torch import nn

from featurelens import _tracing
from featurelens._hooks import hooked, submodule
from featurelens.layers import Choice
from featurelens.recording.capture import Capture
from featurelens.recording.rewrite import Listener, Program, Runner, check_called, insert, trace_for_rewriting


class Backend(ABC):
    """Sends what the chosen layers return to a capture, while its block is open."""

    @abstractmethod
    def attached(self, capture: Capture) -> AbstractContextManager[None]:
        """Listen inside the block."""


@final
class HookBackend(Backend):
    """Forward hooks on the chosen modules."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def attached(self, capture: Capture) -> AbstractContextManager[None]:
        hooks: dict[nn.Module, Callable[..., Any]] = {}
        for name in capture.names:
            layer = submodule(self.model, name)
            if isinstance(layer, torch.jit.ScriptModule):
                raise TypeError(
                    f"layer {name!r} is scripted, and hooks cannot see into scripted code: "
                    "record the module it was scripted from"
                )
            hooks[layer] = lambda module, inputs, output, name=name: capture.take(name, output)
        return hooked(hooks)


@final
class RewriteBackend(Backend):
    """The model's forward replaced by its traced graph, with a listener behind each chosen layer or operation.

    The graph is made when forward is called, anew for other attributes of the model or plain arguments; what it
    returns is compared with what the model itself does for every new shape of input.
    """

    def __init__(self, model: nn.Module, choices: Sequence[Choice]) -> None:
        self.model, self.choices = model, choices
        self.names = list(dict.fromkeys(choice.name for choice in choices))
        self._programs: dict[str, Program] = {}  # the last one

    @contextmanager
    def attached(self, capture: Capture) -> Iterator[None]:
        taps = [Listener(name, capture.take) for name in self.names]
        own = vars(self.model)
        replaced = own.get("forward")

        def forward(*args: Any, **kwargs: Any) -> Any:
            self._put(replaced)  # the model's own code runs, to be traced or compared
            try:
                program = self._rewritten(args, kwargs, capture)
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

    def _rewritten(self, args: tuple[Any, ...], kwargs: dict[str, Any], capture: Capture) -> Program:
        fixed = _tracing.fixed_in(self.model, args, kwargs)
        key = f"{_tracing.settings(self.model)} {fixed}"
        if key not in self._programs:
            found = trace_for_rewriting(self.model, fixed)
            try:
                check_called(self.model, self.choices, [found])
            except LookupError as error:
                capture.error = error
                raise
            insert(found, self.names, lambda name, call, calls: f"_taps.{self.names.index(name)}")
            self._programs = {key: Program(found)}
        return self._programs[key]
