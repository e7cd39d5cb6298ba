"""One pass over a data set: a worker's share of the batches, with progress and with rows that can be joined."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, final

from torch import nn

from featurelens._batches import Batch, Batches
from featurelens._channels import check_batch_axis
from featurelens._hooks import named_modules
from featurelens._progress import progress_bar
from featurelens._sharding import Share
from featurelens._structure import shapes, tensors
from featurelens.recording.engine import Engine
from featurelens.recording.inputs import Inputs, Rows, given_by, is_time_first
from featurelens.storage.activations import Activations


@final
@dataclass(frozen=True)
class DatasetPass:
    """A worker's share of a loader's batches, and the engine that runs over them."""

    engine: Engine
    loader: Iterable[Any]
    share: Share
    inputs: Inputs
    rows: Rows
    progress: bool

    @cached_property
    def batches(self) -> Batches:
        """The batches; first used inside the guard, as the loader may draw random numbers."""
        model, inputs, rows = self.engine.model, self.inputs, self.rows  # no cycle may keep the data alive
        return Batches(self.loader, self.share, given=lambda batch: given_by(batch, model, inputs, rows))

    @cached_property
    def _modules(self) -> dict[str, nn.Module]:
        return named_modules(self.engine.model, all_names=True)

    @cached_property
    def _time_first(self) -> tuple[str, ...]:
        parts = self._modules.items()
        return tuple(f"{name}." if name else "" for name, part in parts if is_time_first(part))

    def run(self, first: int | None = None) -> Iterable[Batch]:
        """Yield the batches, from number `first` on, under a progress bar."""
        block = self.batches.block
        bar: Iterable[Batch] = progress_bar(
            self.batches.run(first),
            what="recording",
            unit="batch",
            progress=self.progress,
            total=None if self.batches.total is None else len(block),
            initial=0 if first is None else first - block.start,
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
            reduction = self.engine.reduction_of(layer, int(call) if call else None)
            for tensor in found if reduction is None else ():
                if not tensor.is_nested:
                    check_batch_axis(self._modules.get(layer), tuple(tensor.shape))
            may_be_time = f"{layer}.".startswith(self._time_first) and any(t.ndim == 3 for t in found)
            if may_be_time and not callable(reduction):
                raise ValueError(
                    f"layer {layer!r} returned {shapes(value)}, whose axis 0 is time (batch_first=False): "
                    f"move the batch to axis 0 with reduce={{{layer!r}: function}}"
                )
            if rows is not None and any(tensor.ndim == 0 or tensor.size(0) != rows for tensor in found):
                raise ValueError(
                    f"layer {layer!r} returned {shapes(value)} for a batch of {rows}: axis 0 is not the batch, so "
                    f"batches cannot be joined; move it there with reduce={{{layer!r}: function}}, or leave out the "
                    "layer"
                )
        return recorded
