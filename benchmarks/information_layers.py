"""Layers whose information about labels is known: a noisy code of the label, hidden among channels of noise."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import numpy as np
import torch

import featurelens.information as fli

TRUTH_SAMPLES = 200_000


@dataclass(frozen=True)
class Layer:
    """`told` channels hold a random code of the label plus noise of size 1, `repeats` times; the rest are noise."""

    images: int
    channels: int
    labels: int
    told: int = 4
    repeats: int = 1
    shuffled: bool = False

    @property
    def name(self) -> str:
        copies = f", {self.repeats} copies" if self.repeats > 1 else ""
        return f"{self.told} of {self.channels}{copies}" + (", shuffled labels" if self.shuffled else "")

    @property
    def codebook(self) -> np.ndarray:
        return np.random.default_rng(99).normal(size=(self.labels, self.told))

    def sample(self, seed: int) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(seed)
        labels = np.arange(self.images) % self.labels
        code = self.codebook[labels] + rng.normal(size=(self.images, self.told))
        noise = rng.normal(size=(self.images, self.channels - self.told * self.repeats))
        return np.concatenate([code] * self.repeats + [noise], axis=1), (
            rng.permutation(labels) if self.shuffled else labels
        )

    def truth(self) -> float:
        """Return the information of the code: log K less the mean entropy of the label's exact probabilities."""
        if self.shuffled:
            return 0.0
        labels = torch.arange(TRUTH_SAMPLES) % self.labels
        book = torch.from_numpy(self.codebook)
        code = book[labels] + torch.randn(
            TRUTH_SAMPLES, self.told, generator=torch.Generator().manual_seed(5), dtype=torch.float64
        )
        log_chances = (-0.5 * torch.cdist(code, book).square()).log_softmax(dim=1)
        return math.log(self.labels) + float(log_chances.gather(1, labels[:, None]).mean())


LAYERS = (
    Layer(1000, 4, 10),
    Layer(1000, 64, 10),
    Layer(1000, 512, 10),
    Layer(1000, 64, 10, repeats=3),
    Layer(1000, 64, 10, shuffled=True),
    Layer(1000, 512, 10, shuffled=True),
    Layer(3000, 64, 10),
    Layer(1000, 64, 2),
    Layer(360, 1280, 9, told=8),
    Layer(360, 1280, 9, told=8, shuffled=True),
)
ESTIMATORS: dict[str, fli.MutualInformation] = {
    "probe": fli.ProbeMutualInformation(),
    "noisy channel": fli.NoisyChannelMutualInformation(relative=True),
    "KSG": fli.KSGMutualInformation(),
    "KSG on codes": fli.LatentMutualInformation(),
}


def print_layers(seeds: int) -> None:
    """Print the mean estimate of every estimator beside the truth."""
    print(f"{'layer':36}{'images':>7}{'truth':>8}" + "".join(f"{name:>15}" for name in ESTIMATORS))
    errors: dict[str, list[float]] = {name: [] for name in ESTIMATORS}
    seconds = dict.fromkeys(ESTIMATORS, 0.0)
    for layer in LAYERS:
        cells, truth = [], layer.truth()
        for name, estimator in ESTIMATORS.items():
            start = time.perf_counter()
            value = float(
                np.mean([estimator.estimate(*layer.sample(seed), seed=seed).value for seed in range(seeds)])
            )
            seconds[name] += time.perf_counter() - start
            errors[name].append(abs(value - truth))
            cells.append(f"{value:15.3f}")
        print(f"{layer.name:36}{layer.images:7d}{truth:8.3f}" + "".join(cells), flush=True)
    print(f"{'mean error':51}" + "".join(f"{np.mean(error):15.3f}" for error in errors.values()))
    print(
        f"{'seconds per estimate':51}"
        + "".join(f"{total / seeds / len(LAYERS):15.2f}" for total in seconds.values())
    )
