"""Paired differences between two scores of the same images: their mean, its error, and a test against no effect."""

from __future__ import annotations

from typing import final

import torch


@final
class PairedDifferences:
    """Sums of the weighted differences of V variants, batch by batch.

    >>> paired = PairedDifferences()
    >>> paired.add(torch.tensor([[1.0, 1.0, 1.0, 1.0, 1.0, 0.0]]), torch.ones(6), exact=True)
    >>> paired.mean, paired.p_value()
    (tensor([0.8333], dtype=torch.float64), tensor([0.0625], dtype=torch.float64))
    """

    def __init__(self) -> None:
        self.n, self._weight, self._weight_squared = 0, 0.0, 0.0
        self._sum = self._once = self._twice = self._better = self._worse = torch.zeros(())
        self._exact = True

    def add(self, differences: torch.Tensor, weights: torch.Tensor, *, exact: bool) -> None:
        """Add differences `(V, N)` of images with weights `(N,)`; `exact` if the scores were all 0 or 1."""
        differences, weights = differences.double(), weights.double()
        self.n += int((weights > 0).sum())
        self._weight += float(weights.sum())
        self._weight_squared += float(weights.square().sum())
        weighted = weights * differences
        self._sum = self._sum + weighted.sum(1)
        self._once = self._once + (weights * weighted).sum(1)
        self._twice = self._twice + weighted.square().sum(1)
        self._worse = self._worse + (weighted > 0).sum(1)
        self._better = self._better + (weighted < 0).sum(1)
        self._exact &= exact and bool((weights <= 1).all())

    @property
    def mean(self) -> torch.Tensor:
        """The weighted mean `(V,)`."""
        return self._sum / self._weight

    @property
    def standard_error(self) -> torch.Tensor:
        """The standard error of `mean`; with unequal weights that of a ratio, to first order. 0 for a single image."""
        mean = self.mean
        squares = self._twice - 2 * mean * self._once + mean.square() * self._weight_squared
        return (squares.clamp_min(0) * self.n / max(self.n - 1, 1)).sqrt() / self._weight

    def p_value(self) -> torch.Tensor:
        """Return the two-sided p-value of no effect `(V,)`.

        For scores of 0 or 1 this is McNemar's exact test, for others the paired t-test. No p-value is below ``2^(1 - n)``,
        the smallest one that n pairs can have if nothing is assumed of their distribution.
        """
        from scipy.stats import binom, t

        if self._exact:
            fewer = torch.minimum(self._worse, self._better)
            found = 2 * binom.cdf(fewer.numpy(), (self._worse + self._better).numpy(), 0.5)
        else:
            ratio = torch.where(self.mean == 0, 0.0, self.mean.abs() / self.standard_error)
            found = 2 * t.sf(ratio.numpy(), max(self.n - 1, 1))
        return torch.as_tensor(found, dtype=torch.float64).clamp(2.0 ** (1 - self.n), 1.0)


def is_hit(scores: torch.Tensor) -> bool:
    """Whether all scores are 0 or 1."""
    return bool(((scores == 0) | (scores == 1)).all())


def false_discovery_rates(p_values: torch.Tensor) -> torch.Tensor:
    """Return for each p-value the smallest false discovery rate at which it is a discovery; NaN stays.

    Benjamini & Hochberg (1995, "Controlling the False Discovery Rate").

    >>> false_discovery_rates(torch.tensor([0.04, 0.01, 0.02]))
    tensor([0.0400, 0.0300, 0.0300])
    """
    rates = torch.full_like(p_values, float("nan"))
    valid = p_values.isfinite().nonzero()[:, 0]
    order = valid[p_values[valid].argsort(descending=True)]
    ranks = torch.arange(len(order), 0, -1).to(p_values)
    rates[order] = (p_values[order] * len(order) / ranks).cummin(0).values.clamp_max(1)
    return rates
