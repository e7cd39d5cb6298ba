"""Mutual information between many columns: learn a few on one half of the data, measure them on the other."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, final

import torch
from torch.nn import functional

from featurelens._checks import check_choice, keep_whole
from featurelens._random import permutation
from featurelens.information.canonical import fit_canonical_maps
from featurelens.information.corrected_ksg import measure_neighbors
from featurelens.information.estimator import Measurement, MutualInformation, Null
from featurelens.information.learned_codes import learned_folds
from featurelens.information.networks import Network, train
from featurelens.information.ranks import normal_scores
from featurelens.information.resampling import Scatter, block_scatter
from featurelens.information.variables import Variable

Reduction = Literal["cca", "autoencoder", "learned"]

LEAST_SAMPLES = 100
FOLDS, MOST_LEARNED = 3, 4
"""Parts into which the samples are divided for learned codes, and most columns of a code."""
HIDDEN = 64
Sides = tuple[Variable, Variable]


@final
@dataclass(frozen=True, kw_only=True)
class LatentMutualInformation(MutualInformation):
    """Nearest-neighbour information between a few learned columns of each side, cross-fitted.

    Nearest-neighbour estimates fail in dozens of columns. A map to a few columns is learned on each half of the data in
    turn; the other half is mapped and measured with :class:`CorrectedKSGMutualInformation` (or Ross's estimator against
    labels), and the two values are averaged. A map cannot add information, so this estimates a *lower bound*: the
    information that the map keeps (Gowri et al. 2024, "Approximating mutual information of high-dimensional variables
    using learned representations").

    Parameters
    ----------
    reduce : {"cca", "autoencoder", "learned"}
        Canonical correlation analysis (Hotelling 1936) of normal scores, which keeps linear dependence, in as many
        pairs as correlate on a held-out part; an autoencoder per side, which keeps the largest variation; or a small
        network per side, trained together for what the sides share, in whatever form (on three parts; no labels).
    dim : int
        Largest number of columns per side; at most four for "learned".
    k : int
        Number of neighbours.
    steps : int
        Largest number of training steps of a network.

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
        check_choice(self.reduce, ("cca", "autoencoder", "learned"), argument="reduce")
        keep_whole(self, "dim", least=1)
        keep_whole(self, "k", least=1)
        keep_whole(self, "steps", least=1)

    def _check_pair(self, x: Variable, y: Variable, *, null: Null | None) -> None:
        if x.discrete and y.discrete:
            raise TypeError("x or y must be continuous; got integer labels for both")
        if self.reduce == "learned" and (x.discrete or y.discrete):
            raise TypeError(
                "reduce='learned' needs continuous sides; got integer labels: use ProbeMutualInformation"
            )
        if len(x) < LEAST_SAMPLES:
            raise ValueError(
                f"learning on one half and measuring on the other needs at least {LEAST_SAMPLES} samples; got {len(x)}"
            )

    def _measure(self, x: Variable, y: Variable, generator: torch.Generator) -> Measurement:
        halves = self._latent_halves(x, y, generator)
        measured = [measure_neighbors(*sides, self.k, generator) for sides in halves]
        pairs = {int(side.values.shape[1]) for sides in halves for side in sides if not side.discrete}
        full = self.reduce == "cca" and pairs == {self.dim}
        kept = " and ".join(
            " + ".join("1" if side.discrete else str(side.values.shape[1]) for side in sides)
            for sides in halves
        )
        return Measurement(
            value=sum(part.value for part in measured) / len(measured),
            ceiling=measured[0].ceiling,
            notes=(
                "a lower bound: the information between the learned columns",
                f"{kept} columns kept on the halves",
                *([f"all {self.dim} pairs of columns replicate, and more may: raise dim"] if full else []),
            ),
        )

    def _scatter(
        self, x: Variable, y: Variable, measured: Measurement, generator: torch.Generator
    ) -> Scatter:
        """Return the scatter of the measurement alone: the maps are held fixed."""
        halves = [
            block_scatter(lambda a, b: measure_neighbors(a, b, self.k, generator).value, *sides, generator)
            for sides in self._latent_halves(x, y, generator)
        ]
        error = math.hypot(*(half.error for half in halves)) / len(halves)
        return halves[0]._replace(error=error, of_parts=sum(half.of_parts for half in halves) / len(halves))

    def _latent_halves(self, x: Variable, y: Variable, generator: torch.Generator) -> list[Sides]:
        """Return both sides of each half, or third, mapped by what was learned on the rest."""
        if self.reduce == "learned":
            width = min(self.dim, MOST_LEARNED)
            folds = learned_folds(x, y, width=width, folds=FOLDS, steps=self.steps, generator=generator)
            return [(fold.x, fold.y) for fold in folds]
        x, y = (side if side.discrete else side.with_values(normal_scores(side.values)) for side in (x, y))
        first, second = permutation(len(x), generator, x.device).chunk(2)
        halves = []
        for learn, measure in ((first, second), (second, first)):
            if self.reduce == "cca":
                first_rows, second_rows = (
                    functional.one_hot(side.values).double() if side.discrete else side.values
                    for side in (x, y)
                )
                maps = fit_canonical_maps(first_rows[learn], second_rows[learn], self.dim)
                left, right = (
                    side.take(measure) if side.discrete else side.with_values(mapped(side.values[measure]))
                    for side, mapped in zip((x, y), maps, strict=True)
                )
            else:
                left, right = (self._encoded(side, learn, generator).take(measure) for side in (x, y))
            halves.append((left, right))
        return halves

    def _encoded(self, side: Variable, learn: torch.Tensor, generator: torch.Generator) -> Variable:
        if side.discrete or side.values.shape[1] <= self.dim:
            return side
        return side.with_values(_encode(side.values, self.dim, learn, self.steps, generator))


def _encode(
    values: torch.Tensor, dim: int, learn: torch.Tensor, steps: int, generator: torch.Generator
) -> torch.Tensor:
    """Train an autoencoder on the rows to learn from; return the codes of all rows, ``(N, dim)`` float64."""
    inputs = values.float()
    columns = inputs.shape[1]
    encoder = Network((columns, HIDDEN, HIDDEN, dim), generator, inputs.device)
    decoder = Network((dim, HIDDEN, HIDDEN, columns), generator, inputs.device)
    cut = len(learn) * 4 // 5

    def loss(rows: torch.Tensor) -> torch.Tensor:
        return functional.mse_loss(decoder(encoder(inputs[rows])), inputs[rows])

    train(
        [encoder, decoder],
        loss,
        learn[:cut],
        learn[cut:],
        generator,
        steps=steps,
        batch=256,
        learning_rate=1e-3,
    )
    with torch.no_grad():
        return encoder(inputs).double()
