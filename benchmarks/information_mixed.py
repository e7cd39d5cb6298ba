"""Tasks beyond smooth continuous columns, with known answers: mixtures, labels, ties, the zeros of a ReLU, idle columns.

Where the information has no closed form, it is the mean of exact log density ratios over a million samples.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from information_tasks import Array, Task
from scipy.special import logsumexp
from scipy.stats import multivariate_normal, norm

Sample = tuple[Array, Array]
EXACT = 1_000_000


def mixed_tasks() -> list[Task]:
    return [
        mixture("mixture of 2 normals, 1 + 1", [[-1, -1], [1, 1]], [0.5, -0.5]),
        mixture("mixture of 4 normals, 1 + 1", [[-2, 0], [2, 0], [0, -2], [0, 2]], [0.8, 0.8, -0.8, -0.8]),
        label_and_interval(5),
        label_and_interval(20),
        rounded(0.75, 0.5),
        rectified(0.75),
        idle(0.75, 5),
        idle(0.75, 20),
    ]


def mean_ratio(
    sample: Callable[[int, np.random.Generator], Sample], ratio: Callable[[Array, Array], Array]
) -> float:
    return float(ratio(*sample(EXACT, np.random.default_rng(77))).mean())


def mixture(name: str, centres: list[list[float]], correlations: list[float]) -> Task:
    """One column a side: normals of unit variance around several centres, each with a correlation of its own."""
    means = np.array(centres, dtype=float)
    covariances = [np.array([[1, rho], [rho, 1]]) for rho in correlations]

    def sample(n: int, rng: np.random.Generator) -> Sample:
        which = rng.integers(len(means), size=n)
        factors = np.linalg.cholesky(np.stack(covariances))
        points = means[which] + np.einsum("nij,nj->ni", factors[which], rng.normal(size=(n, 2)))
        return points[:, :1], points[:, 1:]

    def ratio(x: Array, y: Array) -> Array:
        points = np.concatenate([x, y], axis=1)
        whole = [multivariate_normal(m, c).logpdf(points) for m, c in zip(means, covariances, strict=True)]
        first, second = ([norm.logpdf(side[:, 0] - m[i]) for m in means] for i, side in enumerate((x, y)))
        log_k: float = math.log(len(means))
        parts = [logsumexp(part, axis=0) - log_k for part in (whole, first, second)]
        found: Array = parts[0] - parts[1] - parts[2]
        return found

    return Task(name, mean_ratio(sample, ratio), sample, False, 1)


def label_and_interval(labels: int) -> Task:
    """A label, and a number drawn from an interval of length 2 that begins at the label (Gao et al. 2017)."""

    def sample(n: int, rng: np.random.Generator) -> Sample:
        x = rng.integers(labels, size=n)
        return x, (x + rng.uniform(0, 2, size=n))[:, None]

    truth = math.log(labels) - (labels - 1) / labels * math.log(2)
    return Task(f"{labels} labels and an interval", truth, sample, False, 1)


def correlated(n: int, rho: float, rng: np.random.Generator) -> Sample:
    x, noise = rng.normal(size=(2, n, 1))
    return x, rho * x + math.sqrt(1 - rho**2) * noise


def rounded(rho: float, step: float) -> Task:
    """Normal columns rounded to multiples of `step`: all values are tied."""

    def sample(n: int, rng: np.random.Generator) -> Sample:
        x, y = correlated(n, rho, rng)
        return np.round(x / step) * step, np.round(y / step) * step

    def ratio(x: Array, y: Array) -> Array:
        def between(side: Array) -> Array:
            ends: Array = norm.cdf(side + step / 2) - norm.cdf(side - step / 2)
            return ends[:, 0]

        both = multivariate_normal([0, 0], [[1, rho], [rho, 1]])
        points, place = np.unique(np.concatenate([x, y], axis=1), axis=0, return_inverse=True)
        shifts = [(a * step / 2, b * step / 2, a * b) for a in (-1, 1) for b in (-1, 1)]
        cells = sum(sign * both.cdf(points + np.array([a, b])) for a, b, sign in shifts)
        found: Array = np.log(cells[place.ravel()] / (between(x) * between(y)))
        return found

    return Task(f"normal {rho}, rounded to {step}", mean_ratio(sample, ratio), sample, False, 1)


def rectified(rho: float) -> Task:
    """Normal columns behind a ReLU: half of all values are 0."""
    slope = rho / math.sqrt(1 - rho**2)
    both_zero = 0.25 + math.asin(rho) / (2 * math.pi)

    def sample(n: int, rng: np.random.Generator) -> Sample:
        x, y = correlated(n, rho, rng)
        return np.maximum(x, 0), np.maximum(y, 0)

    def ratio(x: Array, y: Array) -> Array:
        x, y = x[:, 0], y[:, 0]
        one = norm.logcdf(-slope * np.maximum(x, y)) - math.log(0.5)  # the other is zero
        q = (2 * rho * x * y - rho**2 * (x**2 + y**2)) / (2 * (1 - rho**2))
        neither = q - 0.5 * math.log(1 - rho**2)
        found: Array = np.select(
            [(x == 0) & (y == 0), (x == 0) | (y == 0)],
            [np.full_like(x, math.log(4 * both_zero)), one],
            neither,
        )
        return found

    return Task(f"normal {rho} behind a ReLU", mean_ratio(sample, ratio), sample, False, 1)


def idle(rho: float, columns: int) -> Task:
    """One pair of normal columns, and idle ones on both sides."""

    def sample(n: int, rng: np.random.Generator) -> Sample:
        x, y = correlated(n, rho, rng)
        noise = rng.normal(size=(2, n, columns))
        return np.concatenate([x, noise[0]], axis=1), np.concatenate([y, noise[1]], axis=1)

    return Task(
        f"normal {rho}, {columns} idle columns", -0.5 * math.log(1 - rho**2), sample, False, 1 + columns
    )
