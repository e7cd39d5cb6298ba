"""Workers of an array job, and what joins their parts."""

import shutil
from pathlib import Path

import pytest
import torch

import featurelens as fl
from tests.stores import files, loader, model, recorder, same

pytestmark = pytest.mark.usefixtures("tiny")


def parts(path, count, make=recorder, data=loader, skip=()):
    return [
        make().record(data(), to=path, shard=(index, count)) for index in range(count) if index not in skip
    ]


def shuffled():
    return loader(shuffle=True, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    "data", [loader, shuffled, lambda: list(loader())], ids=["in order", "shuffled", "list"]
)
@pytest.mark.parametrize("count", [2, 3, 8])
def test_parts_joined_are_what_one_process_records(tmp_path, count, data):
    expected, path = recorder().record(data()), tmp_path / "store"
    made = parts(path, count, data=data)
    before = files(path)
    store = fl.ActivationStore.merge(path)
    assert same(store, expected)
    store.verify()
    assert store.rows == 23 == sum(part.rows for part in made)
    one = recorder().record(data(), to=tmp_path / "one")._manifest
    for field in ("share", "complete", "rows", "aliases"):
        assert getattr(store._manifest, field) == getattr(one, field)
    assert store._manifest.progress.batches == one.progress.batches
    assert {layer.folder for layer in store._manifest.layers.values()} == {""}, (
        "rows lie in the parts' folders"
    )
    assert {name: layer.shape for name, layer in store._manifest.layers.items()} == {
        name: layer.shape for name, layer in one.layers.items()
    }
    assert set(files(path)) - set(before) == {"manifest.json"}
    assert fl.ActivationStore.merge(path).rows == 23
    moved = (tmp_path / "store").rename(tmp_path / "moved")
    assert same(fl.ActivationStore(moved), expected)


def test_a_share_in_memory(tmp_path):
    whole = recorder().record(loader())
    joined = [recorder().record(loader(), shard=(index, 4))["4"] for index in range(4)]
    assert torch.equal(torch.cat(joined), whole["4"])
    with pytest.raises(ValueError, match="share 0 of 9 is empty: the loader has 6 batches"):
        recorder().record(loader(), shard=(0, 9))


def test_parts_in_different_places_are_joined_by_name(tmp_path):
    expected = recorder().record(loader())
    for index in range(3):
        recorder().record(loader(), to=tmp_path / "abc"[index], shard=(index, 3))
    folders = [tmp_path / "abc"[index] / f"part-{index:05d}-of-00003" for index in (2, 0, 1)]
    with pytest.raises(
        ValueError, match="the parts lie in different folders: pass the store's folder as to="
    ):
        fl.ActivationStore.merge(folders)
    assert same(fl.ActivationStore.merge(folders, to=tmp_path / "new" / "whole"), expected)
    with pytest.raises(FileExistsError, match="already holds another store"):
        recorder().record(loader(8), to=tmp_path / "other")
        fl.ActivationStore.merge(folders, to=tmp_path / "other")


def test_a_part_is_resumed_and_merged_stores_are_complete(tmp_path):
    def broken():
        return [*list(loader())[:3], torch.zeros(()), *list(loader())[4:]]

    def data():
        return list(loader())

    recorder().record(data(), to=tmp_path, shard=(0, 2))
    with pytest.raises(RuntimeError, match="the model failed on batch 4"):
        recorder().record(broken(), to=tmp_path, shard=(1, 2))
    with pytest.raises(FileNotFoundError, match="part-00001-of-00002' holds no activations"):
        fl.ActivationStore(tmp_path / "part-00001-of-00002")
    with pytest.raises(FileExistsError, match="already holds activations"):
        recorder().record(data(), to=tmp_path, shard=(0, 2))
    for index in range(2):
        recorder().record(data(), to=tmp_path, shard=(index, 2), resume=True)
    expected = fl.ActivationStore.merge(tmp_path)
    assert same(expected, recorder().record(data()))
    for options in ({}, {"shard": (1, 2)}):
        assert recorder().record(data(), to=tmp_path, resume=True, **options).rows == 23
        with pytest.raises(FileExistsError):
            recorder().record(data(), to=tmp_path, **options)


def test_other_numbers_of_workers_are_refused(tmp_path):
    parts(tmp_path, 2, skip=[1])
    with pytest.raises(ValueError, match="holds parts of 2 workers, and this is one of 3"):
        recorder().record(loader(), to=tmp_path, shard=(1, 3), resume=True)
    with pytest.raises(ValueError, match="holds parts of 2 workers, and this is one of 1"):
        recorder().record(loader(), to=tmp_path)
    with pytest.raises(RuntimeError, match="the model failed on batch 3"):
        recorder().record([*list(loader(8)), torch.zeros(())], to=tmp_path / "one")
    with pytest.raises(ValueError, match="was started by one worker, and this is one of 2"):
        recorder().record([*list(loader(8)), torch.zeros(())], to=tmp_path / "one", shard=(0, 2), resume=True)


def other_model():
    return recorder(model(seed=1))


def test_what_does_not_belong_together_is_not_joined(tmp_path):
    parts(tmp_path / "a", 3, skip=[1])
    with pytest.raises(ValueError, match=r"1 of 3 parts missing: 1 \(counted from 0\)"):
        fl.ActivationStore.merge(tmp_path / "a")
    parts(tmp_path / "b", 3, make=other_model)
    b = tmp_path / "b" / "part-00001-of-00003"
    a = sorted((tmp_path / "a").iterdir())
    with pytest.raises(
        ValueError,
        match=r"part-00000-of-00003' and '.*part-00001-of-00003' were recorded differently: the model's parameters or",
    ):
        fl.ActivationStore.merge([*a, b], to=tmp_path / "c")
    twice = shutil.copytree(a[0], tmp_path / "twice")
    with pytest.raises(ValueError, match="part 0 of 3 appears twice"):
        fl.ActivationStore.merge([*a, twice], to=tmp_path / "c")
    parts(tmp_path / "d", 2)
    shutil.copytree(tmp_path / "d" / "part-00000-of-00002", tmp_path / "a" / "part-00000-of-00002")
    with pytest.raises(
        ValueError, match="holds parts of 2 and of 3 workers: list those that belong together"
    ):
        fl.ActivationStore.merge(tmp_path / "a")
    with pytest.raises(ValueError, match="the parts are of 2 and of 3 workers"):
        fl.ActivationStore.merge([tmp_path / "a" / "part-00000-of-00002", *a])
    with pytest.raises(FileNotFoundError, match=r"holds no parts \(folders such as part-00000-of-00002\)"):
        fl.ActivationStore.merge(tmp_path)
    with pytest.raises(ValueError, match="paths must name at least one part"):
        fl.ActivationStore.merge([])
    with pytest.raises(TypeError, match="paths must be a folder or a list of them; got 3"):
        fl.ActivationStore.merge(3)


class DrawsItsOrder(torch.utils.data.Sampler):
    """Draws from the global generator, which nobody can see from outside."""

    def __len__(self):
        return 23

    def __iter__(self):
        return iter(torch.randperm(23).tolist())


def test_parts_of_different_orders_are_not_joined(tmp_path):
    for index in range(2):
        torch.manual_seed(index)
        recorder().record(loader(sampler=DrawsItsOrder()), to=tmp_path, shard=(index, 2))
    with pytest.raises(ValueError, match="were recorded differently: the loader's order differs"):
        fl.ActivationStore.merge(tmp_path)


def test_one_seeded_loader_serves_all_parts_and_no_global_number_is_drawn(tmp_path):
    one, before = shuffled(), torch.get_rng_state()
    parts(tmp_path, 2, data=lambda: one)
    assert same(fl.ActivationStore.merge(tmp_path), recorder().record(shuffled()))
    for index in range(2):
        recorder().stream(loader(), fl.statistics.Moments(), shard=(index, 2))
    assert torch.equal(torch.get_rng_state(), before)


def test_an_incomplete_part_is_not_joined(tmp_path):
    parts(tmp_path, 2, skip=[1])
    data = list(loader())
    with pytest.raises(RuntimeError, match="the model failed on batch 5"):
        recorder().record([*data[:4], torch.zeros(()), data[5]], to=tmp_path, shard=(1, 2))
    with pytest.raises(
        ValueError,
        match=r"part-00001-of-00002' is not complete \(4 rows\): finish it with shard=\(1, 2\), resume=True",
    ):
        fl.ActivationStore.merge(tmp_path)


def test_parts_with_rows_of_different_shapes_are_not_joined(tmp_path):
    data = [torch.rand(2, 1, size, size) for size in (8, 9)]
    for index in range(2):
        fl.ActivationRecorder(model()[:1], "conv_1").record(data, to=tmp_path, shard=(index, 2))
    with pytest.raises(ValueError, match=r"all parts must hold rows of the same shape; .*part-00000.* holds"):
        fl.ActivationStore.merge(tmp_path)


def test_a_loader_that_cannot_be_shared_is_refused(tmp_path):
    with pytest.raises(ValueError, match="the loader shuffles without a seed"):
        recorder().record(loader(shuffle=True), to=tmp_path, shard=(0, 2))
    with pytest.raises(ValueError, match="sharding needs a loader with a length"):
        recorder().record(iter([1]), shard=(0, 2))
    with pytest.raises(ValueError, match="the loader yielded no batch"):
        recorder().record([], to=tmp_path, shard=(0, 2))
    assert files(tmp_path) == {}


def test_parts_and_targets_must_be_paths(tmp_path):
    with pytest.raises(TypeError, match=r"^a part must be a folder's path; got 3$"):
        fl.ActivationStore.merge([3])
    with pytest.raises(TypeError, match=r"^to must be a folder's path; got 3$"):
        fl.ActivationStore.merge(tmp_path, to=3)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="no list of open files")
def test_no_file_stays_open(tmp_path):
    recorder().record(loader(), to=tmp_path / "first")
    before = len(list(Path("/proc/self/fd").iterdir()))
    for number in range(3):
        recorder().record(loader(), to=tmp_path / str(number))
    assert len(list(Path("/proc/self/fd").iterdir())) == before
