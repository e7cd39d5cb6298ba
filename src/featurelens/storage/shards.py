"""One layer's files: rows are appended to an open shard, which gets its name once it is full and safe on disk."""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, final

import torch

from featurelens.storage.files import OPEN, digest_of, sync_folder
from featurelens.storage.manifest import Shard, StoredShape
from featurelens.storage.npy import dtype_name, file_dtype, header, row_bytes

SHARD_BYTES = 64 * 2**20


def new_layer(folder: str, shape: tuple[int, ...], dtype: torch.dtype) -> StoredShape:
    """Return a layer without rows; the number of rows in a shard follows from the size of one."""
    rows = max(1, SHARD_BYTES // max(1, row_bytes(shape, dtype)))
    return StoredShape(folder, shape, dtype_name(dtype), rows)


@final
class ShardWriter:
    """Appends rows to a layer, from where `layer` leaves off."""

    def __init__(self, store: Path, layer: StoredShape) -> None:
        self.store, self.layer = store, layer
        self.dtype = getattr(torch, layer.dtype)
        self.row_bytes = row_bytes(layer.shape, self.dtype)
        self.head = self._header(layer.shard_rows)
        self.shards = list(layer.shards)
        self.rows = 0  # in the open shard
        self._file = None if layer.open_shard is None else self._reopen(layer.open_shard)

    def append(self, rows: torch.Tensor) -> None:
        """Add `rows`, `(n, *shape)`; they are in the operating system's hands, and safe after `sync`."""
        contiguous = rows.detach().cpu().contiguous()
        content = contiguous.view(file_dtype(self.dtype)).numpy().reshape(-1).view("uint8")
        start, count = 0, len(rows)
        while start < count:
            self._file = self._file or self._create()
            taken = min(count - start, self.layer.shard_rows - self.rows)
            part = content[start * self.row_bytes : (start + taken) * self.row_bytes]
            self._file.write(part.data)
            self._sha256.update(part.data)
            self.rows += taken
            start += taken
            if self.rows == self.layer.shard_rows:
                self.finish()

    def finish(self) -> None:
        """Close the open shard, if there is one, and give it its name."""
        if self._file is None:
            return
        shard, opened = self._shard(), self._path(OPEN)
        if self.rows < self.layer.shard_rows:
            self._file.seek(0)
            self._file.write(self._header(self.rows))
        self._sync_file(self._file)
        self._file.close()
        self._file = None
        if self.rows < self.layer.shard_rows:
            shard = replace(shard, sha256=digest_of(opened, shard.bytes).hexdigest())
        opened.replace(self._path())
        self.shards.append(replace(shard, file=shard.file.removesuffix(OPEN)))
        self.rows = 0

    def sync(self) -> StoredShape:
        """Make everything appended so far safe on disk, and say how it lies there."""
        if self._file is not None:
            self._sync_file(self._file)
        if self.shards or self._file is not None:
            sync_folder(self._folder)
        opened = None if self._file is None else self._shard()
        return replace(self.layer, shards=tuple(self.shards), open_shard=opened)

    def close(self) -> None:
        """Let go of the open shard as it is."""
        if self._file is not None:
            with suppress(OSError):  # what is buffered cannot be written to a full disk
                self._file.close()

    @property
    def _folder(self) -> Path:
        return self.store / self.layer.folder

    def _path(self, ending: str = "") -> Path:
        return self._folder / f"{len(self.shards):06d}.npy{ending}"

    def _header(self, rows: int) -> bytes:
        return header(rows, self.layer.shape, self.dtype, most_rows=self.layer.shard_rows)

    def _shard(self) -> Shard:
        start = self.shards[-1].stop if self.shards else 0
        size = len(self.head) + self.rows * self.row_bytes
        file = f"{self.layer.folder}/{len(self.shards):06d}.npy{OPEN}"
        return Shard(file, start, start + self.rows, size, self._sha256.hexdigest())

    def _create(self) -> BinaryIO:
        self._folder.mkdir(exist_ok=True)
        file = self._path(OPEN).open("wb")
        file.write(self.head)
        self._sha256 = hashlib.sha256(self.head)
        return file

    def _reopen(self, shard: Shard) -> BinaryIO:
        path = self._path(OPEN)
        self._sha256 = digest_of(path, shard.bytes)
        if self._sha256.hexdigest() != shard.sha256:
            raise OSError(f"{os.fspath(path)!r} is damaged: its sha256 is not that of the manifest")
        self.rows = shard.rows
        file = path.open("r+b")
        file.seek(shard.bytes)
        return file

    @staticmethod
    def _sync_file(file: BinaryIO) -> None:
        file.flush()
        os.fsync(file.fileno())
