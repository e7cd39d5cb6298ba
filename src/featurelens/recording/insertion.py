"""Trace a model, and insert modules behind its layers and operations."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from torch import fx, nn

from featurelens._tracing import Built, ModuleCall, Trace, Untraceable, trace_or_explain


class CannotRewrite(RuntimeError):
    """A trace does not do what the model does; the message is complete and is raised unchanged."""


def trace_for_rewriting(model: nn.Module, fixed: dict[str, Any]) -> Trace:
    """Trace `model` and restore it; an error names the backend that needs no trace."""
    try:
        return trace_or_explain(model, fixed)
    except Untraceable as error:
        raise CannotRewrite(
            f"{type(model).__name__} cannot be rewritten: its forward cannot be traced ({error}), usually because its "
            'control flow depends on the data. ActivationRecorder(..., backend="hooks") records any model'
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
        # Later steps use what the inserted module returns; of a nested value it only gets to see the parts.
        value.replace_all_uses_with(anchor, delete_user_cb=lambda user: place.get(user, -1) > place[after])
    anchor.args = (value,)


def _nodes(graph: fx.Graph, value: Any) -> Any:
    """Return `value` as an argument in a graph: a dataclass or named tuple becomes a step that builds it."""
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
