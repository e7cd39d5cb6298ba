"""Work in parts: chunks of rows that bound the memory, threads for them, and a progress bar."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

import torch

from featurelens._progress import progress_bar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

Item = TypeVar("Item")
Result = TypeVar("Result")

CPU_ELEMENTS = 2**15 - 1
"""Below 32,768 elements torch works on one core."""
DEVICE_ELEMENTS = 2**24


def row_slices(rows: int, elements_per_row: int, most_elements: int) -> Iterator[slice]:
    """Yield slices that cover ``range(rows)``, each of at most `most_elements` elements but at least one row.

    >>> list(row_slices(5, 10, 25))
    [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    >>> list(row_slices(2, 100, 25))
    [slice(0, 1, None), slice(1, 2, None)]
    """
    step = max(1, most_elements // max(1, elements_per_row))
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))


def elements_at_a_time(device: torch.device) -> int:
    """Return how many elements one call of :func:`map_threaded` should work on."""
    return CPU_ELEMENTS if device.type == "cpu" else DEVICE_ELEMENTS


def map_threaded(
    function: Callable[[Item], Result], items: Iterable[Item], device: torch.device
) -> list[Result]:
    """Return ``[function(item) for item in items]``, on the CPU several at a time.

    Chunks so small that each stays on one core and in its cache need no barriers, unlike a parallel loop; barriers
    are cheap on an idle machine and very slow on a busy one.
    """
    if device.type != "cpu" or torch.get_num_threads() == 1:
        return [function(item) for item in items]
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        return list(pool.map(function, items))


def shown(items: Iterable[Item], what: str, unit: str, progress: bool) -> Iterable[Item]:
    """Return the items under a progress bar."""
    bar: Iterable[Item] = progress_bar(items, what=what, unit=unit, progress=progress)
    return bar
