"""Measures of the similarity of two representations of the same images.

Each takes two arrays with a row for each image, in the same order. None is best everywhere: CKA and Procrustes follow how
networks behave most closely (Klabunde et al., "ReSi: a comprehensive benchmark for representational similarity
measures", 2024). SVCCA and PWCCA are left out: their values depend on the number of directions kept, and with as many
columns as images they are 1 for anything.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal, final

import torch
from torch.nn.functional import normalize

from featurelens._checks import check_choice, check_flag, check_number
from featurelens._random import Seed
from featurelens.similarity import hsic
from featurelens.similarity.base import ArrayLike, Measure, Null, Pair
from featurelens.similarity.results import SimilarityResult

Kernel = Literal["linear", "rbf"]
Distance = Literal["correlation", "cosine", "euclidean"]
Correlation = Literal["spearman", "pearson"]


def cka(
    x: ArrayLike,
    y: ArrayLike,
    *,
    kernel: Kernel = "linear",
    bandwidth: float = 1.0,
    debiased: bool = True,
    null: Null | None = None,
    permutations: int = 100,
    confidence: float | None = None,
    seed: Seed = 0,
) -> SimilarityResult:
    """Centred kernel alignment: 1 for representations that differ by a rotation and a scale, 0 for independent ones.

    It is ``HSIC(X, Y) / sqrt(HSIC(X, X) HSIC(Y, Y))`` (Kornblith et al., "Similarity of neural network representations
    revisited", ICML 2019) with the unbiased HSIC of Song et al. (JMLR 2012). The biased form is 0.9 for independent
    data with more columns than images; the debiased one may fall slightly below 0.

    Parameters
    ----------
    x, y
        ``(N, D)`` and ``(N, D')`` or more axes, at least 4 images, paired by row.
    kernel
        "linear", or "rbf" for a Gaussian of Euclidean distances.
    bandwidth
        Width of the Gaussian as a multiple of the median distance.
    debiased
        False gives the usual, biased form.
    null
        "permutation": also the mean over random pairings of the images, and a p-value.
    permutations
        Number of pairings; the smallest p-value is ``1 / (1 + permutations)``.
    confidence
        Level of an interval for sampling variation, such as 0.95: a jackknife over 20 groups of images.
    seed
        For the pairings.

    Raises
    ------
    TypeError, ValueError
        If an argument is not one of the above, rows differ in number, too few of them differ, or a value is not finite.

    Examples
    --------
    >>> x = torch.randn(64, 512, generator=torch.Generator().manual_seed(0))
    >>> rotation = torch.linalg.qr(torch.randn(512, 512, generator=torch.Generator().manual_seed(1))).Q
    >>> round(cka(x, 3 * x @ rotation).value, 4)
    1.0
    >>> y = torch.randn(64, 512, generator=torch.Generator().manual_seed(2))
    >>> cka(x, y), cka(x, y, debiased=False)
    (SimilarityResult(-0.0107, debiased linear CKA, n=64), SimilarityResult(0.8874, biased linear CKA, n=64))
    """
    bandwidth = check_number(bandwidth, argument="bandwidth", expected="a positive number")
    measure = _CKA(kernel, bandwidth, check_flag(debiased, argument="debiased"))
    return measure.between(x, y, null=null, permutations=permutations, confidence=confidence, seed=seed)


def procrustes(
    x: ArrayLike,
    y: ArrayLike,
    *,
    angular: bool = False,
    null: Null | None = None,
    permutations: int = 100,
    confidence: float | None = None,
    seed: Seed = 0,
) -> SimilarityResult:
    """Distance that is left when one representation is rotated and scaled onto the other: 0 if nothing is, at most 2.

    With X and Y centred and of Frobenius norm 1 it is ``2 - 2 |X'Y|``, the nuclear norm (Schönemann 1966). For more
    columns than images it is small for anything: compare it with its null.

    Parameters
    ----------
    x, y, null, permutations, confidence, seed
        As for `cka`.
    angular
        The angle ``arccos |X'Y|`` instead, in radians: a metric between shapes (Williams et al., NeurIPS 2021).

    Raises
    ------
    TypeError, ValueError
        As for `cka`.

    Examples
    --------
    >>> x = torch.randn(64, 8, generator=torch.Generator().manual_seed(0))
    >>> procrustes(x, 2 * x.flip(1) + 1)
    SimilarityResult(0.0000, Procrustes distance, n=64)
    """
    measure = _Procrustes(check_flag(angular, argument="angular"))
    return measure.between(x, y, null=null, permutations=permutations, confidence=confidence, seed=seed)


def rsa(
    x: ArrayLike,
    y: ArrayLike,
    *,
    distance: Distance = "correlation",
    correlation: Correlation = "spearman",
    null: Null | None = None,
    permutations: int = 100,
    confidence: float | None = None,
    seed: Seed = 0,
) -> SimilarityResult:
    """Representational similarity analysis: the correlation of the distances between images in two representations.

    See Kriegeskorte, Mur and Bandettini, "Representational similarity analysis", 2008. The null permutes images
    (Mantel 1967), since distances that share an image are not independent.

    Parameters
    ----------
    x, y, null, permutations, confidence, seed
        As for `cka`.
    distance
        "correlation" (one less Pearson's), "cosine" (one less the cosine) or "euclidean".
    correlation
        "spearman", of ranks, or "pearson".

    Raises
    ------
    TypeError, ValueError
        As for `cka`.

    Examples
    --------
    >>> x = torch.randn(64, 8, generator=torch.Generator().manual_seed(0))
    >>> rsa(x, 5 * x, distance="euclidean")
    SimilarityResult(1.0000, RSA (Spearman, Euclidean distances), n=64)
    """
    measure = _RSA(distance, correlation)
    return measure.between(x, y, null=null, permutations=permutations, confidence=confidence, seed=seed)


@final
@dataclass(frozen=True)
class _CKA(Measure):
    undefined = "a side has no similarity to itself, as where few images differ or all are equally far apart"
    kernel: Kernel
    bandwidth: float
    debiased: bool

    def __post_init__(self) -> None:
        check_choice(self.kernel, ("linear", "rbf"), argument="kernel")
        if not 0 < self.bandwidth < torch.inf:
            raise ValueError(f"bandwidth must be a positive number; got {self.bandwidth!r}")

    @property
    def title(self) -> str:
        return f"{'debiased' if self.debiased else 'biased'} {'linear' if self.kernel == 'linear' else 'RBF'} CKA"

    def prepare(self, x: torch.Tensor, y: torch.Tensor) -> Pair:
        if self.kernel == "rbf":
            return Pair(self._gaussian(x), self._gaussian(y), True)
        x, y = x - x.mean(0), y - y.mean(0)  # changes nothing but rounding
        if len(x) ** 2 <= x.shape[1] * y.shape[1]:
            return Pair(x @ x.T, y @ y.T, True)
        return Pair(x, y, False)

    def value(self, pair: Pair) -> float:
        criteria = {
            (True, True): hsic.from_kernels,
            (False, True): hsic.from_features,
            (True, False): hsic.biased_from_kernels,
            (False, False): hsic.biased_from_features,
        }
        criterion = criteria[pair.square, self.debiased]
        both, own_x, own_y = (
            criterion(*sides) for sides in ((pair.x, pair.y), (pair.x, pair.x), (pair.y, pair.y))
        )
        # The unbiased estimate of a side's own dependence is not positive if only one image differs from the others.
        return float(both / (own_x.sqrt() * own_y.sqrt())) if own_x > 0 and own_y > 0 else math.nan

    def _gaussian(self, values: torch.Tensor) -> torch.Tensor:
        distances = torch.cdist(values, values)
        above = distances[tuple(torch.triu_indices(len(values), len(values), 1))]
        return torch.exp(-(distances / (self.bandwidth * above.median())).square() / 2)


@final
@dataclass(frozen=True)
class _Procrustes(Measure):
    undefined = "all images of one side are the same"
    angular: bool
    closer = -1

    @property
    def title(self) -> str:
        return "Procrustes angle" if self.angular else "Procrustes distance"

    def prepare(self, x: torch.Tensor, y: torch.Tensor) -> Pair:
        return Pair(_turned(x), _turned(y), False)

    def value(self, pair: Pair) -> float:
        x, y = ((side - side.mean(0)) / torch.linalg.norm(side - side.mean(0)) for side in (pair.x, pair.y))
        shared = torch.linalg.svdvals(x.T @ y).sum().clamp(max=1)
        return float(shared.arccos() if self.angular else 2 - 2 * shared)


@final
@dataclass(frozen=True)
class _RSA(Measure):
    undefined = "all distances between images of one side are the same"
    distance: Distance
    correlation: Correlation

    def __post_init__(self) -> None:
        check_choice(self.distance, ("correlation", "cosine", "euclidean"), argument="distance")
        check_choice(self.correlation, ("spearman", "pearson"), argument="correlation")

    @property
    def title(self) -> str:
        distance = {"euclidean": "Euclidean"}.get(self.distance, self.distance)
        return f"RSA ({self.correlation.capitalize()}, {distance} distances)"

    def prepare(self, x: torch.Tensor, y: torch.Tensor) -> Pair:
        return Pair(self._distances(x), self._distances(y), True)

    def value(self, pair: Pair) -> float:
        above = torch.triu_indices(len(pair.x), len(pair.x), 1, device=pair.x.device)
        sides = [side[above[0], above[1]] for side in (pair.x, pair.y)]
        if self.correlation == "spearman":
            sides = [_ranks(side) for side in sides]
        one, other = (side - side.mean() for side in sides)
        return float((one @ other) / (one.norm() * other.norm()))

    def for_pairings(self, pair: Pair) -> tuple[Measure, Pair]:
        if self.correlation == "pearson":
            return self, pair
        above = tuple(torch.triu_indices(len(pair.x), len(pair.x), 1, device=pair.x.device))
        sides = []
        for side in (pair.x, pair.y):  # a pairing changes no rank
            ranks = torch.zeros_like(side)
            ranks[above] = _ranks(side[above])
            sides.append(ranks + ranks.T)
        return replace(self, correlation="pearson"), Pair(sides[0], sides[1], True)

    def _distances(self, values: torch.Tensor) -> torch.Tensor:
        if self.distance == "euclidean":
            return torch.cdist(values, values)
        if self.distance == "correlation":
            values = values - values.mean(1, keepdim=True)
        unit = normalize(values, dim=1)
        return 1 - unit @ unit.T


def _turned(values: torch.Tensor) -> torch.Tensor:
    """Return centred values in as many columns as there are images at most: a rotation changes no Procrustes distance."""
    values = values - values.mean(0)
    if values.shape[1] <= len(values):
        return values
    left, scale, _ = torch.linalg.svd(values, full_matrices=False)
    turned: torch.Tensor = left * scale
    return turned


def _ranks(values: torch.Tensor) -> torch.Tensor:
    """Return the ranks of values ``(M,)``, equal ones sharing their mean rank."""
    _, place, counts = torch.unique(values, return_inverse=True, return_counts=True)
    last = counts.cumsum(0).double()
    ranks: torch.Tensor = (last - (counts.double() - 1) / 2)[place]
    return ranks
