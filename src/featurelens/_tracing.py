"""Trace a model into a graph of its operations, with every module's calls marked in it.

torch.fx does the tracing. What is added: a part that cannot be traced becomes one step of the graph instead of
ending it, so that only control flow in the outermost forward stops a trace; arguments left to their defaults
are fixed, so that ``if mask is not None`` takes the branch that the call takes.
"""

from __future__ import annotations

import dataclasses
import inspect
import math
import sys
import threading
import traceback
import warnings
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import fx, nn

from featurelens._checks import first_line
from featurelens._guard import all_modules, preserved
from featurelens._hooks import check_materialized, eager
from featurelens._placeholders import Holders, new_objects_collected
from featurelens._random import random_state, same_random_state
from featurelens._structure import outline

_PLAIN = (bool, int, float, str, type(None))
_one_at_a_time = threading.RLock()  # torch.fx patches nn.Module itself while it traces


@dataclass
class ModuleCall:
    """One call of a module in the graph: what it returned, with nodes for tensors, and the last node it made."""

    returned: Any
    last: fx.Node
    order: int = -1  # in which calls ended; an operation ends before the module that it is the last step of


@dataclass
class Built:
    """A dataclass that a module returned, and what it was built from."""

    kind: type
    items: dict[str, Any]


@dataclass
class Trace:
    """A graph, and where each module's calls end in it."""

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

    Runs the model's own Python code on placeholders, so callers hold `preserved` around it. Placeholders that the code
    stores outside the model are removed again.

    Raises
    ------
    Exception
        Whatever the model's forward raises on placeholders.
    """
    if "forward" in vars(model):
        raise fx.proxy.TraceError("its forward was replaced on the instance")
    holders = Holders(model)
    drawn = random_state()
    alive: Callable[[], Any] = lambda: None
    try:
        with new_objects_collected(), _one_at_a_time, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the placeholders, which the user never sees
            tracer = _Tracer(model)
            found, alive = tracer.found, weakref.ref(tracer)
            try:
                found.graph = tracer.trace(model, concrete_args=fixed or None)
            except Exception as error:
                _forget_locals(error)
                raise
            finally:
                del tracer
    finally:
        held = holders.release(alive)
    if held is not None:
        raise fx.proxy.TraceError(
            f"forward stores tensors where tracing placeholders cannot be removed, and one remains: {held}"
        )
    if not same_random_state(drawn, random_state()):
        raise fx.proxy.TraceError("forward draws random numbers, which would be the same in every run")
    for node, name in zip(
        found.graph.find_nodes(op="placeholder"), signature(model).parameters, strict=False
    ):
        if name in fixed:
            node.target = name  # torch.fx renames the arguments that it fixes, perhaps to another's name
            node._rename(f"fixed_{name}")
    _note_results(model, found)
    return found


class Untraceable(RuntimeError):
    """A model's forward cannot be traced; the message says why."""


def trace_or_explain(model: nn.Module, fixed: dict[str, Any]) -> Trace:
    """Trace `model` and restore it.

    Raises
    ------
    Untraceable
        If the model's forward raises anything on placeholders.
    """
    check_materialized(model)
    try:
        with preserved(model), eager():
            return trace(model, fixed)
    except Exception as error:
        raise Untraceable(f"{type(error).__name__}: {first_line(error)}") from error


def _forget_locals(error: BaseException | None) -> None:
    """Release what the frames of an error refer to, which are placeholders."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


def _note_results(model: nn.Module, found: Trace) -> None:
    """Add the call of the model itself, and the constant tensors that torch.fx has put on it."""
    output = next(iter(reversed(found.graph.nodes)))
    found.calls[""] = [ModuleCall(output.args[0], output.prev, len(found.graph.nodes))]
    for node in found.graph.find_nodes(op="get_attr"):
        if node.target.startswith("_tensor_constant"):
            found.constants[node.target] = vars(model)[node.target]


def signature(model: nn.Module) -> inspect.Signature:
    """Return the arguments of the forward that is traced, which is that of the model's class."""
    forward = inspect.signature(type(model).forward)
    return forward.replace(parameters=list(forward.parameters.values())[1:])


def settings(model: nn.Module) -> str:
    """Return everything but tensors that may decide what forward does: a trace made under other settings is stale.

    torch's own layers are single steps of a trace, so only their hooks and their place count.
    """
    return str(
        [(id(m), bool(m._forward_hooks or m._forward_pre_hooks), _attributes(m)) for m in all_modules(model)]
    )


_INTERNAL = frozenset(vars(nn.Module())) - {"training"}


def _attributes(module: nn.Module) -> str:
    own = {name: value for name, value in vars(module).items() if name not in _INTERNAL}
    if type(module).__module__.startswith("torch."):
        own = {}
    return outline(own, lambda value: f"{type(value).__name__} at {id(value)}")


def defaults(model: nn.Module) -> dict[str, Any]:
    """Return the arguments of forward that a plain call leaves to their defaults, which never includes the first."""
    parameters = list(signature(model).parameters.values())
    return {p.name: p.default for p in parameters[1:] if _can_be_fixed(p.default)}


def fixed_in(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of forward that are plain values, or defaults, in this very call."""
    expected = signature(model)
    try:
        bound = expected.bind(*args, **kwargs)
    except TypeError:  # wrong arguments: the model itself says so better
        return {}
    bound.apply_defaults()
    several = {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}
    return {
        name: value
        for name, value in bound.arguments.items()
        if _can_be_fixed(value) and expected.parameters[name].kind not in several
    }


def _can_be_fixed(value: Any) -> bool:
    return isinstance(value, _PLAIN) and value == value  # noqa: PLR0124  NaN cannot be compared with itself


def whole_part(model: nn.Module, found: Trace, name: str) -> str | None:
    """Return the part of the model that is one step of the trace and contains layer `name`; None if there is none."""
    layer = dict(model.named_modules(remove_duplicate=False)).get(name)  # None for an operation
    for part in sorted(found.opaque, key=len):  # the outermost first
        whole = model.get_submodule(part)
        if layer is not whole and any(layer is inner for inner in whole.modules()):
            return part
    return None


class _Placeholder(fx.Proxy):
    """A placeholder that hides its type: a branch on the type could go another way for a real tensor."""

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        if sys._getframe(1).f_globals.get("__name__", "").partition(".")[0] == "torch":
            return _Placeholder
        raise fx.proxy.TraceError("forward inspects the type of a tensor")

    def __int__(self) -> int:
        raise fx.proxy.TraceError("forward converts a tensor to a Python number")

    __index__ = __float__ = __int__


def _as_nodes(value: Any) -> Any:
    """Return what a module returned with nodes in the place of placeholders."""
    if isinstance(value, fx.Proxy):
        return value.node
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*map(_as_nodes, value))
    if isinstance(value, list | tuple):
        return type(value)(map(_as_nodes, value))
    if isinstance(value, dict):
        return {key: _as_nodes(item) for key, item in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        items = {item.name: _as_nodes(getattr(value, item.name)) for item in dataclasses.fields(value)}
        return Built(type(value), items)
    return value


class _Tracer(fx.Tracer):
    proxy_buffer_attributes = True  # or what is computed from buffers would be frozen into the graph

    def __init__(self, model: nn.Module) -> None:
        # torchvision's own operators check their inputs' values; they are traced as single steps.
        operators: Any = [sys.modules[name] for name in ("torchvision.ops",) if name in sys.modules]
        super().__init__(autowrap_modules=(math, *operators))
        self.found = Trace(fx.Graph())
        self.names = {id(module): name for name, module in model.named_modules()}
        self.parameters: dict[str, Any] = {}
        self.thread = threading.get_ident()
        self.ended = 0

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Placeholder(node, self)

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
        self.ended += 1
        self.found.calls.setdefault(name, []).append(ModuleCall(_as_nodes(returned), last, self.ended))
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
        nodes, depth = len(self.graph.nodes), len(self.module_stack)
        calls = {inner: len(made) for inner, made in self.found.calls.items()}
        try:
            return super().call_module(m, forward, args, kwargs)
        except Exception as error:  # noqa: BLE001  the user's code may raise anything on placeholders
            _forget_locals(error)
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
