"""Stores of any shape, cut anywhere, stopped anywhere and shared among any number: the rows are those in memory."""

import contextlib
import tempfile
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import featurelens as fl
from featurelens._batches import Batches, Given
from featurelens._sharding import Share
from featurelens.storage import shards, writer
from tests.stores import files

SHAPES = st.sampled_from([(), (1,), (3,), (2, 3), (1, 2, 2), (0,)])
DTYPES = st.sampled_from(
    [torch.float32, torch.float64, torch.bfloat16, torch.int16, torch.bool, torch.complex64]
)


def given_batch(batch):
    return Given((batch,), {}, len(batch))


class Give(nn.Module):
    """Returns its input in another shape and dtype."""

    def __init__(self, shape, dtype):
        super().__init__()
        self.shape, self.dtype = shape, dtype

    def forward(self, x):
        width = max(1, torch.Size(self.shape).numel())
        return (
            (x[:, None] * torch.arange(1, width + 1))
            .reshape(-1)[: len(x) * torch.Size(self.shape).numel()]
            .reshape(len(x), *self.shape)
            .to(self.dtype)
        )


def recorder_of(shape, dtype):
    return fl.ActivationRecorder(nn.Sequential(Give(shape, dtype)), "0")


@settings(deadline=None, max_examples=60)
@given(
    sizes=st.lists(st.integers(1, 6), min_size=1, max_size=6),
    shape=SHAPES,
    dtype=DTYPES,
    shard_bytes=st.integers(1, 200),
    data=st.data(),
)
def test_rows_are_those_in_memory(sizes, shape, dtype, shard_bytes, data):
    batches = torch.arange(float(sum(sizes))).split(sizes)
    recorder = recorder_of(shape, dtype)
    with tempfile.TemporaryDirectory() as folder, patch.object(shards, "SHARD_BYTES", shard_bytes):
        layer = recorder.record(batches, to=folder)["0"]
        whole = recorder.record(batches)["0"]
        n = len(whole)
        assert layer.shape == whole.shape
        assert layer.dtype == whole.dtype
        row = st.integers(-n, n - 1)
        bound = st.none() | st.integers(-n - 2, n + 2)
        chosen = data.draw(
            row
            | st.lists(row, max_size=8)
            | st.builds(slice, bound, bound, st.none() | st.integers(1, 4))
            | st.lists(st.booleans(), min_size=n, max_size=n).map(torch.tensor)
        )
        expected = (
            whole[torch.tensor(chosen, dtype=torch.long)] if isinstance(chosen, list) else whole[chosen]
        )
        assert torch.equal(layer[chosen], expected)
        fl.ActivationStore(folder).verify()


@settings(deadline=None, max_examples=40)
@given(
    sizes=st.lists(st.integers(1, 6), min_size=1, max_size=6),
    stops=st.lists(st.integers(0, 6), max_size=3),
    seconds=st.sampled_from([0.0, 1000.0]),
    shard_bytes=st.integers(1, 60),
)
def test_stopped_anywhere_the_files_are_the_same(sizes, stops, seconds, shard_bytes):
    batches = torch.arange(float(sum(sizes))).split(sizes)
    recorder = recorder_of((3,), torch.float32)

    class Stopping:
        def __init__(self, at):
            self.at = at

        def __len__(self):
            return len(batches)

        def __iter__(self):
            for number, batch in enumerate(batches):
                if number == self.at:
                    raise KeyboardInterrupt
                yield batch

    with (
        tempfile.TemporaryDirectory() as folder,
        patch.object(shards, "SHARD_BYTES", shard_bytes),
        patch.object(writer, "CHECKPOINT_SECONDS", seconds),
    ):
        once, stopped = Path(folder) / "once", Path(folder) / "stopped"
        recorder.record(batches, to=once)
        for at in stops:
            with contextlib.suppress(KeyboardInterrupt):
                recorder.record(Stopping(at), to=stopped, resume=True)
        recorder.record(batches, to=stopped, resume=True)
        assert files(stopped) == files(once)


@settings(deadline=None, max_examples=40)
@given(
    sizes=st.lists(st.integers(1, 6), min_size=1, max_size=8),
    count=st.integers(1, 10),
    shard_bytes=st.integers(1, 60),
)
def test_any_number_of_workers_makes_the_same_whole(sizes, count, shard_bytes):
    batches = torch.arange(float(sum(sizes))).split(sizes)
    recorder = recorder_of((2,), torch.float32)
    with tempfile.TemporaryDirectory() as folder, patch.object(shards, "SHARD_BYTES", shard_bytes):
        if count > 1:
            for index in range(count):
                recorder.record(batches, to=folder, shard=(index, count))
            store = fl.ActivationStore.merge(folder)
        else:
            store = recorder.record(batches, to=folder)
        assert torch.equal(store["0"][:], recorder.record(batches)["0"])


@given(total=st.integers(0, 50), count=st.integers(1, 60))
def test_blocks_are_contiguous_complete_and_even(total, count):
    blocks = [Share(index, count).block(total) for index in range(count)]
    assert [number for block in blocks for number in block] == list(range(total))
    lengths = {len(block) for block in blocks}
    assert max(lengths) - min(lengths) <= 1


@pytest.mark.parametrize("drop_last", [False, True])
@settings(deadline=None, max_examples=30)
@given(
    n=st.integers(1, 20), size=st.integers(1, 6), count=st.integers(1, 5), seed=st.none() | st.integers(0, 9)
)
def test_shares_of_a_loader_are_its_batches(drop_last, n, size, count, seed):
    def make():
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        options = {"shuffle": seed is not None, "generator": generator, "drop_last": drop_last}
        return torch.utils.data.DataLoader(torch.arange(n), batch_size=size, **options)

    expected = [batch.tolist() for batch in make()]
    found = [
        batch.value.tolist()
        for index in range(count)
        for batch in Batches(make(), Share(index, count), given=given_batch).run()
    ]
    assert found == expected
