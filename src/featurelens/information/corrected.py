"""KSG without its bias, as far as a fitted copula knows it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, final

from featurelens._checks import check_whole
from featurelens.information._variables import Variable
from featurelens.information.base import Measurement, MutualInformation, Null
from featurelens.information.copula import copula_of, require_continuous, require_samples
from featurelens.information.ksg import KSGMutualInformation

if TYPE_CHECKING:
    import torch

    from featurelens.information._elliptical import EllipticalCopula


@final
@dataclass(frozen=True, kw_only=True)
class CorrectedKSGMutualInformation(MutualInformation):
    """KSG, less the error that it makes on data of the same dependence whose information is known.

    A copula (Gaussian or Student, by likelihood) is fitted to the ranks, and samples are drawn from it: as
    many, in as many columns, equally dependent. On these the error of KSG is known exactly, and it is taken
    off: ``KSG(data) - mean [KSG(drawn) - I(copula)]``, the copula's information as a control variate. Where
    the data are elliptical the error goes to zero with the error of the fit; where they are not, KSG still
    sees the rest. Labels are refused, as they have no such copula.

    Parameters
    ----------
    k : int
        Neighbours.
    surrogates : int
        How often samples are drawn; the time is that of ``1 + surrogates`` KSG estimates.

    Raises
    ------
    TypeError, ValueError
        If an option is not one of the above.

    Examples
    --------
    >>> import torch
    >>> x = torch.randn(1000, 5, generator=torch.Generator().manual_seed(0))
    >>> y = x + torch.randn(1000, 5, generator=torch.Generator().manual_seed(1))
    >>> abs(CorrectedKSGMutualInformation().estimate(x, y, seed=0).value - 5 * 0.3466) < 0.15
    True
    """

    k: int = 5
    surrogates: int = 4

    def __post_init__(self) -> None:
        check_whole(self.k, argument="k", least=1)
        check_whole(self.surrogates, argument="surrogates", least=1)

    def _check_pair(self, x: Variable, y: Variable, *, null: Null | None) -> None:
        require_continuous(self, x, y)
        require_samples(x, y)
        self._ksg()._check_pair(x, y, null=null)

    def _measure(self, x: Variable, y: Variable, generator: torch.Generator) -> Measurement:
        plain = self._ksg()._measure(x, y, generator)
        notes: list[str] = []
        copula = copula_of(x, y, "auto", notes)
        if copula is None:
            return Measurement(
                value=plain.value,
                ceiling=plain.ceiling,
                notes=(*plain.notes, "one side determines the other: KSG without correction"),
            )
        errors = [self._surrogate_error(copula, len(x), generator) for _ in range(self.surrogates)]
        error = sum(errors) / len(errors)
        notes.append(
            f"plain KSG gives {plain.value:.4f} nats; its error on the fitted copula is {error:+.4f}"
        )
        return Measurement(value=plain.value - error, ceiling=plain.ceiling, notes=(*plain.notes, *notes))

    def _surrogate_error(self, copula: EllipticalCopula, n: int, generator: torch.Generator) -> float:
        drawn = copula.draw(n, generator)
        x, y = drawn[:, : copula.dim_x], drawn[:, copula.dim_x :]
        sides = (Variable(x, False, x.shape[1], "x"), Variable(y, False, y.shape[1], "y"))
        return self._ksg()._measure(*sides, generator).value - copula.information()

    def _ksg(self) -> KSGMutualInformation:
        return KSGMutualInformation(k=self.k)
