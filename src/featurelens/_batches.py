"""The batches that make up a worker's share of a data set.

Nothing is padded, dropped or regrouped: what the workers record is, end to end, what one process records.

>>> loader = [torch.zeros(2, 1), torch.zeros(3, 1), torch.zeros(1, 1)]
>>> share = Batches(loader, Share(1, 2), given=lambda batch: Given((batch,), {}, len(batch)))
>>> [(batch.number, batch.first_row, tuple(batch.value.shape)) for batch in share.run()]
[(1, 2, (3, 1)), (2, 5, (1, 1))]
"""

from __future__ import annotations

import copy
import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import Any, NamedTuple, final

import torch
from torch.utils.data import (
    DataLoader,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)

from featurelens._checks import describe
from featurelens._sharding import Share

SHUFFLING = (RandomSampler, SubsetRandomSampler, WeightedRandomSampler)


class Given(NamedTuple):
    """The arguments that a model is given of a batch, and their number of rows, None if they have no rows."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    rows: int | None


class Batch(NamedTuple):
    """A batch, its number in the data set, the number of rows before it, and the model's arguments."""

    number: int
    first_row: int
    value: Any
    given: Given


@final
class Batches:
    """The batches of `loader` that make up a worker's share.

    A DataLoader over a map-style data set is asked for the indices of each batch, and only those of the share are
    loaded, by the same workers in the same way: `jumps` is then true. Any other loader with a length is run from its
    start, and batches outside the share are skipped.

    Parameters
    ----------
    loader
        The same for every worker: it yields the whole data set.
    share
        The worker's share. Under torch.distributed every worker must construct this, as the order of the first
        worker is used by all.
    given
        Returns the model's arguments in a batch; called once for each.

    Raises
    ------
    ValueError
        If `share` is not everything and the loader has no length, splits the data itself, or shuffles without a
        seed, so that the workers of an array job could not agree; or if the workers' loaders differ in length.
    """

    def __init__(self, loader: Iterable[Any], share: Share, *, given: Callable[[Any], Given]) -> None:
        self.loader, self.share, self._given = loader, share, given
        self.jumps = (
            isinstance(loader, DataLoader)
            and type(loader).__iter__ is DataLoader.__iter__
            and not isinstance(loader.dataset, IterableDataset)
            and loader.batch_sampler is not None
        )
        self._indices: list[Any] = []  # of every batch, once they are drawn
        self._workers_seed = torch.Generator()  # in the state that the loader's own pass would start from
        try:
            self.total = len(loader) if isinstance(loader, Sized) else None
        except TypeError:  # a DataLoader has __len__ even where its data set has none
            self.total = None
        if share.count > 1:
            self._agree()
        self.block = range(0) if self.total is None else share.block(self.total)

    def run(self, first: int | None = None) -> Iterator[Batch]:
        """Yield the share's batches, from number `first` on.

        Raises
        ------
        ValueError
            If the loader yields more or fewer batches than its length says, and shares depend on it.
        """
        start = self.block.start if first is None else first
        if not self.jumps or (start == 0 and self.share.count == 1):
            yield from self._run_over(start)
            return
        self._draw()
        row = sum(map(len, self._indices[:start]))
        for number, value in enumerate(self._loader_over(range(start, self.block.stop)), start):
            batch = Batch(number, row, value, self._given(value))
            rows, indices = batch.given.rows or 0, len(self._indices[number])
            if rows != indices and self.share.count > 1:
                raise ValueError(
                    f"batch {number + 1} has {rows} rows for {indices} indices: sharding needs one row per index, "
                    "to count rows before they are loaded; check the loader's collate_fn"
                )
            row += rows
            yield batch

    @property
    def order(self) -> str:
        """The sha256 of the indices of all batches, where they are known; workers must agree on it."""
        text = re.sub(" at 0x[0-9a-fA-F]+", "", repr(self._indices))
        return hashlib.sha256(text.encode()).hexdigest() if self._indices else ""

    def only(self, number: int) -> Batch | None:
        """Return one batch of the data set, in any share; None if others would have to be run over."""
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
        """Check that all workers cut the same data set in the same places."""
        if self.total is None:
            raise ValueError(
                f"sharding needs a loader with a length; {describe(self.loader)} has none: pass a DataLoader over a "
                "map-style data set, or a list of batches"
            )
        sampler = sampler_of(self.loader)
        if isinstance(sampler, DistributedSampler):
            raise ValueError(  # noqa: TRY004  the type is right, the data in it are not
                "the loader splits the data itself, with DistributedSampler, which pads or drops rows: give every worker "
                "the same loader over the whole data set"
            )
        if not self.share.joined and isinstance(sampler, SHUFFLING) and sampler.generator is None:
            raise ValueError(
                "the loader shuffles without a seed, so independent workers would use different orders: pass it "
                "shuffle=False, or generator=torch.Generator().manual_seed(...)"
            )
        if self.jumps:
            self._draw()
        totals = self.share.gather(self.total)
        if len(set(totals)) > 1:
            raise ValueError(
                f"the workers' loaders have {', '.join(map(str, totals))} batches: give every worker the same loader "
                "over the whole data set"
            )
        self._indices = self.share.first_of(self._indices)

    def _draw(self) -> None:
        """Ask the loader for the indices of every batch, once."""
        if self._indices:
            return
        assert isinstance(self.loader, DataLoader)
        assert self.loader.batch_sampler is not None
        with self._repeatable():
            generator = self.loader.generator or torch.default_generator
            self._workers_seed.set_state(generator.get_state())
            # A pass over a DataLoader draws the seed of its workers before it asks the sampler for anything.
            torch.empty((), dtype=torch.int64).random_(generator=generator)
            self._indices = list(self.loader.batch_sampler)
        self.total = len(self._indices)

    @contextmanager
    def _repeatable(self) -> Iterator[None]:
        """Restore the loader's generators for a worker of an array job, so that all of them see the same order."""
        sources = [self.loader, getattr(self.loader, "batch_sampler", None), sampler_of(self.loader)]
        generators = [getattr(source, "generator", None) for source in sources]
        alone = self.share.count > 1 and not self.share.joined
        states = [(g, g.get_state()) for g in generators if alone and isinstance(g, torch.Generator)]
        try:
            yield
        finally:
            for generator, state in states:
                generator.set_state(state)

    def _loader_over(self, numbers: range) -> DataLoader[Any]:
        """Return the user's loader, over the batches of these numbers only."""
        loader: Any = copy.copy(self.loader)
        generator = torch.Generator()
        generator.set_state(self._workers_seed.get_state())
        sampler = self._indices[numbers.start : numbers.stop]
        # Set directly, as a DataLoader forbids changing these once it is made.
        vars(loader).update(batch_sampler=sampler, generator=generator, in_order=True, _iterator=None)
        only_these: DataLoader[Any] = loader
        return only_these


def sampler_of(loader: object) -> Any:
    """Return the sampler that decides a loader's order, if it can be seen."""
    if not isinstance(loader, DataLoader):
        return None
    return getattr(loader.batch_sampler, "sampler", loader.sampler)
