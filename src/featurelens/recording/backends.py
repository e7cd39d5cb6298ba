"""Two ways to reach a layer's output: hooks on the modules, or the model rewritten with a listener behind each."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, final

import torch
from torch import nn

from featurelens.layers import Choice
from featurelens.recording import tracing
from featurelens.recording.rewrite import Program, check_called, insert, trace_or_explain
from featurelens.recording.session import Session


class Backend(ABC):
    """Sends what the chosen layers return to a session, while its block is open."""

    @abstractmethod
    def attached(self, session: Session, fixed: dict[str, Any]) -> AbstractContextManager[None]:
        """Listen inside the block; `fixed` are the plain arguments of the forward pass to come."""


@final
class HookBackend(Backend):
    """Forward hooks on the chosen modules."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    @contextmanager
    def attached(self, session: Session, fixed: dict[str, Any]) -> Iterator[None]:
        def hook_for(name: str) -> Any:
            return lambda module, inputs, output: session.capture(name, output)

        handles = []
        try:
            for name in session.wanted:
                layer = self.model.get_submodule(name)
                if isinstance(layer, torch.jit.ScriptModule):
                    raise TypeError(
                        f"layer {name!r} is scripted, and hooks cannot see into scripted code: "
                        "record the module it was scripted from"
                    )
                handles.append(layer.register_forward_hook(hook_for(name)))
            yield
        finally:
            for handle in handles:
                handle.remove()


@final
class RewriteBackend(Backend):
    """The model's forward replaced by its traced graph, with a listener behind each chosen layer or operation."""

    def __init__(self, model: nn.Module, choices: Sequence[Choice]) -> None:
        self.model, self.choices = model, choices
        self.names = list(dict.fromkeys(choice.name for choice in choices))
        self.rewritten: dict[Any, Program] = {}

    @contextmanager
    def attached(self, session: Session, fixed: dict[str, Any]) -> Iterator[None]:
        program = self._rewrite(fixed)
        listeners = nn.ModuleList(_Listener(name, session) for name in self.names)
        runner = _Runner(self.model, listeners, program)
        own = vars(self.model)
        try:
            own["forward"] = lambda *args, **kwargs: program.function(runner, *args, **kwargs)
            yield
        finally:
            del own["forward"]

    def _rewrite(self, fixed: dict[str, Any]) -> Program:
        key = (tracing.settings(self.model), tuple(fixed.items()))
        if key not in self.rewritten:
            found = trace_or_explain(self.model, fixed)
            check_called(self.model, self.choices, [found])
            insert(found, self.names, lambda name, call, calls: f"_taps.{self.names.index(name)}")
            self.rewritten = {key: Program(found)}
        return self.rewritten[key]


class _Runner:
    """What a program takes for the model: its present members, the listeners and the constants of the trace."""

    def __init__(self, model: nn.Module, listeners: nn.ModuleList, program: Program) -> None:
        vars(self).update(program.constants)
        self._model = model
        self._taps = listeners

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)


class _Listener(nn.Module):
    def __init__(self, name: str, session: Session) -> None:
        super().__init__()
        self.name = name
        self.session = session

    def forward(self, value: Any) -> Any:
        handed_on = self.session.capture(self.name, value)
        return value if handed_on is None else handed_on
