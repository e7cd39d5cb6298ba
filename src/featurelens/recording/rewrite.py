"""Rewrite a model's forward from its trace, with modules inserted behind layers, and check that it does the same."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import fx, nn

from featurelens import _tracing
from featurelens._checks import first_line
from featurelens._guard import preserved
from featurelens._hooks import hooked, rehearsal, submodule
from featurelens._structure import map_tensors, outline, tensors
from featurelens._tracing import Built, ModuleCall, Trace
from featurelens.layers import Choice
from featurelens.recording.capture import not_reached


class CannotRewrite(RuntimeError):
    """A trace of a model does something else than the model; its message needs no more words."""


TOLERANCE, TOLERANCE_ON_CPU = 1e-3, 1e-6
"""By how much, of the largest value, two runs of the same code may differ: kernels choose their way by the place in memory."""


class Program:
    """The Python code of a traced graph; pickles as source text.

    `checked_for` lists the inputs, by their outline, for which it was found to return what the model does.
    """

    def __init__(self, found: Trace) -> None:
        code = found.graph.python_code("self")
        self.source, self.names, self.constants = code.src, dict(code.globals), found.constants
        self.calls = {name: len(calls) for name, calls in found.calls.items() if name and calls}
        self.checked_for: set[str] = set()
        self.function = self._compiled()

    def checked(self, model: nn.Module, runner: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Return what the program returns; for inputs of a new shape that must be what `model` returns.

        Raises
        ------
        RuntimeError
            If it is not; the message names the first layer or operation that differs.
        """
        if not (torch.compiler.is_compiling() or (inputs := outline((args, kwargs))) in self.checked_for):
            self._compare(model, runner, args, kwargs)
            self.checked_for.add(inputs)
        return self.function(runner, *args, **kwargs)

    def _compare(self, model: nn.Module, runner: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Run the model and the program on these inputs, and on others of their kind behind, from the same state.

        The others tell what happens to agree on the inputs, such as zeros, and what a first run leaves for the next.
        """
        others = _perturbed((args, kwargs))
        given: list[tuple[Any, Any]] = [(args, kwargs), others]
        expected = _observed(model, self.calls, model.forward, given)
        try:
            returned = _observed(
                model, (), lambda *a, **k: self.function(runner, *a, **k), given[: len(expected)]
            )
        except Exception as error:
            raise CannotRewrite(
                self._refusal(model, f"its code fails ({type(error).__name__}: {first_line(error)})")
            ) from error
        for one, other, inputs in zip(expected, returned, given, strict=False):
            calls = {name: [n for n, _ in one.layers].count(name) for name in self.calls}
            if calls != self.calls or not _same(other.output, one.output):
                difference = _first_difference(model, one.layers, *_copied(inputs))
                raise CannotRewrite(self._refusal(model, f"it does something else: {difference}"))

    @staticmethod
    def _refusal(model: nn.Module, reason: str) -> str:
        return (
            f"{type(model).__name__} cannot be rewritten, as a trace of its forward is not the same: {reason}. What a "
            "trace cannot see (shapes and dtypes in Python's own containers, types, random numbers, what changes "
            'outside the model or from run to run) is the usual reason. ActivationRecorder(..., backend="hooks") '
            "records any model"
        )

    def _compiled(self) -> Callable[..., Any]:
        names = dict(self.names)
        exec(self.source, names)  # noqa: S102  what torch.fx generates, as its own GraphModule does
        function: Callable[..., Any] = names["forward"]
        return function

    def __getstate__(self) -> dict[str, Any]:
        modules = {
            name: value.__name__ for name, value in self.names.items() if isinstance(value, types.ModuleType)
        }
        return {
            "source": self.source,
            "constants": self.constants,
            "calls": self.calls,
            "checked_for": self.checked_for,
            "names": {name: value for name, value in self.names.items() if name not in modules},
            "modules": modules,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.source, self.constants, self.names = state["source"], state["constants"], state["names"]
        self.calls, self.checked_for = state["calls"], state["checked_for"]
        for name, module in state["modules"].items():
            __import__(module)
            self.names[name] = sys.modules[module]
        self.function = self._compiled()


class Runner:
    """What a program takes for the model: its present members, the modules inserted and the constants of the trace."""

    def __init__(self, model: nn.Module, taps: Iterable[nn.Module], program: Program) -> None:
        vars(self).update(program.constants)
        self._model = model
        self._taps = nn.ModuleList(taps)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)


@final
class Listener(nn.Module):
    """An identity behind a layer that tells `hear` what passes; what that returns, unless None, goes on."""

    def __init__(self, layer: str, hear: Callable[[str, Any], Any]) -> None:
        super().__init__()
        self.layer, self.hear = layer, hear

    def forward(self, value: Any) -> Any:
        """Tell `hear` of `value`, and hand it on."""
        handed_on = self.hear(self.layer, value)
        return value if handed_on is None else handed_on


Returns = list[tuple[str, Any]]
"""What layers returned, in order."""


@final
@dataclass(frozen=True)
class Run:
    """What one run of a model returned, and what its layers did."""

    output: Any
    layers: Returns


def _observed(
    model: nn.Module, layers: Iterable[str], forward: Callable[..., Any], inputs: list[tuple[Any, Any]]
) -> list[Run]:
    """Run `forward` on one input after another; the model is as it was afterwards.

    Only the first must be possible: the model may refuse others, such as indices that are out of range.
    """
    runs: list[Run] = []
    returns: Returns = []
    hooks: dict[nn.Module, Callable[..., Any]] = {}
    for name in layers:
        hooks[submodule(model, name)] = lambda _, args, output, name=name: returns.append(
            (name, _copied(output))
        )
    with preserved(model), hooked(hooks), rehearsal(), torch.no_grad():
        for args, kwargs in inputs:
            try:
                output = forward(*_copied(args), **_copied(kwargs))
            except Exception:
                if not runs:
                    raise
                break
            runs.append(Run(_copied(output), returns.copy()))
            returns.clear()
    return runs


def _perturbed(inputs: tuple[Any, Any]) -> tuple[Any, Any]:
    """Other inputs of the same kind: floating-point values changed at random, and always in the same way."""
    generator = torch.Generator().manual_seed(0)

    def change(tensor: torch.Tensor) -> torch.Tensor:
        if (
            not tensor.is_floating_point()
            or tensor.is_nested
            or tensor.layout != torch.strided
            or tensor.is_meta
        ):
            return tensor.clone()
        noise = torch.rand(tensor.shape, generator=generator, dtype=torch.float32)
        return tensor + noise.to(tensor)

    changed: tuple[Any, Any] = map_tensors(change, inputs)
    return changed


def _first_difference(
    model: nn.Module, expected: Returns, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> str:
    """Say which layer or operation is the first to differ in a trace of the model, given the layers' returns."""
    found = trace_for_rewriting(model, _tracing.fixed_in(model, args, kwargs))
    operations: dict[int, list[str]] = {}
    traced: Returns = []
    names = [name for name, calls in found.calls.items() if name and calls]
    insert(found, names, lambda name, call, calls: f"_taps.{names.index(name)}")
    place = 0
    for node in found.graph.nodes:
        place += node.op == "call_module" and str(node.target).startswith("_taps.")
        if node.op in {"call_function", "call_method"}:
            operations.setdefault(place, []).append(node.name)
    taps = [Listener(name, lambda layer, value: traced.append((layer, _copied(value)))) for name in names]
    program = Program(found)
    with preserved(model), torch.no_grad():
        program.function(Runner(model, taps, program), *args, **kwargs)
    at = 0
    while at < min(len(expected), len(traced)) and _equal(expected[at], traced[at]):
        at += 1
    between = ", ".join(map(repr, operations.get(at, [])))
    behind = f"behind layer {expected[at - 1][0]!r}" if at else "before the first layer"
    if at < len(expected) and (at == len(traced) or expected[at][0] != traced[at][0]):
        return f"layer {expected[at][0]!r} is called {behind}, and is not in the trace"
    if at < len(traced) and (at == len(expected) or expected[at][0] != traced[at][0]):
        return f"layer {traced[at][0]!r} is in the trace {behind}, and is not called"
    if at < len(expected):
        through = f" through {between}" if between else ""
        return (
            f"the first difference is in what reaches or leaves layer {expected[at][0]!r}, {behind}{through}"
        )
    return f"the first difference is {behind}" + (f", in {between}" if between else "")


def _equal(one: tuple[str, Any], other: tuple[str, Any]) -> bool:
    return one[0] == other[0] and _same(one[1], other[1])


def _same(one: Any, other: Any) -> bool:
    """Whether two values are of the same structure, and equal but for rounding.

    torch.fx makes a dict of an OrderedDict.
    """
    if outline(one).replace("OrderedDict(", "dict(") != outline(other).replace("OrderedDict(", "dict("):
        return False
    return all(map(_same_values, tensors(one), tensors(other)))


def _same_values(one: torch.Tensor, other: torch.Tensor) -> bool:
    one, other = (_dense(tensor) for tensor in (one, other))
    if not (one.is_floating_point() or one.is_complex()):
        return torch.equal(one, other)
    largest = float(other.abs().nan_to_num(0, 0, 0).max()) if other.numel() else 0.0
    tolerance = (TOLERANCE_ON_CPU if one.device.type == "cpu" else TOLERANCE) * largest
    return torch.allclose(one, other, rtol=0, atol=tolerance, equal_nan=True)


def _dense(tensor: torch.Tensor) -> torch.Tensor:
    tensor = tensor.detach()
    if tensor.is_nested:
        return torch.cat([part.flatten() for part in tensor.unbind()])
    return tensor if tensor.layout == torch.strided else tensor.to_dense()


def _copied(value: Any) -> Any:
    return map_tensors(torch.Tensor.clone, value)


def check_called(model: nn.Module, choices: Sequence[Choice], traces: Sequence[Trace]) -> None:
    """Raise an error for a layer that no trace calls, if it or nothing else is what the user asked for."""
    calls = {choice.name: max(_calls(found, choice.name) for found in traces) for choice in choices}
    reached = {id(choice.selector) for choice in choices if calls[choice.name] >= (choice.call or 1)}
    for choice in choices:
        if calls[choice.name] >= (choice.call or 1) or (not choice.exact and id(choice.selector) in reached):
            continue
        part = next((p for found in traces if (p := _tracing.whole_part(model, found, choice.name))), None)
        if part is None or calls[choice.name]:
            raise LookupError(not_reached(choice, calls[choice.name]))
        raise LookupError(
            f"layer {choice.name!r} lies inside {part!r}, a {type(model.get_submodule(part)).__name__} that is not "
            'traced but kept whole: record it with ActivationRecorder(..., backend="hooks")'
        )


def _calls(found: Trace, name: str) -> int:
    return len(found.calls.get(name, ())) or int(name in found.operations)


def trace_for_rewriting(model: nn.Module, fixed: dict[str, Any]) -> Trace:
    """Trace `model`, left as it was; a failure names the backend that needs no trace."""
    try:
        return _tracing.trace_or_explain(model, fixed)
    except _tracing.Untraceable as error:
        raise CannotRewrite(
            f"{type(model).__name__} cannot be rewritten, as its forward cannot be traced ({error}); control flow that "
            'depends on the data is the usual reason. ActivationRecorder(..., backend="hooks") records any model'
        ) from error


def insert(found: Trace, names: Iterable[str], target: Callable[[str, int, int], str | None]) -> None:
    """Insert a call of the module at path `target(name, call, calls)` behind every call of the named layers."""
    operations = found.operations
    places: list[tuple[ModuleCall, str]] = []
    for name in names:
        points = found.calls.get(name, [])
        if not points and name in operations:
            points = [ModuleCall(operations[name], operations[name])]
        for call, point in enumerate(points, 1):
            path = target(name, call, len(points))
            if path is not None:
                places.append((point, path))
    # Of calls that end at the same step, a module after one inside it, the last to be inserted runs first.
    for point, path in sorted(places, key=lambda place: -place[0].order):
        _insert_behind(found.graph, point, path)


def _insert_behind(graph: fx.Graph, point: ModuleCall, path: str) -> None:
    after = point.last
    while after.next.op == "placeholder":
        after = after.next
    place = {node: index for index, node in enumerate(graph.nodes)}
    with graph.inserting_after(after):
        anchor = graph.create_node("call_module", path)
    with graph.inserting_before(anchor):
        value = _nodes(graph, point.returned)
    if isinstance(value, fx.Node):
        # What comes later takes the extractor's word for it; a nested value is only listened to.
        value.replace_all_uses_with(anchor, delete_user_cb=lambda user: place.get(user, -1) > place[after])
    anchor.args = (value,)


def _nodes(graph: fx.Graph, value: Any) -> Any:
    """What a graph can take for `value`: a dataclass or named tuple becomes a step that builds it."""
    if isinstance(value, Built):
        items = {name: _nodes(graph, item) for name, item in value.items.items()}
        return graph.call_function(value.kind, (), items)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return graph.call_function(type(value), tuple(_nodes(graph, item) for item in value))
    if isinstance(value, list | tuple):
        return type(value)(_nodes(graph, item) for item in value)
    if isinstance(value, dict):
        return {key: _nodes(graph, item) for key, item in value.items()}
    return value
