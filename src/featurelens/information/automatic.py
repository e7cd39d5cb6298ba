"""The default estimator: chosen by what the data show on samples that were not used for it."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, Self, final

import torch

from featurelens._checks import check_choice
from featurelens._random import permutation
from featurelens.information.chunks import row_slices
from featurelens.information.copula import copula_of, independent_columns
from featurelens.information.corrected_ksg import CorrectedKSGMutualInformation
from featurelens.information.estimator import Measurement, MutualInformation, Null
from featurelens.information.ksg import KSGMutualInformation
from featurelens.information.learned_codes import Fold, learned_folds
from featurelens.information.noisy_channel import CHUNK_ELEMENTS, squared_distances
from featurelens.information.probe import LEAST_SAMPLES, ProbeMutualInformation, held_out_terms
from featurelens.information.ranks import normal_scores, spread_scores
from featurelens.information.variables import in_fixed_order

if TYPE_CHECKING:
    from featurelens.information.variables import Variable

Effort = Literal["fast", "default", "thorough"]

WIDTH = 4
NEIGHBORS = 10
FEW_COLUMNS = 3
"""In so few columns, both sides together, nearest neighbours see any dependence."""
MANY_COLUMNS = 20
NEIGHBORS_AMONG_MANY = 20
"""In so many columns all samples are about as near: more neighbours see as much, and scatter half as much as five."""
LEAST_TO_LEARN = 300
BETTER = 1.0
"""Standard errors by which codes must explain held-out samples better than the copula does."""


class _Plan(NamedTuple):
    folds: int
    steps: int


PLANS: dict[Effort, _Plan | None] = {"fast": None, "default": _Plan(5, 600), "thorough": _Plan(5, 2000)}


@final
@dataclass(frozen=True, kw_only=True)
class AutomaticMutualInformation(MutualInformation):
    """Mutual information by the estimator that suits the data.

    - labels on both sides: the table of counts, corrected for chance (:class:`BinnedMutualInformation`);
    - labels on one side and at most three columns: nearest neighbours (:class:`KSGMutualInformation`);
    - labels and more columns: a linear probe (:class:`ProbeMutualInformation`), or nearest neighbours if ten neighbours
      predict the labels of held-out samples better by a standard error;
    - at most three continuous columns in all: corrected nearest neighbours (:class:`CorrectedKSGMutualInformation`);
    - more columns: the same, on the columns as they are, or on at most four columns per side that small networks learn
      (as ``LatentMutualInformation(reduce="learned")``). Both are tried on samples that they have not seen, by the log
      density ratio of joint to product that each assigns to them: a copula fitted to the other samples, against a normal
      distribution of the codes. Codes are used if they are better by a standard error. The estimated information
      plays no part in this.

    The result's notes say what was chosen and why. The codes of each fold are measured on samples that they were not learned
    from, so they do not inflate the value; as no map adds information, they keep a lower bound.

    Parameters
    ----------
    effort : {"fast", "default", "thorough"}
        "fast" learns nothing: under a second for 2000 samples of a few columns. Otherwise codes are learned five times,
        with at most 600 steps each by "default" (seconds on one core, whatever the number of samples), 2000 by "thorough".

    Raises
    ------
    TypeError, ValueError
        If an option is not one of the above.

    Examples
    --------
    >>> x = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    >>> y = x + torch.randn(1000, generator=torch.Generator().manual_seed(1))
    >>> result = AutomaticMutualInformation().estimate(x, y)
    >>> abs(result.value - 0.3466) < 0.1, result.notes[0]
    (True, 'corrected nearest neighbours: 3 columns or fewer')
    """

    effort: Effort = "default"

    def __post_init__(self) -> None:
        check_choice(self.effort, tuple(PLANS), argument="effort")

    def _check_pair(self, x: Variable, y: Variable, *, null: Null | None) -> None:
        if x.discrete or y.discrete:
            KSGMutualInformation()._check_pair(x, y, null=null)
        else:
            CorrectedKSGMutualInformation()._check_pair(x, y, null=null)

    def _measure(self, x: Variable, y: Variable, generator: torch.Generator) -> Measurement:
        return self._choice(x, y, generator).measure(generator)

    def _measure_with_null(
        self, x: Variable, y: Variable, permutations: int, generator: torch.Generator
    ) -> tuple[Measurement, torch.Tensor]:
        """Choose once: codes were not learned from the samples whose pairs are broken."""
        choice = self._choice(x, y, generator)
        measured = choice.measure(generator)
        values = [choice.shuffled(generator).measure(generator).value for _ in range(permutations)]
        return measured, torch.tensor(values, dtype=torch.float64)

    def _choice(self, x: Variable, y: Variable, generator: torch.Generator) -> _Choice:
        if x.discrete or y.discrete:
            return _for_labels(x, y, generator)
        x, y = (side.with_values(independent_columns(side, [])) for side in in_fixed_order(x, y))
        plan = PLANS[self.effort]
        corrected = CorrectedKSGMutualInformation(surrogates=2 if plan is None else "auto")
        columns = x.values.shape[1] + y.values.shape[1]
        many = dataclasses.replace(corrected, k=NEIGHBORS_AMONG_MANY) if columns > MANY_COLUMNS else corrected
        neighbors = _Choice(many, [(x, y)], "corrected nearest neighbours")
        if columns <= FEW_COLUMNS:
            return neighbors.because(f"{FEW_COLUMNS} columns or fewer")
        if plan is None:
            return neighbors.because("effort='fast'")
        if len(x) < LEAST_TO_LEARN:
            return neighbors.because(f"fewer than {LEAST_TO_LEARN} samples")
        if any(side.few_values() for side in (x, y)):
            return neighbors.because("a side has few values")
        learned = learned_folds(x, y, width=WIDTH, folds=plan.folds, steps=plan.steps, generator=generator)
        folds = [next(learned)]
        evidence = _Evidence.of(x, y, folds[0], generator)
        for fold in learned:
            folds.append(fold)
            evidence = evidence.joined(_Evidence.of(x, y, fold, generator))
            if evidence.gain < -BETTER:  # two folds may be enough to see that learning does not help
                break
        if not evidence.gain > BETTER:
            return neighbors.because(str(evidence))
        return _Choice(
            corrected,
            [(fold.x, fold.y) for fold in folds],
            f"corrected nearest neighbours on learned codes, a lower bound: {evidence}",
            standard_error=float(evidence.codes.std()) / math.sqrt(len(evidence.codes)),
        )


@final
@dataclass(frozen=True)
class _Choice:
    """An estimator, and the parts of the data on which it is used; their mean is the estimate."""

    estimator: MutualInformation
    parts: list[tuple[Variable, Variable]]
    note: str
    standard_error: float | None = None

    def because(self, reason: str) -> _Choice:
        return dataclasses.replace(self, note=f"{self.note}: {reason}")

    def measure(self, generator: torch.Generator) -> Measurement:
        measured = [self.estimator._measure(*part, generator) for part in self.parts]
        value = sum(part.value for part in measured) / len(measured)
        notes = [
            self.note,
            *dict.fromkeys(note for part in measured for note in part.notes if len(measured) == 1),
        ]
        own = (
            measured[0]
            if self.standard_error is None
            else dataclasses.replace(
                measured[0],
                standard_error=self.standard_error,
                degrees=sum(len(x) for x, _ in self.parts) - 1,
            )
        )
        return dataclasses.replace(own, value=value, notes=tuple(notes))

    def shuffled(self, generator: torch.Generator) -> _Choice:
        """Return the same with the pairs of each part in random order."""
        parts = [(x, y.take(permutation(len(y), generator, y.device))) for x, y in self.parts]
        return dataclasses.replace(self, parts=parts)


def _for_labels(x: Variable, y: Variable, generator: torch.Generator) -> _Choice:
    """Choose where a side, or both, hold labels."""
    neighbors = _Choice(KSGMutualInformation(), [(x, y)], "nearest neighbours")
    if x.discrete and y.discrete:
        return dataclasses.replace(neighbors, note="the table of counts")
    columns, labels = (y, x.values) if x.discrete else (x, y.values)
    if columns.values.shape[1] <= FEW_COLUMNS:
        return neighbors.because(f"labels and {FEW_COLUMNS} columns or fewer")
    if len(labels) < LEAST_SAMPLES:
        return neighbors.because(f"labels, and fewer than {LEAST_SAMPLES} samples")
    probe = ProbeMutualInformation()
    by_probe = held_out_terms(columns.values, labels, probe.folds, generator)
    by_neighbors = _neighbor_terms(normal_scores(columns.values, generator), labels)
    gain = by_neighbors - by_probe
    known = f"held-out labels: {float(by_probe.mean()):.3f} nats by a probe, {float(by_neighbors.mean()):.3f} by neighbours"
    if float(gain.mean()) > BETTER * float(gain.std()) / math.sqrt(len(gain)):
        return neighbors.because(known)
    return _Choice(probe, [(x, y)], f"a linear probe, a lower bound: {known}")


def _neighbor_terms(columns: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return what :func:`held_out_terms` does, with the shares of labels among the nearest other samples as prediction."""
    shares = labels.bincount().double() / len(labels)
    terms = []
    for rows in row_slices(len(columns), len(columns), CHUNK_ELEMENTS):
        apart = squared_distances(columns[rows], columns)
        apart.diagonal(rows.start).fill_(torch.inf)
        near = labels[apart.topk(NEIGHBORS, dim=1, largest=False).indices]
        mine = labels[rows]
        # As if one more neighbour had been drawn from all samples: a label that is not near has a chance too.
        chances = ((near == mine[:, None]).sum(dim=1) + shares[mine]) / (NEIGHBORS + 1)
        terms.append(chances.log() - shares[mine].log())
    return torch.cat(terms)


@final
class _Evidence(NamedTuple):
    """Log density ratios of held-out samples in nats, ``(N,)``: by codes and by a copula, both fitted to the others."""

    codes: torch.Tensor
    copula: torch.Tensor

    @classmethod
    def of(cls, x: Variable, y: Variable, fold: Fold, generator: torch.Generator) -> Self:
        others = torch.ones(len(x), dtype=torch.bool, device=x.device)
        others[fold.rows] = False
        copula = copula_of(x.take(others), y.take(others), "auto", [], generator)
        if copula is None or len(copula.correlation) < x.values.shape[1] + y.values.shape[1]:
            return cls(fold.evidence, torch.zeros_like(fold.evidence))  # no density: it explains nothing
        scores = torch.cat([spread_scores(side.values, generator) for side in (x, y)], dim=1)
        return cls(fold.evidence, copula.log_ratio(scores[fold.rows]))

    def joined(self, other: Self) -> _Evidence:
        return _Evidence(torch.cat([self.codes, other.codes]), torch.cat([self.copula, other.copula]))

    @property
    def gain(self) -> float:
        """By how many standard errors codes are better."""
        gain = self.codes - self.copula
        return float(gain.mean() / gain.std()) * math.sqrt(len(gain))

    def __str__(self) -> str:
        codes, copula = float(self.codes.mean()), float(self.copula.mean())
        return f"held-out samples: {codes:.3f} nats by codes, {copula:.3f} by a copula"
