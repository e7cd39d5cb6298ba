"""One layer's files: rows are appended to an open shard, which gets its name once it is full and safe on disk."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from pathlib import Path
from typing import final

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
    """Appends rows to a layer, from where `layer` leaves off; a file is open only while it is written to."""

    def __init__(self, store: Path, layer: StoredShape) -> None:
        self.store, self.layer = store, layer
        self.dtype = getattr(torch, layer.dtype)
        self.row_bytes = row_bytes(layer.shape, self.dtype)
        self.head = self._header(layer.shard_rows)
        self.shards = list(layer.shards)
        self.rows = 0  # in the open shard
        if layer.open_shard is not None:
            self._continue(layer.open_shard)

    def append(self, rows: torch.Tensor) -> None:
        """Add `rows`, `(n, *shape)`; they are in the operating system's hands, and safe after `sync`."""
        contiguous = rows.detach().cpu().contiguous()
        content = contiguous.view(file_dtype(self.dtype)).numpy().reshape(-1).view("uint8")
        start, count = 0, len(rows)
        while start < count:
            taken = min(count - start, self.layer.shard_rows - self.rows)
            self._write(content[start * self.row_bytes : (start + taken) * self.row_bytes].data)
            self.rows += taken
            start += taken
            if self.rows == self.layer.shard_rows:
                self.finish()

    def finish(self) -> None:
        """Give the open shard, if there is one, its name."""
        if not self.rows:
            return
        shard, opened = self._shard(), self._path(OPEN)
        with opened.open("r+b") as file:
            if self.rows < self.layer.shard_rows:
                file.write(self._header(self.rows))
                file.flush()
            os.fsync(file.fileno())
        if self.rows < self.layer.shard_rows:
            shard = replace(shard, sha256=digest_of(opened, shard.bytes).hexdigest())
        opened.replace(self._path())
        self.shards.append(replace(shard, file=shard.file.removesuffix(OPEN)))
        self.rows = 0

    def sync(self) -> StoredShape:
        """Make everything appended so far safe on disk, and say how it lies there."""
        if self.rows:
            with self._path(OPEN).open("r+b") as file:
                os.fsync(file.fileno())
        if self.shards or self.rows:
            sync_folder(self._folder)
        opened = self._shard() if self.rows else None
        return replace(self.layer, shards=tuple(self.shards), open_shard=opened)

    def _write(self, part: memoryview) -> None:
        if not self.rows:
            self._folder.mkdir(exist_ok=True)
            self._sha256 = hashlib.sha256(self.head)
        with self._path(OPEN).open("ab" if self.rows else "wb", buffering=0) as file:
            for content in (part,) if self.rows else (self.head, part):
                written = 0
                while written < len(content):
                    written += file.write(content[written:])
        self._sha256.update(part)

    @property
    def _folder(self) -> Path:
        return self.store / self.layer.folder

    def _path(self, suffix: str = "") -> Path:
        return self._folder / f"{len(self.shards):06d}.npy{suffix}"

    def _header(self, rows: int) -> bytes:
        return header(rows, self.layer.shape, self.dtype, most_rows=self.layer.shard_rows)

    def _shard(self) -> Shard:
        start = self.shards[-1].stop if self.shards else 0
        size = len(self.head) + self.rows * self.row_bytes
        file = f"{self.layer.folder}/{len(self.shards):06d}.npy{OPEN}"
        return Shard(file, start, start + self.rows, size, self._sha256.hexdigest())

    def _continue(self, shard: Shard) -> None:
        path = self._path(OPEN)
        self._sha256 = digest_of(path, shard.bytes)
        if self._sha256.hexdigest() != shard.sha256:
            raise OSError(f"{os.fspath(path)!r} is damaged: its sha256 is not that of the manifest")
        self.rows = shard.rows
