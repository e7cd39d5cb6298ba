"""Cells of equal width that find their own range, independent of the order in which values come.

A channel's cells are ``[i 2^level, (i + 1) 2^level)``. The level is the lowest at which all values so far lie in
`CELLS` neighbouring cells: it depends on their extremes alone, and a cell of one level is a pair of cells of the level
below, so that counts move up without seeing the values again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self, final

import numpy as np
import torch
from numpy.typing import NDArray

CELLS = 256
DIGITS = 50  # a cell's number has no more: beyond that, neighbours differ by what float64 cannot tell
FINEST = -1022  # a cell's width is a normal number: what lies nearer to zero shares a cell with it
EMPTY = -2000  # the level of a channel without values, below that of any value
FAR = 2**60
SHIFTS = 62

Integers = NDArray[np.int64]


@final
@dataclass(eq=False)
class Cells:
    """Counts of labels in each channel's cells: level, first and last occupied cell ``(C,)``, ``(C, CELLS, K)``."""

    level: Integers
    first: Integers
    last: Integers
    counts: torch.Tensor

    @classmethod
    def of(cls, state: Mapping[str, torch.Tensor]) -> Self:
        """Return the cells whose `state` this is."""
        level, first, last = (state[name].numpy() for name in ("level", "first", "last"))
        return cls(level, first, last, state["counts"])

    def state(self) -> dict[str, torch.Tensor]:
        """Return everything as tensors."""
        numbers = {name: torch.from_numpy(getattr(self, name)) for name in ("level", "first", "last")}
        return {**numbers, "counts": self.counts}

    @classmethod
    def empty(cls, channels: int, classes: int) -> Self:
        """Return cells without values."""
        nothing = np.zeros(channels, dtype=np.int64)
        counts = torch.zeros(channels, CELLS, classes, dtype=torch.int64)
        return cls(nothing + EMPTY, nothing, nothing, counts)

    def add(self, values: torch.Tensor, labels: torch.Tensor) -> None:
        """Count `values` ``(C, N)``; those that are not finite are left out."""
        numbers = values.numpy()
        finite = np.isfinite(numbers)
        some = finite.any(1)
        low = np.where(some, np.where(finite, numbers, np.inf).min(1), 0.0)
        high = np.where(some, np.where(finite, numbers, -np.inf).max(1), 0.0)
        level = np.where(some, _level(low, high), EMPTY)
        self._widen(level, _cell(low, level), _cell(high, level))
        usable = np.where(finite, numbers, low[:, None])
        start = np.arange(len(numbers)) * CELLS - self.first
        cell = _cell(usable, self.level[:, None]) + start[:, None]
        flat = torch.from_numpy(cell[finite]) * self.counts.shape[2] + labels.expand(values.shape)[finite]
        self.counts.view(-1).index_add_(0, flat, torch.ones_like(flat))

    def merge(self, other: Self) -> None:
        """Add the counts of others."""
        self._widen(other.level, other.first, other.last)
        self.counts += other._moved(self.level, self.first)

    def _widen(self, level: Integers, first: Integers, last: Integers) -> None:
        """Make room for cells from `first` to `last` of another level."""
        wanted = np.maximum(self.level, level)
        while True:
            start, stop = _range(self.level, self.first, self.last, wanted)
            other_start, other_stop = _range(level, first, last, wanted)
            start, stop = np.minimum(start, other_start), np.maximum(stop, other_stop)
            wide = stop - start >= CELLS
            if not wide.any():
                break
            wanted = wanted + wide
        self.counts = self._moved(wanted, start)
        self.level, self.first, self.last = wanted, start, stop

    def _moved(self, level: Integers, first: Integers) -> torch.Tensor:
        """Return the counts in the cells of `level` from number `first` on."""
        moves = (level != self.level) | (first != self.first)
        moves &= self.level != EMPTY  # nothing to move
        if not moves.any():
            return self.counts
        shift = np.minimum(level - self.level, SHIFTS)[moves, None]
        cell = ((self.first[moves, None] + np.arange(CELLS)) >> shift) - first[moves, None]
        # Cells behind the last occupied one are empty, and may fall anywhere.
        target = torch.from_numpy(cell.clip(0, CELLS - 1))[:, :, None].expand(-1, -1, self.counts.shape[2])
        moved = self.counts.clone()
        chosen = torch.from_numpy(moves)
        moved[chosen] = torch.zeros_like(moved[chosen]).scatter_add_(1, target, self.counts[chosen])
        return moved


def _range(level: Integers, first: Integers, last: Integers, wanted: Integers) -> tuple[Integers, Integers]:
    """Return the cells of the level `wanted` that contain the first and the last one; far apart without values."""
    shift = np.minimum(wanted - level, SHIFTS)
    return np.where(level == EMPTY, FAR, first >> shift), np.where(level == EMPTY, -FAR, last >> shift)


def _level(low: NDArray[np.float64], high: NDArray[np.float64]) -> Integers:
    """Return the lowest level at which two numbers are less than `CELLS` cells apart."""
    largest = np.maximum(np.abs(low), np.abs(high))
    magnitude = np.where(largest > 0, np.frexp(largest)[1], FINEST).astype(np.int64)  # frexp calls zero 2^0
    spread = np.frexp(high - low)[1].astype(np.int64) - int(np.log2(CELLS)) - 3
    level = np.maximum(np.maximum(magnitude - DIGITS, FINEST), np.where(high > low, spread, FINEST))
    while True:
        wide = _cell(high, level) - _cell(low, level) >= CELLS
        if not wide.any():
            return level
        level = level + wide


def _cell(values: NDArray[np.float64], level: Integers) -> Integers:
    return np.floor(np.ldexp(values, -level)).astype(np.int64)
