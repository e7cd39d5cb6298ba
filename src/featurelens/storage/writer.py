"""Write a store batch by batch, so that a run that ends anywhere can be gone on with."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, final
from urllib.parse import quote

import torch

import featurelens
from featurelens._checks import describe
from featurelens._structure import shapes
from featurelens.storage.files import LOCK, OPEN, only_writer
from featurelens.storage.manifest import NAME, Manifest, Recipe
from featurelens.storage.npy import dtype_name, header, is_storable
from featurelens.storage.shards import ShardWriter, new_layer

_PASSING = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}  # errors that may be over later
CHECKPOINT_SECONDS = 30.0
"""How much work a run that is killed can lose; each checkpoint waits for the disk."""
_SHARD = re.compile(rf"\d+\.npy({re.escape(OPEN)})?")


@final
class StoreWriter:
    """Appends batches to the store in `folder`, going on from `manifest`, which says what of it is safe."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder = folder
        self.manifest = manifest  # what is safe on disk
        self.progress = manifest.progress  # what has been appended
        self._layers = {name: ShardWriter(folder, layer) for name, layer in manifest.layers.items()}
        self._aliases = manifest.aliases
        self._between_batches = True
        self._checkpoint = time.monotonic()

    def append(
        self, layers: Mapping[str, Any], digest: str, *, aliases: Mapping[str, str] | None = None
    ) -> None:
        """Add what the layers returned for one batch, whose inputs have this digest.

        Raises
        ------
        ValueError
            If it does not fit what was recorded before; nothing is written then.
        OSError
            If it cannot be written. The message says how many rows are safe.
        """
        rows = _checked_rows(layers)
        with self._explaining_failure():
            if not self._layers:
                self._begin(layers, aliases or {})
            self._check_fits(layers)
            self._between_batches = False
            for name, writer in self._layers.items():
                writer.append(layers[name])
            self.progress = self.progress.after(rows, digest)
            self._between_batches = True
            if time.monotonic() - self._checkpoint >= CHECKPOINT_SECONDS:
                self.commit()

    def finish(self) -> None:
        """Name the last shards and declare the store complete."""
        with self._explaining_failure():
            self._between_batches = False
            for writer in self._layers.values():
                writer.finish()
            self._between_batches = True
            self.commit(complete=True)

    def commit(self, *, complete: bool = False) -> None:
        """Make everything appended so far safe on disk."""
        layers = {name: writer.sync() for name, writer in self._layers.items()}
        manifest = replace(
            self.manifest, layers=layers, aliases=self._aliases, progress=self.progress, complete=complete
        )
        manifest.write(self.folder)
        self.manifest = manifest
        self._checkpoint = time.monotonic()

    def abandon(self) -> None:
        """Keep every whole batch, if the disk takes them, and else what is safe already."""
        if self._between_batches and not self.manifest.complete:
            with suppress(OSError):
                self.commit()
        with suppress(OSError):
            if self.manifest.rows or self.manifest.complete:
                restore(self.folder, self.manifest)
            else:
                _discard(self.folder, self.manifest)

    def _begin(self, layers: Mapping[str, Any], aliases: Mapping[str, str]) -> None:
        folders = _folders(layers)
        stored = {
            name: new_layer(folders[name], tuple(value.shape[1:]), value.dtype)
            for name, value in layers.items()
        }
        self._layers = {name: ShardWriter(self.folder, layer) for name, layer in stored.items()}
        self._aliases = dict(aliases)
        self.commit()  # before there are folders, so that the manifest names every one

    def _check_fits(self, layers: Mapping[str, Any]) -> None:
        if list(layers) != list(self._layers):
            raise ValueError(
                f"the layers' calls differ between batches: {list(self._layers)} and then {list(layers)}"
            )
        for name, writer in self._layers.items():
            stored, value = writer.layer, layers[name]
            if tuple(value.shape[1:]) != stored.shape or dtype_name(value.dtype) != stored.dtype:
                raise ValueError(
                    f"layer {name!r} returned rows of {stored.dtype} {stored.shape}, and in batch "
                    f"{self.progress.batches + 1} of {dtype_name(value.dtype)} {tuple(value.shape[1:])}: "
                    "a store holds rows of one shape; reduce= can bring them to one"
                )

    @contextmanager
    def _explaining_failure(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            advice = (
                ", and once it can be written again, the same call with resume=True goes on behind them"
                if error.errno in _PASSING
                else ""
            )
            raise OSError(
                error.errno,
                f"could not write to {os.fspath(self.folder)!r} ({error.strerror or error}): "
                f"{self.manifest.rows} rows are safe there{advice}",
            ) from error


@contextmanager
def writing(folder: Path, recipe: Recipe, share: tuple[int, int], *, resume: bool) -> Iterator[StoreWriter]:
    """Open a store for writing, a new one or, with `resume`, the one that is there.

    Raises
    ------
    FileExistsError
        If there is something in the folder that may not be written over.
    ValueError
        If the store there was made by another recipe.
    RuntimeError
        If another run is writing it.
    OSError
        If the folder cannot be written.
    """
    with ExitStack() as stack:
        with _explaining_no_access(folder):
            folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(only_writer(folder))
            writer = StoreWriter(folder, _starting_point(folder, recipe, share, resume))
        try:
            yield writer
        except BaseException:
            writer.abandon()
            raise


def check_resumable(folder: Path, manifest: Manifest, recipe: Recipe, *, resume: bool) -> None:
    """Raise unless the recording in `folder` may be gone on with by `recipe`."""
    path = os.fspath(folder)
    if not resume:
        state = "complete" if manifest.complete else "not complete"
        raise FileExistsError(
            f"{path!r} holds activations already ({manifest.rows} rows, {state}): go on with them by resume=True, "
            "or record to another folder"
        )
    if recipe.hidden:
        raise ValueError(
            f"{path!r} cannot be resumed, as whether this is the model that it was recorded from cannot be told: "
            f"{recipe.hidden}, cannot be looked into; record to another folder"
        )
    if (difference := manifest.recipe.difference(recipe)) is not None:
        raise ValueError(
            f"{path!r} was recorded otherwise: {difference}; record to another folder, or make both alike"
        )


def restore(folder: Path, manifest: Manifest) -> None:
    """Make the folder what the manifest says: what came after it is not known to be whole."""
    for layer in manifest.layers.values():
        kept = {Path(shard.file).name for shard in layer.all_shards}
        if (shard := layer.open_shard) is not None:
            opened = folder / shard.file
            named = opened.with_name(opened.name.removesuffix(OPEN))
            if named.exists():  # it was finished after the manifest was written
                named.replace(opened)
            with opened.open("r+b") as file:
                dtype = getattr(torch, layer.dtype)
                file.write(header(layer.shard_rows, layer.shape, dtype, most_rows=layer.shard_rows))
                file.truncate(shard.bytes)
        for path in (folder / layer.folder).glob("*.npy*"):
            if _SHARD.fullmatch(path.name) and path.name not in kept:
                path.unlink()


def _discard(folder: Path, manifest: Manifest) -> None:
    """Take away a recording in which there is nothing yet."""
    restore(folder, manifest)
    for layer in manifest.layers.values():
        with suppress(OSError):
            (folder / layer.folder).rmdir()
    (folder / NAME).unlink(missing_ok=True)


def _starting_point(folder: Path, recipe: Recipe, share: tuple[int, int], resume: bool) -> Manifest:
    try:
        found = Manifest.read(folder)
    except FileNotFoundError:
        if strangers := {path.name for path in folder.iterdir()} - {LOCK, f"{NAME}.new"}:
            raise FileExistsError(
                f"{os.fspath(folder)!r} is not empty and holds no activations ({min(strangers)!r} is there): "
                "record to a new folder"
            ) from None
        found = None
    if found is not None and (found.rows or found.complete):
        check_resumable(folder, found, recipe, resume=resume)
        if not found.complete:
            restore(folder, found)
        return found
    if found is not None:
        _discard(folder, found)
    fresh = Manifest(
        recipe, share, versions={"featurelens": featurelens.__version__, "torch": torch.__version__}
    )
    fresh.write(folder)
    return fresh


@contextmanager
def _explaining_no_access(folder: Path) -> Iterator[None]:
    try:
        yield
    except FileExistsError as error:
        if error.errno is None:  # ours
            raise
        raise FileExistsError(
            error.errno, f"{os.fspath(folder)!r} is a file, and a store is a folder"
        ) from None
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(
            error.errno, f"activations cannot be written to {os.fspath(folder)!r}: {error.strerror}"
        ) from error


_RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(10))}
_LONGEST = 100  # of what file systems take, 255 bytes, some leave less


def _folders(names: Iterable[str]) -> dict[str, str]:
    """A folder for each layer, by its name where every file system takes that, also where capitals do not count."""
    folders: dict[str, str] = {}
    taken = {NAME, LOCK}
    for name in names:
        folder = quote(name, safe="") or "%"
        unfit = folder.endswith(".") or folder.partition(".")[0].lower() in _RESERVED
        if unfit or len(folder) > _LONGEST:
            folder = f"{folder[:60]}-{hashlib.sha256(name.encode()).hexdigest()[:16]}"
        while folder.lower() in taken:
            folder += "%"
        folders[name] = folder
        taken.add(folder.lower())
    return folders


def _checked_rows(layers: Mapping[str, Any]) -> int:
    """How many rows each layer has; raise a ValueError if any is not a plain tensor."""
    for name, value in layers.items():
        if not isinstance(value, torch.Tensor):
            raise ValueError(  # noqa: TRY004  the caller's types are right, the model's output is not
                f"layer {name!r} returned {shapes(value)}, and a store holds one tensor for each layer: choose it "
                f"with reduce={{{name!r}: lambda output: output[0]}}, say"
            )
        if not is_storable(value):
            raise ValueError(
                f"layer {name!r} returned a {describe(value)} ({value.layout}), which has no file format"
            )
    rows = {name: len(value) for name, value in layers.items()}
    if len(set(rows.values())) > 1:
        raise ValueError(
            f"the layers returned different numbers of rows for one batch: {rows}; axis 0 must be the batch in all of "
            "them: bring it there with reduce={layer: function}"
        )
    return next(iter(rows.values()))
