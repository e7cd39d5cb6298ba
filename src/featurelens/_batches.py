"""Which batches a worker runs over, and how it comes to them.

Nothing is padded, dropped or regrouped, so what the workers record is, end to end, what one process records.

>>> loader = [torch.zeros(2, 1), torch.zeros(3, 1), torch.zeros(1, 1)]
>>> plan = Plan(loader, Share(1, 2), given=lambda batch: Given((batch,), {}, len(batch)))
>>> [(batch.number, batch.first_row, tuple(batch.value.shape)) for batch in plan.batches()]
[(1, 2, (3, 1)), (2, 5, (1, 1))]
"""

from __future__ import annotations

import copy
import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from contextlib import contextmanager
from typing import Any, NamedTuple, final

import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)

from featurelens._checks import describe
from featurelens._shares import Share

_SHUFFLING = (RandomSampler, SubsetRandomSampler, WeightedRandomSampler)


class Given(NamedTuple):
    """What a model is given of a batch, and how many rows that is, None where it has no rows."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    rows: int | None


class Batch(NamedTuple):
    """A batch, its number in the data set, the number of rows before it, and what the model is given of it."""

    number: int
    first_row: int
    value: Any
    given: Given


@final
class Plan:
    """Which batches of `loader` a worker runs over, and how it comes to them.

    A DataLoader over a map-style data set is asked for the indices of each batch, and only those of the share are
    loaded, by the same workers in the same way: `jumps` is then true. Anything else with a length is run over and
    what is not in the share left aside.

    Parameters
    ----------
    loader
        The same for every worker: it yields the whole data set.
    share
        The worker's share. Under torch.distributed every worker must make its plan, as the first one's order
        goes for all of them.
    given
        Returns what the model is given of a batch; called once for each.

    Raises
    ------
    ValueError
        If `share` is not everything and the loader has no length, splits the data itself, or shuffles without a
        seed, so that the workers of an array job could not agree; or if the workers' loaders differ in length.
    """

    def __init__(
        self,
        loader: Iterable[Any],
        share: Share,
        *,
        given: Callable[[Any], Given],
    ) -> None:
        self.loader, self.share, self._given = loader, share, given
        self.jumps = _jumps(loader)
        self._lists: Sequence[Any] | None = None
        # The state that the loader's own pass would start from.
        self._workers_seed: torch.Tensor | None = None
        self.total = _length(loader)
        if share.count > 1:
            self._agree()
        self.block = range(0) if self.total is None else share.block(self.total)

    def batches(self, first: int | None = None) -> Iterator[Batch]:
        """Yield the share's batches, from number `first` on.

        Raises
        ------
        ValueError
            If the loader yields more or fewer batches than its length says, and shares depend on it.
        """
        start = self.block.start if first is None else first
        if self.jumps and start > 0:
            self._draw()
        elif self.share.count == 1 or not self.jumps:
            yield from self._run_over(start)
            return
        else:
            self._draw()
        assert self._lists is not None
        row = sum(len(self._lists[number]) for number in range(start))
        for number, value in enumerate(self._loader_over(range(start, self.block.stop)), start):
            batch = Batch(number, row, value, self._given(value))
            row += self._checked_rows(batch)
            yield batch

    @property
    def order(self) -> str:
        """The sha256 of the indices of all batches, where they are known; workers must agree on it."""
        if self._lists is None:
            return ""
        told = repr(self._lists if isinstance(self._lists, _InOrder) else list(self._lists))
        return hashlib.sha256(re.sub(" at 0x[0-9a-fA-F]+", "", told).encode()).hexdigest()

    def only(self, number: int) -> Batch | None:
        """Return one batch of the data set, whosever it is; None if others would have to be run over."""
        if self.jumps:
            self._draw()
            (value,) = self._loader_over(range(number, number + 1))
        elif isinstance(self.loader, list | tuple):
            value = self.loader[number]
        else:
            return None
        return Batch(number, -1, value, self._given(value))

    def _run_over(self, start: int) -> Iterator[Batch]:
        row, number = 0, -1
        last = self.share.index == self.share.count - 1
        with self._repeatable():
            for number, value in enumerate(self.loader):
                if self.share.count > 1 and number >= self.block.stop:
                    if not last:
                        return
                    raise ValueError(
                        f"the loader's length is {self.total}, but it yields more batches than that"
                    )
                batch = Batch(number, row, value, self._given(value))
                row += batch.given.rows or 0
                if number >= start:
                    yield batch
        if self.share.count > 1 and number + 1 < self.block.stop:
            raise ValueError(f"the loader's length is {self.total}, but it yields only {number + 1} batches")

    def _agree(self) -> None:
        """Make sure that all workers cut the same data set in the same places."""
        if self.total is None:
            raise ValueError(
                f"a share needs a loader with a length; {describe(self.loader)} has none: pass a DataLoader over a "
                "map-style data set, or a list of batches"
            )
        sampler = _sampler(self.loader)
        if isinstance(sampler, DistributedSampler):
            raise ValueError(  # noqa: TRY004  the type is right, the data in it are not
                "the loader splits the data itself, with DistributedSampler, which pads or drops: give every worker "
                "the same loader over the whole data set"
            )
        if not self.share.joined and isinstance(sampler, _SHUFFLING) and sampler.generator is None:
            raise ValueError(
                "the loader shuffles without a seed, so that workers which cannot speak to each other would not agree "
                "on the order: shuffle=False, or generator=torch.Generator().manual_seed(...)"
            )
        if self.jumps:
            self._draw()
        totals = self.share.gather(self.total)
        if len(set(totals)) > 1:
            raise ValueError(
                f"the workers' loaders have {', '.join(map(str, totals))} batches: give every worker the same loader "
                "over the whole data set"
            )
        if self._lists is not None and not isinstance(self._lists, _InOrder):
            self._lists = self.share.first_of(self._lists)

    def _draw(self) -> None:
        """Ask the loader for the indices of every batch, once."""
        if self._lists is None:
            with self._repeatable():
                self._lists = self._drawn()
            self.total = len(self._lists)

    @contextmanager
    def _repeatable(self) -> Iterator[None]:
        """Leave the loader's generators as a pass over it would, or, for an array job's worker, as they were.

        One loader may then serve several of these workers: all of them see the same order.
        """
        sources = [self.loader, getattr(self.loader, "batch_sampler", None), _sampler(self.loader)]
        generators = [getattr(source, "generator", None) for source in sources]
        alone = self.share.count > 1 and not self.share.joined
        states = [(g, g.get_state()) for g in generators if alone and isinstance(g, torch.Generator)]
        try:
            yield
        finally:
            for generator, state in states:
                generator.set_state(state)

    def _drawn(self) -> Sequence[Any]:
        assert isinstance(self.loader, DataLoader)
        generator = self.loader.generator or torch.default_generator
        self._workers_seed = generator.get_state()
        # A pass over a DataLoader draws the seed of its workers before it asks the sampler for anything.
        torch.empty((), dtype=torch.int64).random_(generator=generator)
        sampler = self.loader.batch_sampler
        if type(sampler) is BatchSampler and type(sampler.sampler) is SequentialSampler:
            rows = len(sampler.sampler)
            return _InOrder(rows, sampler.batch_size, sampler.drop_last)
        assert sampler is not None
        return list(sampler)

    def _loader_over(self, numbers: range) -> DataLoader[Any]:
        """The user's loader, over the batches of these numbers only."""
        loader = copy.copy(self.loader)
        assert isinstance(loader, DataLoader)
        assert self._workers_seed is not None
        assert self._lists is not None
        generator = torch.Generator()
        generator.set_state(self._workers_seed)
        # Set directly, as a DataLoader forbids changing these once it is made.
        vars(loader).update(
            batch_sampler=_Part(self._lists, numbers), generator=generator, in_order=True, _iterator=None
        )
        return loader

    def _checked_rows(self, batch: Batch) -> int:
        assert self._lists is not None
        rows, indices = batch.given.rows or 0, len(self._lists[batch.number])
        if rows != indices and self.share.count > 1:
            raise ValueError(
                f"batch {batch.number + 1} has {rows} rows for {indices} indices: shares need a row for each index, "
                "so that rows can be counted before they are loaded; look at the loader's collate_fn"
            )
        return rows


@final
class _InOrder(Sequence[Any]):
    """The index lists of a loader that goes through its data set in order, made when they are asked for."""

    def __init__(self, rows: int, size: int, drop_last: bool) -> None:
        self.rows, self.size = rows, size
        self.total = rows // size if drop_last else -(-rows // size)

    def __len__(self) -> int:
        return self.total

    def __repr__(self) -> str:
        return f"{self.rows} rows by {self.size}, {self.total} batches"

    def __getitem__(self, number: Any) -> list[int]:
        if not 0 <= number < self.total:
            raise IndexError(number)
        return list(range(number * self.size, min((number + 1) * self.size, self.rows)))


@final
class _Part:
    """Some of the lists, as a batch sampler."""

    def __init__(self, lists: Sequence[Any], numbers: range) -> None:
        self.lists, self.numbers = lists, numbers

    def __len__(self) -> int:
        return len(self.numbers)

    def __iter__(self) -> Iterator[Any]:
        return (self.lists[number] for number in self.numbers)


def _jumps(loader: object) -> bool:
    return (
        isinstance(loader, DataLoader)
        and type(loader).__iter__ is DataLoader.__iter__
        and not isinstance(loader.dataset, IterableDataset)
        and loader.batch_sampler is not None
    )


def _length(loader: object) -> int | None:
    try:
        return len(loader) if isinstance(loader, Sized) else None
    except TypeError:  # a DataLoader has __len__ even where its data set has none
        return None


def _sampler(loader: object) -> Any:
    """What decides on a loader's order, as far as it can be seen."""
    if not isinstance(loader, DataLoader):
        return None
    return getattr(loader.batch_sampler, "sampler", loader.sampler)
