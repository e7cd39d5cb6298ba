"""Join what workers recorded: a manifest over their files, none of which is copied."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from featurelens._checks import check_path, check_type, listing
from featurelens.storage.manifest import NAME, Manifest, Shard

_PART = re.compile(r"part-(\d+)-of-(\d+)")


def part_name(index: int, count: int) -> str:
    """Return the name of a worker's folder: ``part-00003-of-00008``."""
    return f"part-{index:05d}-of-{count:05d}"


def parts_in(folder: Path) -> dict[int, list[Path]]:
    """Return the workers' folders in `folder`, by the number of workers that they were recorded for."""
    found: dict[int, list[Path]] = {}
    if folder.is_dir():
        for path in sorted(folder.iterdir()):
            if (parts := _PART.fullmatch(path.name)) and path.is_dir():
                found.setdefault(int(parts[2]), []).append(path)
    return found


def join_parts(
    paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]], to: str | os.PathLike[str] | None
) -> Path:
    """Write one manifest over the parts that workers recorded; return its folder. See `ActivationStore.merge`."""
    check_type(paths, (str, os.PathLike, Iterable), argument="paths", expected="a folder or a list of them")
    if to is not None:
        check_path(to, argument="to", expected="a folder's path")
    if isinstance(paths, str | os.PathLike):
        folders = _only_parts(check_path(paths, argument="paths", expected="a folder's path"))
        target = Path(paths if to is None else to)
    else:
        folders = [check_path(path, argument="a part", expected="a folder's path") for path in paths]
        if not folders:
            raise ValueError("paths must name at least one part; got []")
        parents = {folder.resolve().parent for folder in folders}
        if to is None and len(parents) > 1:
            raise ValueError("the parts lie in different folders: pass the store's folder as to=")
        target = folders[0].parent if to is None else Path(to)
    merged = _merged({folder: Manifest.read(folder) for folder in folders}, target)
    if (target / NAME).exists():
        if Manifest.read(target) != merged:
            raise FileExistsError(
                f"{os.fspath(target)!r} already holds another store: choose another folder with to="
            )
    else:
        target.mkdir(parents=True, exist_ok=True)
        merged.write(target)
    return target


def _only_parts(folder: Path) -> list[Path]:
    found = parts_in(folder)
    if not found:
        raise FileNotFoundError(f"{os.fspath(folder)!r} holds no parts (folders such as {part_name(0, 2)})")
    if len(found) > 1:
        counts = " and of ".join(map(str, sorted(found)))
        raise ValueError(
            f"{os.fspath(folder)!r} holds parts of {counts} workers: list those that belong together"
        )
    return next(iter(found.values()))


def _merged(parts: dict[Path, Manifest], target: Path) -> Manifest:
    ordered = sorted(parts.items(), key=lambda item: item[1].share)
    _check_complete(ordered)
    _check_alike(ordered)
    shards: dict[str, list[Shard]] = {}
    rows = batches = 0
    for folder, part in ordered:
        where = Path(os.path.relpath(folder.resolve(), target.resolve())).as_posix()
        for name, layer in part.layers.items():
            shards.setdefault(name, []).extend(
                replace(shard, file=f"{where}/{shard.file}", start=shard.start + rows, stop=shard.stop + rows)
                for shard in layer.shards
            )
        rows, batches = rows + part.rows, batches + part.progress.batches
    inputs = hashlib.sha256("".join(part.progress.inputs for _, part in ordered).encode()).hexdigest()
    # A share may be empty, and then says nothing of the layers.
    _, described = next((item for item in reversed(ordered) if item[1].rows), ordered[0])
    layers = {
        name: replace(layer, folder="", shards=tuple(shards[name]))
        for name, layer in described.layers.items()
    }
    progress = replace(described.progress, rows=rows, batches=batches, inputs=inputs)
    return replace(described, share=(0, 1), layers=layers, progress=progress)


def _check_complete(ordered: list[tuple[Path, Manifest]]) -> None:
    count = ordered[0][1].share[1]
    seen: dict[int, Path] = {}
    for folder, part in ordered:
        index, of = part.share
        if of != count:
            raise ValueError(
                f"the parts are of {count} and of {of} workers: {os.fspath(folder)!r} is one of {of}"
            )
        if index in seen:
            raise ValueError(
                f"part {index} of {count} appears twice: {os.fspath(seen[index])!r} and {os.fspath(folder)!r}"
            )
        seen[index] = folder
        if not part.complete:
            raise ValueError(
                f"{os.fspath(folder)!r} is not complete ({part.rows} rows): finish it with "
                f"shard=({index}, {count}), resume=True"
            )
    missing = [index for index in range(count) if index not in seen]
    if missing:
        listed = listing(missing, most=8)
        raise ValueError(f"{len(missing)} of {count} parts missing: {listed} (counted from 0)")


def _check_alike(ordered: list[tuple[Path, Manifest]]) -> None:
    first, one = ordered[0]
    held: dict[str, Path] = {}
    for folder, part in ordered:
        if (difference := one.recipe.difference(part.recipe)) is not None:
            raise ValueError(
                f"{os.fspath(first)!r} and {os.fspath(folder)!r} were recorded differently: {difference}"
            )
        if part.layers:
            held.setdefault(
                str({name: (layer.shape, layer.dtype) for name, layer in part.layers.items()}), folder
            )
    if len(held) > 1:
        described = " and ".join(f"{os.fspath(folder)!r} holds rows {rows}" for rows, folder in held.items())
        raise ValueError(f"all parts must hold rows of the same shape; {described}")
