"""Information about labels that a linear probe can use: entropy less cross-entropy, on samples it has not seen."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

import torch
from torch.nn import functional

from featurelens._checks import keep_whole
from featurelens._random import permutation
from featurelens.information.estimator import Measurement, MutualInformation, Null
from featurelens.information.networks import one_thread
from featurelens.information.variables import entropy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from featurelens.information.variables import Variable

PENALTIES = (10.0, 2.0, 0.5, 0.1, 0.02, 5e-3, 1e-3, 1e-4)
"""Of the squared weights, from strong to weak; columns have unit variance."""
PATIENCE = 1
STEPS = 20  # of the optimizer, for each penalty
LEAST_SAMPLES = 50
CHANCES = (0.99, 0.5, 0.0)
"""A column counts as far as its F exceeds what chance does not with this probability; 0: all columns alike."""


@final
@dataclass(frozen=True, kw_only=True)
class ProbeMutualInformation(MutualInformation):
    """Information about labels by a cross-fitted linear probe: ``H(Y) - <-log q(y | x)>`` on samples it has not seen.

    The samples are divided into folds with the same share of every label; on all folds but one, logistic regression is
    fitted, and the last is predicted. The cross-entropy of any prediction is at least the conditional entropy H(Y | X), so
    the value estimates a *lower bound*, whatever the number of columns: with many columns and few samples it falls towards
    0, and does not rise with chance as other estimates do. Without dependence it is slightly below 0. What no linear map
    shows is not counted.

    The penalty of the weights is chosen on a part of the samples that fit them. So is the scale of the columns: unit
    variance, or smaller the less a column's means differ between labels (by the ratio F of an analysis of variance), down
    to 0 where they differ no more than chance explains. Hundreds of uninformative columns then cost little.

    Parameters
    ----------
    folds : int
        Number of parts, at least 2.

    Raises
    ------
    TypeError, ValueError
        If an option is not one of the above.

    Examples
    --------
    >>> labels = torch.arange(1000) % 2
    >>> noise = torch.randn(1000, 64, generator=torch.Generator().manual_seed(0))
    >>> told = torch.cat([noise, 8.0 * labels[:, None]], dim=1)
    >>> [round(abs(ProbeMutualInformation().estimate(columns, labels).value), 1) for columns in (noise, told)]
    [0.0, 0.7]
    """

    folds: int = 5

    _accepts_constants = True

    def __post_init__(self) -> None:
        keep_whole(self, "folds", least=2)

    def _check_pair(self, x: Variable, y: Variable, *, null: Null | None) -> None:
        if x.discrete == y.discrete:
            both = "integer labels for both" if x.discrete else "floating-point values for both"
            raise TypeError(
                f"a probe needs labels (integers) on one side and columns on the other; got {both}"
            )
        if len(x) < LEAST_SAMPLES:
            raise ValueError(f"a probe needs at least {LEAST_SAMPLES} samples; got {len(x)}")
        if self.folds > len(x):
            raise ValueError(f"folds must be at most the number of samples, {len(x)}; got {self.folds}")

        labels = x if x.discrete else y
        if labels.levels == len(labels):
            raise ValueError(
                f"a probe needs labels that recur; got {len(labels)} different labels for as many samples"
            )

    def _measure(self, x: Variable, y: Variable, generator: torch.Generator) -> Measurement:
        # Many small steps: an accelerator would take longer for them.
        labels, columns = (side.values.cpu() for side in ((x, y) if x.discrete else (y, x)))
        terms = held_out_terms(columns, labels, self.folds, generator)
        return Measurement(
            value=float(terms.mean()),
            ceiling=entropy(labels),
            standard_error=float(terms.std()) / math.sqrt(len(terms)),
            degrees=len(terms) - 1,
            notes=(f"a lower bound: what a linear probe predicts on {self.folds} held-out parts",),
        )


def held_out_terms(
    columns: torch.Tensor, labels: torch.Tensor, folds: int, generator: torch.Generator
) -> torch.Tensor:
    """Return, for every sample ``(N,)``, the log of its label's predicted probability over its share, in nats."""
    return gains(predict_held_out(columns, labels, folds, generator), labels)


def gains(log_chances: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the log of every label's predicted probability ``(N, K)`` over its share ``(N,)``, in nats."""
    shares = labels.bincount().double() / len(labels)
    terms: torch.Tensor = log_chances.gather(1, labels[:, None])[:, 0] - shares.log()[labels]
    return terms


def predict_held_out(
    columns: torch.Tensor, labels: torch.Tensor, folds: int, generator: torch.Generator
) -> torch.Tensor:
    """Return the log probabilities ``(N, K)`` that probes fitted to the other folds give to every label."""
    log_chances = columns.new_zeros(len(columns), int(labels.max()) + 1)
    with one_thread(), torch.enable_grad():
        for held, rest in balanced_folds(labels, folds, generator):
            inner = next(balanced_folds(labels[rest], folds, generator))
            log_chances[held] = _predict(columns, labels, held, rest, rest[inner[1]], rest[inner[0]])
    return log_chances


def balanced_folds(
    labels: torch.Tensor, folds: int, generator: torch.Generator
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield the rows of each fold and those of all others; every label is spread evenly over the folds."""
    order = permutation(len(labels), generator, labels.device)
    order = order[labels[order].argsort(stable=True)]
    fold = torch.empty_like(order)
    fold[order] = torch.arange(len(order), device=order.device) % folds
    for number in range(folds):
        yield (fold == number).nonzero()[:, 0], (fold != number).nonzero()[:, 0]


def _predict(
    columns: torch.Tensor,
    labels: torch.Tensor,
    held: torch.Tensor,
    rest: torch.Tensor,
    learn: torch.Tensor,
    validate: torch.Tensor,
) -> torch.Tensor:
    """Fit to `rest`, with the scales and the penalty that predict `validate` best from `learn`; predict `held`."""
    levels = int(labels.max()) + 1
    best, settings = math.inf, (CHANCES[0], math.inf)
    for chance in CHANCES:
        features = _features(columns, labels, learn, chance)
        stale = 0
        for penalty, probe in _path(features[learn], labels[learn], levels, (math.inf, *PENALTIES)):
            loss = float(functional.nll_loss(probe(features[validate]), labels[validate]))
            stale = 0 if loss < best else stale + 1
            if loss < best:
                best, settings = loss, (chance, penalty)
            if stale > PATIENCE:
                break
    chance, penalty = settings
    features = _features(columns, labels, rest, chance)
    _, probe = next(_path(features[rest], labels[rest], levels, (penalty,)))
    return probe(features[held])


def _features(columns: torch.Tensor, labels: torch.Tensor, rows: torch.Tensor, chance: float) -> torch.Tensor:
    """Return columns of unit variance over `rows`, or smaller the less their means differ between labels there."""
    seen, classes = columns[rows], labels[rows]
    mean = seen.mean(dim=0)
    largest = (columns - mean).abs().amax(dim=0).clamp_min(torch.finfo(columns.dtype).tiny)
    centred = (columns - mean) / largest  # whose squares are representable
    total = centred[rows].square().sum(dim=0)
    features = centred / (total / len(rows)).sqrt().clamp_min(1e-12)
    if not chance:
        return features
    from scipy.special import fdtri  # scipy costs more to import than torch saves

    counts = classes.bincount().clamp_min(1).double()
    sums = features.new_zeros(len(counts), features.shape[1]).index_add_(0, classes, features[rows])
    between = (sums.square() / counts[:, None]).sum(dim=0)
    groups = int((classes.bincount() > 0).sum())
    degrees = max(1, groups - 1), max(1, len(rows) - groups)
    within = (len(rows) - between).clamp_min(1e-12)
    ratio = (between / degrees[0]) / (within / degrees[1])
    expected = float(fdtri(*degrees, chance))
    return features * (1 - expected / ratio.clamp_min(expected)).sqrt()


@final
class _Probe:
    """Weights and biases ``(D + 1, K)``; predictions mix in a little of the labels' shares, and are never 0."""

    def __init__(self, weights: torch.Tensor, shares: torch.Tensor, samples: int) -> None:
        self.weights, self.shares, self.doubt = weights, shares, 1.0 / (samples + 1)

    def __call__(self, features: torch.Tensor) -> torch.Tensor:
        chances = (features @ self.weights[:-1] + self.weights[-1]).softmax(dim=1)
        return ((1 - self.doubt) * chances + self.doubt * self.shares).log()


def _path(
    features: torch.Tensor, labels: torch.Tensor, levels: int, penalties: tuple[float, ...]
) -> Iterator[tuple[float, _Probe]]:
    """Yield each penalty with the probe fitted under it, beginning at the one before; without weights if infinite."""
    counts = labels.bincount(minlength=levels).double()
    shares = (counts + 0.5) / (len(labels) + 0.5 * levels)
    weights = features.new_zeros(features.shape[1] + 1, levels)
    weights[-1] = shares.log()
    for penalty in penalties:
        if math.isfinite(penalty):
            weights = _fitted(features, labels, weights, penalty)
        yield penalty, _Probe(weights, shares, len(labels))


def _fitted(
    features: torch.Tensor, labels: torch.Tensor, start: torch.Tensor, penalty: float
) -> torch.Tensor:
    weights = start.clone().requires_grad_()
    optimizer = torch.optim.LBFGS([weights], max_iter=STEPS, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        error = functional.cross_entropy(features @ weights[:-1] + weights[-1], labels)
        error = error + 0.5 * penalty * weights[:-1].square().sum()
        error.backward()  # type: ignore[no-untyped-call]
        return error

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    return weights.detach()
