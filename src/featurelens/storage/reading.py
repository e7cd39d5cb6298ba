"""Read rows of a layer from its shards, and nothing else."""

from __future__ import annotations

import os
import sys
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from featurelens._checks import describe
from featurelens.storage.files import OPEN
from featurelens.storage.manifest import Shard, StoredShape
from featurelens.storage.npy import file_dtype, header, row_bytes

_MOST_OPEN = 64


@final
class Files:
    """The files of a store, the last used kept open.

    They are read with an offset in each call, as workers that DataLoader forks share the place in an open file, and
    not mapped into memory: a mapped file that is cut short by someone ends the process.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._open: OrderedDict[str, _Handle] = OrderedDict()
        self._lock = threading.Lock()

    def __reduce__(self) -> Any:
        return Files, (self.folder,)

    def read(self, shard: Shard, offset: int, target: memoryview) -> None:
        """Fill `target` with the bytes of a shard from `offset` on.

        Raises
        ------
        OSError
            If the file is missing or too short.
        """
        handle = self._handle(shard)
        while target:
            count = handle.read_into(target, offset)
            if count == 0:
                raise OSError(f"{os.fspath(self.folder / shard.file)!r} is damaged: it ends at byte {offset}")
            target, offset = target[count:], offset + count

    def _handle(self, shard: Shard) -> _Handle:
        with self._lock:
            if shard.file not in self._open:
                self._open[shard.file] = self._opened(shard)
            self._open.move_to_end(shard.file)
            if len(self._open) > _MOST_OPEN:
                self._open.popitem(last=False)
            return self._open[shard.file]

    def _opened(self, shard: Shard) -> _Handle:
        path = self.folder / shard.file
        if (named := finished(path)) is not None:
            return _Handle(named)  # rows are where they were, and others behind them
        check_size(path, shard)
        return _Handle(path)


def finished(path: Path) -> Path | None:
    """Return what a file that was being written when its store was opened is called now, if it was finished since."""
    named = path.with_name(path.name.removesuffix(OPEN))
    return named if named != path and not path.exists() and named.exists() else None


@final
class _Handle:
    """An open file, closed when nobody reads it any more."""

    def __init__(self, path: Path) -> None:
        self.number = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        self.lock = threading.Lock()

    def __del__(self) -> None:
        if hasattr(self, "number"):
            os.close(self.number)

    def read_into(self, target: memoryview, offset: int) -> int:
        if sys.platform == "win32":
            with self.lock:
                os.lseek(self.number, offset, os.SEEK_SET)
                part = os.read(self.number, len(target))
            target[: len(part)] = part
            return len(part)
        else:  # noqa: RET505  a branch that only one platform's type check sees
            return os.preadv(self.number, [target], offset)


def check_size(path: Path, shard: Shard) -> None:
    """Raise an OSError unless the file is there and as long as it was written."""
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        raise FileNotFoundError(f"{os.fspath(path)!r} is missing from the store") from None
    if size < shard.bytes or (size > shard.bytes and not path.name.endswith(OPEN)):
        raise OSError(
            f"{os.fspath(path)!r} is damaged: it has {size} bytes, and was written with {shard.bytes}"
        )


@final
class StoredLayer(Sequence[Tensor]):
    """One layer of a store: looks like a tensor `(N, ...)` of which rows are read when they are asked for.

    ``layer[rows]`` takes an integer, a slice, integers in any order (a list, an array or a tensor), or a mask with
    one truth value for each row, and returns a tensor in memory. ``layer[:]`` reads everything. An `ActivationStore` makes
    it, of the layer's `name`, how the `layer` lies on disk, and the open `files`.

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

    def __init__(self, name: str, layer: StoredShape, files: Files) -> None:
        self.name = name
        self._layer, self._files = layer, files
        self._shards = layer.all_shards
        self._starts = np.array([shard.start for shard in self._shards], dtype=np.int64)
        rows = self._shards[-1].stop if self._shards else 0
        self.shape: tuple[int, ...] = (rows, *layer.shape)

    @property
    def dtype(self) -> torch.dtype:
        """As it was recorded.

        Raises
        ------
        ValueError
            If this version of torch has no such dtype.
        """
        dtype = getattr(torch, self._layer.dtype, None)
        if not isinstance(dtype, torch.dtype):
            raise ValueError(  # noqa: TRY004  nobody passed a wrong type
                f"layer {self.name!r} was recorded as {self._layer.dtype}, which torch {torch.__version__} does not know; "
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
        if isinstance(rows, Tensor | np.ndarray) and rows.ndim == 0:
            rows = rows.item()
        if isinstance(rows, int | np.integer) and not isinstance(rows, bool):
            return self._read(self._wrapped(np.array([rows])))[0]
        return self._read(self._numbers(rows))

    def _numbers(self, rows: Any) -> np.ndarray[Any, Any]:
        """The numbers of the rows that are asked for, in order."""
        if isinstance(rows, slice):
            return np.arange(*rows.indices(len(self)))
        if isinstance(rows, list | range | np.ndarray | Tensor):
            numbers = rows.cpu().numpy() if isinstance(rows, Tensor) else np.asarray(rows)
            if numbers.size == 0 and numbers.ndim == 1 and numbers.dtype != bool:
                return np.empty(0, np.int64)
            if numbers.dtype == bool and numbers.shape == (len(self),):
                return np.flatnonzero(numbers)
            if numbers.dtype == bool:
                raise IndexError(
                    f"a mask of layer {self.name!r} has shape ({len(self)},); got {numbers.shape}"
                )
            if numbers.ndim == 1 and np.issubdtype(numbers.dtype, np.integer):
                return self._wrapped(numbers.astype(np.int64))
        raise TypeError(
            "rows are chosen by an integer, a slice, a list of integers or a mask, and further axes in the tensor "
            f"that comes back; got {describe(rows)}"
        )

    def _wrapped(self, numbers: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        outside = (numbers < -len(self)) | (numbers >= len(self))
        if outside.any():
            raise IndexError(
                f"row {numbers[outside][0]} is out of range: layer {self.name!r} has {len(self)} rows"
            )
        return np.where(numbers < 0, numbers + len(self), numbers)

    def _read(self, numbers: np.ndarray[Any, Any]) -> Tensor:
        """Read the rows of these numbers; those that follow each other in a file are read at once."""
        result = torch.empty((len(numbers), *self._layer.shape), dtype=self.dtype)
        size = row_bytes(self._layer.shape, self.dtype)
        head = len(header(0, self._layer.shape, self.dtype, most_rows=self._layer.shard_rows))
        if result.numel() == 0:
            return result
        target = result.view(file_dtype(self.dtype)).numpy().reshape(-1).view(np.uint8).data
        places = np.searchsorted(self._starts, numbers, side="right") - 1
        broken = (np.diff(numbers) != 1) | (np.diff(places) != 0)
        starts = np.concatenate([[0], np.flatnonzero(broken) + 1])
        stops = np.append(starts[1:], len(numbers))
        in_files = np.argsort(numbers[starts], kind="stable")  # the order in which a disk likes to be read
        for start, stop in zip(starts[in_files].tolist(), stops[in_files].tolist(), strict=True):
            shard = self._shards[places[start]]
            offset = head + (int(numbers[start]) - shard.start) * size
            self._files.read(shard, offset, target[start * size : stop * size])
        return result
