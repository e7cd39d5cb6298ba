"""What goes wrong with disks and files is told, and costs nothing that was good."""

import errno
import fcntl
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import featurelens as fl
from featurelens.storage.files import LOCK, only_writer
from tests.stores import files, loader, recorder, same


@pytest.fixture
def store(tmp_path, tiny):
    return recorder().record(loader(), to=tmp_path / "store")


def shard(store, name="2", number=1):
    return store.path / f"{list(store).index(name):03d}-{name}" / f"{number:06d}.npy"


def test_a_truncated_shard_is_named_and_the_others_still_read(store):
    path = shard(store)
    whole = store["2"][:]
    path.write_bytes(path.read_bytes()[:-1])
    fresh = fl.ActivationStore(store.path)
    with pytest.raises(OSError, match=r"000001.npy' is damaged: it has 255 bytes, but 256 were written"):
        fresh["2"][:]
    with pytest.raises(OSError, match=r"000001.npy' is damaged: it has 255 bytes"):
        fresh.verify()
    assert torch.equal(fresh["2"][[0, -1]], whole[[0, -1]])


def test_verify_names_every_damaged_file(store):
    changed, removed = shard(store), shard(store, "4", 0)
    content = bytearray(changed.read_bytes())
    content[-3] ^= 1
    changed.write_bytes(content)
    removed.unlink()
    with pytest.raises(OSError) as caught:  # noqa: PT011  what it says is compared below
        store.verify()
    assert "001-2/000001.npy' is damaged: its sha256 differs from the manifest's" in str(caught.value)
    assert "002-4/000000.npy' is missing from the store" in str(caught.value)


def edit(store, change):
    path = store.path / "manifest.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_an_edited_manifest_is_refused(store):
    edit(store, lambda content: content["progress"].update(rows=24))
    with pytest.raises(ValueError, match="was changed after it was written: its checksum no longer matches"):
        fl.ActivationStore(store.path)
    edit(store, lambda content: content.update(format=2))
    with pytest.raises(ValueError, match="has format 2, and this version of featurelens reads format 1"):
        fl.ActivationStore(store.path)
    for text in (b"{", b"[]", b'{"format": 1}', b"\x80"):
        (store.path / "manifest.json").write_bytes(text)
        with pytest.raises(ValueError, match="is not the manifest of an activation store"):
            fl.ActivationStore(store.path)


def test_a_damaged_open_shard_is_not_resumed(tmp_path, tiny):
    with pytest.raises(RuntimeError, match="the model failed on batch 3"):
        recorder().record([*list(loader(8)), torch.zeros(())], to=tmp_path)
    path = next((tmp_path / "002-4").glob("*.open"))
    path.write_bytes(path.read_bytes()[:-4] + b"abcd")
    with pytest.raises(OSError, match="is damaged: its sha256 differs from the manifest's"):
        recorder().record(loader(12), to=tmp_path, resume=True)


TOLD = (
    r"could not write to .*rows are safe there; once it can be written again, the same call with resume=True"
)


@pytest.mark.skipif(sys.platform != "linux", reason="limits the size of files")
def test_a_file_that_cannot_grow(tmp_path, monkeypatch):
    from featurelens.storage import writer

    monkeypatch.setattr(writer, "CHECKPOINT_SECONDS", 0.0)
    expected = recorder().record(loader())
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
    try:
        with pytest.raises(OSError, match=TOLD) as caught:
            recorder().record(loader(), to=tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert caught.value.errno == errno.EFBIG
    store = fl.ActivationStore(tmp_path)
    assert f": {store.rows} rows are safe" in str(caught.value)
    store.verify()
    listed = {shard.file for layer in store._manifest.layers.values() for shard in layer.all_shards}
    assert {name for name in files(tmp_path) if ".npy" in name} == listed, "what is not safe was removed"
    assert same(recorder().record(loader(), to=tmp_path, resume=True), expected)


@pytest.mark.usefixtures("tiny")
def test_a_full_disk(tmp_path):
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", tmp_path], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("a small disk can only be mounted by root")
    try:
        rest = Path(tmp_path / "rest")
        rest.write_bytes(b"0" * 40_000)
        with pytest.raises(OSError, match=TOLD) as caught:
            recorder().record(loader(), to=tmp_path / "store")
        assert caught.value.errno == errno.ENOSPC
        store = fl.ActivationStore(tmp_path / "store")
        assert 0 < store.rows < 23
        assert f": {store.rows} rows are safe" in str(caught.value)
        store.verify()
        assert torch.equal(store["2"][:], recorder().record(loader())["2"][: store.rows])
        rest.unlink()
        subprocess.run(["mount", "-o", "remount,size=4m", tmp_path], check=True)
        assert same(
            recorder().record(loader(), to=tmp_path / "store", resume=True), recorder().record(loader())
        )
    finally:
        subprocess.run(["umount", "-l", tmp_path], check=False)


class Untouched:
    """A loader over which nothing may run."""

    def __len__(self):
        return 1

    def __iter__(self):
        raise AssertionError("asked for a batch")


def test_what_cannot_be_written_is_told_before_anything_is_run(tmp_path):
    file = tmp_path / "file"
    file.write_text("mine")
    with pytest.raises(FileExistsError, match="file' is a file, but a store is a folder"):
        recorder().record(Untouched(), to=file)
    with pytest.raises(OSError, match=r"activations cannot be written to .*: Not a directory"):
        recorder().record(Untouched(), to=file / "store")
    with pytest.raises(
        FileExistsError, match=r"is not empty and holds no activations \(it contains 'file'\)"
    ):
        recorder().record(Untouched(), to=tmp_path)
    assert file.read_text() == "mine"


@pytest.mark.skipif(not Path("/sys/kernel").exists(), reason="needs a folder that nobody can write")
def test_a_read_only_folder_is_told_before_anything_is_run():
    with pytest.raises(PermissionError, match="activations cannot be written to '/sys/kernel/store'"):
        recorder().record(Untouched(), to="/sys/kernel/store")


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs a list of open files")
def test_a_writer_that_is_refused_leaves_no_file_open(tmp_path):
    with only_writer(tmp_path):
        before = len(list(Path("/proc/self/fd").iterdir()))
        for _ in range(3):
            with pytest.raises(RuntimeError, match="is being written by another run"), only_writer(tmp_path):
                pass
        assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_second_writer_is_refused(tmp_path):
    with only_writer(tmp_path):
        assert not (tmp_path / LOCK).stat().st_mode & 0o133, "others may read it and no more"
        with pytest.raises(
            RuntimeError,
            match=rf"is being written by another run \(process {os.getpid()} on .*\): wait for it",
        ):
            recorder().record(Untouched(), to=tmp_path)
    assert files(tmp_path) == {}


@pytest.mark.skipif(sys.platform == "win32", reason="has other locks")
def test_a_file_system_without_locks_is_told(tmp_path, monkeypatch):
    def refuse(*args):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    with pytest.raises(OSError, match=r"activations cannot be written to .*: No locks available"):
        recorder().record(Untouched(), to=tmp_path)


@pytest.mark.skipif(sys.platform == "win32", reason="has other locks")
@pytest.mark.parametrize("again", [True, False])
def test_a_lock_that_another_writer_removes_while_it_is_opened_is_taken_anew(tmp_path, monkeypatch, again):
    """Whoever comes next would lock another file of that name; `again`, where there is one already."""
    flock, path = fcntl.flock, tmp_path / LOCK

    def late(*args):
        monkeypatch.setattr("fcntl.flock", flock)
        path.unlink()
        if again:
            path.touch()
        flock(*args)

    monkeypatch.setattr("fcntl.flock", late)
    with only_writer(tmp_path):
        with pytest.raises(RuntimeError, match="is being written by another run"), only_writer(tmp_path):
            pass
    assert not path.exists()


def test_the_lock_of_a_dead_process_holds_nobody(tmp_path):
    (tmp_path / LOCK).write_text("process 1 on elsewhere")
    recorder().record(loader(), to=tmp_path)
    assert LOCK not in files(tmp_path)


def test_a_file_that_is_cut_short_after_the_store_was_opened_is_named(store):
    layer = store["2"]
    assert layer[0].shape == (2, 4, 4)
    path = shard(store, number=0)
    os.truncate(path, path.stat().st_size - 1)
    with pytest.raises(OSError, match=r"000000.npy' is damaged: it has 255 bytes, but 256 were written"):
        layer[0]
