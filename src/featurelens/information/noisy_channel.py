"""Information through a layer with noise: the finite quantity behind an infinite one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import torch

from featurelens._checks import check_type
from featurelens._random import normal
from featurelens.information._chunks import row_slices
from featurelens.information._variables import Variable, label_codes
from featurelens.information.base import Measurement, MutualInformation, Null, check_count

CHUNK_ELEMENTS = 2**22
"""Distances held at a time (32 MiB), however many samples there are."""


@final
@dataclass(frozen=True, kw_only=True)
class NoisyChannelMutualInformation(MutualInformation):
    """Information between x and the noisy activations ``T = y + N(0, sigma^2 I)``, over the given samples.

    The information between a continuous input and a deterministic layer is infinite, or log N on N distinct
    samples whatever the layer does (Amjad & Geiger 2018; Saxe et al. 2018). With noise of a stated size it is
    a property of the layer. For the N samples themselves it is exact up to Monte Carlo noise: the mixture of
    Gaussians around all activations h_j, against the mixture around those that share the input's x (Goldfeld
    et al. 2019):

        I = 1/(NM) sum_{i,m} log [ mean_{j: x_j = x_i} phi(h_i + sigma z_im - h_j) / mean_j phi(h_i + sigma
        z_im - h_j) ]

    x may be the inputs, which are usually distinct, or labels, for I(T; Y). The result's `bracket` holds the
    bounds of Kolchinsky & Tracey (2017), from pairwise Bhattacharyya and Kullback-Leibler distances, for
    distinct x; they need no sampling. Noise is added to y, or to x where y holds labels.

    Keep `sigma` fixed over epochs and layers that are compared, or a change of scale passes for information.
    The standard error is that of a mean over the N samples.

    Parameters
    ----------
    sigma : float
        Standard deviation of the noise per column.
    relative : bool
        Whether `sigma` is a multiple of the root mean square deviation of the activations from their mean,
        which makes the answer independent of their scale. `noise_model` in the result states the noise that
        was used.
    samples : int
        Noise draws M per sample.

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
        if not (self.sigma > 0 and math.isfinite(self.sigma)):
            raise ValueError(f"sigma must be positive and finite; got {self.sigma!r}")
        check_type(self.relative, bool, argument="relative", expected="a bool")
        check_count(self.samples, argument="samples", least=1)

    def _check_pair(self, x: Variable, y: Variable, *, null: Null | None) -> None:
        if x.discrete and y.discrete:
            raise TypeError("noise needs a continuous side; got integer labels for both x and y")
        given, noisy = _roles(x, y)
        if null is not None and int(_groups(given).max()) + 1 == len(given):
            raise ValueError(
                f"null='permutation' says nothing here: with {len(given)} distinct {given.name}, every pairing "
                f"with {noisy.name} gives the same value; give labels, or null=None"
            )

    def _measure(self, x: Variable, y: Variable, generator: torch.Generator) -> Measurement:
        given, noisy = _roles(x, y)
        groups = _groups(given)
        h = noisy.values
        sigma = float(self.sigma)
        if self.relative:
            sigma *= float((h - h.mean(dim=0)).square().mean().sqrt())
        noise_model = f"{noisy.name} + N(0, {sigma:.4g}^2 I)"
        ceiling = math.log(len(h))
        if sigma == 0.0:  # a constant layer has no scale of its own, and nothing to tell
            return Measurement(value=0.0, ceiling=ceiling, noise_model=noise_model, standard_error=0.0)
        scaled = (h - h.mean(dim=0)) / sigma
        terms = torch.stack(
            [_log_ratios(scaled, groups, generator) for _ in range(self.samples)],
        ).mean(dim=0)
        distinct = int(groups.max()) + 1 == len(groups)
        return Measurement(
            value=float(terms.mean()),
            ceiling=ceiling,
            noise_model=noise_model,
            standard_error=float(terms.std()) / math.sqrt(len(terms)),
            bracket=(_pairwise_bound(scaled, 8.0), _pairwise_bound(scaled, 2.0)) if distinct else None,
        )


def _roles(x: Variable, y: Variable) -> tuple[Variable, Variable]:
    """Return the side that is given and the side that gets the noise."""
    return (y, x) if y.discrete else (x, y)


def _groups(given: Variable) -> torch.Tensor:
    return given.values if given.discrete else label_codes(given.values)


def _log_ratios(h: torch.Tensor, groups: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Return ``log p(t_i | x_i) / p(t_i)`` ``(N,)`` at ``t_i = h_i + z_i``, for activations in units of the noise."""
    n = len(h)
    noise = normal(tuple(h.shape), generator, h.device)
    sizes = groups.bincount()
    alone = int(sizes.max()) == 1
    parts = []
    for rows in row_slices(n, n, CHUNK_ELEMENTS):
        # The noise of sample i is |t_i - h_i|; taking it off leaves exp(0) at j = i, so nothing underflows.
        own = noise[rows].square().sum(dim=1, keepdim=True)
        exponent = -0.5 * (squared_distances(h[rows] + noise[rows], h) - own)
        whole = exponent.logsumexp(dim=1) - math.log(n)
        if alone:
            parts.append(-whole)
            continue
        same = groups[rows][:, None] == groups
        exponent.masked_fill_(~same, -torch.inf)
        parts.append(exponent.logsumexp(dim=1) - sizes[groups[rows]].double().log() - whole)
    return torch.cat(parts)


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
