"""The files of one layer: .npy shards, to which rows are appended and from which chosen rows are read."""

from __future__ import annotations

import functools
import hashlib
import io
import itertools
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from featurelens._checks import describe
from featurelens.storage.files import OPEN, digest_of, sync_folder
from featurelens.storage.manifest import Shard, StoredShape

SHARD_BYTES = 64 * 2**20


@functools.cache
def file_dtype(dtype: torch.dtype) -> np.dtype[Any]:
    """Return the dtype under which a file holds `dtype`: unsigned integers of its size where numpy has none."""
    try:
        return torch.empty(0, dtype=dtype).numpy().dtype
    except TypeError:  # bfloat16, float8
        return np.dtype(f"u{dtype.itemsize}")


def is_storable(tensor: Tensor) -> bool:
    """Return whether a file can hold what is in `tensor`."""
    dense = tensor.layout == torch.strided and not (tensor.is_meta or tensor.is_nested or tensor.is_quantized)
    return dense and tensor.ndim > 0


def header(rows: int, shape: tuple[int, ...], dtype: torch.dtype) -> bytes:
    """Return the head of a .npy file of `rows`; its length is that for any other number of rows."""
    file = io.BytesIO()
    descr = np.lib.format.dtype_to_descr(file_dtype(dtype))
    content = {"descr": descr, "fortran_order": False, "shape": (rows, *shape)}
    np.lib.format.write_array_header_1_0(file, content)  # pads, so that an array can grow in place
    return file.getvalue()


def new_layer(folder: str, shape: tuple[int, ...], dtype: torch.dtype) -> StoredShape:
    """Return a layer without rows; the number of rows in a shard follows from the size of one."""
    rows = max(1, SHARD_BYTES // max(1, dtype.itemsize * math.prod(shape)))
    return StoredShape(folder, shape, str(dtype).removeprefix("torch."), rows)


@final
class ShardWriter:
    """Appends rows to a layer, continuing where `layer` ends; a file is open only while it is written to.

    Rows go to an open shard, which gets its final name once it is full and safe on disk.
    """

    def __init__(self, store: Path, layer: StoredShape) -> None:
        self.layer, self.folder = layer, store / layer.folder
        self.dtype = getattr(torch, layer.dtype)
        self.row_bytes = self.dtype.itemsize * math.prod(layer.shape)
        self.head = header(layer.shard_rows, layer.shape, self.dtype)
        self.shards = list(layer.shards)
        self.rows = 0  # in the open shard
        if (shard := layer.open_shard) is not None:
            path = self._path(OPEN)
            self._sha256 = digest_of(path, shard.bytes)
            check_digest(self._sha256, path, shard)
            self.rows = shard.stop - shard.start

    def append(self, rows: Tensor) -> None:
        """Add `rows` ``(n, *shape)``; the operating system has them then, and `sync` makes them safe."""
        content = rows.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
        start, count = 0, len(rows)
        while start < count:
            stop = min(count, start + self.layer.shard_rows - self.rows)
            self._write(content[start * self.row_bytes : stop * self.row_bytes].data)
            self.rows += stop - start
            start = stop
            if self.rows == self.layer.shard_rows:
                self.finish()

    def finish(self) -> None:
        """Give the open shard, if there is one, its final name."""
        if not self.rows:
            return
        shard, opened = self._shard(), self._path(OPEN)
        partly_filled = self.rows < self.layer.shard_rows
        with opened.open("r+b") as file:
            if partly_filled:
                file.write(header(self.rows, self.layer.shape, self.dtype))
                file.flush()
            os.fsync(file.fileno())
        if partly_filled:
            shard = replace(shard, sha256=digest_of(opened, shard.bytes).hexdigest())
        opened.replace(self._path())
        self.shards.append(replace(shard, file=shard.file.removesuffix(OPEN)))
        self.rows = 0

    def sync(self) -> StoredShape:
        """Make everything appended so far safe on disk, and return how it is stored."""
        if self.rows:
            with self._path(OPEN).open("r+b") as file:
                os.fsync(file.fileno())
        if self.shards or self.rows:
            sync_folder(self.folder)
        opened = self._shard() if self.rows else None
        return replace(self.layer, shards=tuple(self.shards), open_shard=opened)

    def _write(self, part: memoryview) -> None:
        if not self.rows:
            self.folder.mkdir(exist_ok=True)
            self._sha256 = hashlib.sha256()
        with self._path(OPEN).open("ab" if self.rows else "wb") as file:
            for content in (part,) if self.rows else (self.head, part):
                file.write(content)
                self._sha256.update(content)

    def _path(self, suffix: str = "") -> Path:
        return self.folder / f"{len(self.shards):06d}.npy{suffix}"

    def _shard(self) -> Shard:
        start = self.shards[-1].stop if self.shards else 0
        size = len(self.head) + self.rows * self.row_bytes
        file = f"{self.layer.folder}/{self._path(OPEN).name}"
        return Shard(file, start, start + self.rows, size, self._sha256.hexdigest())


def restore(folder: Path, layer: StoredShape) -> None:
    """Make the files of a layer what the manifest in `folder` says; anything newer may be incomplete."""
    kept = {Path(shard.file).name for shard in layer.all_shards}
    if (shard := layer.open_shard) is not None:
        opened = folder / shard.file
        if (named := _final_name(opened)).exists():  # it was finished after the manifest was written
            named.replace(opened)
        with opened.open("r+b") as file:
            file.write(header(layer.shard_rows, layer.shape, getattr(torch, layer.dtype)))
            file.truncate(shard.bytes)
    for path in (folder / layer.folder).glob("*.npy*"):
        if path.name not in kept and _final_name(path).stem.isdecimal():
            path.unlink()


def _final_name(path: Path) -> Path:
    return path.with_name(path.name.removesuffix(OPEN))


def check_digest(digest: hashlib._Hash, path: Path, shard: Shard) -> None:
    """Raise an OSError unless `digest` is that of the shard when it was written."""
    if digest.hexdigest() != shard.sha256:
        raise OSError(f"{os.fspath(path)!r} is damaged: its sha256 differs from the manifest's")


def locate(folder: Path, shard: Shard) -> Path:
    """Return where a shard is: under its final name, if the recording went on since the store was opened.

    Raises
    ------
    OSError
        If the file is missing, or not as long as it was written.
    """
    path = folder / shard.file
    if shard.file.endswith(OPEN) and not path.exists():
        path = _final_name(path)
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        raise FileNotFoundError(f"{os.fspath(folder / shard.file)!r} is missing from the store") from None
    if size < shard.bytes or (size > shard.bytes and not shard.file.endswith(OPEN)):
        raise OSError(f"{os.fspath(path)!r} is damaged: it has {size} bytes, but {shard.bytes} were written")
    return path


@final
class StoredLayer(Sequence[Tensor]):
    """One layer of a store: behaves like a tensor `(N, ...)` whose rows are read from disk on access.

    ``layer[rows]`` accepts an integer, a slice, integers in any order (a list, an array or a tensor), or a boolean mask
    with one value for each row, and returns a tensor in memory. ``layer[:]`` reads everything. Made by an
    `ActivationStore` from the layer's `name`, its `layer` entry in the manifest, and the store's `folder`.

    Attributes
    ----------
    name : str
        The layer's name.
    shape : tuple of int
        ``(N, ...)``.

    Examples
    --------
    >>> import tempfile
    >>> import featurelens as fl
    >>> model = torch.nn.Sequential(torch.nn.Linear(3, 2))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     loader = torch.arange(30.0).reshape(10, 3).split(4)
    ...     layer = fl.ActivationRecorder(model, "linear_1").record(loader, to=folder)["linear_1"]
    ...     layer.shape, layer[3].shape, layer[[7, -1]].shape, layer[:].shape
    ((10, 2), torch.Size([2]), torch.Size([2, 2]), torch.Size([10, 2]))
    """

    def __init__(self, name: str, layer: StoredShape, folder: Path) -> None:
        self.name = name
        self._layer, self._folder = layer, folder
        self._shards = layer.all_shards
        self._starts = np.array([shard.start for shard in self._shards], dtype=np.int64)
        rows = self._shards[-1].stop if self._shards else 0
        self.shape: tuple[int, ...] = (rows, *layer.shape)

    @property
    def dtype(self) -> torch.dtype:
        """The dtype as recorded.

        Raises
        ------
        ValueError
            If this version of torch has no such dtype.
        """
        dtype = getattr(torch, self._layer.dtype, None)
        if not isinstance(dtype, torch.dtype):
            raise ValueError(  # noqa: TRY004  nobody passed a wrong type
                f"layer {self.name!r} was recorded as {self._layer.dtype}, which torch {torch.__version__} does not support; "
                "the store's other layers can be read"
            )
        return dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        return (self[row] for row in range(len(self)))

    def __repr__(self) -> str:
        return f"StoredLayer({self.name!r}, {self.shape}, {self._layer.dtype})"

    def __getitem__(self, rows: Any) -> Any:
        if isinstance(rows, slice):
            return self._read(np.arange(*rows.indices(len(self))))
        numbers = np.asarray(rows.cpu() if isinstance(rows, Tensor) else rows)
        is_mask = numbers.dtype == bool and numbers.ndim == 1
        is_list = numbers.dtype.kind in "iu" and numbers.ndim < 2
        if isinstance(rows, tuple) or not (is_mask or is_list or numbers.shape == (0,)):
            raise TypeError(
                "rows are indexed by an integer, a slice, a list of integers or a mask; index further axes of the tensor "
                f"that is returned; got {describe(rows)}"
            )
        if is_mask:
            if len(numbers) != len(self):
                raise IndexError(
                    f"a mask for layer {self.name!r} must have shape ({len(self)},); got {numbers.shape}"
                )
            numbers = np.flatnonzero(numbers)
        numbers = numbers.astype(np.int64)
        outside = (numbers < -len(self)) | (numbers >= len(self))
        if outside.any():
            raise IndexError(
                f"row {numbers[outside][0]} is out of range: layer {self.name!r} has {len(self)} rows"
            )
        found = self._read(np.where(numbers < 0, numbers + len(self), numbers).reshape(-1))
        return found if numbers.ndim else found[0]

    def __getitems__(self, rows: list[int]) -> list[Tensor]:
        """Return the rows of one batch of a `torch.utils.data.DataLoader`, which are read together."""
        return list(self[rows])

    def _read(self, numbers: np.ndarray[Any, Any]) -> Tensor:
        """Read rows; those that follow each other in a file are read at once."""
        result = torch.empty((len(numbers), *self._layer.shape), dtype=self.dtype)
        if result.numel() == 0:
            return result
        size = result[0].nbytes
        target = result.view(-1).view(torch.uint8).numpy().data
        places = np.searchsorted(self._starts, numbers, side="right") - 1
        broken = (np.diff(numbers) != 1) | (np.diff(places) != 0)
        starts = np.concatenate([[0], np.flatnonzero(broken) + 1])
        stops = np.append(starts[1:], len(numbers))
        in_files = np.argsort(numbers[starts])  # a disk is read fastest in order
        runs = zip(starts[in_files].tolist(), stops[in_files].tolist(), strict=True)
        for place, of_shard in itertools.groupby(runs, key=lambda run: places[run[0]]):
            shard = self._shards[place]
            with locate(self._folder, shard).open("rb") as file:
                for start, stop in of_shard:
                    file.seek(shard.bytes - (shard.stop - int(numbers[start])) * size)
                    part = target[start * size : stop * size]
                    if file.readinto(part) != len(part):
                        raise OSError(f"{file.name!r} is damaged: it ends before byte {shard.bytes}")
        return result
