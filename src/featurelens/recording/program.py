"""The Python code of a traced model, and the check that it returns what the model returns."""

from __future__ import annotations

import importlib
import types
from collections.abc import Callable, Iterable
from typing import Any, final

import torch
from torch import nn

from featurelens import _tracing
from featurelens._checks import first_line
from featurelens._failure import explained
from featurelens._guard import preserved
from featurelens._hooks import hooked, rehearsal, submodule
from featurelens._structure import CannotCopy, map_tensors, outline, tensors
from featurelens._tracing import Trace
from featurelens.recording.insertion import CannotRewrite, insert, trace_for_rewriting

TOLERANCE, TOLERANCE_ON_CPU = 1e-3, 1e-6
"""By how much, of the largest value, two runs of the same code may differ: kernels choose their way by the place in memory."""


class Program:
    """The Python code of a traced graph; pickles as source text.

    `checked_for` lists the structures of inputs for which it was found to return what the model returns.
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
        TypeError
            If an input cannot be copied.
        """
        if not (torch.compiler.is_compiling() or (inputs := outline((args, kwargs))) in self.checked_for):
            self._compare(model, runner, args, kwargs)
            self.checked_for.add(inputs)
        return self.function(runner, *args, **kwargs)

    def _compare(self, model: nn.Module, runner: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Run the model and the program on these inputs, and on others of their kind behind, from the same state.

        The others tell what happens to agree on the inputs, such as zeros, and what a first run leaves for the next.
        """
        try:
            others = _perturbed((args, kwargs))
        except CannotCopy as error:
            raise TypeError(f"copy and model cannot be compared on this batch: {error}") from error
        given: list[tuple[Any, Any]] = [(args, kwargs), others]
        try:
            expected = _observed(model, self.calls, model.forward, given)
        except Exception as error:
            raise explained(error, model, "a batch", args, kwargs) from error
        try:
            returned = _observed(
                model, (), lambda *a, **k: self.function(runner, *a, **k), given[: len(expected)]
            )
        except Exception as error:
            raise CannotRewrite(
                self._refusal(model, f"its code fails ({type(error).__name__}: {first_line(error)})")
            ) from error
        for (output, layers), (other, _), inputs in zip(expected, returned, given, strict=False):
            called = [name for name, _ in layers]
            if {name: called.count(name) for name in self.calls} != self.calls or not _same(other, output):
                difference = _first_difference(model, layers, *_copied(inputs))
                raise CannotRewrite(self._refusal(model, f"it differs: {difference}"))

    @staticmethod
    def _refusal(model: nn.Module, reason: str) -> str:
        return (
            f"{type(model).__name__} cannot be rewritten, because a trace of its forward is not equivalent: {reason}. "
            "The usual cause is something a trace cannot see (shapes and dtypes in Python's own containers, types, "
            "random numbers, state outside the model or that changes between runs). "
            'ActivationRecorder(..., backend="hooks") records any model'
        )

    def _compiled(self) -> Callable[..., Any]:
        names = dict(self.names)
        exec(self.source, names)  # noqa: S102  what torch.fx generates, as its own GraphModule does
        function: Callable[..., Any] = names["forward"]
        return function

    def __getstate__(self) -> dict[str, Any]:
        names = {
            name: _Import(value.__name__) if isinstance(value, types.ModuleType) else value
            for name, value in self.names.items()
        }
        return {name: value for name, value in vars(self).items() if name != "function"} | {"names": names}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        for name, value in self.names.items():
            if isinstance(value, _Import):
                self.names[name] = importlib.import_module(value)
        self.function = self._compiled()


class _Import(str):
    """Stands for a module in a pickle."""


class Runner:
    """Stands in for the model in a program: its present members, the inserted modules and the trace's constants."""

    def __init__(self, model: nn.Module, taps: Iterable[nn.Module], program: Program) -> None:
        vars(self).update(program.constants)
        self._model = model
        self._taps = nn.ModuleList(taps)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)


@final
class Listener(nn.Module):
    """An identity behind a layer that passes values to `hear`, and continues with what that returns, unless None."""

    def __init__(self, layer: str, hear: Callable[[str, Any], Any]) -> None:
        super().__init__()
        self.layer, self.hear = layer, hear

    def forward(self, value: Any) -> Any:
        """Pass `value` to `hear`, and hand it on."""
        handed_on = self.hear(self.layer, value)
        return value if handed_on is None else handed_on


Returns = list[tuple[str, Any]]
"""What layers returned, in order."""


def _observed(
    model: nn.Module, layers: Iterable[str], forward: Callable[..., Any], inputs: list[tuple[Any, Any]]
) -> list[tuple[Any, Returns]]:
    """Run `forward` on one input after another; return what it and the model's layers returned, and restore the model.

    Only the first must succeed: the model may reject others, such as indices that are out of range.
    """
    runs: list[tuple[Any, Returns]] = []
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
            runs.append((_copied(output), returns.copy()))
            returns.clear()
    return runs


def _perturbed(inputs: tuple[Any, Any]) -> tuple[Any, Any]:
    """Return other inputs of the same kind: floating-point values with seeded noise added."""
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
    behind = f"after layer {expected[at - 1][0]!r}" if at else "before the first layer"
    if at < len(expected) and (at == len(traced) or expected[at][0] != traced[at][0]):
        return f"layer {expected[at][0]!r} is called {behind} but is not in the trace"
    if at == len(expected) < len(traced):
        return f"layer {traced[at][0]!r} is in the trace {behind} but is not called"
    if at < len(expected):
        through = f" through {between}" if between else ""
        return (
            f"the first difference is in the input or output of layer {expected[at][0]!r}, {behind}{through}"
        )
    return f"the first difference is {behind}" + (f", in {between}" if between else "")


def _equal(one: tuple[str, Any], other: tuple[str, Any]) -> bool:
    return one[0] == other[0] and _same(one[1], other[1])


def _same(one: Any, other: Any) -> bool:
    """Return whether two values have the same structure, and are equal but for rounding.

    torch.fx makes a dict of an OrderedDict.
    """
    if outline(one).replace("OrderedDict(", "dict(") != outline(other).replace("OrderedDict(", "dict("):
        return False
    return all(map(_same_values, tensors(one), tensors(other)))


def _same_values(one: torch.Tensor, other: torch.Tensor) -> bool:
    one, other = (_dense(tensor) for tensor in (one, other))
    if one.is_meta:
        return other.is_meta
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
