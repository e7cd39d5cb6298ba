"""Mutual information of the best-fitting elliptical copula."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

import torch

from featurelens._checks import check_choice
from featurelens.information.elliptical import EllipticalCopula, Family, fit_copula
from featurelens.information.estimator import Measurement, MutualInformation, Null
from featurelens.information.ranks import normal_scores, spread_scores
from featurelens.information.variables import in_fixed_order

if TYPE_CHECKING:
    from featurelens.information.variables import Variable

FAMILIES: tuple[Family, ...] = ("auto", "gaussian", "student")
DEPENDENT = 1e-6
LEAST_FOR_TAILS = 20
"""So many samples are needed to see that extreme values occur together."""


@final
@dataclass(frozen=True, kw_only=True)
class CopulaMutualInformation(MutualInformation):
    """Mutual information of the Gaussian or Student copula fitted to the ranks.

    Gaussian: ``-1/2 sum log(1 - rho_i^2)`` over the canonical correlations of normal scores (Ince et al.
    2017, "A statistical framework for neuroimaging data analysis based on mutual information estimated via a
    Gaussian copula"). Student: the same from the fitted dispersion, plus the information in joint tails. Both subtract
    the bias ``b(d_x) + b(d_y) - b(d_x + d_y)`` of determinants of sample covariances, so dozens of columns per side are
    possible. If the copula is not elliptical, the value of the Gaussian family is a lower bound in the limit of many
    samples, and can be far too low. Labels are not accepted.

    Parameters
    ----------
    family : {"auto", "gaussian", "student"}
        ``"auto"`` chooses the Student copula if its gain in likelihood exceeds the penalty for its extra parameter.

    Raises
    ------
    TypeError, ValueError
        If an option is not one of the above.

    Examples
    --------
    >>> x = torch.randn(1000, 3, generator=torch.Generator().manual_seed(0))
    >>> y = x + torch.randn(1000, 3, generator=torch.Generator().manual_seed(1))
    >>> abs(CopulaMutualInformation().estimate(x, y).value - 3 * 0.3466) < 0.1
    True
    """

    family: Family = "auto"

    def __post_init__(self) -> None:
        check_choice(self.family, FAMILIES, argument="family")

    def _check_pair(self, x: Variable, y: Variable, *, null: Null | None) -> None:
        check_for_copula(self, x, y)

    def _measure(self, x: Variable, y: Variable, generator: torch.Generator) -> Measurement:
        notes = [f"{side.tie_note()}, spread at random over their ranks" for side in (x, y) if side.repeats()]
        x, y = in_fixed_order(x, y)  # what is drawn must not depend on which side is called x
        copula = copula_of(x, y, self.family, notes, generator)
        if copula is None:
            return Measurement(
                value=math.inf, notes=(*notes, "one side is a linear function of the other's scores")
            )
        law = "Gaussian copula"
        if copula.nu is not None:
            law = f"Student copula with {copula.nu:.3g} degrees of freedom"
        return Measurement(value=copula.information() - copula.bias(len(x)), notes=(*notes, law))


def copula_of(
    x: Variable, y: Variable, family: Family, notes: list[str], generator: torch.Generator
) -> EllipticalCopula | None:
    """Fit a copula to the ranks of both sides, without redundant columns; None if one side determines the other.

    Equal values are spread over the ranks that they share: among mid-ranks the zeros of a ReLU would be a peak that a
    Student copula takes for dependence.
    """
    values_x, values_y = (independent_columns(side, notes) for side in (x, y))
    if bool(_redundant(torch.cat([values_x, values_y], dim=1)).any()):
        return None
    scores = torch.cat([spread_scores(values, generator) for values in (values_x, values_y)], dim=1)
    gaussian = fit_copula(scores, values_x.shape[1], "gaussian")
    if gaussian.closest_pair() > 0.5 * math.log(len(x)):
        notes.append(f"ranks of {len(x)} samples hardly resolve so close a dependence: a lower bound")
        return gaussian
    few = family == "auto" and len(x) < LEAST_FOR_TAILS
    return gaussian if few else fit_copula(scores, values_x.shape[1], family)


def independent_columns(side: Variable, notes: list[str]) -> torch.Tensor:
    """Return the columns ``(N, d)`` that are not linear in the columns before them; a note says how many are."""
    redundant = _redundant(side.values)
    if bool(redundant.any()):
        notes.append(
            f"{int(redundant.sum())} columns of {side.name} are determined by the other columns and were left out"
        )
    return side.values[:, ~redundant]


def _redundant(values: torch.Tensor) -> torch.Tensor:
    """Return which columns ``(D,)`` are linear in the columns before them, on normal scores."""
    scores = normal_scores(values)
    scores = scores - scores.mean(dim=0)
    scale = scores.norm(dim=0)
    residual = torch.linalg.qr(scores / scale.clamp_min(1e-300), mode="r").R.diagonal().abs()
    redundant: torch.Tensor = (residual < DEPENDENT) | (scale < DEPENDENT)
    return redundant


def check_for_copula(estimator: MutualInformation, x: Variable, y: Variable) -> None:
    """Raise a TypeError for labels, and a ValueError unless the joint covariance can have full rank."""
    for side in (x, y):
        if side.discrete:
            raise TypeError(
                f"{type(estimator).__name__} needs continuous variables; got integer labels for {side.name}: "
                "use KSGMutualInformation or BinnedMutualInformation"
            )
    columns = x.values.shape[1] + y.values.shape[1]
    if len(x) < columns + 2:
        raise ValueError(
            f"a copula of {columns} columns needs at least {columns + 2} samples; got {len(x)}: use fewer columns"
        )
