"""Run a recorder over a data set and write what it records into a store, batch by batch."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path

from featurelens._batches import Batches
from featurelens.recording.dataset import DatasetPass
from featurelens.recording.engine import Engine
from featurelens.recording.reductions import Reduction
from featurelens.storage import ActivationStore
from featurelens.storage.fingerprints import (
    batch_digest,
    function_digest,
    model_digest,
    modules_digest,
    training_digest,
)
from featurelens.storage.manifest import Manifest, Progress, Recipe
from featurelens.storage.merging import part_name, parts_in
from featurelens.storage.writer import StoreWriter, check_resumable, writing


def record_to_store(dataset: DatasetPass, path: Path, *, resume: bool) -> ActivationStore:
    """Write what the layers return for the share's batches into `path`; ranks of a process group join theirs."""
    share = dataset.share
    folder = path if share.count == 1 else path / part_name(share.index, share.count)
    with share.together():
        with dataset.engine.visiting(), ExitStack() as stack:
            batches = dataset.batches
            recipe = recipe_of(dataset.engine, batches)
            whole = _is_whole(path, batches, recipe, resume=resume)
            writer = None
            if not whole and not _is_complete(folder, batches, recipe, batches.block, resume=resume):
                number = (share.index, share.count)
                writer = stack.enter_context(writing(folder, recipe, number, resume=resume))
            share.gather(None)  # before any work is done, all of them can write
            if writer is not None:
                _write(dataset, writer)
                writer.finish()
        share.gather(None)  # all of them have written
        if share.joined and share.count > 1 and share.index == 0 and not whole:
            ActivationStore.merge(path)
    return ActivationStore(path if whole or share.joined else folder)


def _write(dataset: DatasetPass, writer: StoreWriter) -> None:
    """Record the batches that the store does not have yet, and compare those that it has."""
    kept, batches = writer.progress, dataset.batches
    first_new = batches.block.start + kept.batches
    # Where batches cannot be skipped, all that are kept are compared; otherwise the last one is.
    first = first_new - 1 if batches.jumps and kept.batches else batches.block.start
    again = Progress()
    number = first - 1
    for batch in dataset.run(first):
        number, (args, kwargs, rows) = batch.number, batch.given
        digest = batch_digest((args, kwargs))
        if number < first_new:
            again = again.after(rows or 0, digest)
            if number == first_new - 1:
                _check_same_data(kept, again, writer.folder)
            continue
        writer.append(dataset.record(batch), digest, aliases=dataset.engine.aliases)
    if number < first_new - 1:
        raise ValueError(
            f"{os.fspath(writer.folder)!r} holds {kept.batches} batches, and the loader now yields {number + 1}"
        )
    if not writer.progress.batches and (batches.share.count == 1 or batches.total == 0):
        raise ValueError("the loader yielded no batch")


def _check_same_data(kept: Progress, again: Progress, folder: Path) -> None:
    """Raise a ValueError unless the batches that were run `again` are those in the store."""
    told = f"the batches are not those that {os.fspath(folder)!r} was recorded from: "
    advice = "; resume needs the same data in the same order and the same batches"
    if again.last_rows not in {0, kept.last_rows}:  # 0 where the model is given no tensor
        raise ValueError(
            f"{told}batch {kept.batches} has {again.last_rows} rows, and had {kept.last_rows}{advice}"
        )
    if again.last_input != kept.last_input:
        raise ValueError(f"{told}batch {kept.batches} has other values{advice}")
    if again.batches == kept.batches and again.inputs != kept.inputs:
        raise ValueError(f"{told}one of the first {kept.batches} has other values{advice}")


def _is_whole(path: Path, batches: Batches, recipe: Recipe, *, resume: bool) -> bool:
    """Return whether `path` holds the whole data set already; raise if its content does not fit this share."""
    share, total = batches.share, range(batches.total or 0)
    if _is_complete(path, batches, recipe, total, resume=resume):
        return True
    others = set(parts_in(path)) - {share.count}
    if others:
        raise ValueError(
            f"{os.fspath(path)!r} holds parts of {min(others)} workers, and this is one of {share.count}: use as many, "
            "or record to another folder"
        )
    if share.count > 1 and _manifest(path) is not None:
        raise ValueError(
            f"{os.fspath(path)!r} was started by one worker, and this is one of {share.count}: continue with one, "
            "or record to another folder"
        )
    return False


def _is_complete(folder: Path, batches: Batches, recipe: Recipe, numbers: range, *, resume: bool) -> bool:
    """Return whether `folder` holds the batches of these numbers already; raise if it was made differently."""
    manifest = _manifest(folder)
    if manifest is None or not manifest.complete:
        return False
    check_resumable(folder, manifest, recipe, resume=resume)
    # Only the last batch can be checked without running over the others.
    if numbers and (last := batches.only(numbers[-1])) is not None:
        kept = manifest.progress
        if kept.batches != len(numbers):
            raise ValueError(
                f"{os.fspath(folder)!r} holds {kept.batches} batches, and the loader now has {len(numbers)}"
            )
        given = last.given
        again = Progress(last_rows=given.rows or 0, last_input=batch_digest((given.args, given.kwargs)))
        _check_same_data(kept, again, folder)
    return True


def _manifest(folder: Path) -> Manifest | None:
    try:
        return Manifest.read(folder)
    except FileNotFoundError:
        return None


def recipe_of(engine: Engine, batches: Batches) -> Recipe:
    """Return what must be the same in recordings that are continued or joined."""
    model, dtype = engine.model, engine.keeper.dtype
    parameters, hidden = model_digest(model)
    return Recipe(
        model=type(model).__qualname__,
        parameters=parameters,
        layers=engine.layers,
        reduce=tuple(_name(engine.reduction_of(choice.name, choice.call)) for choice in engine.choices),
        dtype=None if dtype is None else str(dtype).removeprefix("torch."),
        training="False" if engine.evaluate else f"'keep' (modes {training_digest(model):.12}...)",
        batches=batches.total,
        modules=modules_digest(model),
        order=batches.order if batches.share.count > 1 else "",
        hidden=hidden,
    )


def _name(reduction: Reduction) -> str | None:
    """Return the name of a reduction; that of a function includes a digest of its code."""
    if callable(reduction):
        name: str = getattr(reduction, "__qualname__", type(reduction).__qualname__)
        return f"{name} (sha256 {function_digest(reduction):.12}...)"
    return reduction
