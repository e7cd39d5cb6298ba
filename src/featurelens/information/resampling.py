"""The uncertainty of estimates: standard errors from disjoint parts of the data, and nulls from permutations."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch

from featurelens._random import permutation
from featurelens.information.variables import Variable

Statistic = Callable[[Variable, Variable], float]

PARTITIONS = 4
BLOCKS = 10
SMALLEST_BLOCK = 25


class Scatter(NamedTuple):
    """The standard error of an estimate with its degrees of freedom, and what parts of the data give on average, if any."""

    error: float
    degrees: int
    of_parts: float = math.nan
    part_size: int = 0

    def drift_note(self, value: float, half_width: float) -> list[str]:
        """Return a note if the value depends on the number of samples by more than the interval is wide."""
        if not abs(self.of_parts - value) > half_width:  # nor if there are no parts
            return []
        note = (
            f"{self.part_size} samples at a time give {self.of_parts:.4f} nats, all of them {value:.4f}: the estimate still "
            "depends on the number of samples, which the interval does not cover"
        )
        return [note]


def block_scatter(statistic: Statistic, x: Variable, y: Variable, generator: torch.Generator) -> Scatter:
    """Return the standard error of ``statistic(x, y)`` from how much it varies between disjoint parts, and their mean.

    The data are divided into up to 10 parts of m samples, four times at random. The variance of a nearest-neighbour
    estimate falls as 1/n, so at n samples it is m/n of the variance between parts (Holmes & Nemenman 2019, "Estimation of
    mutual information for real-valued data with error bars and controlled bias"). A bootstrap repeats samples, which
    an estimator from distances mistakes for information.
    """
    n = len(x)
    blocks = min(BLOCKS, n // SMALLEST_BLOCK)
    if blocks < 2:
        raise ValueError(
            f"confidence needs at least {2 * SMALLEST_BLOCK} samples; got {n}: use more, or confidence=None"
        )
    size = n // blocks
    variances, means = [], []
    for _ in range(PARTITIONS):
        order = permutation(n, generator, x.device)
        parts = [order[i * size : (i + 1) * size] for i in range(blocks)]
        values = torch.tensor([statistic(x.take(part), y.take(part)) for part in parts], dtype=torch.float64)
        variances.append(float(values.var()))
        means.append(float(values.mean()))
    error = math.sqrt(sum(variances) / PARTITIONS * size / n)
    return Scatter(error, blocks - 1, sum(means) / PARTITIONS, size)


def shuffled_values(
    statistic: Statistic, x: Variable, y: Variable, permutations: int, generator: torch.Generator
) -> torch.Tensor:
    """Return ``statistic(x, y')`` for `permutations` random orders y' of y."""
    n = len(x)
    return torch.tensor(
        [statistic(x, y.take(permutation(n, generator, y.device))) for _ in range(permutations)],
        dtype=torch.float64,
    )


def permutation_p_value(value: float, null: torch.Tensor) -> float:
    """Return the share of values at least as large as `value`, itself counted (Phipson & Smyth 2010).

    >>> permutation_p_value(0.3, torch.tensor([0.1, 0.2, 0.4]))
    0.5
    """
    return (1 + int((null >= value).sum())) / (1 + len(null))


def t_quantile(confidence: float, degrees: float) -> float:
    """Return the half-width, in standard errors, of a two-sided interval of that confidence."""
    from scipy.special import stdtrit  # scipy costs more to import than torch saves

    return float(stdtrit(degrees, 0.5 + confidence / 2))
