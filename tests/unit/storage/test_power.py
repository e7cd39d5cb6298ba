"""A power cut keeps only what was synced: that must be all that a manifest names, whenever one takes its place."""

import errno
import hashlib
import os
import sys
from pathlib import Path

import pytest

from featurelens.storage.manifest import NAME, Manifest
from tests.stores import loader, recorder, same

DATA = list(loader(23))


class Disk:
    """What was synced: the content of files by their inode, and the names in folders."""

    def __init__(self):
        self.contents, self.names, self.manifests = {}, {}, 0

    def fsync(self, handle):
        path = Path(f"/proc/self/fd/{handle}").readlink()
        if path.is_dir():
            self.names[path] = {inner.name: inner.stat().st_ino for inner in path.iterdir()}
        else:
            self.contents[path.stat().st_ino] = path.read_bytes()

    def replace(self, path, target):
        if target.name == NAME:
            if target.exists():
                assert self.names[target.parent][NAME] == target.stat().st_ino, "the one before may be lost"
            assert self.contents[path.stat().st_ino] == path.read_bytes()
        path.rename(target)
        if target.name == NAME:
            self.manifests += 1
            for layer in Manifest.read(target.parent).layers.values():
                for shard in layer.all_shards:
                    place = target.parent / shard.file
                    synced = self.contents[self.names[place.parent][place.name]][: shard.bytes]
                    assert hashlib.sha256(synced).hexdigest() == shard.sha256, shard


@pytest.mark.skipif(sys.platform != "linux", reason="looks files up in /proc")
@pytest.mark.parametrize("seconds", [0.0, 60.0], ids=["checkpoints", "one commit"])
def test_a_manifest_names_only_what_is_safe_on_disk(tmp_path, monkeypatch, tiny, seconds):
    disk = Disk()
    monkeypatch.setattr("featurelens.storage.writer.CHECKPOINT_SECONDS", seconds)
    monkeypatch.setattr(os, "fsync", disk.fsync)

    def replace(path, target):
        disk.replace(path, target)

    monkeypatch.setattr(Path, "replace", replace)
    recorder().record(DATA, to=tmp_path)
    assert disk.names[tmp_path] == {path.name: path.stat().st_ino for path in tmp_path.iterdir()} | {
        ".lock": disk.names[tmp_path][".lock"]
    }
    assert disk.manifests == {0.0: len(DATA) + 3, 60.0: 3}[seconds]  # none, the layers, the batches, the end


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("failing", [0, 1, 2])
def test_a_first_batch_that_cannot_be_written_leaves_an_empty_folder(tmp_path, monkeypatch, failing):
    made, mkdir = [], Path.mkdir

    def full(path, *args, **kwargs):
        if path.parent == tmp_path:
            if len(made) == failing:
                raise OSError(errno.ENOSPC, "No space left on device")
            made.append(path)
        mkdir(path, *args, **kwargs)

    with monkeypatch.context() as patches:
        patches.setattr(Path, "mkdir", full)
        with pytest.raises(OSError, match=": 0 rows are safe there; once it can be written again"):
            recorder().record(DATA, to=tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert same(recorder().record(DATA, to=tmp_path), recorder().record(DATA))
