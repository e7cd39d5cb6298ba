"""The rewrite backend: a copy of the model with extractor modules after the chosen layers and operations."""

from __future__ import annotations

import copy
import dataclasses
import sys
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, final

import torch
from torch import fx, nn

from featurelens._checks import check_module, near_misses
from featurelens._hooks import check_materialized, eager, preserved, unwrap
from featurelens._lookup import NoSuchLayer
from featurelens._structure import map_tensors
from featurelens.layers import Choice, Selector, choose
from featurelens.recording import tracing
from featurelens.recording.session import aliases, not_reached
from featurelens.recording.tracing import ModuleCall, Trace


@final
class FeatureExtractor(nn.Module):
    """An identity that keeps what passes through it.

    Attributes
    ----------
    layer
        The name of the layer or operation it stands behind, with ``#k`` for the k-th of several calls.
    feature
        A copy of the last value that passed, None before the first; part of the autograd graph where that is
        recorded. It is not pickled or copied with the module.
    """

    def __init__(self, layer: str) -> None:
        super().__init__()
        self.layer = layer
        self.feature: Any = None

    def forward(self, value: Any) -> Any:
        """Keep `value` and return it, one of the two a copy, so that changes in place do not reach what is kept.

        Where gradients are recorded the copy goes on, so that what is kept lies on their path.
        """
        copied = map_tensors(torch.Tensor.clone, value)
        if torch.is_grad_enabled():
            self.feature = value
            return copied
        self.feature = copied
        return value

    def extra_repr(self) -> str:
        """Name the layer, in the `repr` of a model."""
        return repr(self.layer)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "feature": None}


@final
class TappedModule(nn.Module):
    """A model rewritten so that extractor modules stand behind some of its layers; made by `insert_extractors`.

    It bears the original's parameters and submodules under their original names, so that a `state_dict` loads
    both ways, and it can be trained, compiled, copied and pickled like any module.
    """

    def __init__(
        self,
        model: nn.Module,
        programs: Mapping[bool, Program],
        taps: Iterable[nn.Module],
        aliases: Mapping[str, str],
    ) -> None:
        super().__init__()
        own = vars(self)
        for name, value in vars(model).items():
            if name == "_modules":
                own[name].update(value)
            else:
                own[name] = value  # hooks on the model, too
        for program in programs.values():
            own.update(program.constants)
        self._taps = nn.ModuleList(taps)
        self._programs = dict(programs)
        self._aliases = dict(aliases)

    @property
    def extractors(self) -> Mapping[str, FeatureExtractor]:
        """The extractors by layer name, by what was asked for where that differs (``"conv_2"``), in order."""
        return _Extractors(self)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the original's forward, extractors included."""
        return self._programs[self.training].function(self, *args, **kwargs)


class _Extractors(Mapping[str, FeatureExtractor]):
    def __init__(self, tapped: TappedModule) -> None:
        self._by_name = {tap.layer: tap for tap in tapped._taps if isinstance(tap, FeatureExtractor)}
        self._aliases = tapped._aliases

    def __getitem__(self, name: str) -> FeatureExtractor:
        base, sign, call = name.partition("#")
        name = self._aliases.get(base, base) + sign + call
        if name not in self._by_name:
            raise NoSuchLayer(f"no extractor stands behind {name!r}{near_misses(name, self._by_name)}")
        return self._by_name[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name)

    def __len__(self) -> int:
        return len(self._by_name)

    def __repr__(self) -> str:
        return f"extractors({', '.join(self._by_name)})"


class Program:
    """The Python code of a traced graph; pickles as source text."""

    def __init__(self, found: Trace) -> None:
        code = found.graph.python_code("self")
        self.source, self.names, self.constants = code.src, dict(code.globals), found.constants
        self.function = self._compiled()

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
            "names": {name: value for name, value in self.names.items() if name not in modules},
            "modules": modules,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.source, self.constants, self.names = state["source"], state["constants"], state["names"]
        for name, module in state["modules"].items():
            __import__(module)
            self.names[name] = sys.modules[module]
        self.function = self._compiled()


def insert_extractors(model: nn.Module, layers: Selector | Iterable[Selector]) -> TappedModule:
    """Return a copy of `model` with an extractor behind each of the chosen layers.

    Parameters
    ----------
    model
        An `nn.Sequential` or any module that `torch.fx` can trace. It is left as it is, and shares nothing with
        the copy.
    layers
        Selectors as for `ActivationRecorder`. Functions and methods that the model calls outside its modules can
        be chosen too, by the names of `list_operations` (``"relu"``, ``"add_1"``).

    Returns
    -------
    TappedModule
        Takes and returns what `model` does, in train and in eval mode (as a whole: parts that were frozen when it
        was made stay so); afterwards
        ``tapped.extractors["conv_2"].feature`` is what that layer returned, `(N, C, H, W)` for a convolution.
        Arguments of forward that have a plain default are fixed at it.

    Raises
    ------
    RuntimeError
        If the model cannot be traced, usually as its control flow depends on the data; the hooks backend of
        `ActivationRecorder` then still works.
    LookupError, TypeError, ValueError
        As for `ActivationRecorder`.

    Examples
    --------
    >>> model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3))
    >>> tapped = insert_extractors(model, ["conv_1", "conv_2"])
    >>> output = tapped(torch.rand(1, 1, 8, 8))
    >>> tapped.extractors["conv_1"].feature.shape
    torch.Size([1, 4, 6, 6])
    """
    model = unwrap(check_module(model))
    if clash := {"_taps", "_aliases", "_programs", "extractors"} & {*model._modules, *vars(model)}:
        raise ValueError(
            f"the model has a member called {clash.pop()!r}, a name that the inserted extractors need"
        )
    try:
        duplicate = copy.deepcopy(model)
    except Exception as error:
        raise RuntimeError(f"the model cannot be copied: {type(error).__name__}: {error}") from error
    traces = {training: _trace_in_mode(duplicate, training) for training in (False, True)}
    choices = choose(model, layers, traces[False].operations | traces[True].operations)
    extractors: dict[str, FeatureExtractor] = {}

    def target(name: str, call: int, calls: int) -> str | None:
        whole = any(choice.name == name and choice.call is None for choice in choices)
        if not whole and not any(choice.name == name and choice.call == call for choice in choices):
            return None
        key = name if whole and calls == 1 else f"{name}#{call}"
        extractors.setdefault(key, FeatureExtractor(key))
        return f"_taps.{list(extractors).index(key)}"

    for found in traces.values():
        insert(found, dict.fromkeys(choice.name for choice in choices), target)
    check_called(duplicate, choices, list(traces.values()))
    programs = {training: Program(found) for training, found in traces.items()}
    return TappedModule(duplicate, programs, extractors.values(), aliases(choices))


def check_called(model: nn.Module, choices: Sequence[Choice], traces: Sequence[Trace]) -> None:
    """Raise an error for a layer that no trace calls, if it or nothing else is what the user asked for."""
    calls = {choice.name: max(_calls(found, choice.name) for found in traces) for choice in choices}
    reached = {id(choice.selector) for choice in choices if calls[choice.name] >= (choice.call or 1)}
    for choice in choices:
        if calls[choice.name] >= (choice.call or 1) or (not choice.exact and id(choice.selector) in reached):
            continue
        part = next((p for found in traces if (p := tracing.whole_part(model, found, choice.name))), None)
        if part is None or calls[choice.name]:
            raise LookupError(not_reached(choice, calls[choice.name]))
        raise LookupError(
            f"layer {choice.name!r} lies inside {part!r}, a {type(model.get_submodule(part)).__name__} that is not "
            'traced but kept whole: record it with ActivationRecorder(..., backend="hooks")'
        )


def _calls(found: Trace, name: str) -> int:
    return len(found.calls.get(name, ())) or int(name in found.operations)


def trace_or_explain(model: nn.Module, fixed: dict[str, Any]) -> Trace:
    """Trace `model`, left as it was; a failure says why, and names the backend that needs no trace."""
    check_materialized(model)
    try:
        with preserved(model), eager():
            return tracing.trace(model, fixed)
    except Exception as error:
        raise RuntimeError(
            f"{type(model).__name__} cannot be rewritten, as its forward cannot be traced ({type(error).__name__}: "
            f"{str(error).splitlines()[0] if str(error) else 'no message'}); control flow that depends on the data "
            'is the usual reason. ActivationRecorder(..., backend="hooks") records any model'
        ) from error


def _trace_in_mode(model: nn.Module, training: bool) -> Trace:
    """Trace in train or eval mode, as what forward does may depend on it; frozen parts stay as they are."""
    with preserved(model):
        if training != model.training:
            for module in model.modules():
                vars(module)["training"] = training
        found = trace_or_explain(model, tracing.defaults(model))
    vars(model).update(found.constants)  # so that the next trace gives its own constants other names
    return found


def insert(found: Trace, names: Iterable[str], target: Callable[[str, int, int], str | None]) -> None:
    """Insert a call of the module at path `target(name, call, calls)` behind every call of the named layers."""
    operations = found.operations
    for name in names:
        points = found.calls.get(name, [])
        if not points and name in operations:
            points = [ModuleCall(operations[name], operations[name])]
        for call, point in enumerate(points, 1):
            path = target(name, call, len(points))
            if path is not None:
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
    """The nodes behind the proxies in `value`; a dataclass becomes a step that builds it."""
    if isinstance(value, fx.Proxy):
        return value.node
    if isinstance(value, list | tuple) and not hasattr(value, "_fields"):
        return type(value)(_nodes(graph, item) for item in value)
    if isinstance(value, dict):
        return {key: _nodes(graph, item) for key, item in value.items()}
    if hasattr(value, "_fields"):
        return graph.call_function(type(value), tuple(_nodes(graph, item) for item in value))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        items = {item.name: _nodes(graph, getattr(value, item.name)) for item in dataclasses.fields(value)}
        return graph.call_function(type(value), (), items)
    return value
