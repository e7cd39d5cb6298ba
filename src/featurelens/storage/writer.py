"""Write a store batch by batch, so that a run that ends anywhere can be resumed."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, final
from urllib.parse import quote

import torch

import featurelens
from featurelens._checks import describe
from featurelens._structure import shapes
from featurelens.storage.files import LOCK, only_writer
from featurelens.storage.layer_files import ShardWriter, is_storable, new_layer, restore
from featurelens.storage.manifest import NAME, Manifest, Recipe

CHECKPOINT_SECONDS = 30.0
"""How much work a run that is killed can lose; each checkpoint waits for the disk."""
_PASSING = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}  # errors that may be over later
_LONGEST = 80  # of a file's name; file systems allow up to 255 bytes, some fewer


@final
class StoreWriter:
    """Appends batches to the store in `folder`, starting from `manifest`, which says what is safe on disk there."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder = folder
        self.manifest = manifest  # what is safe on disk
        self.progress = manifest.progress  # what has been appended
        self._layers = {name: ShardWriter(folder, layer) for name, layer in manifest.layers.items()}
        self._aliases = manifest.aliases
        self._between_batches = True
        self._checkpoint = time.monotonic()

    def append(self, layers: Mapping[str, Any], digest: str, *, aliases: Mapping[str, str]) -> None:
        """Add what the layers returned for one batch, whose inputs have this digest.

        Raises
        ------
        ValueError
            If it does not fit what was recorded before; nothing is written then.
        OSError
            If it cannot be written. The message says how many rows are safe.
        """
        rows = _checked_rows(layers)
        with _explaining(self._failure):
            if not self._layers:
                self._begin(layers, aliases)
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
        with _explaining(self._failure):
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
        """Keep every whole batch if the disk accepts them, and otherwise what is safe already."""
        if self._between_batches and not self.manifest.complete:
            with suppress(OSError):
                self.commit()
        with suppress(OSError):
            _restore(self.folder, self.manifest)

    def _begin(self, layers: Mapping[str, Any], aliases: Mapping[str, str]) -> None:
        for number, (name, value) in enumerate(layers.items()):
            # The number keeps folders apart where capitals do not count, and from names that Windows reserves.
            folder = f"{number:03d}-{quote(name, safe='')}"[:_LONGEST].rstrip(".")
            layer = new_layer(folder, tuple(value.shape[1:]), value.dtype)
            self._layers[name] = ShardWriter(self.folder, layer)
        self._aliases = dict(aliases)
        self.commit()  # before there are folders, so that the manifest names every one

    def _check_fits(self, layers: Mapping[str, Any]) -> None:
        if list(layers) != list(self._layers):
            raise ValueError(
                f"the layers' calls differ between batches: {list(self._layers)} and then {list(layers)}"
            )
        for name, writer in self._layers.items():
            shape, dtype = tuple(layers[name].shape[1:]), layers[name].dtype
            if (shape, dtype) != (writer.layer.shape, writer.dtype):
                raise ValueError(
                    f"layer {name!r} returned rows of {writer.layer.dtype} {writer.layer.shape}, and in batch "
                    f"{self.progress.batches + 1} of {str(dtype).removeprefix('torch.')} {shape}: "
                    "a store holds rows of one shape; use reduce= to give them one"
                )

    def _failure(self, error: OSError) -> str:
        advice = (
            "; once it can be written again, the same call with resume=True continues after them"
            if error.errno in _PASSING
            else ""
        )
        return (
            f"could not write to {os.fspath(self.folder)!r} ({error.strerror or error}): "
            f"{self.manifest.rows} rows are safe there{advice}"
        )


@contextmanager
def writing(folder: Path, recipe: Recipe, share: tuple[int, int], *, resume: bool) -> Iterator[StoreWriter]:
    """Open a store for writing, a new one or, with `resume`, the one that is there.

    Raises
    ------
    FileExistsError
        If there is something in the folder that must not be overwritten.
    ValueError
        If the store there was made by another recipe.
    RuntimeError
        If another run is writing it.
    OSError
        If the folder cannot be written.
    """
    path = os.fspath(folder)
    if folder.exists() and not folder.is_dir():
        raise FileExistsError(f"{path!r} is a file, but a store is a folder")
    with ExitStack() as stack:
        with _explaining(lambda error: f"activations cannot be written to {path!r}: {error.strerror}"):
            folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(only_writer(folder))
            writer = StoreWriter(folder, _starting_point(folder, recipe, share, resume))
        try:
            yield writer
        except BaseException:
            writer.abandon()
            raise


def check_resumable(folder: Path, manifest: Manifest, recipe: Recipe, *, resume: bool) -> None:
    """Raise unless `recipe` may resume the recording in `folder`."""
    path = os.fspath(folder)
    if not resume:
        state = "complete" if manifest.complete else "not complete"
        raise FileExistsError(
            f"{path!r} already holds activations ({manifest.rows} rows, {state}): continue with resume=True, "
            "or record to another folder"
        )
    if recipe.hidden:
        raise ValueError(
            f"{path!r} cannot be resumed: it cannot be checked that the model is the recorded one, because "
            f"{recipe.hidden}, cannot be inspected; record to another folder"
        )
    if (difference := manifest.recipe.difference(recipe)) is not None:
        raise ValueError(
            f"{path!r} was recorded differently: {difference}; record to another folder, or use what was used then"
        )


def _restore(folder: Path, manifest: Manifest) -> None:
    """Make the folder what the manifest says, and remove a recording that has no rows yet."""
    for layer in manifest.layers.values():
        restore(folder, layer)
    if not (manifest.rows or manifest.complete):
        for layer in manifest.layers.values():
            with suppress(OSError):
                (folder / layer.folder).rmdir()
        (folder / NAME).unlink()


def _starting_point(folder: Path, recipe: Recipe, share: tuple[int, int], resume: bool) -> Manifest:
    try:
        found = Manifest.read(folder)
    except FileNotFoundError:
        if strangers := {path.name for path in folder.iterdir()} - {LOCK, f"{NAME}.new"}:
            raise FileExistsError(
                f"{os.fspath(folder)!r} is not empty and holds no activations (it contains {min(strangers)!r}): "
                "record to a new folder"
            ) from None
    else:
        started = found.rows or found.complete
        if started:
            check_resumable(folder, found, recipe, resume=resume)
        if not found.complete:
            _restore(folder, found)
        if started:
            return found
    versions = {"featurelens": featurelens.__version__, "torch": torch.__version__}
    fresh = Manifest(recipe, share, versions=versions)
    fresh.write(folder)
    return fresh


@contextmanager
def _explaining(words: Callable[[OSError], str]) -> Iterator[None]:
    """Give an error of the operating system a message that says what it means here."""
    try:
        yield
    except OSError as error:
        if error.errno is None:  # raised here, with its own message
            raise
        raise OSError(error.errno, words(error)) from error


def _checked_rows(layers: Mapping[str, Any]) -> int:
    """Return how many rows each layer has; raise a ValueError if any is not a plain tensor."""
    for name, value in layers.items():
        if not isinstance(value, torch.Tensor):
            raise ValueError(  # noqa: TRY004  the caller's types are right, the model's output is not
                f"layer {name!r} returned {shapes(value)}, but a store holds one tensor for each layer: choose one "
                f"with reduce, for example reduce={{{name!r}: lambda output: output[0]}}"
            )
        if not is_storable(value):
            raise ValueError(
                f"layer {name!r} returned a {describe(value)} ({value.layout}), which has no file format"
            )
    rows = {name: len(value) for name, value in layers.items()}
    if len(set(rows.values())) > 1:
        raise ValueError(
            f"the layers returned different numbers of rows for one batch: {rows}; axis 0 must be the batch in all of "
            "them: move it there with reduce={layer: function}"
        )
    return next(iter(rows.values()))
