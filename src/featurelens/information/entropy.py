"""Entropies from counts: every formula is a sum over cells of a weight that depends on the count alone."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import numpy as np
import torch

from featurelens.information import compiled
from featurelens.information.chance import ChanceTable, cells_seen
from featurelens.information.chunks import elements_at_a_time, row_slices
from featurelens.information.variables import entropy

Correction = Literal["permutation", "miller-madow", "grassberger", "none"]
CORRECTIONS: tuple[Correction, ...] = ("permutation", "miller-madow", "grassberger", "none")


@lru_cache(maxsize=16)
def count_weights(largest: int, correction: Correction) -> torch.Tensor:
    """Return w ``(largest + 1,)`` with which an entropy is ``log n - sum_cells w[count] / n`` nats.

    ==============  ==============================================================================
    none            w(c) = c log c (plug-in)
    permutation     the same: the bias is taken off afterwards, by :class:`~featurelens.information.chance.Chance`
    miller-madow    w(c) = c log c - 1/2 for c > 0 (Miller 1955): the entropy gains (K - 1) / 2n;
                    the constant -1/2n of each entropy is added by :func:`information_from_sums`
    grassberger     w(c) = c G(c), G(c) = psi(c) + (-1)^c/2 (psi((c+1)/2) - psi(c/2)) (Grassberger 2003)
    ==============  ==============================================================================

    The weight of an empty cell is 0, so sparse and dense tables have the same sum.
    """
    counts = torch.arange(largest + 1, dtype=torch.float64)
    if correction == "grassberger":
        weights = counts * _grassberger_g(counts)
    else:
        weights = torch.xlogy(counts, counts)
        if correction == "miller-madow":
            weights = weights - 0.5
    weights[0] = 0.0
    return weights


def _grassberger_g(counts: torch.Tensor) -> torch.Tensor:
    positive = counts.clamp_min(1.0)
    sign = 1.0 - 2.0 * (positive % 2)
    halves = torch.digamma((positive + 1) / 2) - torch.digamma(positive / 2)
    values: torch.Tensor = torch.digamma(positive) + 0.5 * sign * halves
    return values


def information_from_sums(
    joint: torch.Tensor, first: torch.Tensor, second: torch.Tensor, n: int, correction: Correction
) -> torch.Tensor:
    """Return H(X) + H(Y) - H(X, Y) = (S_xy - S_x - S_y) / n + log n in nats, from sums of weights.

    The constant of Miller and Madow, -1/2n per entropy, enters twice with one sign and once with the other.
    """
    information = (joint - first - second) / n + math.log(n)
    return information - 0.5 / n if correction == "miller-madow" else information


class TableInformation(NamedTuple):
    """Mutual information in nats of two rows of codes, and what to warn of if their table has more cells than samples."""

    value: float
    caution: str | None


def information_from_codes(
    x: torch.Tensor, y: torch.Tensor, *, levels_x: int, levels_y: int, correction: Correction
) -> TableInformation:
    """Return the mutual information of two rows of codes ``(N,)``, from counts of the cells they hit.

    >>> x = torch.tensor([0, 0, 1, 1])
    >>> round(information_from_codes(x, x, levels_x=2, levels_y=2, correction="none").value, 4)
    0.6931
    """
    n = len(x)
    weights = count_weights(n, correction).to(x.device)
    joint, first, second = (
        _cell_counts(codes, cells)
        for codes, cells in ((x * levels_y + y, levels_x * levels_y), (x, levels_x), (y, levels_y))
    )
    value = information_from_sums(
        weights[joint].sum(), weights[first].sum(), weights[second].sum(), n=n, correction=correction
    )
    cells, caution = levels_x * levels_y, None
    if correction != "permutation" and cells <= n:
        return TableInformation(float(value), None)
    chance = ChanceTable(first, second, n).of(first[None], second[None])
    if cells > n:
        share = float(chance.information) / max(min(entropy(x), entropy(y)), 1e-300)
        caution = (
            f"has {cells} cells for {n} samples, and pairs at random would show {share:.0%} of all possible "
            "information; use fewer bins, columns or labels, or pass quantities as floating-point values"
        )
    if correction == "permutation":
        value = chance.taken_off(value, cells_seen(joint))
    return TableInformation(float(value), caution)


def pointwise_information(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return the terms ``log(n c_xy / (c_x c_y))`` ``(N,)`` in nats whose mean is the plug-in information.

    >>> x = torch.tensor([0, 0, 1, 1])
    >>> pointwise_information(x, x)
    tensor([0.6931, 0.6931, 0.6931, 0.6931], dtype=torch.float64)
    """
    pairs = torch.unique(x * (int(y.max()) + 1) + y, return_inverse=True)[1]
    joint, first, second = (codes.bincount()[codes].double() for codes in (pairs, x, y))
    return (len(x) * joint / (first * second)).log()


def _cell_counts(codes: torch.Tensor, cells: int) -> torch.Tensor:
    # A dense table unless it is much larger than the data; then a sort is faster.
    if cells <= 8 * len(codes) + 4096:
        return torch.bincount(codes, minlength=cells)
    counts: torch.Tensor = torch.unique(codes, return_counts=True)[1]
    return counts


def row_sums(keys: torch.Tensor, cells: int, correction: Correction) -> torch.Tensor:
    """Return ``sum_cells w[count]`` of every row of keys ``(..., P)`` below `cells`, float64 of shape ``(...)``.

    A dense table would have `cells` entries per row, nearly all of them zero; sorting a row puts equal keys
    side by side, and the lengths of its runs are the counts.

    >>> row_sums(torch.tensor([[3, 1, 3, 3], [0, 1, 2, 3]]), 4, "none")
    tensor([3.2958, 0.0000], dtype=torch.float64)
    """
    return row_sums_and_cells(keys, cells, correction)[0]


def row_sums_and_cells(
    keys: torch.Tensor, cells: int, correction: Correction
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what :func:`row_sums` returns, and for every row its cells as :func:`cells_seen` counts them."""
    rows = keys.reshape(-1, keys.shape[-1])
    weights, unit = _whole_weights(rows.shape[1], correction)
    if keys.device.type == "cpu":
        sums, seen = map(torch.from_numpy, _run_sums(rows.numpy(), cells, weights.numpy()))
    else:
        sums, seen = _run_sums_on_device(rows, weights.to(keys.device))
    return (sums.double() * unit).reshape(keys.shape[:-1]), seen.reshape(keys.shape[:-1])


def pair_sums_and_cells(
    own: torch.Tensor, others: torch.Tensor, levels: int, correction: Correction
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what :func:`row_sums_and_cells` returns ``(K, A, B)`` of the cells of codes ``(K, A, P)`` and ``(K, B, P)``.

    Codes are below `levels`. With numba the loop over pairs is compiled, and gives the same numbers.
    """
    dense = own.device.type == "cpu" and levels**2 <= compiled.MOST_CELLS
    if dense and (run := compiled.machine_code(compiled.pair_sums)):
        weights, unit = _whole_weights(own.shape[2], correction)
        sums, seen = map(torch.from_numpy, run(own.numpy(), others.numpy(), levels, weights.numpy()))
        return sums.double() * unit, seen
    sums = own.new_empty(*own.shape[:2], others.shape[1], dtype=torch.float64)
    seen = torch.empty_like(sums, dtype=torch.int64)
    for image, channel in np.ndindex(*own.shape[:2]):
        for part in row_slices(others.shape[1], own.shape[2], elements_at_a_time(own.device)):
            keys = own[image, channel] * levels + others[image, part]
            sums[image, channel, part], seen[image, channel, part] = row_sums_and_cells(
                keys, levels**2, correction
            )
    return sums, seen


def sums_of_counts(counts: torch.Tensor, n: int, correction: Correction) -> torch.Tensor:
    """Return ``sum w[count]`` over the last dimension of counts ``(..., K)`` of `n` samples, as :func:`row_sums` does.

    >>> sums_of_counts(torch.tensor([[1, 3], [2, 2]]), 4, "none")
    tensor([3.2958, 2.7726], dtype=torch.float64)
    """
    weights, unit = _whole_weights(n, correction)
    return weights.to(counts.device)[counts].sum(dim=-1).double() * unit


@lru_cache(maxsize=16)
def _whole_weights(n: int, correction: Correction) -> tuple[torch.Tensor, float]:
    """Return the weights of :func:`count_weights` as int64, and their unit: their sums do not depend on the order."""
    unit = 2.0 ** (int(n * math.log(n) + n).bit_length() - 62)  # a sum of n samples stays below 2**63
    return (count_weights(n, correction) / unit).round().long(), unit


def _run_sums(
    rows: np.ndarray[Any, Any], cells: int, weights: np.ndarray[Any, Any]
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Sum over runs of equal keys, visiting only those longer than one; also count cells.

    A run of length c gives w(c) = c w(1) + [w(c) - c w(1)]: the first part is the same for every row, and the
    second is zero for the many keys that occur once.
    """
    narrow = next(
        dtype for dtype in (np.uint8, np.uint16, np.int32, np.int64) if cells - 1 <= np.iinfo(dtype).max
    )
    # Up to 16 bits are sorted digit by digit ("stable"), in time proportional to their number.
    ordered = np.sort(rows.astype(narrow), axis=1, kind="stable" if cells <= 2**16 else None)
    # same[i]: position i repeats its left neighbour; False in the first column, so no run crosses rows.
    same = np.zeros((rows.shape[0], rows.shape[1] + 1), dtype=bool)
    np.equal(ordered[:, 1:], ordered[:, :-1], out=same[:, 1:-1])
    opens = same[:, 1:] > same[:, :-1]
    closes = same[:, :-1] > same[:, 1:]
    lengths = np.flatnonzero(closes) - np.flatnonzero(opens) + 1
    single = weights[1]
    gain = (weights - single * np.arange(len(weights)))[lengths]
    sums = np.full(len(rows), single * rows.shape[1], dtype=np.int64)
    runs = np.count_nonzero(opens, axis=1)
    filled = np.flatnonzero(runs)
    if len(filled):
        sums[filled] += np.add.reduceat(gain, (np.cumsum(runs) - runs)[filled])
    keys = rows.shape[1] - np.count_nonzero(same, axis=1)
    return sums, 2 * keys - runs


def _run_sums_on_device(rows: torch.Tensor, weights: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    ordered = rows.sort(dim=1).values
    opens = torch.ones_like(ordered, dtype=torch.bool)
    opens[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    starts = opens.flatten().nonzero()[:, 0]
    lengths = torch.diff(starts, append=starts.new_tensor([ordered.numel()]))
    sums = torch.zeros(len(rows), dtype=torch.int64, device=rows.device)
    row = starts // rows.shape[1]
    seen = torch.zeros(len(rows), dtype=torch.int64, device=rows.device)
    return sums.index_add_(0, row, weights[lengths]), seen.index_add_(0, row, 1 + (lengths == 1).long())
