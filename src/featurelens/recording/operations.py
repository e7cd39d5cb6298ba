"""The functions and methods that a model calls outside its modules, as names that can be recorded."""

from __future__ import annotations

import torch
from torch import fx, nn

from featurelens import _tracing
from featurelens._checks import check_module
from featurelens._hooks import unwrap, visiting
from featurelens._layer_table import Layer, LayerTable
from featurelens.recording.insertion import trace_for_rewriting

ATTRIBUTES = {"shape", "ndim", "dtype", "device", "layout", "itemsize", "nbytes", "requires_grad"}
QUESTIONS = {"size", "dim", "ndimension", "numel", "nelement", "stride", "element_size", "get_device"}
SEVERAL = {"chunk", "split", "tensor_split", "hsplit", "vsplit", "dsplit", "unbind", "topk", "sort"}


def list_operations(model: nn.Module) -> LayerTable:
    """List the functions and methods that `model` calls outside its modules, by the names of its graph.

    The rewrite backend accepts these names like those of layers. The list omits operations that return no tensor
    (shapes, sizes, arithmetic with them, assertions) and those that only unpack several tensors: the results of ``q, k,
    v = x.chunk(3)`` are recorded together as ``chunk``. The list comes from a trace alone; recordings that use these
    names are checked against a run of the model.

    Raises
    ------
    TypeError
        If `model` is not a module.
    RuntimeError
        If the model cannot be traced.

    Examples
    --------
    >>> class Block(torch.nn.Module):
    ...     def forward(self, x):
    ...         return torch.relu(x + 1).reshape(x.shape[0], -1)
    >>> list_operations(Block()).names
    ('add', 'relu', 'reshape')
    """
    model = unwrap(check_module(model))
    with visiting(model):
        found = trace_for_rewriting(model, _tracing.defaults(model))
    no_tensors: set[fx.Node] = set()
    for node in found.operations.values():  # in the order of the graph, so a node's inputs come before it
        if _gives_no_tensor(node, no_tensors):
            no_tensors.add(node)
    return LayerTable(
        Layer(name, _kind(node), None, 0)
        for name, node in found.operations.items()
        if node not in no_tensors and not _only_unpacks(node)
    )


def operation_names(model: nn.Module, *, evaluate: bool) -> tuple[str, ...]:
    """Return the names of everything that `model` calls outside its modules."""
    with visiting(model, evaluate=evaluate):
        return tuple(trace_for_rewriting(model, _tracing.defaults(model)).operations)


def _kind(node: fx.Node) -> str:
    if node.target is getattr:
        return f"attribute {node.args[1]}"
    return f"{node.op.removeprefix('call_')} {_called(node)}"


def _called(node: fx.Node) -> str:
    return str(getattr(node.target, "__name__", node.target))


def _gives_no_tensor(node: fx.Node, no_tensors: set[fx.Node]) -> bool:
    if node.op == "call_method":
        return node.target in QUESTIONS
    if node.target is getattr:
        return node.args[1] in ATTRIBUTES
    if node.target is torch._assert:
        return True
    plain = getattr(node.target, "__module__", None) in ("_operator", "math")
    return plain and all(taken in no_tensors for taken in node.all_input_nodes)


def _only_unpacks(node: fx.Node) -> bool:
    """Return whether a node is ``several[0]``; an index into a tensor, as in ``tokens[:, 0]``, is an operation."""
    if _called(node) != "getitem" or not isinstance(node.args[1], int | str):
        return False
    source = node.args[0]
    return getattr(source, "op", None) == "call_module" or _called(source) in SEVERAL  # type: ignore[arg-type]
