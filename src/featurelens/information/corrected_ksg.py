"""KSG with its error measured on simulated data and taken off."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, final

from featurelens._checks import keep_whole
from featurelens.information.copula import check_for_copula, copula_of
from featurelens.information.estimator import Measurement, MutualInformation, Null
from featurelens.information.ksg import KSGMutualInformation
from featurelens.information.variables import Variable, in_fixed_order

if TYPE_CHECKING:
    import torch

POOR_FIT = 3.0
"""Standard deviations of KSG, about ``1 / sqrt(N)`` nats, by which it may differ from what a fitting copula shows."""

LEAST_SURROGATES, MOST_SURROGATES = 2, 8
SIMULATED = 16_000
"""Samples to simulate by default, in all."""


@final
@dataclass(frozen=True, kw_only=True)
class CorrectedKSGMutualInformation(MutualInformation):
    """KSG, minus its error on simulated data with the same dependence and known information.

    A copula (Gaussian or Student, by likelihood) is fitted to the ranks. Its canonical correlations are lowered until its
    information has no bias, and as many samples of as many columns are drawn from it. The error of KSG on these samples
    is known exactly, and is subtracted: ``KSG(data) - mean [KSG(drawn) - I(copula)]``, with the copula's information as a
    control variate. For elliptical data the error vanishes with the error of the fit, in dozens of columns too; for other
    data, KSG still measures the rest. Labels are not accepted: they have no such copula.

    Parameters
    ----------
    k : int
        Number of neighbours.
    surrogates : int or "auto"
        Number of simulated data sets; the time is that of ``1 + surrogates`` KSG estimates. By default 8 for up to 2000
        samples, and fewer for more, at least 2: each lowers the scatter, which matters less where there are many samples.

    Raises
    ------
    TypeError, ValueError
        If an option is not one of the above.

    Examples
    --------
    >>> import torch
    >>> x = torch.randn(1000, 5, generator=torch.Generator().manual_seed(0))
    >>> y = x + torch.randn(1000, 5, generator=torch.Generator().manual_seed(1))
    >>> abs(CorrectedKSGMutualInformation().estimate(x, y).value - 5 * 0.3466) < 0.15
    True
    """

    k: int = 5
    surrogates: int | Literal["auto"] = "auto"

    def __post_init__(self) -> None:
        keep_whole(self, "k", least=1)
        if not (isinstance(self.surrogates, str) and self.surrogates == "auto"):
            keep_whole(self, "surrogates", least=1)

    def _check_pair(self, x: Variable, y: Variable, *, null: Null | None) -> None:
        check_for_copula(self, x, y)
        KSGMutualInformation(k=self.k)._check_pair(x, y, null=null)

    def _measure(self, x: Variable, y: Variable, generator: torch.Generator) -> Measurement:
        x, y = in_fixed_order(x, y)  # what is drawn must not depend on which side is called x
        ksg = KSGMutualInformation(k=self.k)
        plain = ksg._measure(x, y, generator)
        notes = list(plain.notes)
        if any(side.few_values() for side in (x, y)):
            notes.append("a side has few values: KSG without correction")
            return dataclasses.replace(plain, notes=tuple(notes))
        copula = copula_of(x, y, "auto", notes, generator)
        if copula is None:
            notes.append("one side determines the other: KSG without correction")
            return dataclasses.replace(plain, notes=tuple(notes))
        copula = copula.without_bias(len(x))
        errors = []
        for _ in range(self._surrogates(len(x))):
            drawn = copula.draw(len(x), generator)
            first, second = (
                Variable(part, False, part.shape[1], "drawn")
                for part in (drawn[:, : copula.dim_x], drawn[:, copula.dim_x :])
            )
            errors.append(ksg._measure(first, second, generator).value - copula.information())
        error = sum(errors) / len(errors)
        value, ceiling = plain.value - error, plain.ceiling
        if ceiling is not None and value > ceiling:
            notes.append(
                f"above KSG's ceiling of {ceiling:.3g} nats: the fitted copula is taken to hold there"
            )
            ceiling = None
        notes.append(
            f"plain KSG gives {plain.value:.4f} nats; its error on the fitted copula is {error:+.4f}"
        )
        unexplained = value - copula.information()
        if abs(unexplained) > POOR_FIT / math.sqrt(len(x)):
            notes.append(
                f"{abs(unexplained):.4f} nats {'above' if unexplained > 0 else 'below'} the fitted copula: where it does not "
                "hold, KSG's error may be another, which no interval covers"
            )
        return dataclasses.replace(plain, value=value, ceiling=ceiling, notes=tuple(notes))

    def _surrogates(self, samples: int) -> int:
        if self.surrogates != "auto":
            return self.surrogates
        return max(LEAST_SURROGATES, min(MOST_SURROGATES, SIMULATED // samples))


def measure_neighbors(x: Variable, y: Variable, k: int, generator: torch.Generator) -> Measurement:
    """Measure with KSG, corrected unless a side holds labels."""
    labelled = x.discrete or y.discrete
    estimator = KSGMutualInformation(k=k) if labelled else CorrectedKSGMutualInformation(k=k)
    return estimator._measure(x, y, generator)
