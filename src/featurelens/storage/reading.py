"""Read rows of a layer from its shards, and nothing else."""

from __future__ import annotations

import os
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
from featurelens.storage.npy import file_dtype, header

_OPEN_MAPS = 64


@final
class Maps:
    """Memory maps of shards, the last used kept open."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._open: OrderedDict[str, np.ndarray[Any, Any]] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder, "_open": OrderedDict()}  # a map would be pickled as all that it shows

    def rows(self, shard: Shard, layer: StoredShape) -> np.ndarray[Any, Any]:
        """Return the rows of a shard, `(n, *shape)`; none of them is read before it is looked at.

        Raises
        ------
        OSError
            If the file is missing or too short.
        """
        if shard.file in self._open:
            self._open.move_to_end(shard.file)
            return self._open[shard.file]
        path = self.folder / shard.file
        check_size(path, shard)
        dtype = getattr(torch, layer.dtype)
        offset = len(header(0, layer.shape, dtype, most_rows=layer.shard_rows))
        kind = torch.empty(0, dtype=file_dtype(dtype)).numpy().dtype
        shape = (shard.rows, *layer.shape)
        if 0 in shape:
            return np.empty(shape, kind)
        self._open[shard.file] = np.memmap(path, kind, mode="r", offset=offset, shape=shape)
        if len(self._open) > _OPEN_MAPS:
            self._open.popitem(last=False)
        return self._open[shard.file]


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
    one truth value for each row, and returns a tensor in memory. ``layer[:]`` reads everything.

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

    def __init__(self, name: str, layer: StoredShape, maps: Maps) -> None:
        self.name = name
        self._layer, self._maps = layer, maps
        self._starts = np.array([shard.start for shard in layer.all_shards], dtype=np.int64)
        rows = layer.all_shards[-1].stop if layer.all_shards else 0
        self.shape: tuple[int, ...] = (rows, *layer.shape)
        self.dtype: torch.dtype = getattr(torch, layer.dtype)

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
        result = torch.empty((len(numbers), *self._layer.shape), dtype=self.dtype)
        target = result.view(file_dtype(self.dtype)).numpy()
        places = np.searchsorted(self._starts, numbers, side="right") - 1
        order = np.argsort(places, kind="stable")  # shard by shard, whatever the order asked for
        cuts = np.flatnonzero(np.diff(places[order])) + 1
        for chosen in np.split(order, cuts) if len(order) else []:
            shard = self._layer.all_shards[places[chosen[0]]]
            target[chosen] = self._maps.rows(shard, self._layer)[numbers[chosen] - shard.start]
        return result
