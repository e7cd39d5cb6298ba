"""Variational estimates: a network learns to distinguish true pairs from shuffled ones."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, final

import torch
from torch.nn import functional

from featurelens._checks import check_choice, keep_whole
from featurelens._random import permutation
from featurelens.information.chunks import row_slices
from featurelens.information.estimator import Measurement, MutualInformation, Null
from featurelens.information.networks import Network, train
from featurelens.information.ranks import normal_scores

if TYPE_CHECKING:
    from featurelens.information.variables import Variable

Bound = Literal["infonce", "smile", "nwj"]
BOUNDS: tuple[Bound, ...] = ("infonce", "smile", "nwj")

CLIP = 5.0
EMBEDDING = 32
FOLDS = 5
LEAST_SAMPLES = 50
MOST_VALIDATED = 2048
SCORES_AT_ONCE = 2**22


@final
@dataclass(frozen=True, kw_only=True)
class NeuralMutualInformation(MutualInformation):
    """Mutual information from a critic f(x, y) = g(x) . h(y), trained on one part of the data and evaluated on another.

    The data are divided into five parts: three train the critic, one decides when to stop, and the bound is evaluated
    on the last. This is repeated `rotations` times with the parts in other roles, and averaged. The bounds, on unseen
    pairs:

    - ``"infonce"`` (van den Oord, Li & Vinyals 2018): ``<f_ii - log mean_j exp f_ij>``, a lower bound of at
      most ``log K`` for K held-out samples;
    - ``"nwj"`` (Nguyen, Wainwright & Jordan 2010): ``<f_ii> - <exp(f_ij - 1)>``, a lower bound with large
      variance;
    - ``"smile"`` (Song & Ermon 2020): ``<f_ii> - log <exp clip(f_ij, -5, 5)>``, not a bound, but with little
      variance; trained on the Jensen-Shannon objective.

    Columns enter as normal scores, labels as one-hot vectors. By far the slowest estimator here: useful where the
    dependence is neither elliptical nor low-dimensional and there are thousands of samples.

    Parameters
    ----------
    bound : {"infonce", "smile", "nwj"}
        The bound to maximize and report.
    hidden : int
        Width of the two hidden layers of g and of h.
    steps : int
        Largest number of training steps, per rotation.
    batch : int
        Pairs per step.
    rotations : int
        How many of the five parts serve for evaluation in turn, 1 to 5.

    Raises
    ------
    TypeError, ValueError
        If an option is not one of the above.

    Examples
    --------
    >>> x = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    >>> y = x + torch.randn(1000, generator=torch.Generator().manual_seed(1))
    >>> result = NeuralMutualInformation(steps=200, rotations=1).estimate(x, y, seed=0)
    >>> abs(result.value - 0.3466) < 0.2
    True
    """

    bound: Bound = "smile"
    hidden: int = 64
    steps: int = 2000
    batch: int = 256
    rotations: int = 3

    def __post_init__(self) -> None:
        check_choice(self.bound, BOUNDS, argument="bound")
        keep_whole(self, "hidden", least=1)
        keep_whole(self, "steps", least=1)
        keep_whole(self, "batch", least=2)
        keep_whole(self, "rotations", least=1)
        if self.rotations > FOLDS:
            raise ValueError(
                f"rotations must be at most {FOLDS}, one per part of the data; got {self.rotations}"
            )

    def _check_pair(self, x: Variable, y: Variable, *, null: Null | None) -> None:
        if len(x) < LEAST_SAMPLES:
            raise ValueError(f"a critic needs at least {LEAST_SAMPLES} samples; got {len(x)}")

    def _measure(self, x: Variable, y: Variable, generator: torch.Generator) -> Measurement:
        inputs = _network_input(x), _network_input(y)
        parts = permutation(len(x), generator, x.device).chunk(FOLDS)
        readings = [
            self._read(*inputs, parts[turn:] + parts[:turn], generator) for turn in range(self.rotations)
        ]
        values, terms = zip(*readings, strict=True)
        scatter = torch.cat([term - term.mean() for term in terms])
        return Measurement(
            value=sum(values) / len(values),
            ceiling=math.log(len(parts[0])) if self.bound == "infonce" else None,
            standard_error=float(scatter.std()) / math.sqrt(len(scatter)),
            degrees=len(scatter) - 1,
            notes=("not a bound: SMILE can be too high",) if self.bound == "smile" else ("a lower bound",),
        )

    def _read(
        self, x: torch.Tensor, y: torch.Tensor, parts: tuple[torch.Tensor, ...], generator: torch.Generator
    ) -> tuple[float, torch.Tensor]:
        """Train a critic on all parts but two, which test and validate it; return the bound and its terms ``(T,)``."""
        g, h = (
            Network((side.shape[1], self.hidden, self.hidden, EMBEDDING + 1), generator, x.device)
            for side in (x, y)
        )

        def embedded(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return embed(g(x[rows]), h(y[rows]))

        def loss(rows: torch.Tensor) -> torch.Tensor:
            first, second = embedded(rows)
            return training_loss(first @ second.T, self.bound)

        # Weight decay, more than early stopping, keeps a critic from memorizing its few thousand pairs.
        train(
            [g, h],
            loss,
            torch.cat(parts[2:]),
            parts[1][:MOST_VALIDATED],
            generator,
            steps=self.steps,
            batch=self.batch,
            learning_rate=2e-3,
            weight_decay=1.0,
        )
        with torch.no_grad():
            return read_bound(*embedded(parts[0]), self.bound)


def embed(g: torch.Tensor, h: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return embeddings whose products are f(x, y) = g(x) . h(y) + a(x) + b(y); the last columns are a and b."""
    ones = torch.ones_like(g[:, :1])
    first = torch.cat([g[:, :-1] / math.sqrt(EMBEDDING), g[:, -1:], ones], dim=1)
    return first, torch.cat([h[:, :-1], ones, h[:, -1:]], dim=1)


def training_loss(scores: torch.Tensor, bound: Bound) -> torch.Tensor:
    """Return what training minimizes, from scores ``(B, B)`` of all pairs of a batch."""
    true = scores.diagonal()
    if bound == "infonce":
        return (scores.logsumexp(dim=1) - true).mean()
    apart = ~torch.eye(len(scores), dtype=torch.bool, device=scores.device)
    broken = scores[apart]
    if bound == "nwj":
        # The exponential of one large score would dominate the batch.
        return (broken - 1.0).clamp_max(10.0).exp().mean() - true.mean()
    return functional.softplus(-true).mean() + functional.softplus(broken).mean()


def read_bound(g: torch.Tensor, h: torch.Tensor, bound: Bound) -> tuple[float, torch.Tensor]:
    """Return the bound in nats from embeddings ``(T, E)`` of unseen pairs, and its terms per pair ``(T,)``."""
    g, h = g.double(), h.double()
    n = len(g)
    true = (g * h).sum(dim=1)
    whole = []
    for rows in row_slices(n, n, SCORES_AT_ONCE):
        scores = g[rows] @ h.T
        if bound == "smile":
            scores = scores.clamp(-CLIP, CLIP)
        if bound != "infonce":
            scores.diagonal(rows.start).fill_(-torch.inf)
        whole.append(scores.logsumexp(dim=1))
    if bound == "infonce":
        terms = true - torch.cat(whole) + math.log(n)
        return float(terms.mean()), terms
    broken = torch.cat(whole) - math.log(n - 1)  # log mean_j exp f_ij, j != i
    if bound == "nwj":
        terms = true - (broken - 1.0).exp()
        return float(terms.mean()), terms
    log_mean = float(broken.logsumexp(dim=0)) - math.log(n)
    return float(true.mean()) - log_mean, true - (broken - log_mean).exp()


def _network_input(side: Variable) -> torch.Tensor:
    if side.discrete:
        return functional.one_hot(side.values).float()
    return normal_scores(side.values).float()
