"""Run a recorder over a data set, or a worker's share of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from featurelens._batches import Batch, Plan
from featurelens._checks import describe
from featurelens._shares import Share
from featurelens._structure import tensors
from featurelens.recording import feeding
from featurelens.recording.activations import Activations
from featurelens.recording.joining import check_batch_axis, joined

if TYPE_CHECKING:
    from featurelens.recording.recorder import ActivationRecorder

Inputs = Callable[[Any], Any] | None


def record_in_memory(
    recorder: ActivationRecorder, loader: Iterable[Any], share: Share, inputs: Inputs, progress: bool
) -> Activations:
    """Return what the layers returned for the share's batches, joined."""
    batches: list[Activations] = []
    with recorder._guarded():
        plan = plan_of(recorder, loader, share, inputs)
        for batch in shown(plan.batches(), plan, progress):
            args, kwargs = batch.given
            where = f"batch {batch.number + 1}"
            batches.append(recorder._run(args, kwargs, where=where, output=not recorder.stop_early))
            check_batch_axis(batches[-1], next(tensors((args, kwargs)), None))
    if not batches and share.count > 1 and plan.total:
        raise ValueError(
            f"share {share.index} of {share.count} is empty: the loader has {plan.total} batches"
        )
    if not batches:
        raise ValueError(f"the loader gave no batch; got {describe(loader)}")
    return joined(batches)


def plan_of(recorder: ActivationRecorder, loader: Iterable[Any], share: Share, inputs: Inputs) -> Plan:
    """Return which batches of `loader` make up the share."""

    def given(batch: Any) -> Any:
        return feeding.arguments(batch, recorder.model, inputs)

    return Plan(loader, share, rows=rows_of, given=given)


def rows_of(given: Any) -> int:
    """Return how many rows a model is given; 0 if it is given no tensor."""
    first = next(tensors(given), None)
    return len(first) if first is not None and first.ndim else 0


def shown(batches: Iterable[Batch], plan: Plan, progress: bool, *, done: int = 0) -> Iterable[Batch]:
    """Return `batches` under a progress bar, if standard error is a terminal; `done` of them lie behind."""
    from tqdm import tqdm

    bar: Iterable[Batch] = tqdm(
        batches,
        desc="recording",
        unit="batch",
        disable=None if progress else True,
        total=None if plan.total is None else len(plan.block),
        initial=done,
    )
    return bar
