"""Mutual information from distances to nearest neighbours."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal, final

import torch

from featurelens._checks import check_choice, keep_whole
from featurelens.information.entropy import information_from_codes
from featurelens.information.estimator import Measurement, MutualInformation, Null
from featurelens.information.neighbors import Counts, neighbor_counts
from featurelens.information.ranks import normal_scores
from featurelens.information.variables import Variable, label_codes

Marginals = Literal["normal-score", "raw"]


MANY_ALONE = 0.2


@final
@dataclass(frozen=True, kw_only=True)
class KSGMutualInformation(MutualInformation):
    """Mutual information from the k nearest neighbours of every sample (Kraskov, Stögbauer & Grassberger 2004).

    Variant 1 is ``psi(k) + psi(N) - <psi(n_x + 1) + psi(n_y + 1)>`` with n_x the number of samples strictly
    closer in x than the k-th neighbour is in the joint space (maximum norm). Variant 2 is
    ``psi(k) - 1/k + psi(N) - <psi(n_x) + psi(n_y)>`` with a separate radius for each side.

    Integer labels on one side are compared as labels (Ross 2014, "Mutual information between discrete and
    continuous data sets"). With labels on both sides, the table of counts is used. Floating-point values that
    repeat (the zeros of a ReLU, 8-bit pixels) are treated specially, and a note in the result says so:

    - a side with at most ``sqrt(N) / 2`` different values is used as labels;
    - with normal scores, equal values are spread at random over the ranks they share, which does not change the
      information; `seed` fixes the order;
    - with raw marginals, every sample in the closed ball around a sample is counted, after Gao, Kannan, Oh & Viswanath
      (2017), "Estimating mutual information for discrete-continuous mixtures". This is accurate for a few frequent
      values and too high for many rare ones (8-bit pixels: 0.56 nats instead of 0.41 at N = 10,000).

    Time is about ``N log N`` up to six joint columns on the CPU and ``N^2`` beyond or on a GPU; memory is
    ``O(N)`` and a fixed block of distances.

    Parameters
    ----------
    k : int
        Number of neighbours; fewer mean less bias and more variance.
    variant : {1, 2}
        Algorithm 1 or 2 of the paper; always 1 if a side has labels or repeated values.
    marginals : {"normal-score", "raw"}
        "normal-score" first replaces each column by the normal quantiles of its ranks. This does not change the
        information, and removes the influence of scales and heavy tails.

    Raises
    ------
    TypeError, ValueError
        If an option is not one of the above.

    Examples
    --------
    >>> x = torch.randn(2000, generator=torch.Generator().manual_seed(0))
    >>> y = x + torch.randn(2000, generator=torch.Generator().manual_seed(1))
    >>> abs(KSGMutualInformation(k=5).estimate(x, y).value - 0.3466) < 0.05
    True
    """

    k: int = 5
    variant: Literal[1, 2] = 1
    marginals: Marginals = "normal-score"

    def __post_init__(self) -> None:
        keep_whole(self, "k", least=1)
        check_choice(self.variant, (1, 2), argument="variant")
        check_choice(self.marginals, ("normal-score", "raw"), argument="marginals")

    def _check_pair(self, x: Variable, y: Variable, *, null: Null | None) -> None:
        if len(x) <= self.k:
            raise ValueError(
                f"k must be smaller than the number of samples; got k = {self.k} for {len(x)} samples"
            )
        for side, other in ((x, y), (y, x)):
            if side.discrete and not other.discrete and side.levels == len(side):
                raise ValueError(
                    f"{side.name} holds integers, which are labels, and every label occurs once: pass quantities as "
                    "floating-point values"
                )

    def _measure(self, x: Variable, y: Variable, generator: torch.Generator) -> Measurement:
        notes: list[str] = []
        x, y = (self._prepared(side, generator, notes) for side in (x, y))
        caution = None
        if x.discrete and y.discrete:
            found = information_from_codes(
                x.values, y.values, levels_x=x.levels, levels_y=y.levels, correction="permutation"
            )
            value, caution = found.value, found.caution
            notes.append("labels on both sides: from the table of counts")
        else:
            value, caution = self._from_neighbors(x, y, notes)
        ceiling = float(digamma(len(x)) - digamma(self.k))
        return Measurement(value=value, ceiling=ceiling, notes=tuple(notes), caution=caution)

    def _from_neighbors(self, x: Variable, y: Variable, notes: list[str]) -> tuple[float, str | None]:
        """Return the value and a caution, and add notes."""
        repeats = x.repeats() or y.repeats()
        if self.variant == 2 and not (repeats or x.discrete or y.discrete):
            counts = neighbor_counts(x, y, self.k, "axes")
            if not bool(((counts.x < 1) | (counts.y < 1) | counts.touching).any()):
                return variant_two(counts, self.k), None
        counts = neighbor_counts(x, y, self.k, "joint")
        twins = int(counts.touching.sum())
        if twins or repeats:
            notes.append(
                f"{twins} samples have {self.k} identical twins: counted in closed balls (Gao et al. 2017)"
            )
            counts = merge_closed(counts, neighbor_counts(x, y, self.k, "closed"))
        alone = int((counts.rank < 1).sum())
        caution = None
        if alone > MANY_ALONE * len(x):
            caution = f"left out {alone} of {len(x)} samples, each alone in its label: pass quantities as floating-point values"
        elif alone:
            notes.append(f"{alone} samples, each alone in its label, were left out")
        return variant_one(counts), caution

    def _prepared(self, side: Variable, generator: torch.Generator, notes: list[str]) -> Variable:
        """Return the side as it is used for distances, with a note where its values repeat."""
        if side.discrete:
            return side
        if not side.repeats():
            return side if self.marginals == "raw" else side.with_values(normal_scores(side.values))
        if side.few_values():
            labels = dataclasses.replace(side, values=label_codes(side.values), discrete=True)
            notes.append(f"{side.name} has {labels.levels} different values: used as labels")
            return labels
        if self.marginals == "raw":
            notes.append(side.tie_note())
            return side
        notes.append(f"{side.tie_note()}, spread at random over their ranks")
        return side.with_values(normal_scores(side.values, generator))


def merge_closed(strict: Counts, closed: Counts) -> Counts:
    """Return counts for mixtures: the closed ball where the k-th neighbour is one of several at its distance.

    There the ball is a cell like those of a table, and the sample in its middle belongs to every count, as in the
    estimator of Gao et al. for a radius of zero. So a mixture is treated as a table at its point masses, and by KSG
    in between.
    """
    assert closed.joint is not None
    cell = closed.touching | (closed.joint > closed.rank)
    return Counts(
        x=torch.where(cell, closed.x, strict.x),
        y=torch.where(cell, closed.y, strict.y),
        rank=torch.where(cell, closed.joint + 1, strict.rank),
        touching=closed.touching,
    )


def variant_one(counts: Counts) -> float:
    """Return ``<psi(k_i) - psi(n_x + 1) - psi(n_y + 1)> + psi(N)`` in nats; k_i is k unless a label is rare."""
    kept = counts.rank > 0
    if not bool(kept.any()):
        return 0.0
    terms = digamma(counts.rank[kept]) - digamma(counts.x[kept] + 1) - digamma(counts.y[kept] + 1)
    return float(terms.mean() + digamma(int(kept.sum())))


def variant_two(counts: Counts, k: int) -> float:
    """Return ``psi(k) - 1/k + psi(N) - <psi(n_x) + psi(n_y)>`` in nats."""
    margins = digamma(counts.x) + digamma(counts.y)
    return float(digamma(k) - 1.0 / k + digamma(len(counts.x)) - margins.mean())


def digamma(numbers: torch.Tensor | int) -> torch.Tensor:
    """Return psi of positive whole numbers as float64."""
    return torch.digamma(torch.as_tensor(numbers, dtype=torch.float64))
