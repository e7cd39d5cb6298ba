"""The sums over images from which the HSIC of every pair of layers follows, the same to the bit however data are split."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple, final

import torch

from featurelens.similarity.hsic import Sums
from featurelens.statistics.exact_sums import TOO_LARGE

BLOCK = 512
"""Images whose products are rounded together: those from number 512 k on, whatever the batches and shares."""

DIGITS, STEP, FINEST = 40, 8, -960
"""Sums of a block are rounded to 40 binary digits or up to 7 more, on a grid whose spacing is a power of 256."""

Layout = Sequence[tuple[int, int]]
"""Number of views, one or two, and number of columns in each, for every layer."""


class Key(NamedTuple):
    """One kind of sum of one view or two, which are numbered over all layers."""

    kind: str
    one: int
    other: int = -1


@final
class GridSum:
    """A sum of tensors of one shape, each rounded to a grid that it chooses itself: integers add in any order.

    >>> one, other = GridSum(), GridSum()
    >>> for term in (1e20, 1.0):
    ...     one.add(torch.tensor([term], dtype=torch.float64))
    >>> other.add(torch.tensor([-1e20], dtype=torch.float64))
    >>> one.merge(other)
    >>> one.total()
    tensor([1.], dtype=torch.float64)
    """

    def __init__(self) -> None:
        self.parts: dict[int, torch.Tensor] = {}

    def add(self, values: torch.Tensor) -> None:
        """Add float64 values.

        Raises
        ------
        ValueError
            If one is not finite.
        """
        largest = max(map(abs, torch.stack(torch.aminmax(values)).tolist()))
        if not math.isfinite(largest):
            raise ValueError(TOO_LARGE)
        if largest or not self.parts:
            level = max(math.frexp(largest)[1] // STEP * STEP - DIGITS, FINEST)
            self._add(level, (values * 2.0**-level).round_().long())

    def merge(self, other: GridSum) -> None:
        """Add another sum, on the CPU; its memory may be reused."""
        for level, whole in other.parts.items():
            self._add(level, whole.cpu())

    def total(self) -> torch.Tensor | float:
        """Return the sum as float64; 0 if nothing was added."""
        return sum(self.parts[level].double() * 2.0**level for level in sorted(self.parts))

    def _add(self, level: int, whole: torch.Tensor) -> None:
        self.parts[level] = self.parts[level].add_(whole) if level in self.parts else whole


@final
class PairSums:
    """Sums for pairs of layers, from features `(N, D)` that hold the views of all layers side by side.

    HSIC of two layers is that of the first view of one and the second view of the other, and that in the other order; the
    only view of a layer is both.

    Parameters
    ----------
    layout
        The layers' views.
    pairs
        Pairs of layers, by number.
    """

    def __init__(self, layout: Layout, pairs: Iterable[tuple[int, int]]) -> None:
        self.views: list[slice] = []
        self._first_and_last: list[tuple[int, int]] = []
        stop = 0
        for views, columns in layout:
            self._first_and_last.append((len(self.views), len(self.views) + views - 1))
            self.views += [slice(stop + columns * i, stop + columns * (i + 1)) for i in range(views)]
            stop += columns * views
        self.n = 0
        self._pairs = {pair: self._crossed(*pair) for pair in pairs}
        crossed = (views for several in self._pairs.values() for views in several)
        self.sums = {key: GridSum() for views in crossed for key in _keys(*views)}
        self._waiting: dict[int, list[tuple[int, torch.Tensor]]] = {}  # rows of blocks that are not full

    def add(self, first_row: int, features: torch.Tensor) -> None:
        """Add images `first_row` and the following ones, features ``(N, D)`` float64."""
        self.n += len(features)
        while len(features):
            number = first_row // BLOCK
            part = features[: (number + 1) * BLOCK - first_row]
            self._wait(number, [(first_row, part)])
            first_row, features = first_row + len(part), features[len(part) :]

    def merge(self, other: PairSums) -> None:
        """Add the sums of other images, on the CPU, as ranks have devices of their own; their memory may be reused."""
        self.n += other.n
        for key, summed in other.sums.items():
            self.sums[key].merge(summed)
        for number, parts in other._waiting.items():
            self._wait(number, [(first_row, rows.cpu()) for first_row, rows in parts])

    def hsic(self) -> dict[tuple[int, int], list[float]]:
        """Return the unbiased HSIC of each pair over all images added so far: one estimate, or one for each order."""
        rest = [_Block(_joined(self._waiting[number]), self.views) for number in sorted(self._waiting)]

        def total(key: Key) -> torch.Tensor:
            return torch.as_tensor(self.sums[key].total() + sum(block.sum(key) for block in rest))

        def between(one: int, other: int) -> float:
            return float(Sums(*map(total, _keys(one, other))).unbiased(self.n))

        return {pair: [between(*views) for views in crossed] for pair, crossed in self._pairs.items()}

    def _crossed(self, one: int, other: int) -> list[tuple[int, int]]:
        """Return the pairs of views that stand for a pair of layers."""
        (a, b), (c, d) = self._first_and_last[one], self._first_and_last[other]
        return list(dict.fromkeys([(a, d), (b, c)])) if one != other else [(a, d)]

    def _wait(self, number: int, parts: list[tuple[int, torch.Tensor]]) -> None:
        """Keep rows of a block until it is full, then add it up."""
        waiting = self._waiting.pop(number, []) + parts
        if sum(len(rows) for _, rows in waiting) < BLOCK:
            self._waiting[number] = waiting
            return
        block = _Block(_joined(waiting), self.views)
        for key, summed in self.sums.items():
            summed.add(block.sum(key))


@final
class _Block:
    """The features of consecutive images, and their sums."""

    def __init__(self, rows: torch.Tensor, views: list[slice]) -> None:
        self.rows, self.views = rows, views
        self.norms = torch.stack([rows[:, view].square().sum(1) for view in views], 1)

    def sum(self, key: Key) -> torch.Tensor:
        x, a = self.rows[:, self.views[key.one]], self.norms[:, key.one]
        if key.other < 0:
            return x.sum(0) if key.kind == "x" else a.sum()
        y, b = self.rows[:, self.views[key.other]], self.norms[:, key.other]
        return {"xy": lambda: x.T @ y, "bx": lambda: b @ x, "ab": lambda: a @ b}[key.kind]()


def _keys(one: int, other: int) -> tuple[Key, ...]:
    """Return the keys of the sums of two views, in the order of `Sums`."""
    sides = Key("x", one), Key("x", other), Key("a", one), Key("a", other)
    return (
        *sides,
        Key("xy", one, other),
        Key("bx", one, other),
        Key("bx", other, one),
        Key("ab", one, other),
    )


def _joined(parts: list[tuple[int, torch.Tensor]]) -> torch.Tensor:
    return torch.cat([rows for _, rows in sorted(parts, key=lambda part: part[0])])
