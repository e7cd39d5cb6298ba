"""Record a data set, or a worker's share of it, in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from featurelens._checks import describe
from featurelens._structure import map_tensors, outline, tensors
from featurelens.recording.dataset import DatasetPass
from featurelens.storage.activations import Activations


def record_in_memory(dataset: DatasetPass) -> Activations:
    """Return what the layers returned for the share's batches, joined."""
    engine, share = dataset.engine, dataset.share
    parts: list[dict[str, Any]] = []
    outputs: list[Any] = []
    rows: list[int | None] = []
    with engine.visiting():
        for batch in dataset.run():
            recorded = dataset.record(batch, output=engine.early_stop is None)
            parts.append(dict(recorded))
            outputs.append(recorded.output)
            rows.append(batch.given.rows)
    total = dataset.batches.total
    if not parts and share.count > 1 and total:
        raise ValueError(f"share {share.index} of {share.count} is empty: the loader has {total} batches")
    if not parts:
        raise ValueError(f"the loader yielded no batch; got {describe(dataset.loader)}")
    return Activations(_joined(parts), output=_joined_outputs(outputs, rows), aliases=engine.aliases)


def _joined(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """Join batches layer by layer; each layer's parts are freed as soon as they are joined."""
    names = list(parts[0])
    for part in parts:
        if list(part) != names:
            raise ValueError(f"the layers' calls differ between batches: {names} and then {list(part)}")
    layers = {}
    for name in names:
        try:
            layers[name] = concatenate([part.pop(name) for part in parts])
        except ValueError as error:
            raise ValueError(
                f"batches of layer {name!r} cannot be joined: {error}; use reduce={{{name!r}: function}} to give "
                "them one shape"
            ) from None
    return layers


def _joined_outputs(outputs: list[Any], rows: list[int | None]) -> Any:
    """Join the model's outputs; what has no axis for the batch, such as a loss, is a list with an item per batch."""

    def join(parts: list[torch.Tensor]) -> Any:
        of_rows = [part.ndim > 0 and part.size(0) == n for part, n in zip(parts, rows, strict=True)]
        return cat(parts) if all(of_rows) else parts

    try:
        return concatenate(outputs, join)
    except ValueError:  # detections, say: a list with an item per batch is better than nothing
        return outputs


def concatenate(batches: list[Any], join: Callable[[list[torch.Tensor]], Any] | None = None) -> Any:
    """Join what a layer returned for several batches along axis 0, tensor by tensor, or as `join` says.

    Raises
    ------
    ValueError
        If the batches differ in structure, in a shape beyond axis 0, or in something that is not a tensor.
    """
    outlines = sorted({outline(batch, lambda leaf: type(leaf).__name__) for batch in batches})
    if len(outlines) > 1:
        raise ValueError(f"outputs differ between batches: {outlines[0]} and {outlines[1]}")
    parts = zip(*map(tensors, batches), strict=True)
    joined = iter([(join or cat)(list(part)) for part in parts])
    return map_tensors(lambda tensor: next(joined), batches[0])


def cat(parts: list[torch.Tensor]) -> torch.Tensor:
    """Join tensors along axis 0.

    Raises
    ------
    ValueError
        If they differ in a shape beyond it, or have none.
    """
    if any(part.is_nested for part in parts):
        rows = [row for part in parts for row in part.unbind()]
        return torch.nested.nested_tensor(rows, layout=parts[0].layout)
    if any(part.ndim == 0 or part.shape[1:] != parts[0].shape[1:] for part in parts):
        shapes = sorted({str(tuple(part.shape)) for part in parts})
        raise ValueError(f"shapes differ between batches beyond axis 0: {' and '.join(shapes)}")
    return torch.cat(parts)
