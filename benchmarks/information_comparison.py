"""The comparison tables: tasks with peers, spatial information with a loop over sklearn, and interval coverage."""

from __future__ import annotations

import time
from collections.abc import Callable

import information_peers as peers
import numpy as np
import torch
from information_beyond_normal import beyond_normal, beyond_the_benchmark, independent
from information_mixed import mixed_tasks
from information_tasks import (
    Task,
    high_dimensional,
    low_dimensional,
)

import featurelens.information as fli

Estimator = Callable[[np.ndarray, np.ndarray, int], float | None]


def ours(estimator: fli.MutualInformation) -> Estimator:
    return lambda x, y, seed: estimator.estimate(x, y, seed=seed).value


OURS: dict[str, Estimator] = {
    "KSG": ours(fli.KSGMutualInformation()),
    "corrected": ours(fli.CorrectedKSGMutualInformation()),
    "copula": ours(fli.CopulaMutualInformation()),
}
OURS_TRAINED: dict[str, Estimator] = {
    "smile": ours(fli.NeuralMutualInformation(bound="smile", rotations=1)),
    "infonce": ours(fli.NeuralMutualInformation(bound="infonce", rotations=1)),
}
OURS_HIGH: dict[str, Estimator] = {**OURS, "latent": ours(fli.LatentMutualInformation())}


def measure(
    task: Task, n: int, seeds: range, estimators: dict[str, Estimator]
) -> dict[str, list[tuple[float, float]]]:
    """Return ``(estimate, seconds)`` per seed for every estimator that accepts the task's columns."""
    measured: dict[str, list[tuple[float, float]]] = {name: [] for name in estimators}
    for seed in seeds:
        x, y = task.sample(n, np.random.default_rng(seed))
        for name, estimate in estimators.items():
            start = time.perf_counter()
            value = estimate(x, y, seed)
            if value is not None:
                measured[name].append((value, time.perf_counter() - start))
    return measured


def table(
    tasks: list[Task], n: int, seeds: int, estimators: dict[str, Estimator], *, first_seed: int = 0
) -> None:
    """Print the mean estimate per task, then the errors per group of tasks."""
    width = max(len(task.name) for task in tasks) + 2
    print(
        f"n = {n}, {seeds} seeds; mean estimate in nats, - where a library takes only one column per side\n"
    )
    print(f"{'task':{width}}{'truth':>8}" + "".join(f"{name:>12}" for name in estimators))
    measured = {}
    for estimate in estimators.values():
        estimate(
            *tasks[0].sample(200, np.random.default_rng(0)), 0
        )  # warm up: imports and compilation should not be timed
    for task in tasks:
        measured[task.name] = measure(task, n, range(first_seed, first_seed + seeds), estimators)
        cells = [
            f"{np.mean([value for value, _ in runs]):12.3f}" if runs else f"{'-':>12}"
            for runs in measured[task.name].values()
        ]
        print(f"{task.name:{width}}{task.truth:8.3f}" + "".join(cells), flush=True)
    groups = {
        "elliptical": [task for task in tasks if task.elliptical],
        "not elliptical": [task for task in tasks if not task.elliptical],
        "all": tasks,
        "all but spirals": [task for task in tasks if "spiral" not in task.name],
        "one column per side": [task for task in tasks if task.dim == 1 and "roll" not in task.name],
    }
    for group, members in groups.items():
        if members:
            _print_errors(group, members, measured, width)


def _print_errors(
    group: str, tasks: list[Task], measured: dict[str, dict[str, list[tuple[float, float]]]], width: int
) -> None:
    print(f"\n{group} ({len(tasks)} tasks)")
    errors: dict[str, list[float]] = {}
    seconds: dict[str, list[float]] = {}
    complete = {}
    for task in tasks:
        for name, runs in measured[task.name].items():
            complete[name] = complete.get(name, True) and bool(runs)
            errors.setdefault(name, []).extend(abs(value - task.truth) for value, _ in runs)
            seconds.setdefault(name, []).extend(duration for _, duration in runs)
    rows = (
        ("mean absolute error", lambda name: f"{np.mean(errors[name]):.3f}"),
        ("share within 0.05", lambda name: f"{np.mean(np.array(errors[name]) <= 0.05):.2f}"),
        ("seconds per estimate", lambda name: f"{np.mean(seconds[name]):.3f}"),
    )
    for label, cell in rows:
        cells = (cell(name) if complete[name] else "-" for name in errors)
        print(f"{label:{width + 8}}" + "".join(f"{text:>12}" for text in cells))


def print_tasks(n: int, seeds: int, *, trained: bool) -> None:
    estimators = {**OURS, **peers.available(peers.QUICK)}
    if trained:
        estimators = {**OURS_TRAINED, **peers.available(peers.TRAINED)}
    table(low_dimensional(), n, seeds, estimators)


def print_high(seeds: int) -> None:
    table(high_dimensional(), 5000, seeds, {**OURS_HIGH, "infomeasure": peers.quiet(peers.infomeasure)})


AUTO: dict[str, Estimator] = {
    "KSG": ours(fli.KSGMutualInformation()),
    "fast": ours(fli.AutomaticMutualInformation(effort="fast")),
    "default": ours(fli.AutomaticMutualInformation()),
}


def print_auto(n: int, seeds: int) -> None:
    """Print the default estimator's table on fresh seeds, then functions of several columns and independent data."""
    table(beyond_normal(), n, seeds, AUTO, first_seed=300)
    print()
    further = [*beyond_the_benchmark(), *(independent(d) for d in (5, 20, 50, 128))]
    table(further, n, seeds, AUTO, first_seed=300)


def print_mixed(n: int, seeds: int) -> None:
    """Print the default estimator's table on tasks that its development did not see."""
    table(mixed_tasks(), n, seeds, AUTO, first_seed=300)


def spatial_maps(images: int = 300, channels: int = 16) -> tuple[torch.Tensor, torch.Tensor]:
    """Return smooth images, and rectified maps that are independent of them."""
    generator = torch.Generator().manual_seed(0)

    def smooth(*shape: int) -> torch.Tensor:
        coarse = torch.randn(*shape, 8, 8, generator=generator)
        return torch.nn.functional.interpolate(coarse, size=32, mode="bicubic")

    pixels = smooth(images, 1) + 0.1 * torch.randn(images, 1, 32, 32, generator=generator)
    return pixels, smooth(images, channels).relu()


def sklearn_loop(images: torch.Tensor, maps: torch.Tensor, bins: int = 255) -> np.ndarray:
    """Return the common recipe's estimate for each pair, ``(N, C1, C2)``."""
    from sklearn.metrics import mutual_info_score

    values = np.empty((len(images), images.shape[1], maps.shape[1]))
    for i, j, k in np.ndindex(*values.shape):
        sides = images[i, j].numpy().ravel(), maps[i, k].numpy().ravel()
        codes = (np.digitize(side, np.histogram_bin_edges(side, bins)) for side in sides)
        values[i, j, k] = mutual_info_score(*codes)
    return values


def timed_spatial(repeats: int = 5) -> tuple[float, float, float, int]:
    """Return the loop's seconds, our best, the largest difference, and the number of pairs."""
    images, maps = spatial_maps()
    start = time.perf_counter()
    reference = sklearn_loop(images, maps)
    loop = time.perf_counter() - start
    best = np.inf
    for _ in range(repeats):
        start = time.perf_counter()
        result = fli.spatial_mutual_information(images, maps, legacy=True)
        best = min(best, time.perf_counter() - start)
    difference = float(np.abs(reference.mean(axis=0) - result.per_pair.numpy()).max())
    return loop, best, difference, reference.size


def print_spatial() -> None:
    loop, ours_seconds, difference, pairs = timed_spatial()
    print(f"{pairs} pairs of 32x32 maps, 255 bins, {torch.get_num_threads()} threads")
    print(f"loop over np.digitize and sklearn     {loop:8.3f} s")
    print(
        f"spatial_mutual_information(legacy)    {ours_seconds:8.3f} s   {loop / ours_seconds:.0f} times as fast"
    )
    print(f"largest difference                    {difference:8.1e} nats")
    images, maps = spatial_maps()
    for label, settings in (
        ("255 bins, none", {"legacy": True, "null": "cross_image"}),
        ("16 bins, corrected", {}),
    ):
        start = time.perf_counter()
        result = fli.spatial_mutual_information(images, maps, seed=0, **settings)
        print(
            f"independent maps, {label}: {result.value:.4f} nats, null of 20 pairings {result.null_mean:.4f} "
            f"(p = {result.p_value:.2f}), {time.perf_counter() - start:.2f} s"
        )
