"""A worker's share: contiguous, complete, and made of the very batches that one process forms."""

import pytest
import torch
from torch.utils.data import DataLoader, Dataset, DistributedSampler, IterableDataset, TensorDataset

from featurelens._batches import Batches, Given
from featurelens._sharding import Share

ROWS = torch.arange(23.0)[:, None]


def loader(**options):
    return DataLoader(TensorDataset(ROWS), batch_size=4, **options)


def seeded_loader(**options):
    return loader(shuffle=True, generator=torch.Generator().manual_seed(3), **options)


def given(batch):
    return Given((batch[0],), {}, rows(batch))


def rows(batch):
    return len(batch[0])


def values(plan, first=None):
    return [batch.value[0].flatten().tolist() for batch in plan.run(first)]


class Counting(Dataset):
    def __init__(self):
        self.asked = []

    def __len__(self):
        return 23

    def __getitem__(self, index):
        self.asked.append(index)
        return (ROWS[index],)


class Stream(IterableDataset):
    def __init__(self, said=None):
        self.said = said

    def __len__(self):
        if self.said is None:
            raise TypeError
        return self.said

    def __iter__(self):
        return iter((row,) for row in ROWS)


MAKE = {
    "in order": loader,
    "drop_last": lambda: loader(drop_last=True),
    "shuffled": seeded_loader,
    "workers": lambda: seeded_loader(num_workers=1),
    "batch sampler": lambda: DataLoader(TensorDataset(ROWS), batch_sampler=[[1, 0], [5], [7, 8, 2]]),
    "list": lambda: [(part,) for part in ROWS.split(4)],
    "iterable": lambda: DataLoader(Stream(23), batch_size=4),
    "no batching": lambda: DataLoader([(part,) for part in ROWS.split(4)], batch_size=None),
}


@pytest.mark.parametrize("kind", MAKE)
def test_shares_end_to_end_are_what_one_process_runs_over(kind):
    expected = [batch[0].flatten().tolist() for batch in MAKE[kind]()]
    for count in (1, 2, 3, 9):
        found, before, rows_before = [], 0, 0
        for index in range(count):
            for batch in Batches(MAKE[kind](), Share(index, count), given=given).run():
                assert (batch.number, batch.first_row) == (before, rows_before)
                before, rows_before = before + 1, rows_before + rows(batch.value)
                found.append(batch.value[0].flatten().tolist())
        assert found == expected


@pytest.mark.parametrize("kind", MAKE)
def test_a_later_start_gives_the_rest(kind):
    expected = values(Batches(MAKE[kind](), Share(), given=given))
    for first in range(len(expected) + 1):
        plan = Batches(MAKE[kind](), Share(), given=given)
        assert values(plan, first) == expected[first:]
        assert plan.jumps == (kind not in {"list", "iterable", "no batching"})


def test_what_is_not_in_the_share_is_not_loaded():
    data = Counting()
    assert len(values(Batches(DataLoader(data, batch_size=4), Share(1, 3), given=given))) == 2
    assert data.asked == list(range(8, 16))


def test_generators_are_left_as_a_pass_over_the_loader_leaves_them():
    plain, shared = seeded_loader(), seeded_loader()
    list(plain)
    values(Batches(shared, Share(1, 2), given=given))
    assert not torch.equal(plain.generator.get_state(), shared.generator.get_state())
    values(Batches(shared, Share(), given=given), 3)
    assert torch.equal(plain.generator.get_state(), shared.generator.get_state())
    torch.manual_seed(5)
    expected = [batch[0].flatten().tolist() for batch in loader(shuffle=True)]
    after = torch.rand(1)
    torch.manual_seed(5)
    assert values(Batches(loader(shuffle=True), Share(), given=given), 2) == expected[2:]
    assert torch.equal(torch.rand(1), after)


@pytest.mark.parametrize("batching", [{}, {"batch_size": None}])
def test_one_seeded_loader_serves_all_workers_of_an_array_job(batching):
    options = {"batch_size": 4} | batching
    one = DataLoader(TensorDataset(ROWS), shuffle=True, generator=torch.Generator().manual_seed(3), **options)
    before = one.generator.get_state()
    plans = [Batches(one, Share(index, 2), given=given) for index in range(2)]
    found = [value for plan in plans for batch in values(plan) for value in batch]
    assert sorted(found) == ROWS.flatten().tolist()
    assert plans[0].order == plans[1].order
    assert torch.equal(one.generator.get_state(), before)


def test_orders_are_told_apart():
    def order(make):
        return Batches(make, Share(0, 2), given=given).order

    assert order(seeded_loader()) == order(seeded_loader()) != order(loader()) == order(loader())
    assert order(loader()) != order(loader(drop_last=True))
    assert order(list(loader())) == ""


class Draws(Dataset):
    def __len__(self):
        return 16

    def __getitem__(self, index):
        return (torch.rand(1),)


def test_workers_start_from_the_seeds_of_a_pass_over_the_loader():
    def make():
        generator = torch.Generator().manual_seed(3)
        return DataLoader(Draws(), batch_size=4, num_workers=1, generator=generator)

    expected = [batch[0].flatten().tolist() for batch in make()]
    assert values(Batches(make(), Share(0, 2), given=given)) == expected[:2]


class Own(DataLoader):
    def __iter__(self):
        return iter([(ROWS[:2],), (ROWS[2:],)])

    def __len__(self):
        return 2


def test_a_loader_with_its_own_iteration_keeps_it():
    plan = Batches(Own(TensorDataset(ROWS), batch_size=4), Share(1, 2), given=given)
    assert [len(found) for found in values(plan)] == [21]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: iter([1]), "needs a loader with a length; an object of type list_iterator has none"),
        (lambda: DataLoader(Stream(), batch_size=4), "an object of type DataLoader has none"),
        (lambda: loader(shuffle=True), "the loader shuffles without a seed"),
        (
            lambda: loader(sampler=DistributedSampler(TensorDataset(ROWS), 2, 0)),
            "splits the data itself, with DistributedSampler",
        ),
    ],
)
def test_loaders_that_cannot_be_shared_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        Batches(make(), Share(0, 2), given=given)


def test_a_length_that_is_not_kept_is_told():
    with pytest.raises(ValueError, match="length is 7, but it yields only 6 batches"):
        values(Batches(DataLoader(Stream(28), batch_size=4), Share(1, 2), given=given))
    with pytest.raises(ValueError, match="length is 4, but it yields more batches than that"):
        values(Batches(DataLoader(Stream(16), batch_size=4), Share(1, 2), given=given))
    dropping = loader(collate_fn=lambda items: (torch.stack([item[0] for item in items[1:]]),))
    with pytest.raises(ValueError, match="batch 1 has 3 rows for 4 indices"):
        values(Batches(dropping, Share(0, 2), given=given))
    assert len(values(Batches(dropping, Share(), given=given))) == 6


@pytest.mark.parametrize(
    ("shard", "error", "message"),
    [
        ((1, 1), ValueError, r"0 <= index < count; got \(1, 1\)"),
        ((-1, 3), ValueError, r"got \(-1, 3\)"),
        (3, TypeError, "two integers, .index, count.; got 3"),
        ((True, 2), TypeError, r"got \(True, 2\)"),
        ((0, 2, 3), TypeError, r"got \(0, 2, 3\)"),
    ],
)
def test_a_wrong_shard_is_refused(shard, error, message):
    with pytest.raises(error, match=message):
        Share.find(shard)


def test_alone_there_is_nobody_to_wait_for():
    share = Share.find(None)
    assert share == Share(0, 1)
    with share.together():
        assert share.gather("x") == ["x"]
    with pytest.raises(ValueError, match="mine"), share.together():
        raise ValueError("mine")


def test_processes_that_have_not_met_are_told_to(monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(
        RuntimeError, match=r"torchrun started 4 processes: call torch\.distributed\.init_process"
    ):
        Share.find(None)
    assert Share.find((0, 1)) == Share()


@pytest.mark.parametrize("index", [0, 1])
def test_all_get_what_the_first_worker_has(monkeypatch, index):
    def broadcast(holder, src=0):
        assert (src, holder) == (0, ["its order" if index == 0 else None])
        holder[0] = "its order"

    monkeypatch.setattr("torch.distributed.broadcast_object_list", broadcast)
    assert Share(index, 2, joined=True).first_of("its order" if index == 0 else "another") == "its order"
    assert Share(index, 2).first_of("mine") == "mine", "nothing connects them"
