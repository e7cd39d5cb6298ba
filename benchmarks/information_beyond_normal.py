"""The 40 tasks of the benchmark of Czyż et al. (2023), "Beyond normal", and tasks beyond it.

Distributions and coefficients are those of their package, whose samplers need jax: here numpy draws from the same laws.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from information_tasks import (
    STUDENTS,
    Array,
    Task,
    additive,
    bivariate_normal,
    cdf,
    dense,
    half_cube,
    student,
    swiss_roll,
    two_pair,
)

Map = Callable[[Array], Array]


def sides(task: Task, label: str, f: Map, g: Map, *, elliptical: bool = True) -> Task:
    """Return the task with x transformed by `f` and y by `g`, both bijections."""

    def sample(n: int, rng: np.random.Generator) -> tuple[Array, Array]:
        x, y = task.sample(n, rng)
        return f(x), g(y)

    return replace(task, name=f"{task.name}, {label}", sample=sample, elliptical=elliptical)


def two_peaks(weight: float, left: float, right: float) -> Map:
    """Map a normal variable to a mixture of two: `weight` of N(left, 1), the rest of N(right, 1)."""
    grid = np.linspace(min(left, right) - 9, max(left, right) + 9, 200_001)
    levels = weight * cdf(grid - left) + (1 - weight) * cdf(grid - right)
    return lambda x: np.interp(cdf(x), levels, grid)


def wiggly_x(x: Array) -> Array:
    return x + 0.4 * np.sin(x) + 0.2 * np.sin(1.7 * x + 1) + 0.03 * np.sin(3.3 * x - 2.5)


def wiggly_y(y: Array) -> Array:
    return y - 0.4 * np.sin(0.4 * y) + 0.17 * np.sin(1.3 * y + 3.5) + 0.02 * np.sin(4.3 * y - 2.5)


def turned(first: int) -> Map:
    """Rotate columns `first` and `first` + 1 by the squared distance from the origin over the number of columns."""

    def turn(x: Array) -> Array:
        angle = (x**2).sum(axis=1) / x.shape[1]
        x, (a, b) = x.copy(), x[:, first : first + 2].T
        x[:, first] = np.cos(angle) * a - np.sin(angle) * b
        x[:, first + 1] = np.sin(angle) * a + np.cos(angle) * b
        return x

    return turn


def spirals(task: Task) -> Task:
    return sides(task, "spiral", turned(0), turned(1), elliptical=False)


def beyond_normal() -> list[Task]:
    """Return the 40 tasks."""
    normal, heavy = bivariate_normal(0.75), student(1, 1.0)
    pairs = [two_pair(d) for d in (3, 5, 25)]
    uniform = [task.through("Phi", cdf, elliptical=True) for task in pairs]
    return [
        normal,
        normal.through("Phi", cdf, elliptical=True),
        additive(0.1),
        additive(0.75),
        sides(normal, "two peaks", two_peaks(0.3, 0.0, 5.0), two_peaks(0.5, -1.0, 3.0)),
        sides(normal, "wiggly", wiggly_x, wiggly_y),
        normal.through("x sqrt|x|", half_cube, elliptical=True),
        heavy,
        heavy.through("asinh", np.arcsinh, elliptical=True),
        normal.through("swiss roll", swiss_roll, elliptical=False, both=False),
        *(dense(d) for d in (2, 3, 5, 25, 50)),
        *(two_pair(d) for d in (2, 3, 5, 25)),
        *(student(d, nu) for d, nu in STUDENTS[1:]),
        *uniform,
        *(task.through("x sqrt|x|", half_cube, elliptical=True) for task in pairs),
        *(spirals(task) for task in pairs),
        *(spirals(task) for task in uniform),
        *(
            student(d, nu).through("asinh", np.arcsinh, elliptical=True)
            for d, nu in ((2, 1.0), (3, 2.0), (5, 2.0))
        ),
    ]


def function_plus_noise(name: str, truth: float, f: Map, dim: int, noise: float, columns: int = 1) -> Task:
    """X normal in `dim` columns; the first column of Y is f(X) + noise, the others are independent."""

    def sample(n: int, rng: np.random.Generator) -> tuple[Array, Array]:
        x = rng.normal(size=(n, dim))
        y = rng.normal(size=(n, columns))
        y[:, 0] = f(x) + noise * y[:, 0]
        return x, y

    return Task(name, truth, sample, False, dim)


def independent(d: int) -> Task:
    return Task(
        f"independent {d}", 0.0, lambda n, rng: (rng.normal(size=(n, d)), rng.normal(size=(n, d))), True, d
    )


def entropy_of_sum(values: Array, noise: float) -> float:
    """Return the differential entropy in nats of a variable plus normal noise, by integrating its smoothed density."""
    grid = np.linspace(values.min() - 8 * noise, values.max() + 8 * noise, 20_001)
    step = grid[1] - grid[0]
    density = np.histogram(
        values, bins=len(grid), range=(grid[0] - step / 2, grid[-1] + step / 2), density=True
    )[0]
    kernel_grid = np.arange(-round(8 * noise / step), round(8 * noise / step) + 1) * step
    kernel = np.exp(-0.5 * (kernel_grid / noise) ** 2)
    density = np.convolve(density, kernel / kernel.sum(), mode="same")
    kept = density > 1e-300
    return float(-(density[kept] * np.log(density[kept])).sum() * step)


def beyond_the_benchmark() -> list[Task]:
    """Return functions of several columns plus noise, whose information is the entropy of the sum less the noise's."""
    cases: list[tuple[str, Map, int, float, int]] = [
        ("|x1|, 3 + 3", lambda x: np.abs(x[:, 0]), 3, 0.2, 3),
        ("x1 x2, 10 + 10", lambda x: x[:, 0] * x[:, 1], 10, 0.3, 10),
        ("sin(2 x1 x2), 2 + 1", lambda x: np.sin(2 * x[:, 0] * x[:, 1]), 2, 0.2, 1),
        ("radius, 5 + 1", lambda x: np.sqrt((x**2).sum(axis=1)), 5, 0.25, 1),
        ("x1^2 - x2^2, 4 + 2", lambda x: x[:, 0] ** 2 - x[:, 1] ** 2, 4, 0.5, 2),
    ]
    tasks = []
    for name, f, dim, noise, columns in cases:
        values = f(np.random.default_rng(123).normal(size=(4_000_000, dim)))
        truth = entropy_of_sum(values, noise) - 0.5 * math.log(2 * math.pi * math.e * noise**2)
        tasks.append(function_plus_noise(name, truth, f, dim, noise, columns))
    return tasks
