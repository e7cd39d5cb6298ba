"""One pass over a data set that keeps statistics of the layers' outputs, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, final

import torch

from featurelens._batches import Batch
from featurelens._checks import check_type, describe
from featurelens._shares import Share
from featurelens._structure import tensors
from featurelens.layers import Selector, choose
from featurelens.recording import feeding
from featurelens.recording.data_sets import plan_of, shown
from featurelens.recording.keeping import Keeper, Reduction, Unsuitable, check_axes, reduced
from featurelens.recording.session import Session
from featurelens.recording.to_store import recipe_of
from featurelens.statistics import Statistic, StreamResult
from featurelens.statistics.base import check_values, name_of

if TYPE_CHECKING:
    from featurelens.recording.recorder import ActivationRecorder

Statistics = Statistic | Sequence[Statistic]
Call = tuple[str, int | None]

UNTOUCHED = Keeper(detach=True, clone=False, device=None, dtype=None)


def stream(
    recorder: ActivationRecorder,
    loader: Iterable[Any],
    statistics: Statistics | Mapping[Selector, Statistics],
    inputs: Callable[[Any], Any] | None,
    labels: Callable[[Any], Any] | None,
    shard: tuple[int, int] | None,
    progress: bool,
) -> StreamResult:
    """Do what `ActivationRecorder.stream` says."""
    feeding.check_loader(loader, inputs=inputs, labels=labels, progress=progress, caller="stream")
    share = Share.find(shard)
    one_pass = _Pass(recorder, _assigned(recorder, statistics), labels)
    with share.together(), recorder._guarded(), torch.no_grad():
        plan = plan_of(recorder, loader, share, inputs)
        origin = asdict(recipe_of(recorder, plan)) if share.count > 1 else {}
        for batch in shown(plan.batches(), plan, progress):
            one_pass.run(batch)
    parts = share.gather(one_pass.result(origin))
    result = parts[0] if len(parts) == 1 else StreamResult.merge(parts)
    if not result.rows and (shard is None or plan.total == 0):
        raise ValueError(f"the loader gave no batch; got {describe(loader)}")
    return result


@final
class _Pass:
    """The statistics of each call of each layer, and how a batch comes into them."""

    def __init__(
        self,
        recorder: ActivationRecorder,
        assigned: Mapping[Call, tuple[Statistic, ...]],
        labels: Callable[[Any], Any] | None,
    ) -> None:
        self.recorder, self.assigned = recorder, assigned
        self.reductions = _reductions(recorder, assigned)
        self.labels = labels
        self.found: dict[str, list[Statistic]] = {}
        self.aliases: Mapping[str, str] = {}
        self.spans: list[tuple[int, int]] = []

    def run(self, batch: Batch) -> None:
        """Run the model on one batch, measure it on the way, and add up."""
        where = f"batch {batch.number + 1}"
        args, kwargs = batch.given
        given = next(tensors((args, kwargs)), None)
        if given is None or given.ndim == 0:
            raise ValueError(
                f"{where} gives the model no tensor whose axis 0 is the batch; got {describe(batch.value)}"
            )
        rows = len(given)
        labels = self._checked_labels(batch.value, rows, where)
        first = self.recorder._channels_first
        measures = {
            key: _Measure(
                call, self.assigned[call], reduction, rows, batch.first_row, labels, call[0] in first
            )
            for key, (call, reduction) in self.reductions.items()
        }
        session = Session(self.recorder._choices, UNTOUCHED, measures)
        measured = self.recorder._run(args, kwargs, where=where, output=False, session=session)
        if self.found and list(self.found) != list(measured):
            raise ValueError(
                f"the layers' calls differ between batches: {list(self.found)} and then {list(measured)}"
            )
        for name, (call, parts, _) in measured.items():
            if name not in self.found:
                self.found[name] = [statistic.fresh() for statistic in self.assigned[call]]
            for statistic, part in zip(self.found[name], parts, strict=True):
                statistic.absorb(part, rows)
        self.aliases = measured._aliases
        self.spans.append((batch.first_row, batch.first_row + rows))

    def result(self, origin: Mapping[str, Any]) -> StreamResult:
        return StreamResult(self.found, spans=self.spans, aliases=self.aliases, origin=origin)

    def _checked_labels(self, batch: Any, rows: int, where: str) -> torch.Tensor | None:
        labels = feeding.labels_of(batch, self.labels)
        if isinstance(labels, list | tuple) and labels and all(isinstance(label, int) for label in labels):
            labels = torch.tensor(labels)
        for statistic in {id(s): s for found in self.assigned.values() for s in found}.values():
            if not statistic.needs_labels:
                continue
            if labels is None:
                raise ValueError(
                    f"{statistic} needs labels, and {where} has none: {describe(batch)}; give (images, labels) or say "
                    "labels=lambda batch: batch[...]"
                )
            try:
                statistic.check_labels(labels)
            except (TypeError, ValueError) as error:
                raise type(error)(f"{where}: {error}") from None
            if len(labels) != rows:
                raise ValueError(f"{where} has {rows} rows and {len(labels)} labels")
        return labels if isinstance(labels, torch.Tensor) else None


@final
@dataclass(frozen=True)
class _Measure:
    """Stands where a recorder has a reduction: of the output of a layer it leaves what statistics take from it."""

    call: Call
    statistics: tuple[Statistic, ...]
    reduction: Reduction
    rows: int
    first_row: int
    labels: torch.Tensor | None
    channels_first: bool

    def __call__(self, output: Any) -> Any:
        layer = f"layer {self.call[0]!r}"
        if not self.channels_first:
            check_axes(output, self.reduction, self.call[0])
        values = reduced(output, self.reduction)
        try:
            check_values(values)
        except (TypeError, ValueError) as error:
            raise Unsuitable(
                f"{layer} cannot be measured: {error}; choose with reduce={{{self.call[0]!r}: function}}"
            ) from None
        if len(values) != self.rows:
            raise Unsuitable(
                f"{layer} returned {tuple(values.shape)} for a batch of {self.rows}: axis 0 is not the batch; bring it "
                f"there with reduce={{{self.call[0]!r}: function}}"
            )
        # A session asks for a tensor, and a user's measurements may hold none.
        measured = [s.measure(values, self.first_row, self.labels) for s in self.statistics]
        return self.call, measured, torch.empty(0)


def _assigned(
    recorder: ActivationRecorder, statistics: Statistics | Mapping[Selector, Statistics]
) -> dict[Call, tuple[Statistic, ...]]:
    """Return the statistics of every chosen call."""
    calls = [(choice.name, choice.call) for choice in recorder._choices]
    if not isinstance(statistics, Mapping):
        return dict.fromkeys(calls, _as_statistics(statistics))
    assigned: dict[Call, tuple[Statistic, ...]] = {}
    for selector, wanted in statistics.items():
        checked = _as_statistics(wanted)
        operations = tuple(name for name, _ in calls) if recorder.backend == "rewrite" else ()
        for choice in choose(recorder.model, selector, operations):
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


def _reductions(
    recorder: ActivationRecorder, assigned: Mapping[Call, tuple[Statistic, ...]]
) -> dict[Call, tuple[Call, Reduction]]:
    """Return, for each call that a recorder would reduce in its own way, whose statistics it has and that way."""
    own = recorder._reductions
    found = {call: (call, own.get(call, own.get((call[0], None)))) for call in assigned}
    for name, number in own:
        if (name, None) in assigned:
            found[name, number] = ((name, None), own[name, number])
    return found


def _as_statistics(statistics: object) -> tuple[Statistic, ...]:
    several: list[Any] = list(statistics) if isinstance(statistics, list | tuple) else [statistics]
    for statistic in several:
        check_type(statistic, Statistic, argument="statistics", expected="statistics such as fl.Moments()")
    names = [name_of(type(statistic)) for statistic in several]
    if not names:
        raise ValueError("statistics must be one or more; got none")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(
            f"a layer's statistics must be of different kinds, or their results could not be told apart; got two of {twice!r}"
        )
    return tuple(several)
