"""Columns learned for what two sides share: a small network per side, trained until the codes are dependent normals."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, final

import torch
from torch.nn import functional

from featurelens._random import permutation
from featurelens.information.canonical import canonical_maps
from featurelens.information.networks import Network, one_thread
from featurelens.information.ranks import normal_scores

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from featurelens.information.variables import Variable

HIDDEN = 64
BATCH = 512
CHECK_EVERY = 25  # steps
PATIENCE = 8  # checks without progress that end the training
AVERAGED = 0.9  # weight of the past in the running mean of the parameters
MOST_CORRELATED = 0.99
RIDGE = 1e-9  # keeps a covariance invertible where one side is a function of the other
OTHER_WEIGHTS = 0.3  # of the linear part, at the start, next to the canonical directions


@final
@dataclass(frozen=True)
class Fold:
    """Codes of samples on which they were not learned, as canonical variates, and what they tell about those samples.

    `evidence` ``(N,)`` holds each sample's log density ratio in nats, joint over product, by a Gaussian fitted to the codes
    of the other samples.
    """

    rows: torch.Tensor
    x: Variable
    y: Variable
    evidence: torch.Tensor


def learned_folds(
    x: Variable, y: Variable, *, width: int, folds: int, steps: int, generator: torch.Generator
) -> Iterator[Fold]:
    """Divide the samples into folds; for each, learn codes of at most `width` columns on the others and apply them."""
    scores_x, scores_y = (normal_scores(side.values, generator).float() for side in (x, y))
    parts = permutation(len(x), generator, x.device).chunk(folds)
    for number, held in enumerate(parts):
        rest = torch.cat([part for other, part in enumerate(parts) if other != number])
        codes = learn_codes(scores_x[rest], scores_y[rest], width, steps, generator)
        with torch.no_grad():
            seen, unseen = (
                [
                    code(scores[rows]).double()
                    for code, scores in zip(codes, (scores_x, scores_y), strict=True)
                ]
                for rows in (rest, held)
            )
        map_x, map_y = canonical_maps(seen[0], seen[1], width)
        log_ratio = gaussian_log_ratio(map_x(seen[0]), map_y(seen[1]))
        u, v = map_x(unseen[0]), map_y(unseen[1])
        yield Fold(held, x.with_values(u), y.with_values(v), log_ratio(u, v))


def gaussian_log_ratio(
    u: torch.Tensor, v: torch.Tensor
) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """Fit a Gaussian to centred columns ``(N, m)``; return the function of samples that is their log density ratio."""
    joint = torch.cat([u, v], dim=1)
    covariance = joint.T @ joint / len(joint)
    covariance.diagonal().mul_(1 + RIDGE)
    m = u.shape[1]

    def log_density(block: slice, samples: torch.Tensor) -> torch.Tensor:
        factor = torch.linalg.cholesky(covariance[block, block])
        white = torch.linalg.solve_triangular(factor, samples.T, upper=False)
        density: torch.Tensor = -factor.diagonal().log().sum() - 0.5 * white.square().sum(dim=0)
        return density

    def log_ratio(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        whole = log_density(slice(None), torch.cat([a, b], dim=1))
        return whole - log_density(slice(m), a) - log_density(slice(m, None), b)

    return log_ratio


@final
class Code:
    """A linear map plus a small network, from ``(N, D)`` columns to ``(N, m)`` codes."""

    def __init__(self, start: torch.Tensor, width: int, generator: torch.Generator) -> None:
        columns, pairs = start.shape
        bound = OTHER_WEIGHTS / math.sqrt(columns)
        linear = (
            (torch.rand(columns, width, generator=generator, dtype=torch.float32) * 2 - 1)
            .mul_(bound)
            .to(start.device)
        )
        linear[:, :pairs] = start
        self.linear = linear.requires_grad_()
        widths = (columns, HIDDEN, HIDDEN, width)
        self.network = Network(widths, generator, start.device, functional.silu)
        with torch.no_grad():
            self.network.parameters[-2].zero_()  # the code begins as the linear map alone

    @property
    def parameters(self) -> list[torch.Tensor]:
        return [self.linear, *self.network.parameters]

    def __call__(self, values: torch.Tensor) -> torch.Tensor:
        return values @ self.linear + self.network(values)


def learn_codes(
    x: torch.Tensor, y: torch.Tensor, width: int, steps: int, generator: torch.Generator
) -> tuple[Code, Code]:
    """Learn codes of both sides, of at most `width` columns, from normal scores ``(N, D)`` float32.

    Training maximizes the Gaussian information of the codes less how far each is from normal: without that penalty,
    two functions of the same thing would be counted twice. A fifth of the rows decides when to stop.
    """
    rows = torch.randperm(len(x), generator=generator).to(x.device)
    held, learn = rows[: len(x) // 5], rows[len(x) // 5 :]
    widths = [min(width, side.shape[1]) for side in (x, y)]
    starts = canonical_maps(x[learn], y[learn], min(widths))
    codes = [Code(start.directions, size, generator) for start, size in zip(starts, widths, strict=True)]
    parameters = [parameter for code in codes for parameter in code.parameters]
    optimizer = torch.optim.AdamW(parameters, lr=2e-3, weight_decay=1e-3)
    averages = _Averages(parameters)
    batch = min(BATCH, len(learn))
    best, best_score, stale = averages.copy(), -math.inf, 0
    with one_thread(), torch.enable_grad():
        for step in range(steps):
            if step % CHECK_EVERY == 0:
                score = _held_out_score(codes, averages, x[held], y[held])
                stale = 0 if score > best_score + 1e-4 else stale + 1
                if not stale:
                    best, best_score = averages.copy(), score
                if stale >= PATIENCE:
                    break
            drawn = learn[torch.randint(len(learn), (batch,), generator=generator).to(x.device)]
            loss = -objective(codes[0](x[drawn]), codes[1](y[drawn]))
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            averages.update()
    averages.set(best)
    return codes[0], codes[1]


@final
class _Averages:
    """Running means of parameters, which vary less than the parameters of any one step."""

    def __init__(self, parameters: Sequence[torch.Tensor]) -> None:
        self.parameters = parameters
        self.means = [parameter.detach().clone() for parameter in parameters]

    def update(self) -> None:
        with torch.no_grad():
            torch._foreach_lerp_(self.means, list(self.parameters), 1 - AVERAGED)

    def copy(self) -> list[torch.Tensor]:
        return [mean.clone() for mean in self.means]

    def set(self, values: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Put values into the parameters; return what was there."""
        with torch.no_grad():
            before = [parameter.clone() for parameter in self.parameters]
            for parameter, value in zip(self.parameters, values, strict=True):
                parameter.copy_(value)
        return before


def _held_out_score(codes: list[Code], averages: _Averages, x: torch.Tensor, y: torch.Tensor) -> float:
    before = averages.set(averages.means)
    with torch.no_grad():
        score = float(gaussian_information(codes[0](x), codes[1](y)))
    averages.set(before)
    return score


def gaussian_information(u: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Return the information in nats of codes ``(N, m)`` if they were normal; no correlation counts as larger than .99."""
    return _information_of_white(_white(u), _white(v))


def objective(u: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Return the Gaussian information of codes ``(N, m)`` less ``log(1 + distance to normal)`` of each side, in nats."""
    white_u, white_v = _white(u), _white(v)
    penalty = torch.log1p(_distance_of_white(white_u)) + torch.log1p(_distance_of_white(white_v))
    return _information_of_white(white_u, white_v) - penalty


def distance_to_normal(codes: torch.Tensor) -> torch.Tensor:
    """Return how far codes ``(N, m)`` are from normal: the first terms of the negentropy, from joint cumulants.

    ``sum k3^2 / 12 + sum k4^2 / 48`` over all third and fourth cumulants of the whitened codes (Comon 1994).
    """
    return _distance_of_white(_white(codes))


def _white(codes: torch.Tensor) -> torch.Tensor:
    """Return centred codes ``(m, N)`` with the identity for a covariance."""
    centred = codes.T - codes.mean(dim=0)[:, None]
    covariance = centred @ centred.T / len(codes)
    ridge = (
        1e-4
        * covariance.diagonal().mean()
        * torch.eye(len(covariance), dtype=codes.dtype, device=codes.device)
    )
    white: torch.Tensor = torch.linalg.solve_triangular(
        torch.linalg.cholesky(covariance + ridge), centred, upper=False
    )
    return white


def _information_of_white(u: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    # A side with fewer columns first: the determinant is the same, and the matrix smaller.
    u, v = (u, v) if len(u) <= len(v) else (v, u)
    cross = MOST_CORRELATED * (u @ v.T) / u.shape[1]
    remains = torch.eye(len(cross), dtype=u.dtype, device=u.device) - cross @ cross.T
    information: torch.Tensor = -torch.linalg.cholesky(remains).diagonal().log().sum()
    return information


def _distance_of_white(white: torch.Tensor) -> torch.Tensor:
    m, n = white.shape
    pairs = (white[:, None] * white).reshape(m * m, n)
    third, fourth = pairs @ white.T / n, pairs @ pairs.T / n
    distance: torch.Tensor = (
        third.square().sum() / 12 + (fourth - _normal_moments(m).to(fourth)).square().sum() / 48
    )
    return distance


@lru_cache(maxsize=16)
def _normal_moments(m: int) -> torch.Tensor:
    """Return the fourth moments of a standard normal vector, ``(m^2, m^2)``."""
    identity = torch.eye(m)
    terms = (("ij", "kl"), ("ik", "jl"), ("il", "jk"))
    moments = sum(torch.einsum(f"{a},{b}->ijkl", identity, identity) for a, b in terms)
    return torch.as_tensor(moments).reshape(m * m, m * m)
