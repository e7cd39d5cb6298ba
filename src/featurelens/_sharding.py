"""One worker's share of a data set: a contiguous block of the batches that a single process would form.

>>> [list(Share(index, 3).block(7)) for index in range(3)]
[[0, 1], [2, 3], [4, 5, 6]]
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self, final

from torch import distributed

from featurelens._checks import describe

_logger = logging.getLogger("featurelens")


class WorkerFailed(RuntimeError):
    """Another worker of the process group failed; the error is raised in every worker."""


@dataclass(frozen=True)
class _Failure:
    message: str


@final
@dataclass(frozen=True)
class Share:
    """Which worker this is, of how many; `joined` if a process group connects them."""

    index: int = 0
    count: int = 1
    joined: bool = False

    @classmethod
    def find(cls, shard: tuple[int, int] | None) -> Self:
        """Return the share that the user names, else that of this rank in torch.distributed, else everything.

        Raises
        ------
        TypeError, ValueError
            If `shard` is not ``(index, count)`` with ``0 <= index < count``.
        RuntimeError
            If torchrun started several processes, and their process group is not initialized.
        """
        if shard is None:
            if distributed.is_available() and distributed.is_initialized():
                return cls(distributed.get_rank(), distributed.get_world_size(), joined=True)
            if "TORCHELASTIC_RUN_ID" in os.environ and (world := os.environ.get("WORLD_SIZE", "1")) != "1":
                raise RuntimeError(
                    f"torchrun started {world} processes: call torch.distributed.init_process_group() first to "
                    "share the work, or pass shard=(0, 1) to process everything in each"
                )
            return cls()
        pair: Any = shard
        whole = isinstance(pair, tuple | list) and len(pair) == 2
        if not whole or any(isinstance(n, bool) or not isinstance(n, int) for n in pair):
            raise TypeError(f"shard must be two integers, (index, count); got {describe(shard)}")
        index, count = shard
        if not 0 <= index < count:
            raise ValueError(f"shard must be (index, count) with 0 <= index < count; got ({index}, {count})")
        return cls(index, count)

    def block(self, total: int) -> range:
        """Return the numbers of this worker's batches, of `total`; the lengths of blocks differ by at most one."""
        return range(total * self.index // self.count, total * (self.index + 1) // self.count)

    def gather(self, value: Any) -> list[Any]:
        """Return every worker's `value`, in order of rank; all workers must call it.

        Raises
        ------
        WorkerFailed
            If a worker called it because its `together` block failed.
        """
        if not self.joined:
            return [value]
        values: list[Any] = [None] * self.count
        distributed.all_gather_object(values, value)
        failures = [(rank, met.message) for rank, met in enumerate(values) if isinstance(met, _Failure)]
        if failures and not isinstance(value, _Failure):
            raise WorkerFailed("; ".join(f"worker {rank} failed: {message}" for rank, message in failures))
        return values

    @contextmanager
    def together(self) -> Iterator[None]:
        """Leave the block together: a worker that fails in it makes the others fail at their next `gather`."""
        try:
            yield
        except WorkerFailed:
            raise
        except BaseException as error:
            if self.joined and self.count > 1:
                message = f"{type(error).__name__}: {error}"
                _logger.error("worker %d failed (%s) and waits to tell the others", self.index, message)
                self.gather(_Failure(message))
            raise
        self.gather(None)

    def first_of(self, value: Any) -> Any:
        """Return the first worker's `value` to all of them, right after a `gather`."""
        if not self.joined or self.count == 1:
            return value
        holder = [value if self.index == 0 else None]
        distributed.broadcast_object_list(holder, src=0)
        return holder[0]
