"""Entropies from counts, without ever forming probabilities: every formula is a sum of a table over counts."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Literal

import torch

Correction = Literal["none", "miller-madow", "grassberger"]
CORRECTIONS: tuple[Correction, ...] = ("none", "miller-madow", "grassberger")


@lru_cache(maxsize=16)
def count_weights(largest: int, correction: Correction) -> torch.Tensor:
    """Return w ``(largest + 1,)`` with which an entropy is ``log n - sum_cells w[count] / n`` nats.

    ==============  ==============================================================================
    none            w(c) = c log c (plug-in)
    miller-madow    w(c) = c log c - 1/2 for c > 0 (Miller 1955): the entropy gains (K - 1) / 2n;
                    the constant -1/2n of each entropy is added by :func:`information_from_sums`
    grassberger     w(c) = c G(c), G(c) = psi(c) + (-1)^c/2 (psi((c+1)/2) - psi(c/2)) (Grassberger 2003)
    ==============  ==============================================================================

    Empty cells weigh nothing, so sparse and dense tables of counts give the same sum.
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


def information_from_codes(
    x: torch.Tensor, y: torch.Tensor, *, levels_x: int, levels_y: int, correction: Correction
) -> float:
    """Return the mutual information in nats of two rows of codes ``(N,)``, from counts of the cells they hit.

    >>> x = torch.tensor([0, 0, 1, 1])
    >>> round(information_from_codes(x, x, levels_x=2, levels_y=2, correction="none"), 4)
    0.6931
    """
    n = len(x)
    weights = count_weights(n, correction).to(x.device)
    joint, first, second = (
        weights[_cell_counts(codes, cells)].sum()
        for codes, cells in ((x * levels_y + y, levels_x * levels_y), (x, levels_x), (y, levels_y))
    )
    return float(information_from_sums(joint, first, second, n=n, correction=correction))


def _cell_counts(codes: torch.Tensor, cells: int) -> torch.Tensor:
    # A dense table while it is not much larger than the data, a sort once it is.
    if cells <= 8 * len(codes) + 4096:
        return torch.bincount(codes, minlength=cells)
    counts: torch.Tensor = torch.unique(codes, return_counts=True)[1]
    return counts
