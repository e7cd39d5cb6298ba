"""Which class every channel responds to most, by how much, and how much of that is chance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
import torch
from numpy.typing import NDArray

from featurelens._checks import check_whole, count
from featurelens.statistics.base import State, Statistic, check_same_channels
from featurelens.statistics.by_class import among, check_classes, sum_by_class
from featurelens.statistics.exact_sums import added, central_products, exact, raw_products, total
from featurelens.statistics.responses import responses

DRAWS = 100
"""Random labellings for the null."""
CERTAIN = 1e12
"""Largest concentration of the null; larger ones differ from a constant response by rounding only."""
NOTHING = -1e300
"""The logarithm of the share of a class without images."""

Floats = NDArray[np.float64]


@final
@dataclass(frozen=True, repr=False, eq=False)
class ClassSelectivityResult:
    """Mean response of each channel to each class, and how selective it is.

    Attributes
    ----------
    mean : torch.Tensor
        ``(C, K)`` float64, in the units of the activations: mean response to the images of each class; NaN for a class
        without images.
    counts : torch.Tensor
        ``(C, K)`` int64: number of images of each class in which the channel was finite throughout.
    index : torch.Tensor
        ``(C,)`` float64: ``(largest - others) / (largest + others)``, from the largest class mean and the mean of the
        other class means: 0 if all classes are alike, 1 if only one is responded to. NaN for a dead channel, and where
        fewer than two classes have images.
    null_mean, p_value : torch.Tensor
        ``(C,)`` float64: mean index for shuffled labels, and share of the shuffled (including the true labels) that
        reach `index`. Rare classes and sparse channels raise the index without any selectivity: read `excess`.
    not_finite : torch.Tensor
        ``(C,)`` int64: images that are left out because the channel was NaN or infinite somewhere.
    layer : str or None
        The layer, if measured by `ActivationRecorder.stream`.
    """

    mean: torch.Tensor
    counts: torch.Tensor
    index: torch.Tensor
    null_mean: torch.Tensor
    p_value: torch.Tensor
    not_finite: torch.Tensor
    layer: str | None = None

    @property
    def preferred(self) -> torch.Tensor:
        """``(C,)`` int64: the class with the largest mean response; -1 where `index` is NaN."""
        return self.mean.nan_to_num(-1.0).argmax(1).masked_fill(self.index.isnan(), -1)

    @property
    def excess(self) -> torch.Tensor:
        """``(C,)`` float64: `index` minus `null_mean`."""
        return self.index - self.null_mean

    def __str__(self) -> str:
        channels, classes = self.mean.shape
        text = f"{count(channels, 'channel')} against {classes} classes"
        if bool(self.index.isnan().all()):
            return text
        best = int(self.excess.nan_to_num(-2.0).argmax())
        return (
            f"{text}; most selective is channel {best} for class {int(self.preferred[best])}: "
            f"{self.index[best]:.3f}, {self.null_mean[best]:.3f} with shuffled labels"
        )

    def __repr__(self) -> str:
        channels, classes = self.mean.shape
        images = count(int(self.counts.sum(1).max()), "image")
        return f"{type(self).__name__}({count(channels, 'channel')}, {classes} classes, {images})"


@final
@dataclass(eq=False)
class ClassSelectivity(Statistic):
    """Mean response of each channel to each class, and its class selectivity with the null of shuffled labels.

    The response to an image is that of `Activity`, the index that of Morcos et al. (2018), "On the importance of single
    directions for generalization". Among classes with few images the largest mean is high by chance, all the more for a
    sparse channel, so the index is biased upwards. The null needs no second pass: when labels are shuffled, the shares of
    the total response that fall to the classes have known means, variances and covariances, which a Dirichlet
    distribution reproduces exactly; 100 draws from it give the null. It is exact for a channel that responds to a single
    image, and near for others.

    Parameters
    ----------
    classes : int
        Number of classes; labels are 0 ... `classes` - 1.

    Raises
    ------
    TypeError, ValueError
        If `classes` is not a whole number of at least 2.

    Examples
    --------
    >>> selectivity = ClassSelectivity(classes=2)
    >>> selectivity.update(torch.tensor([[1.0, 3.0], [1.0, 1.0]]), labels=torch.tensor([0, 1]))
    >>> found = selectivity.compute()
    >>> found.index.tolist(), found.mean.tolist()
    ([0.0, 0.5], [[1.0, 1.0], [3.0, 1.0]])
    """

    classes: int
    needs_labels: ClassVar[bool] = True

    def __post_init__(self) -> None:
        self.classes = check_whole(self.classes, argument="classes", least=2)

    def check_labels(self, labels: torch.Tensor | None) -> None:
        super().check_labels(labels)
        check_classes(labels, self.classes, user=self)

    def measure(self, values: torch.Tensor, first_row: int, labels: torch.Tensor | None) -> State:
        assert labels is not None
        found, labels = responses(values), labels.cpu().long()
        here = torch.unique(labels)
        column = torch.searchsorted(here, labels)
        images, sums = found.usable.sum(1), found.strength.sum(1)
        mean = (sums / images.clamp_min(1))[:, None]
        scatter = ((found.strength - mean) * found.usable).square().sum(1)
        return {
            "classes": here,
            "counts": sum_by_class(found.usable.long(), column, len(here)),
            "class_sums": exact(sum_by_class(found.strength, column, len(here))),
            "sum": exact(sums),
            "squares": raw_products(scatter, sums, sums, images),
            "min": found.strength.masked_fill(~found.usable, torch.inf).amin(1),
            "max": found.strength.masked_fill(~found.usable, -torch.inf).amax(1),
            "not_finite": len(values) - images,
        }

    def combine(self, one: State, other: State) -> State:
        check_same_channels(len(one["counts"]), len(other["counts"]))
        classes = torch.unique(torch.cat([one["classes"], other["classes"]]))
        sums = (among(classes, part["classes"], part["class_sums"]) for part in (one, other))
        return {
            "classes": classes,
            "counts": _counts(classes, one) + _counts(classes, other),
            "class_sums": added(*sums),
            "sum": added(one["sum"], other["sum"]),
            "squares": added(one["squares"], other["squares"]),
            "min": torch.minimum(one["min"], other["min"]),
            "max": torch.maximum(one["max"], other["max"]),
            "not_finite": one["not_finite"] + other["not_finite"],
        }

    def summarize(self, state: State) -> ClassSelectivityResult:
        everything = torch.arange(self.classes)
        counts = _counts(everything, state)
        images, sums = counts.sum(1).double(), total(state["sum"])[0]
        constant = state["min"] >= state["max"]
        mean = total(among(everything, state["classes"], state["class_sums"]))[0] / counts
        # The mean of equal responses is rounded, so that classes seem to differ.
        mean = torch.where(constant[:, None] & (counts > 0), state["max"][:, None], mean)
        index = torch.from_numpy(_index(mean.numpy(), counts.numpy() > 0))
        scatter = central_products(state["squares"], state["sum"], state["sum"], images).clamp_min(0.0)
        squared_variation = images * scatter.masked_fill(constant, 0.0) / sums.square()
        null_mean, hits = _null(counts.numpy(), squared_variation.numpy(), index.numpy())
        return ClassSelectivityResult(
            mean=mean,
            counts=counts,
            index=index,
            null_mean=torch.from_numpy(null_mean).masked_fill(constant, 0.0).where(~index.isnan(), torch.nan),
            p_value=torch.from_numpy((1 + hits) / (1 + DRAWS)).where(~index.isnan(), torch.nan),
            not_finite=state["not_finite"],
        )


def _counts(classes: torch.Tensor, state: State) -> torch.Tensor:
    spread: torch.Tensor = state["counts"].new_zeros(len(state["counts"]), len(classes))
    spread[:, torch.searchsorted(classes, state["classes"])] = state["counts"]
    return spread


def _index(mean: Floats, known: NDArray[np.bool_]) -> Floats:
    """Return the selectivity ``(C,)`` of class means ``(C, K)``, of the classes that have images."""
    mean = np.where(known, mean, 0.0)
    largest, classes = mean.max(1), known.sum(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        others = (mean.sum(1) - largest) / (classes - 1)
        index: Floats = (largest - others) / (largest + others)
        return index


def _null(counts: NDArray[np.int64], squared_variation: Floats, index: Floats) -> tuple[Floats, Floats]:
    """Return the mean selectivity for shuffled labels ``(C,)``, and how often it reaches `index`.

    Shares s_k of the total response, for n_k of N images and a variance of v squared means, have variance
    ``p_k (1 - p_k) v / (N - 1)`` with p_k = n_k / N: those of a Dirichlet distribution with parameters a p_k,
    a = (N - 1) / v - 1. Its draws are gamma numbers over their sum, taken as logarithms because small ones underflow.
    """
    images, known, generator = counts.sum(1), counts > 0, np.random.default_rng(0)
    with np.errstate(divide="ignore", invalid="ignore"):
        concentration = np.clip(np.nan_to_num((images - 1) / squared_variation - 1), 1 / CERTAIN, CERTAIN)
        shares = np.where(known, counts / images[:, None], 1.0)
    parameters = concentration[:, None] * shares
    total, hits = np.zeros(len(counts)), np.zeros(len(counts))
    for _ in range(DRAWS):
        gamma = (
            np.log(generator.standard_gamma(parameters + 1))
            - generator.exponential(size=parameters.shape) / parameters
        )
        gamma = np.where(known, gamma, NOTHING)
        drawn = _index(np.exp(gamma - gamma.max(1, keepdims=True)) / shares, known)
        total += drawn
        hits += drawn >= index
    return total / DRAWS, hits
