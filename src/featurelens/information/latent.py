"""Many columns: learn a few that matter on one half of the data, and measure those on the other."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, final

import torch
from torch.nn import functional

from featurelens._checks import check_choice, check_whole
from featurelens._random import permutation
from featurelens.information._cca import CanonicalMap, fit_canonical_maps
from featurelens.information._networks import Network, Schedule, train
from featurelens.information._ranks import normal_scores
from featurelens.information._resampling import block_standard_error
from featurelens.information._variables import Variable
from featurelens.information.base import Measurement, MutualInformation, Null
from featurelens.information.corrected import CorrectedKSGMutualInformation
from featurelens.information.ksg import KSGMutualInformation

Reduction = Literal["cca", "autoencoder"]

LEAST_SAMPLES = 100
HIDDEN = 64
Sides = tuple[Variable, Variable]


@final
@dataclass(frozen=True, kw_only=True)
class LatentMutualInformation(MutualInformation):
    """Nearest-neighbour information between a few learned columns of each side, cross-fitted.

    Neighbours mean little in dozens of columns. Each half of the data in turn learns a map to few columns,
    the other half is mapped and measured with :class:`CorrectedKSGMutualInformation` (or Ross's estimator
    against labels), and the two values are averaged. Columns made by a map hold at most what the side itself
    holds, so this estimates a *lower bound*: it finds what the map keeps (Gowri et al. 2024, "Approximating
    mutual information of high-dimensional variables using learned representations").

    Parameters
    ----------
    reduce : {"cca", "autoencoder"}
        Canonical correlation analysis (Hotelling 1936) of normal scores, which keeps what is linearly shared,
        in as many pairs as correlate on a held-out part; or an autoencoder per side, which keeps what varies
        most.
    dim : int
        Most columns per side.
    k : int
        Neighbours.
    steps : int
        Training steps of an autoencoder at most.

    Raises
    ------
    TypeError, ValueError
        If an option is not one of the above.

    Examples
    --------
    >>> x = torch.randn(2000, 20, generator=torch.Generator().manual_seed(0))
    >>> y = torch.randn(2000, 20, generator=torch.Generator().manual_seed(1))
    >>> y[:, 0] += x[:, 0]
    >>> abs(LatentMutualInformation().estimate(x, y, seed=0).value - 0.3466) < 0.1
    True
    """

    reduce: Reduction = "cca"
    dim: int = 8
    k: int = 5
    steps: int = 2000

    def __post_init__(self) -> None:
        check_choice(self.reduce, ("cca", "autoencoder"), argument="reduce")
        check_whole(self.dim, argument="dim", least=1)
        check_whole(self.k, argument="k", least=1)
        check_whole(self.steps, argument="steps", least=1)

    def _check_pair(self, x: Variable, y: Variable, *, null: Null | None) -> None:
        if x.discrete and y.discrete:
            raise TypeError("there is nothing to reduce: got integer labels for both x and y")
        if len(x) < LEAST_SAMPLES:
            raise ValueError(
                f"two halves to learn and to measure need at least {LEAST_SAMPLES} samples; got {len(x)}"
            )

    def _measure(self, x: Variable, y: Variable, generator: torch.Generator) -> Measurement:
        halves = self._latent_halves(x, y, generator)
        measured = [_measure_latents(sides, self.k, generator) for sides in halves]
        kept = " and ".join(" + ".join(_columns(side) for side in sides) for sides in halves)
        return Measurement(
            value=sum(part.value for part in measured) / len(measured),
            ceiling=measured[0].ceiling,
            notes=("a lower bound: what the learned columns share", f"{kept} columns kept on the halves"),
        )

    def _standard_error(
        self, x: Variable, y: Variable, measured: Measurement, generator: torch.Generator
    ) -> float:
        """Return the scatter of the measurement alone: the maps are held fixed."""
        errors = [
            block_standard_error(
                lambda a, b: _measure_latents((a, b), self.k, generator).value, *sides, generator
            )
            for sides in self._latent_halves(x, y, generator)
        ]
        return math.hypot(*errors) / len(errors)

    def _latent_halves(self, x: Variable, y: Variable, generator: torch.Generator) -> list[Sides]:
        """Return both sides of each half, mapped by what the other half has learned."""
        x, y = (side if side.discrete else side.with_values(normal_scores(side.values)) for side in (x, y))
        first, second = permutation(len(x), generator, x.device).chunk(2)
        reduce = self._canonical if self.reduce == "cca" else self._encoded
        return [
            reduce(x, y, learn, measure, generator) for learn, measure in ((first, second), (second, first))
        ]

    def _canonical(
        self, x: Variable, y: Variable, learn: torch.Tensor, measure: torch.Tensor, generator: torch.Generator
    ) -> Sides:
        matrices = [
            functional.one_hot(side.values).double() if side.discrete else side.values for side in (x, y)
        ]
        maps = fit_canonical_maps(matrices[0][learn], matrices[1][learn], self.dim)
        mapped = [_mapped(side, applied, measure) for side, applied in zip((x, y), maps, strict=True)]
        return mapped[0], mapped[1]

    def _encoded(
        self, x: Variable, y: Variable, learn: torch.Tensor, measure: torch.Tensor, generator: torch.Generator
    ) -> Sides:
        def reduced(side: Variable) -> Variable:
            if side.discrete or side.values.shape[1] <= self.dim:
                return side.take(measure)
            return side.take(measure).with_values(
                _encode(side.values, self.dim, learn, self.steps, generator)[measure]
            )

        return reduced(x), reduced(y)


def _measure_latents(sides: Sides, k: int, generator: torch.Generator) -> Measurement:
    if any(side.discrete for side in sides):
        return KSGMutualInformation(k=k)._measure(*sides, generator)
    return CorrectedKSGMutualInformation(k=k)._measure(*sides, generator)


def _mapped(side: Variable, applied: CanonicalMap, rows: torch.Tensor) -> Variable:
    if side.discrete:
        return side.take(rows)
    return side.take(rows).with_values(applied(side.values[rows]))


def _columns(side: Variable) -> str:
    return "1" if side.discrete else str(side.values.shape[1])


def _encode(
    values: torch.Tensor, dim: int, learn: torch.Tensor, steps: int, generator: torch.Generator
) -> torch.Tensor:
    """Train an autoencoder on the rows to learn from; return the codes of all rows, ``(N, dim)`` float64."""
    inputs = values.float()
    columns = inputs.shape[1]
    encoder = Network((columns, HIDDEN, HIDDEN, dim), generator, inputs.device)
    decoder = Network((dim, HIDDEN, HIDDEN, columns), generator, inputs.device)
    cut = len(learn) * 4 // 5
    training, validation = learn[:cut], learn[cut:]

    def loss(rows: torch.Tensor) -> torch.Tensor:
        return functional.mse_loss(decoder(encoder(inputs[rows])), inputs[rows])

    def validation_loss() -> float:
        with torch.no_grad():
            return float(loss(validation))

    schedule = Schedule(steps=steps, batch=256, learning_rate=1e-3)
    train([encoder, decoder], loss, validation_loss, training, schedule, generator)
    with torch.no_grad():
        return encoder(inputs).double()
