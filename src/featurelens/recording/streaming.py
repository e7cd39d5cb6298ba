"""One pass over a data set that keeps statistics of the layers' outputs, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any, final

import torch

from featurelens._batches import SHUFFLING, Batch, sampler_of
from featurelens._channels import Unsuitable
from featurelens._checks import check_type, describe
from featurelens._hooks import named_modules
from featurelens.layers import Selector, choose
from featurelens.recording.dataset import DatasetPass
from featurelens.recording.engine import Call, Engine
from featurelens.recording.inputs import labels_of
from featurelens.recording.reductions import Reduction, channels_first, reduced
from featurelens.recording.to_store import recipe_of
from featurelens.statistics import Statistic, StreamResult
from featurelens.statistics.base import check_values, name_of

Statistics = Statistic | Sequence[Statistic]


def stream(
    dataset: DatasetPass,
    statistics: Statistics | Mapping[Selector, Statistics],
    labels: Callable[[Any], Any] | None,
    *,
    may_be_empty: bool,
) -> StreamResult:
    """Do what `ActivationRecorder.stream` documents; with `may_be_empty` a share without batches is no error."""
    engine, share = dataset.engine, dataset.share
    assigned = _assigned(engine, statistics)
    _check_order(dataset.loader, assigned)
    streaming = _Streaming(engine, assigned, labels)
    with share.together(), engine.visiting(), torch.no_grad():
        origin = asdict(recipe_of(engine, dataset.batches)) if share.count > 1 else {}
        for batch in dataset.run():
            streaming.add(batch)
    part = StreamResult(streaming.found, spans=streaming.spans, aliases=engine.aliases, origin=origin)
    parts = share.gather(part)
    result = parts[0] if len(parts) == 1 else StreamResult.merge(parts)
    if not result.rows and (not may_be_empty or dataset.batches.total == 0):
        raise ValueError(f"the loader yielded no batch; got {describe(dataset.loader)}")
    return result


def _check_order(loader: object, assigned: Mapping[Call, tuple[Statistic, ...]]) -> None:
    """Raise a ValueError if a statistic needs the order of the data set, and the loader shuffles."""
    if isinstance(sampler_of(loader), SHUFFLING):
        for statistic in (each for several in assigned.values() for each in several if each.needs_order):
            raise ValueError(
                f"{statistic!r} needs the images in the order of the data set, but the loader shuffles: pass shuffle=False"
            )


@final
class _Streaming:
    """The statistics of each call of each layer, over the batches so far."""

    def __init__(
        self,
        engine: Engine,
        assigned: Mapping[Call, tuple[Statistic, ...]],
        labels: Callable[[Any], Any] | None,
    ) -> None:
        self.engine, self.assigned, self.labels = engine, assigned, labels
        # Whose statistics a call gets, and how it is reduced; a call may be reduced in its own way.
        self.reductions = {call: (call, engine.reduction_of(*call)) for call in assigned}
        for name, number in engine.reductions:
            if (name, None) in assigned:
                self.reductions[name, number] = (name, None), engine.reductions[name, number]
        self.found: dict[str, list[Statistic]] = {}
        self.spans: list[tuple[int, int]] = []

    def add(self, batch: Batch) -> None:
        """Run the model on one batch, measure it on the way, and add up."""
        where = f"batch {batch.number + 1}"
        args, kwargs, rows = batch.given
        if rows is None:
            raise ValueError(
                f"the model's input in {where} has no rows; got {describe(batch.value)}: pass "
                "rows=lambda batch: <number of rows>"
            )
        if rows == 0:
            raise ValueError(f"{where} has no rows; got {describe(batch.value)}")
        labels = self._checked_labels(batch.value, rows, where)
        measures = {
            key: partial(self._measured, call, reduction, batch, labels)
            for key, (call, reduction) in self.reductions.items()
        }
        measured = self.engine.run(args, kwargs, where=where, output=False, measures=measures)
        if self.found and list(self.found) != list(measured):
            raise ValueError(
                f"the layers' calls differ between batches: {list(self.found)} and then {list(measured)}"
            )
        for name, (call, parts, _) in measured.items():
            if name not in self.found:
                self.found[name] = [statistic.fresh() for statistic in self.assigned[call]]
            for statistic, part in zip(self.found[name], parts, strict=True):
                statistic.absorb(part, rows)
        self.spans.append((batch.first_row, batch.first_row + rows))

    def _checked_labels(self, batch: Any, rows: int, where: str) -> torch.Tensor | None:
        labels = labels_of(batch, self.labels)
        for statistic in {id(s): s for several in self.assigned.values() for s in several}.values():
            if not statistic.needs_labels:
                continue
            if labels is None:
                raise ValueError(
                    f"{statistic} needs labels, and {where} has none: {describe(batch)}; yield (images, labels) or pass "
                    "labels=lambda batch: batch[...]"
                )
            try:
                statistic.check_labels(labels)
            except (TypeError, ValueError) as error:
                raise type(error)(f"{where}: {error}") from None
            if len(labels) != rows:
                raise ValueError(f"{where} has {rows} rows and {len(labels)} labels")
        return labels if isinstance(labels, torch.Tensor) else None

    def _measured(
        self, call: Call, reduction: Reduction, batch: Batch, labels: torch.Tensor | None, output: Any
    ) -> Any:
        """Replace a layer's output by the statistics measured on it."""
        name, rows = call[0], batch.given.rows
        values = reduced(channels_first(output, reduction, name, self.engine.axis_of[name]), reduction)
        try:
            check_values(values)
        except (TypeError, ValueError) as error:
            raise Unsuitable(
                f"layer {name!r} cannot be measured: {error}; choose a tensor with reduce={{{name!r}: function}}"
            ) from None
        if len(values) != rows:
            raise Unsuitable(
                f"layer {name!r} returned {tuple(values.shape)} for a batch of {rows}: axis 0 is not the batch; move it "
                f"there with reduce={{{name!r}: function}}"
            )
        # A reduction must return a tensor, and a user's measurements may hold none.
        views = {view: view(values) for view in dict.fromkeys(s.view for s in self.assigned[call])}
        measured = [s.measure(views[s.view], batch.first_row, labels) for s in self.assigned[call]]
        return call, measured, torch.empty(0)


def _assigned(
    engine: Engine, statistics: Statistics | Mapping[Selector, Statistics]
) -> dict[Call, tuple[Statistic, ...]]:
    """Return the statistics of every chosen call."""
    calls = [(choice.name, choice.call) for choice in engine.choices]
    if not isinstance(statistics, Mapping):
        return dict.fromkeys(calls, _as_statistics(statistics))
    assigned: dict[Call, tuple[Statistic, ...]] = {}
    operations = tuple({name for name, _ in calls} - named_modules(engine.model, all_names=True).keys())
    for selector, wanted in statistics.items():
        checked = _as_statistics(wanted)
        for choice in choose(engine.model, selector, operations):
            call = (choice.name, choice.call)
            if call in calls:
                assigned[call] = checked
            elif choice.exact:
                raise ValueError(f"statistics name {selector!r}, which is not among the recorded layers")
    missing = [name for name, call in calls if (name, call) not in assigned]
    if missing:
        raise ValueError(
            f"statistics must name every recorded layer; none for {', '.join(map(repr, missing))}"
        )
    return {call: assigned[call] for call in calls}


def _as_statistics(statistics: object) -> tuple[Statistic, ...]:
    several: list[Any] = list(statistics) if isinstance(statistics, list | tuple) else [statistics]
    for statistic in several:
        check_type(
            statistic, Statistic, argument="statistics", expected="statistics such as fl.statistics.Moments()"
        )
    names = [name_of(type(statistic)) for statistic in several]
    if not names:
        raise ValueError("statistics must be one or more; got none")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"each kind of statistic can be used once for a layer; got two of {twice!r}")
    return tuple(several)
