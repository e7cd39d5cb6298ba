"""Trace a model into a graph of its operations, with every module's calls marked in it.

torch.fx does the tracing. What is added: a part that cannot be traced becomes one step of the graph instead of
ending it, so that only control flow in the outermost forward stops a trace; arguments left to their defaults
are fixed, so that ``if mask is not None`` takes the branch that the call takes.
"""

from __future__ import annotations

import inspect
import math
import sys
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import fx, nn

from featurelens._hooks import preserved

_PLAIN = (bool, int, float, str, type(None))


@dataclass
class ModuleCall:
    """One call of a module in the graph: what it returned (proxies), and the last node it made."""

    returned: Any
    last: fx.Node


@dataclass
class Trace:
    """A graph, and where each module's calls ended in it."""

    graph: fx.Graph
    calls: dict[str, list[ModuleCall]] = field(default_factory=dict)
    opaque: set[str] = field(default_factory=set)
    constants: dict[str, torch.Tensor] = field(default_factory=dict)

    @property
    def operations(self) -> dict[str, fx.Node]:
        """The functions and methods that the model calls outside its modules, by the name of their node."""
        return {node.name: node for node in self.graph.nodes if node.op in {"call_function", "call_method"}}


def trace(model: nn.Module, fixed: dict[str, Any]) -> Trace:
    """Trace `model` in its present mode, with the arguments in `fixed` held at these values.

    Runs the model's own Python code on placeholders, so callers hold `preserved` around it.

    Raises
    ------
    Exception
        Whatever the model's forward raises on placeholders.
    """
    tracer = _Tracer(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about the placeholders, which the user never sees
        tracer.found.graph = tracer.trace(model, concrete_args=fixed or None)
    for node in tracer.found.graph.find_nodes(op="placeholder"):
        if node.target.removesuffix("_1") in fixed:
            node.target = node.target.removesuffix("_1")  # torch.fx renames the arguments that it fixes
    _note_results(model, tracer.found)
    return tracer.found


def _note_results(model: nn.Module, found: Trace) -> None:
    """Add the call of the model itself, and the constant tensors that torch.fx has put on it."""
    output = next(iter(reversed(found.graph.nodes)))
    found.calls[""] = [ModuleCall(output.args[0], output.prev)]
    for node in found.graph.find_nodes(op="get_attr"):
        if node.target.startswith("_tensor_constant"):
            found.constants[node.target] = vars(model)[node.target]


def fingerprint(model: nn.Module) -> int:
    """A number that changes with any plain attribute of any module, so that a trace is not used when stale."""
    return hash(
        tuple(
            (id(module), *(value for value in vars(module).values() if isinstance(value, _PLAIN)))
            for module in model.modules()
        )
    )


def defaults(model: nn.Module) -> dict[str, Any]:
    """The arguments of forward that a plain call leaves to their defaults; the first one never is."""
    parameters = list(inspect.signature(model.forward).parameters.values())
    return {p.name: p.default for p in parameters[1:] if isinstance(p.default, _PLAIN)}


def given(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments of forward that are plain values, or defaults, in this very call."""
    signature = inspect.signature(model.forward)
    bound = signature.bind(*args, **kwargs)
    bound.apply_defaults()
    several = {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}
    return {
        name: value
        for name, value in bound.arguments.items()
        if isinstance(value, _PLAIN) and signature.parameters[name].kind not in several
    }


def last_calls(model: nn.Module, names: Iterable[str], fixed: dict[str, Any]) -> dict[str, int] | None:
    """How often a call of the model will call each named module, or None where that cannot be known.

    A forward pass may be stopped after these calls without losing any. That a trace exists is the proof: it
    fails where the number of calls depends on the data.
    """
    try:
        with preserved(model):
            found = trace(model, fixed)
    except Exception:  # noqa: BLE001  whatever the user's code raises on placeholders, there is no proof
        return None
    if any(name.startswith(f"{part}.") for part in found.opaque for name in names):
        return None
    operations = found.operations
    counts = {name: len(found.calls.get(name, ())) or int(name in operations) for name in names}
    return {name: calls for name, calls in counts.items() if calls}


class _Tracer(fx.Tracer):
    def __init__(self, model: nn.Module) -> None:
        # torchvision's own operators check their inputs' values; they are traced as single steps.
        operators: Any = [sys.modules[name] for name in ("torchvision.ops",) if name in sys.modules]
        super().__init__(autowrap_modules=(math, *operators))
        self.found = Trace(fx.Graph())
        self.names = {id(module): name for name, module in model.named_modules()}
        self.parameters: dict[str, Any] = {}

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        name = self.names[id(m)]
        path = self.path_of_module(m)
        if self.is_leaf_module(m, path):
            returned = self._step(m, name, path, args, kwargs)
        else:
            returned = self._inside(m, name, path, forward, args, kwargs)
        last = next(iter(reversed(self.graph.nodes)))
        self.found.calls.setdefault(name, []).append(ModuleCall(returned, last))
        return returned

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        self.parameters = parameter_proxy_cache
        return super().getattr(attr, attr_val, parameter_proxy_cache)

    def _inside(
        self,
        m: nn.Module,
        name: str,
        path: str,
        forward: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        nodes, depth = len(self.graph.nodes), len(self.module_stack)
        calls = {inner: len(made) for inner, made in self.found.calls.items()}
        try:
            return super().call_module(m, forward, args, kwargs)
        except Exception:  # noqa: BLE001  the user's code may raise anything on placeholders
            # This part cannot be traced: take back what it left behind and make it one step.
            for node in list(self.graph.nodes)[: nodes - 1 : -1]:
                self.graph.erase_node(node)
            for parameter in [name for name, proxy in self.parameters.items() if proxy.node._erased]:
                del self.parameters[parameter]
            for inner, made in self.found.calls.items():
                del made[calls.get(inner, 0) :]
            while len(self.module_stack) > depth:
                self.module_stack.popitem()
            return self._step(m, name, path, args, kwargs)

    def _step(self, m: nn.Module, name: str, path: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if next(m.children(), None) is not None:
            self.found.opaque.add(name)
        return self.create_proxy("call_module", path, args, kwargs)
