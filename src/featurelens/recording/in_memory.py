"""Record a data set, or a worker's share of it, in memory."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from featurelens._checks import describe
from featurelens._shares import Share
from featurelens._structure import cat, concatenate
from featurelens.recording.engine import Engine, shown
from featurelens.recording.inputs import Inputs, Rows
from featurelens.storage.activations import Activations


def record_in_memory(
    engine: Engine, loader: Iterable[Any], share: Share, inputs: Inputs, rows: Rows, progress: bool
) -> Activations:
    """Return what the layers returned for the share's batches, joined."""
    batches: list[Activations] = []
    sizes: list[int | None] = []
    with engine.visiting():
        plan = engine.plan(loader, share, inputs, rows)
        for batch in shown(plan.batches(), plan, progress):
            where = f"batch {batch.number + 1}"
            given = batch.given
            recorded = engine.run(given.args, given.kwargs, where=where, output=not engine.stop_early)
            for name, value in recorded.items():
                engine.check_rows(name, value, given.rows)
            batches.append(recorded)
            sizes.append(given.rows)
    if not batches and share.count > 1 and plan.total:
        raise ValueError(
            f"share {share.index} of {share.count} is empty: the loader has {plan.total} batches"
        )
    if not batches:
        raise ValueError(f"the loader gave no batch; got {describe(loader)}")
    return _joined(batches, sizes)


def _joined(batches: list[Activations], rows: list[int | None]) -> Activations:
    """Join batch by batch, layer by layer; each layer's parts are let go as soon as they are joined."""
    first = batches[0]
    names = list(first)
    for batch in batches:
        if list(batch) != names:
            raise ValueError(f"the layers' calls differ between batches: {names} and then {list(batch)}")
    parts = [batch._layers for batch in batches]
    layers = {}
    for name in names:
        try:
            layers[name] = concatenate([part.pop(name) for part in parts])
        except ValueError as error:
            raise ValueError(
                f"layer {name!r} cannot be joined over batches: {error}; reduce={{{name!r}: function}} can bring "
                "it to one shape"
            ) from None

    def join(parts: list[torch.Tensor]) -> Any:
        """What has no axis for the batch, such as a loss, is a list with an item for each batch."""
        of_rows = [part.ndim > 0 and part.size(0) == n for part, n in zip(parts, rows, strict=True)]
        return cat(parts) if all(of_rows) else parts

    try:
        output = concatenate([batch.output for batch in batches], join)
    except ValueError:  # detections, say: a list for each batch serves better than none
        output = [batch.output for batch in batches]
    return Activations(layers, output=output, aliases=first._aliases)
