"""Canonical correlation analysis: the linear combinations of two sides that correlate most."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import torch

SIGNIFICANT = 3.0
"""Held-out correlations of fewer standard errors count as chance."""


@final
@dataclass(frozen=True)
class CanonicalMap:
    """Centre and project: ``(N, D)`` to ``(N, d)``."""

    mean: torch.Tensor
    directions: torch.Tensor

    def __call__(self, values: torch.Tensor) -> torch.Tensor:
        return (values - self.mean) @ self.directions

    def first(self, number: int) -> CanonicalMap:
        """Return the map to the first `number` columns."""
        return CanonicalMap(self.mean, self.directions[:, :number])


def fit_canonical_maps(x: torch.Tensor, y: torch.Tensor, most: int) -> tuple[CanonicalMap, CanonicalMap]:
    """Return maps of both sides to their canonical variates: as many pairs as replicate, at least 1, at most `most`.

    Directions are first fitted to two thirds of the samples; the last third decides how many pairs still correlate.
    The maps that are returned are fitted to all samples.
    """
    cut = len(x) * 2 // 3
    trial_x, trial_y = canonical_maps(x[:cut], y[:cut], most)
    correlations = _column_correlations(trial_x(x[cut:]), trial_y(y[cut:]))
    chance = correlations < SIGNIFICANT / math.sqrt(len(x) - cut)
    pairs = int(chance.to(torch.int8).argmax()) if bool(chance.any()) else len(chance)
    map_x, map_y = canonical_maps(x, y, most)
    return map_x.first(max(1, pairs)), map_y.first(max(1, pairs))


def canonical_maps(x: torch.Tensor, y: torch.Tensor, most: int) -> tuple[CanonicalMap, CanonicalMap]:
    """Return maps of both sides to at most `most` canonical variates, the most correlated first."""
    mean_x, mean_y = x.mean(dim=0), y.mean(dim=0)
    white_x, white_y = _whitening(x - mean_x), _whitening(y - mean_y)
    cross = white_x.T @ ((x - mean_x).T @ (y - mean_y) / len(x)) @ white_y
    left, _, right = torch.linalg.svd(cross, full_matrices=False)
    return CanonicalMap(mean_x, white_x @ left[:, :most]), CanonicalMap(mean_y, white_y @ right.T[:, :most])


def _whitening(centred: torch.Tensor) -> torch.Tensor:
    """Return W ``(D, r)`` with ``W^T C W = I`` for the covariance C, shrunk towards a multiple of the identity.

    The share of shrinkage, ``D / (D + N)``, is negligible for a few columns and keeps hundreds of columns from
    correlating by chance.
    """
    n, dim = centred.shape
    covariance = centred.T @ centred / n
    share = dim / (dim + n)
    shrunk = (1 - share) * covariance + share * covariance.diagonal().mean() * torch.eye(
        dim, dtype=centred.dtype, device=centred.device
    )
    values, vectors = torch.linalg.eigh(shrunk)
    kept = values > 1e-10 * values[-1]
    whitening: torch.Tensor = vectors[:, kept] / values[kept].sqrt()
    return whitening


def _column_correlations(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    a, b = a - a.mean(dim=0), b - b.mean(dim=0)
    scale = (a.norm(dim=0) * b.norm(dim=0)).clamp_min(1e-300)
    correlations: torch.Tensor = (a * b).sum(dim=0) / scale
    return correlations
