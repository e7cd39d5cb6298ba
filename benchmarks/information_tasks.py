"""Distributions whose mutual information is known in closed form, and bijective transformations of them.

Covariances follow Czyż et al. (2023), "Beyond normal: on the evaluation of mutual information estimators".
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

Array = np.ndarray
Sampler = Callable[[int, np.random.Generator], tuple[Array, Array]]


@dataclass(frozen=True)
class Task:
    """One distribution: `sample(n, rng)` gives x ``(n, dim_x)`` and y ``(n, dim_y)``; `truth` is in nats.

    `elliptical` says whether the copula is that of an elliptical law, which copula estimators assume.
    """

    name: str
    truth: float
    sample: Sampler
    elliptical: bool
    dim: int

    def through(
        self, label: str, f: Callable[[Array], Array], *, elliptical: bool, both: bool = True
    ) -> Task:
        """Return the task with x transformed by the bijection `f`, and y as well if `both`."""

        def sample(n: int, rng: np.random.Generator) -> tuple[Array, Array]:
            x, y = self.sample(n, rng)
            return f(x), f(y) if both else y

        return replace(self, name=f"{self.name}, {label}", sample=sample, elliptical=elliptical)


def from_covariance(covariance: Array, dim: int, nu: float | None = None) -> Sampler:
    """Sample a Gaussian, or a Student distribution with `nu` degrees of freedom, split after `dim` columns."""
    factor = np.linalg.cholesky(covariance)

    def sample(n: int, rng: np.random.Generator) -> tuple[Array, Array]:
        z = rng.normal(size=(n, len(factor))) @ factor.T
        if nu is not None:
            z /= np.sqrt(rng.chisquare(nu, size=(n, 1)) / nu)
        return z[:, :dim], z[:, dim:]

    return sample


def bivariate_normal(rho: float) -> Task:
    covariance = np.array([[1.0, rho], [rho, 1.0]])
    return Task(f"normal {rho}", -0.5 * math.log(1 - rho**2), from_covariance(covariance, 1), True, 1)


def dense(d: int) -> Task:
    """All correlations between all 2d columns are 1/2."""
    truth = 0.5 * math.log((1 + (d - 1) / 2) ** 2 / (0.5 * (1 + (2 * d - 1) / 2)))
    return Task(f"dense {d}", truth, from_covariance(0.5 * (np.eye(2 * d) + 1), d), True, d)


def two_pair(d: int) -> Task:
    """Two pairs of columns correlate at 0.8, the rest are independent."""
    covariance = np.eye(2 * d)
    for i in range(2):
        covariance[i, d + i] = covariance[d + i, i] = 0.8
    return Task(f"two-pair {d}", -math.log(0.36), from_covariance(covariance, d), True, d)


def student(d: int, nu: float) -> Task:
    """Student distribution with identity dispersion: uncorrelated, but extreme values occur together."""
    from scipy.special import digamma, gammaln

    def h(k: int) -> float:
        entropy = gammaln(nu / 2) - gammaln((nu + k) / 2) + k / 2 * math.log(nu * math.pi)
        return float(entropy + (nu + k) / 2 * (digamma((nu + k) / 2) - digamma(nu / 2)))

    return Task(
        f"Student {d}, nu {nu:g}", 2 * h(d) - h(2 * d), from_covariance(np.eye(2 * d), d, nu), True, d
    )


def additive(e: float) -> Task:
    """X uniform, Y = X + U(-e, e)."""

    def sample(n: int, rng: np.random.Generator) -> tuple[Array, Array]:
        x = rng.uniform(size=(n, 1))
        return x, x + rng.uniform(-e, e, size=(n, 1))

    return Task(f"additive {e}", e - math.log(2 * e) if e <= 0.5 else 1 / (4 * e), sample, False, 1)


def cdf(x: Array) -> Array:
    """Apply the standard normal distribution function."""
    from scipy.special import ndtr

    return ndtr(x)


def half_cube(x: Array) -> Array:
    """Apply x sqrt|x|."""
    return x * np.sqrt(np.abs(x))


def rotated(x: Array) -> Array:
    """Apply a fixed random rotation."""
    rotation, _ = np.linalg.qr(np.random.default_rng(12).normal(size=(x.shape[1], x.shape[1])))
    return x @ rotation


def swiss_roll(x: Array) -> Array:
    """Roll one column up into a spiral in the plane."""
    t = 1.5 * np.pi * (1 + 2 * cdf(x))
    return np.concatenate([t * np.cos(t), t * np.sin(t)], axis=1) / 21


def spiral(x: Array) -> Array:
    """Rotate columns 1 and 2, then 2 and 3, by a third of the squared distance from the origin, in radians."""
    x = x.copy()
    angle = (x**2).sum(axis=1) / 3
    for i in range(min(2, x.shape[1] - 1)):
        a, b = x[:, i].copy(), x[:, i + 1].copy()
        x[:, i], x[:, i + 1] = a * np.cos(angle) - b * np.sin(angle), a * np.sin(angle) + b * np.cos(angle)
    return x


def rotated_cdf(x: Array) -> Array:
    return rotated(cdf(x))


def rotated_asinh(x: Array) -> Array:
    return rotated(np.arcsinh(x))


STUDENTS = ((1, 1.0), (2, 1.0), (2, 2.0), (3, 2.0), (3, 3.0), (5, 2.0), (5, 3.0))


def low_dimensional() -> list[Task]:
    """Return the tasks with at most five columns per side, including bijective transformations."""
    normal = bivariate_normal(0.75)
    elliptical = [
        normal,
        normal.through("Phi", cdf, elliptical=True),
        normal.through("x sqrt|x|", half_cube, elliptical=True),
        dense(2),
        dense(3),
        dense(5),
        dense(3).through("rotated", rotated, elliptical=True),
        dense(5).through("Phi", cdf, elliptical=True),
        two_pair(2),
        two_pair(3),
        two_pair(5),
        two_pair(3).through("asinh", np.arcsinh, elliptical=True),
        two_pair(5).through("x sqrt|x|", half_cube, elliptical=True),
        *(student(d, nu) for d, nu in STUDENTS),
        student(2, 1.0).through("asinh", np.arcsinh, elliptical=True),
        student(5, 2.0).through("asinh", np.arcsinh, elliptical=True),
    ]
    others = [
        additive(0.1),
        additive(0.75),
        additive(0.1).through("x sqrt|x|", half_cube, elliptical=False),
        normal.through("swiss roll", swiss_roll, elliptical=False, both=False),
        dense(5).through("Phi, rotated", rotated_cdf, elliptical=False),
        two_pair(3).through("asinh, rotated", rotated_asinh, elliptical=False),
        student(3, 2.0).through("asinh, rotated", rotated_asinh, elliptical=False),
        two_pair(3).through("spiral", spiral, elliptical=False),
        two_pair(5).through("spiral", spiral, elliptical=False),
    ]
    return elliptical + others


def high_dimensional() -> list[Task]:
    """Return the tasks with 25 and 50 columns per side."""
    return [dense(25), dense(50), two_pair(25)]
