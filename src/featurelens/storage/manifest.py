"""What a store says of itself: one JSON file, written completely or not at all, with its own checksum."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self, final

from featurelens.storage.files import replace_file

NAME = "manifest.json"
FORMAT = 1


@final
@dataclass(frozen=True)
class Recipe:
    """What must be the same for recordings that belong together: the runs of one store, and the parts of one whole."""

    model: str
    parameters: str
    layers: tuple[str, ...]
    reduce: tuple[str | None, ...]
    dtype: str | None
    training: str
    batches: int | None
    modules: str = ""
    order: str = ""  # only of a share, and where the loader's indices can be seen
    hidden: str = ""  # something of the model that cannot be compared

    _UNKNOWN: ClassVar = {"batches": None, "order": ""}  # then there is nothing to compare
    _WORDS: ClassVar = {
        "model": "the model was a {} and is now a {}",
        "modules": "the model's modules or their settings, as print(model) shows them, differ (sha256 {:.12}... and now {:.12}...)",
        "parameters": "the model's parameters or buffers differ (sha256 {:.12}... and now {:.12}...)",
        "layers": "the layers were {} and are now {}",
        "reduce": "the reductions were {} and are now {}",
        "dtype": "dtype was {} and is now {}",
        "training": "training was {} and is now {}",
        "batches": "the loader had {} batches and now has {}",
        "order": "the loader's order differs (sha256 of the indices {:.12}... and now {:.12}...): use the same order "
        "each time, with shuffle=False or a generator with the same seed",
    }

    def difference(self, now: Recipe) -> str | None:
        """Say what differs first, or None."""
        for name, words in self._WORDS.items():
            mine, other = getattr(self, name), getattr(now, name)
            unknown = name in self._UNKNOWN and self._UNKNOWN[name] in (mine, other)
            if mine != other and not unknown:
                return words.format(*(list(v) if isinstance(v, tuple) else v for v in (mine, other)))
        return None


@final
@dataclass(frozen=True)
class Shard:
    """One file of a layer: rows `start` to `stop` of the store, and the sha256 of its bytes."""

    file: str
    start: int
    stop: int
    bytes: int
    sha256: str


@final
@dataclass(frozen=True)
class StoredShape:
    """How one layer is stored; `open_shard` is the file that is still being written."""

    folder: str
    shape: tuple[int, ...]
    dtype: str
    shard_rows: int
    shards: tuple[Shard, ...] = ()
    open_shard: Shard | None = None

    @property
    def all_shards(self) -> tuple[Shard, ...]:
        return self.shards if self.open_shard is None else (*self.shards, self.open_shard)


@final
@dataclass(frozen=True)
class Progress:
    """How far a recording has come, in whole batches, and over which inputs."""

    rows: int = 0
    batches: int = 0
    inputs: str = ""  # a digest chained over the digests of all batches
    last_rows: int = 0
    last_input: str = ""

    def after(self, rows: int, digest: str) -> Progress:
        """Return the progress one batch later."""
        chained = hashlib.sha256(f"{self.inputs}{digest}".encode()).hexdigest()
        return Progress(self.rows + rows, self.batches + 1, chained, rows, digest)


@final
@dataclass(frozen=True)
class Manifest:
    """Everything that is known of a store without reading its rows."""

    recipe: Recipe
    share: tuple[int, int] = (0, 1)
    progress: Progress = field(default_factory=Progress)
    layers: dict[str, StoredShape] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)
    complete: bool = False
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        return self.progress.rows

    def write(self, folder: Path) -> None:
        """Put the manifest into `folder`, in place of the one there."""
        content: dict[str, Any] = {"format": FORMAT, **asdict(self)}
        content["sha256"] = _digest(content)
        replace_file(folder / NAME, json.dumps(content, indent=1).encode())

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read the manifest in `folder`.

        Raises
        ------
        FileNotFoundError
            If there is none.
        ValueError
            If it is not what `write` wrote, or of another format.
        """
        path = folder / NAME
        try:
            text = path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            raise FileNotFoundError(
                f"{os.fspath(folder)!r} holds no activations: there is no {NAME} in it"
            ) from None
        try:
            content = json.loads(text, object_hook=_with_tuples)
            checksum, version = content.pop("sha256"), content["format"]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{os.fspath(path)!r} is not the manifest of an activation store") from error
        if version != FORMAT:
            raise ValueError(
                f"{os.fspath(path)!r} has format {version}, and this version of featurelens reads format {FORMAT}"
            )
        if checksum != _digest(content):
            raise ValueError(
                f"{os.fspath(path)!r} was changed after it was written: its checksum no longer matches"
            )
        del content["format"]
        layers = {name: _layer(**layer) for name, layer in content.pop("layers").items()}
        recipe, progress = Recipe(**content.pop("recipe")), Progress(**content.pop("progress"))
        return cls(recipe=recipe, progress=progress, layers=layers, **content)


def _layer(shards: Any, open_shard: Any, **content: Any) -> StoredShape:
    files = tuple(Shard(**shard) for shard in shards)
    return StoredShape(shards=files, open_shard=Shard(**open_shard) if open_shard else None, **content)


def _with_tuples(content: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in content.items()}


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()
