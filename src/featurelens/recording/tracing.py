"""Trace a model into a graph of its operations, with every module's calls marked in it.

torch.fx does the tracing. What is added: a part that cannot be traced becomes one step of the graph instead of
ending it, so that only control flow in the outermost forward stops a trace; arguments left to their defaults
are fixed, so that ``if mask is not None`` takes the branch that the call takes.
"""

from __future__ import annotations

import inspect
import math
import random
import sys
import threading
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import fx, nn

from featurelens._hooks import all_modules, preserved

_PLAIN = (bool, int, float, str, type(None))
_one_at_a_time = threading.RLock()  # torch.fx patches nn.Module itself while it traces


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
    if "forward" in vars(model):
        raise fx.proxy.TraceError("its forward was replaced on the instance")
    if _asks_for_types(model):
        raise fx.proxy.TraceError("forward asks for the type of a tensor")
    tracer = _Tracer(model)
    drawn = torch.get_rng_state(), random.getstate()
    with _one_at_a_time, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about the placeholders, which the user never sees
        tracer.found.graph = tracer.trace(model, concrete_args=fixed or None)
    if tracer.doubts:
        raise fx.proxy.TraceError(tracer.doubts[0])
    if not torch.equal(drawn[0], torch.get_rng_state()) or drawn[1] != random.getstate():
        raise fx.proxy.TraceError("forward draws random numbers, which would be the same in every run")
    for node, name in zip(
        tracer.found.graph.find_nodes(op="placeholder"), signature(model).parameters, strict=False
    ):
        if name in fixed:
            node.target = name  # torch.fx renames the arguments that it fixes, perhaps to another's name
            node._rename(f"fixed_{name}")
    _note_results(model, tracer.found)
    return tracer.found


def _note_results(model: nn.Module, found: Trace) -> None:
    """Add the call of the model itself, and the constant tensors that torch.fx has put on it."""
    output = next(iter(reversed(found.graph.nodes)))
    found.calls[""] = [ModuleCall(output.args[0], output.prev)]
    for node in found.graph.find_nodes(op="get_attr"):
        if node.target.startswith("_tensor_constant"):
            found.constants[node.target] = vars(model)[node.target]


def signature(model: nn.Module) -> inspect.Signature:
    """The arguments of the forward that is traced, which is that of the model's class."""
    forward = inspect.signature(type(model).forward)
    return forward.replace(parameters=list(forward.parameters.values())[1:])


def settings(model: nn.Module) -> tuple[Any, ...]:
    """Everything but tensors that may decide what forward does: a trace made under other settings is stale.

    torch's own layers are single steps of a trace, so only their hooks and their place count.
    """
    return tuple(
        (
            id(module),
            type(module),
            bool(module._forward_hooks or module._forward_pre_hooks),
            None if _is_torchs_own(module) else _attributes(module),
        )
        for module in all_modules(model)
    )


_INTERNAL = frozenset(vars(nn.Module())) - {"training"}


def _attributes(module: nn.Module) -> tuple[Any, ...]:
    return tuple((name, _frozen(value, 3)) for name, value in vars(module).items() if name not in _INTERNAL)


def _is_torchs_own(module: nn.Module) -> bool:
    return type(module).__module__.startswith("torch.")


def _frozen(value: Any, depth: int) -> Any:
    """A hashable stand-in that changes when `value` does."""
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, torch.Tensor):
        small = value.numel() <= 16 and value.device.type == "cpu" and value.layout == torch.strided
        return (tuple(value.shape), *(value.flatten().tolist() if small else ()))
    if depth and isinstance(value, Mapping):
        return tuple((_frozen(key, depth - 1), _frozen(item, depth - 1)) for key, item in value.items())
    if depth and isinstance(value, list | tuple | set | frozenset):
        return tuple(_frozen(item, depth - 1) for item in value)
    if (
        depth
        and not isinstance(value, nn.Module | type)
        and not callable(value)
        and hasattr(value, "__dict__")
    ):
        return (id(value), _frozen(vars(value), depth - 1))
    return id(value)


def defaults(model: nn.Module) -> dict[str, Any]:
    """The arguments of forward that a plain call leaves to their defaults; the first one never is."""
    parameters = list(signature(model).parameters.values())
    return {p.name: p.default for p in parameters[1:] if _can_be_fixed(p.default)}


def given(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments of forward that are plain values, or defaults, in this very call."""
    expected = signature(model)
    bound = expected.bind(*args, **kwargs)
    bound.apply_defaults()
    several = {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}
    return {
        name: value
        for name, value in bound.arguments.items()
        if _can_be_fixed(value) and expected.parameters[name].kind not in several
    }


def _can_be_fixed(value: Any) -> bool:
    return isinstance(value, _PLAIN) and value == value  # noqa: PLR0124  NaN cannot be compared with itself


def last_calls(model: nn.Module, names: Iterable[str], fixed: dict[str, Any]) -> dict[str, int] | None:
    """How often a call of the model will call each named module, or None where that cannot be known.

    A forward pass may be stopped after these calls without losing any. A trace is the proof: it fails where the
    number of calls depends on the data, and is thrown away where it drew random numbers or where the code asked
    what kind of thing it was given.
    """
    try:
        with preserved(model):
            found = trace(model, fixed)
    except Exception:  # noqa: BLE001  whatever the user's code raises on placeholders, there is no proof
        return None
    if any(whole_part(model, found, name) is not None for name in names):
        return None
    operations = found.operations
    counts = {name: len(found.calls.get(name, ())) or int(name in operations) for name in names}
    return {name: calls for name, calls in counts.items() if calls}


def whole_part(model: nn.Module, found: Trace, name: str) -> str | None:
    """The part of the model that is a single step of the trace and has layer `name` inside; None if there is none."""
    layer = dict(model.named_modules(remove_duplicate=False)).get(name)  # None for an operation
    for part in sorted(found.opaque, key=len):  # the outermost first
        whole = model.get_submodule(part)
        if layer is not whole and any(layer is inner for inner in whole.modules()):
            return part
    return None


def _asks_for_types(module: nn.Module) -> bool:
    """Whether forward calls `type`, which a placeholder cannot evade as it does isinstance."""
    code = getattr(type(module).forward, "__code__", None)
    return code is not None and "type" in code.co_names and not _is_torchs_own(module)


class _Placeholder(fx.Proxy):
    """A placeholder that will not say what type it is: the branch taken on a real tensor could be another."""

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        if sys._getframe(1).f_globals.get("__name__", "").startswith("torch."):
            return _Placeholder
        raise self.tracer.doubt("forward asks for the type of a tensor")  # type: ignore[attr-defined]

    def __int__(self) -> int:
        raise self.tracer.doubt("forward makes a Python number of a tensor")  # type: ignore[attr-defined]

    __index__ = __float__ = __int__


class _Tracer(fx.Tracer):
    proxy_buffer_attributes = True  # or what is computed from buffers would be frozen into the graph

    def __init__(self, model: nn.Module) -> None:
        # torchvision's own operators check their inputs' values; they are traced as single steps.
        operators: Any = [sys.modules[name] for name in ("torchvision.ops",) if name in sys.modules]
        super().__init__(autowrap_modules=(math, *operators))
        self.found = Trace(fx.Graph())
        self.names = {id(module): name for name, module in model.named_modules()}
        self.parameters: dict[str, Any] = {}
        self.doubts: list[str] = []
        self.thread = threading.get_ident()

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Placeholder(node, self)

    def doubt(self, reason: str) -> fx.proxy.TraceError:
        """Note that this trace proves nothing, also if the user's code catches the error that is returned."""
        self.doubts.append(reason)
        return fx.proxy.TraceError(reason)

    def to_bool(self, obj: fx.Proxy) -> bool:
        raise self.doubt("forward branches on the value of a tensor")

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        # A user's hooks must not see placeholders, so a part that has some is one step of the graph.
        return super().is_leaf_module(m, module_qualified_name) or bool(
            m._forward_hooks or m._forward_pre_hooks
        )

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        if threading.get_ident() != self.thread:
            return forward(*args, **kwargs)  # someone else's model, which runs while this one is traced
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
        if threading.get_ident() != self.thread:
            return attr_val
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
        if _asks_for_types(m):
            return self._step(m, name, path, args, kwargs)
        nodes, depth, doubts = len(self.graph.nodes), len(self.module_stack), len(self.doubts)
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
            del self.doubts[doubts:]  # what raised them is no longer in the graph
            while len(self.module_stack) > depth:
                self.module_stack.popitem()
            return self._step(m, name, path, args, kwargs)

    def _step(self, m: nn.Module, name: str, path: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if next(m.children(), None) is not None:
            self.found.opaque.add(name)
        return self.create_proxy("call_module", path, args, kwargs)
