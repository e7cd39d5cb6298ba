"""Working through rows a few at a time, so that memory has a limit that does not depend on their number."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


def row_slices(rows: int, elements_per_row: int, most_elements: int) -> Iterator[slice]:
    """Yield slices that cover ``range(rows)``, each of at most `most_elements` elements but at least one row.

    >>> list(row_slices(5, 10, 25))
    [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    step = max(1, most_elements // max(1, elements_per_row))
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))
