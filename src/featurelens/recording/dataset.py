"""Run an engine over the batches of a data set, with progress and with rows that can be joined."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, final

from featurelens._batches import Batch, Batches
from featurelens._hooks import named_modules
from featurelens._sharding import Share
from featurelens._structure import shapes, tensors
from featurelens.recording.engine import Engine
from featurelens.recording.inputs import Inputs, Rows, given_by, is_time_first
from featurelens.storage.activations import Activations


@final
class DatasetPass:
    """One pass of an engine over a worker's share of a loader's batches."""

    def __init__(
        self, engine: Engine, loader: Iterable[Any], share: Share, inputs: Inputs, rows: Rows
    ) -> None:
        self.engine = engine
        self.batches = Batches(loader, share, given=lambda batch: given_by(batch, engine.model, inputs, rows))
        self._time_first = [
            f"{name}." if name else ""
            for name, module in named_modules(engine.model, all_names=True).items()
            if is_time_first(module)
        ]

    def run(self, *, progress: bool, first: int | None = None) -> Iterable[Batch]:
        """Yield the batches, from number `first` on, under a progress bar if standard error is a terminal."""
        from tqdm import tqdm

        bar: Iterable[Batch] = tqdm(
            self.batches.run(first),
            desc="recording",
            unit="batch",
            disable=None if progress else True,
            total=None if self.batches.total is None else len(self.batches.block),
            initial=0 if first is None else first - self.batches.block.start,
        )
        return bar

    def record(self, batch: Batch, *, output: bool = False) -> Activations:
        """Record one batch.

        Raises
        ------
        ValueError
            Unless axis 0 of what was recorded of every layer is that of the batch.
        """
        args, kwargs, rows = batch.given
        recorded = self.engine.run(args, kwargs, where=f"batch {batch.number + 1}", output=output)
        for name, value in recorded.items():
            layer, _, call = name.partition("#")
            found = tensors(value)
            reduces = callable(self.engine.reduction_of(layer, int(call) if call else None))
            may_be_time = not reduces and f"{layer}.".startswith(tuple(self._time_first))
            if may_be_time and any(tensor.ndim == 3 for tensor in found):
                raise ValueError(
                    f"layer {layer!r} returned {shapes(value)}, in which axis 0 is time, as batch_first=False says: "
                    f"bring the batch there with reduce={{{layer!r}: function}}"
                )
            if rows is not None and any(tensor.ndim == 0 or tensor.size(0) != rows for tensor in found):
                raise ValueError(
                    f"layer {layer!r} returned {shapes(value)} for a batch of {rows}: axis 0 is not the batch, so "
                    f"batches cannot be joined; bring it there with reduce={{{layer!r}: function}}, or leave the layer "
                    "out"
                )
        return recorded
