"""Whether intervals contain the true value, and p-values are uniform without dependence."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from information_layers import Layer
from information_tasks import Array, Task, additive, bivariate_normal, dense, student, two_pair

import featurelens.information as fli


def in_cells(task: Task, levels: int) -> Task:
    """Return the task with both sides cut into cells, as labels; its true value is measured on a million samples."""
    edges = np.linspace(-1.5, 1.5, levels - 1)

    def sample(n: int, rng: np.random.Generator) -> tuple[Array, Array]:
        x, y = task.sample(n, rng)
        return np.digitize(x[:, 0], edges), np.digitize(y[:, 0], edges)

    counts = np.zeros((levels, levels))
    np.add.at(counts, sample(1_000_000, np.random.default_rng(77)), 1)
    shares = counts / counts.sum()
    product = shares.sum(axis=1, keepdims=True) * shares.sum(axis=0)
    truth = float((shares * np.log(np.where(shares > 0, shares / product, 1))).sum())
    return Task(f"{task.name}, {levels} cells", truth, sample, False, 1)


def hidden(layer: Layer) -> Task:
    """Return a layer and its labels as a task."""
    return Task(
        f"code in {layer.channels} channels",
        layer.truth(),
        lambda n, rng: layer.sample(int(rng.integers(2**31))),
        False,
        layer.channels,
    )


Case = tuple[str, fli.MutualInformation, Task, int]


def coverage_cases() -> list[Case]:
    ksg, copula, binned = (
        fli.KSGMutualInformation(),
        fli.CopulaMutualInformation(),
        fli.BinnedMutualInformation(),
    )
    corrected, probe = fli.CorrectedKSGMutualInformation(), fli.ProbeMutualInformation()
    return [
        ("KSG", ksg, bivariate_normal(0.75), 1000),
        ("KSG", ksg, additive(0.75), 1000),
        ("KSG", ksg, dense(2), 1000),
        ("corrected KSG", corrected, bivariate_normal(0.75), 1000),
        ("corrected KSG", corrected, dense(2), 1000),
        ("copula", copula, bivariate_normal(0.75), 1000),
        ("copula", copula, dense(5), 1000),
        ("copula", copula, student(2, 2.0), 1000),
        ("binned", binned, in_cells(bivariate_normal(0.75), 4), 1000),
        ("binned", binned, in_cells(bivariate_normal(0.75), 10), 1000),
        ("binned", binned, in_cells(bivariate_normal(0.3), 6), 500),
        ("probe", probe, hidden(Layer(1000, 16, 5)), 1000),
        ("latent", fli.LatentMutualInformation(), two_pair(5), 2000),
        ("automatic", fli.AutomaticMutualInformation(), dense(3), 1000),
    ]


def print_coverage(repetitions: int, only: list[str] | None) -> None:
    """Print how often a nominal 95 % interval contains the true value, and how often it does not and no note says why.

    No interval covers a bias; a note says so where the estimate depends on the number of samples.
    """
    print(
        f"{'estimator':16}{'task':26}{'n':>6}{'coverage':>10}{'bias':>9}{'true sd':>9}{'mean se':>9}{'missed, not noted':>19}"
    )
    for label, estimator, task, n in coverage_cases():
        if only and label not in only:
            continue
        values, errors, hits, unsaid = [], [], 0, 0
        for seed in range(repetitions):
            x, y = task.sample(n, np.random.default_rng(seed))
            result = estimator.estimate(x, y, confidence=0.95, seed=seed)
            values.append(result.value)
            errors.append(result.standard_error)
            hit = result.interval[0] <= task.truth <= result.interval[1]
            hits += hit
            unsaid += not hit and not any("interval" in note for note in result.notes)
        print(
            f"{label:16}{task.name:26}{n:6d}{hits / repetitions:10.1%}{np.mean(values) - task.truth:9.4f}"
            f"{np.std(values):9.4f}{np.mean(errors):9.4f}{unsaid / repetitions:19.1%}",
            flush=True,
        )
    print_p_values(repetitions, only)


def print_p_values(repetitions: int, only: list[str] | None) -> None:
    """Print how often p-values of independent data are at most 5 %, 20 % and 50 %, from 19 permutations each."""
    print(f"\n{'p-values':16}{'p <= .05':>10}{'p <= .2':>10}{'p <= .5':>10}")
    draws: dict[str, Callable[[int], list[float]]] = {
        name: lambda seed, estimator=estimator, labelled=labelled: [one_p_value(estimator, seed, labelled)]
        for name, estimator, labelled in (
            ("KSG", fli.KSGMutualInformation(), False),
            ("corrected KSG", fli.CorrectedKSGMutualInformation(), False),
            ("copula", fli.CopulaMutualInformation(), False),
            ("binned", fli.BinnedMutualInformation(bins=5), False),
            ("probe", fli.ProbeMutualInformation(), True),
        )
    }
    draws["channels"] = channel_p_values
    for name, draw in draws.items():
        if only and name not in only:
            continue
        found = np.concatenate([draw(seed) for seed in range(repetitions)])
        print(
            f"{name:16}" + "".join(f"{np.mean(found <= level):10.3f}" for level in (0.05, 0.2, 0.5)),
            flush=True,
        )


def one_p_value(estimator: fli.MutualInformation, seed: int, labelled: bool) -> float:
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(300, 2)), rng.normal(size=(300, 1))
    if labelled:
        y = rng.integers(0, 3, 300)
    result = estimator.estimate(x, y, null="permutation", permutations=19, seed=seed)
    assert result.p_value is not None
    return result.p_value


def channel_p_values(seed: int) -> list[float]:
    generator = torch.Generator().manual_seed(seed)
    activations = torch.randn(200, 20, generator=generator)
    result = fli.channel_information(
        activations, torch.arange(200) % 2, permutations=19, seed=seed, progress=False
    )
    assert result.p_values is not None
    values: list[float] = result.p_values.tolist()
    return values
