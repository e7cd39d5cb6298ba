"""Information through a layer with added noise, which is finite where that of the layer itself is infinite."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import final

import torch

from featurelens._checks import check_flag, check_number, check_type, keep_whole
from featurelens._random import normal, permutation
from featurelens.information.chunks import row_slices
from featurelens.information.estimator import Measurement, MutualInformation, Null
from featurelens.information.variables import Variable, entropy, label_codes

CHUNK_ELEMENTS = 2**22
"""Distances held at a time (32 MiB), however many samples there are."""


@final
@dataclass(frozen=True, kw_only=True)
class NoisyChannelMutualInformation(MutualInformation):
    """Information between x and the noisy activations ``T = y + N(0, sigma^2 I)``, over the given samples.

    The information between a continuous input and a deterministic layer is infinite, or log N on N distinct samples,
    whatever the layer computes (Amjad & Geiger 2018; Saxe et al. 2018). With noise of a stated size it is a property of
    the layer. For the N given samples the value is exact up to Monte Carlo noise: the mixture of Gaussians around all
    activations h_j is compared with the mixture around those with the same x (Goldfeld et al. 2019):

        I = 1/(NM) sum_{i,m} log [ mean_{j: x_j = x_i} phi(h_i + sigma z_im - h_j) / mean_j phi(h_i + sigma
        z_im - h_j) ]

    x may be the inputs, which are usually distinct, or labels, for I(T; Y). For distinct x, the result's `bracket`
    holds the bounds of Kolchinsky & Tracey (2017), from pairwise Bhattacharyya and Kullback-Leibler distances; they
    need no sampling. Noise is added to y, or to x if y holds labels.

    Keep `sigma` fixed over the epochs and layers that you compare, or a change of scale is mistaken for information.
    The standard error is that of a mean over the N samples, including noise: how much the value varies between sets of
    samples. It does not include the bias, which grows with the number of columns: with many columns and few samples the
    layer seems informative about any labels, so use ``null="permutation"`` and read `excess`. Permutations reuse the
    distances and take little time. The ceiling is the empirical entropy of x: that of the labels, or log N for N
    distinct inputs.

    Parameters
    ----------
    sigma : float
        Standard deviation of the noise in each column.
    relative : bool
        Whether `sigma` is a multiple of each column's own standard deviation, which makes the result independent of
        the scales of layers and columns. The result's `noise_model` states the noise used.
    samples : int
        Number of noise draws per sample, M.

    Raises
    ------
    TypeError, ValueError
        If an option is not one of the above.

    Examples
    --------
    >>> h = torch.randn(2000, 2, generator=torch.Generator().manual_seed(0))
    >>> result = NoisyChannelMutualInformation(sigma=1.0).estimate(h, h, seed=0)
    >>> abs(result.value - 0.6931) < 0.05, result.noise_model
    (True, 'y + N(0, 1^2 I)')
    """

    sigma: float = 1.0
    relative: bool = False
    samples: int = 4

    _accepts_constants = True

    def __post_init__(self) -> None:
        check_type(self.sigma, (int, float), argument="sigma", expected="a number")
        if not 0 < check_number(self.sigma, argument="sigma") < math.inf:
            raise ValueError(f"sigma must be positive and finite; got {self.sigma!r}")
        check_flag(self.relative, argument="relative")
        keep_whole(self, "samples", least=1)

    def _check_pair(self, x: Variable, y: Variable, *, null: Null | None) -> None:
        if x.discrete and y.discrete:
            raise TypeError("noise needs a continuous side; got integer labels for both x and y")
        given, noisy = _roles(x, y)
        if null is not None and _distinct(_groups(given)):
            raise ValueError(
                f"null='permutation' is not informative here: with {len(given)} distinct {given.name}, every pairing "
                f"with {noisy.name} gives the same value; pass labels, or null=None"
            )

    def _measure(self, x: Variable, y: Variable, generator: torch.Generator) -> Measurement:
        return self._measure_with_null(x, y, 0, generator)[0]

    def _measure_with_null(
        self, x: Variable, y: Variable, permutations: int, generator: torch.Generator
    ) -> tuple[Measurement, torch.Tensor]:
        """Return the estimate and its null, all pairings from the same distances and the same noise."""
        given, noisy = _roles(x, y)
        groups = _groups(given)
        scaled, noise_model = self._scaled(noisy)
        h = noisy.values
        zero = Measurement(
            value=0.0,
            ceiling=entropy(groups),
            noise_model=noise_model,
            standard_error=0.0,
            degrees=len(h) - 1,
        )
        if not scaled.shape[1]:  # a constant layer has no scale of its own, and no information
            return zero, h.new_zeros(permutations)
        # All noise is drawn before the first order, so that the null does not change the estimate.
        noises = [normal(tuple(scaled.shape), generator, h.device) for _ in range(self.samples)]
        orders = [permutation(len(h), generator, h.device) for _ in range(permutations)]
        pairings = [groups, *(groups[order] for order in orders)]
        terms = torch.stack([_log_ratios(scaled, noise, pairings) for noise in noises]).mean(dim=0)
        values = terms.mean(dim=1).cpu()
        bounds = (_pairwise_bound(scaled, 8.0), _pairwise_bound(scaled, 2.0)) if _distinct(groups) else None
        error = float(terms[0].std()) / math.sqrt(len(h))
        return dataclasses.replace(
            zero, value=float(values[0]), standard_error=error, bracket=bounds
        ), values[1:]

    def _scaled(self, noisy: Variable) -> tuple[torch.Tensor, str]:
        """Return the activations ``(N, D)`` in units of the noise, and the noise in words."""
        centred = noisy.values - noisy.values.mean(dim=0)
        if not self.relative:
            return centred / self.sigma, f"{noisy.name} + N(0, {self.sigma:.4g}^2 I)"
        varies = (noisy.values != noisy.values[:1]).any(dim=0)
        centred = centred[:, varies]
        # Through the largest value, whose square may not be representable.
        largest = centred.abs().amax(dim=0)
        sigma = self.sigma * largest * (centred / largest).square().mean(dim=0).sqrt()
        ends = (float(sigma.min()), float(sigma.max())) if bool(varies.any()) else (0.0, 0.0)
        return centred / sigma, f"{noisy.name} + N(0, s^2) per column, s = {ends[0]:.4g} to {ends[1]:.4g}"


def _roles(x: Variable, y: Variable) -> tuple[Variable, Variable]:
    """Return the side that is given and the side that gets the noise."""
    return (y, x) if y.discrete else (x, y)


def _groups(given: Variable) -> torch.Tensor:
    return given.values if given.discrete else label_codes(given.values)


def _distinct(groups: torch.Tensor) -> bool:
    return int(groups.max()) + 1 == len(groups)


def _log_ratios(h: torch.Tensor, noise: torch.Tensor, pairings: list[torch.Tensor]) -> torch.Tensor:
    """Return ``log p(t_i | x_i) / p(t_i)`` ``(P, N)`` at ``t_i = h_i + noise_i``, for P groupings of the samples.

    Activations and noise are in units of sigma.
    """
    n = len(h)
    sizes = [groups.bincount().double() for groups in pairings]
    parts = []
    for rows in row_slices(n, n, CHUNK_ELEMENTS):
        # Subtracting the squared noise |t_i - h_i|^2 leaves exp(0) at j = i; subtracting the row's maximum removes the
        # few nats by which another h_j can be nearer to t_i by chance. So no sum over a group vanishes.
        own = noise[rows].square().sum(dim=1, keepdim=True)
        exponent = -0.5 * (squared_distances(h[rows] + noise[rows], h) - own)
        masses = (exponent - exponent.amax(dim=1, keepdim=True)).exp_()
        whole = masses.mean(dim=1)
        means = [
            _group_means(masses, groups, size, rows) for groups, size in zip(pairings, sizes, strict=True)
        ]
        parts.append((torch.stack(means) / whole).log_())
    return torch.cat(parts, dim=1)


def _group_means(
    masses: torch.Tensor, groups: torch.Tensor, sizes: torch.Tensor, rows: slice
) -> torch.Tensor:
    """Return the mean over j of each row's group of `masses` ``(rows, N)``."""
    if len(sizes) == len(groups):  # every sample is its own group
        return masses.diagonal(rows.start).clone()
    sums = masses.new_zeros(len(masses), len(sizes)).index_add_(1, groups, masses)
    mine = groups[rows]
    return sums.gather(1, mine[:, None])[:, 0] / sizes[mine]


def _pairwise_bound(h: torch.Tensor, c: float) -> float:
    """Return ``-mean_i log mean_j exp(-|h_i - h_j|^2 / c)``: a lower bound for c = 8, an upper one for c = 2."""
    n = len(h)
    logs = [
        (-squared_distances(h[rows], h) / c).logsumexp(dim=1) - math.log(n)
        for rows in row_slices(n, n, CHUNK_ELEMENTS)
    ]
    return -float(torch.cat(logs).mean())


def squared_distances(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Return ``|a_i - b_j|^2`` ``(A, B)`` by one matrix product, never negative."""
    product = torch.addmm(a.square().sum(dim=1, keepdim=True) + b.square().sum(dim=1), a, b.T, alpha=-2.0)
    return product.clamp_min_(0.0)
