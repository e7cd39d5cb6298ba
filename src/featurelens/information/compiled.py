"""The loops of spatial information, compiled where numba is installed (``pip install "featurelens[fast]"``)."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

Array = np.ndarray[Any, Any]

MOST_CELLS = 2**22
"""Of a dense table of counts, which every thread has to itself."""


@lru_cache(maxsize=2)
def machine_code(function: Callable[..., Any]) -> Callable[..., Any] | None:
    """Return a function of this file compiled, which happens at its first call; None where numba is missing."""
    try:
        from numba import njit
    except ImportError:
        return None
    made: Callable[..., Any]
    try:
        made = njit(nogil=True, cache=True)(function)
    except RuntimeError:  # no folder in which the machine code can be kept
        made = njit(nogil=True)(function)
    return made


def digitize(rows: Array, edges: Array) -> Array:
    """Return the last edge ``(M, bins + 1)`` that does not exceed each value ``(M, N)``, as int32."""
    codes = np.empty(rows.shape, dtype=np.int32)
    bins = edges.shape[1] - 1
    for row in range(len(rows)):
        low = edges[row, 0]
        span = edges[row, bins] - low
        per_unit = bins / span if span > 0 else 0.0  # edges that rounding made equal
        for place in range(rows.shape[1]):
            value = rows[row, place]
            code = min(max(int((value - low) * per_unit), 0), bins)
            while code > 0 and value < edges[row, code]:
                code -= 1
            while code < bins and value >= edges[row, code + 1]:
                code += 1
            codes[row, place] = code
    return codes


def pair_sums(own: Array, others: Array, levels: int, weights: Array) -> tuple[Array, Array]:
    """Return sums ``(K, A, B)`` of `weights` over the cells of codes ``(K, A, P)`` and ``(K, B, P)``, and cells as seen."""
    counts = np.zeros(levels * levels, dtype=np.int32)
    sums = np.zeros((len(own), own.shape[1], others.shape[1]), dtype=np.int64)
    seen = np.zeros_like(sums)
    for image, channel, other in np.ndindex(sums.shape):
        first, second = own[image, channel], others[image, other]
        total, cells = 0, 0
        for place in range(len(first)):
            cell = first[place] * levels + second[place]
            before = counts[cell]
            counts[cell] = before + 1
            total += weights[before + 1] - weights[before]
            cells += 2 * (before == 0) - (before == 1)
        for place in range(len(first)):
            counts[first[place] * levels + second[place]] = 0
        sums[image, channel, other] = total
        seen[image, channel, other] = cells
    return sums, seen
