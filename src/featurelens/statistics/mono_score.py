"""Whether the images that activate a channel look alike to another network."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import ClassVar, final

import torch

from featurelens._checks import check_dense, check_type, count, describe
from featurelens._html import Shown
from featurelens.statistics.base import State, Statistic, check_same_channels, combined
from featurelens.statistics.exact_sums import added, central_products, exact, raw_products, total
from featurelens.statistics.responses import responses

ROUNDING = 1e-12
"""Share of the weights of all pairs below which those of different images are rounding."""


@final
@dataclass(frozen=True, repr=False, eq=False)
class MonoScoreResult(Shown):
    """MonoScore of each channel.

    Attributes
    ----------
    score : torch.Tensor
        ``(C,)`` float64: mean cosine similarity of all pairs of images, weighted by the product of their responses, which
        are scaled to [0, 1] for each channel. 1 if the images it responds to have the same embedding. NaN for a channel
        whose response is the same in all images, that responds to one image only, or was not finite.
    baseline : float
        The unweighted mean over all pairs: the score of a channel that responds at random. NaN for fewer than two images.
    not_finite : torch.Tensor
        ``(C,)`` int64: images in which the channel was NaN or infinite somewhere.
    layer : str or None
        The layer, if measured by `ActivationRecorder.stream`.
    """

    score: torch.Tensor
    baseline: float
    not_finite: torch.Tensor
    layer: str | None = None

    def __str__(self) -> str:
        known = self.score[~self.score.isnan()]
        text = f"MonoScore of {count(len(self.score), 'channel')}"
        if not len(known):
            return text
        return f"{text}: {known.min():.3f} to {known.max():.3f}, at random {self.baseline:.3f}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({count(len(self.score), 'channel')}, baseline {self.baseline:.3f})"


@final
@dataclass(eq=False, repr=False)
class MonoScore(Statistic):
    """How alike the images are that a channel responds to, as embeddings of another network: the MonoScore, exactly.

    With responses a_n (those of `Activity`, scaled to [0, 1] over all images) and unit embeddings e_n, the score is the
    mean of the cosine similarity over all pairs of images, weighted by a_n a_m. One pass suffices, as it equals
    ``(|sum a_n e_n|^2 - sum a_n^2) / ((sum a_n)^2 - sum a_n^2)`` (Nasiri-Sarvi et al. 2026, "MonoLoss"). The scaling is
    applied to the sums, so that the range need not be known before. Memory: about 40 bytes for each channel and column.

    Parameters
    ----------
    embeddings : torch.Tensor
        ``(N, D)``: what another network, such as CLIP, makes of each image of the data set, in its order. Embeddings by
        the measured network itself would make the score circular.

    Raises
    ------
    TypeError, ValueError
        If `embeddings` are not floating-point rows, a row is zero or not finite, or there are fewer rows than images.

    Examples
    --------
    >>> embeddings = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    >>> score = MonoScore(embeddings)
    >>> score.update(torch.tensor([[1.0, 1.0], [1.0, 0.0], [0.0, 1.0]]))
    >>> score.compute().score.tolist()
    [1.0, 0.0]
    """

    embeddings: torch.Tensor
    needs_order: ClassVar[bool] = True

    def __post_init__(self) -> None:
        given = self.embeddings
        check_type(given, torch.Tensor, argument="embeddings", expected="a tensor (N, D)")
        check_dense(given, argument="embeddings")
        if given.ndim != 2 or 0 in given.shape or not given.is_floating_point():
            raise ValueError(f"embeddings must be floating-point values (N, D); got {describe(given)}")
        given = given.detach().cpu()
        length = torch.linalg.vector_norm(given, dim=1, dtype=torch.float64)
        if not bool((torch.isfinite(length) & (length > 0)).all()):
            row = int((~(torch.isfinite(length) & (length > 0))).nonzero()[0])
            raise ValueError(f"embeddings must be finite and not 0; row {row} is not")
        self.embeddings = given

    def __repr__(self) -> str:
        return f"{type(self).__name__}({describe(self.embeddings)})"

    def measure(self, values: torch.Tensor, first_row: int, labels: torch.Tensor | None) -> State:
        """Return the sums of one batch; see `Statistic.measure`.

        Raises
        ------
        ValueError
            If `embeddings` end before the batch does.
        """
        last = first_row + len(values)
        if last > len(self.embeddings):
            raise ValueError(
                f"embeddings must have a row for each image; got {len(self.embeddings)}, and image {last - 1}"
            )
        found = responses(values)
        units = torch.nn.functional.normalize(self.embeddings[first_row:last].double(), dim=1, eps=0.0)
        sums, everywhere = found.strength.sum(1), units.sum(0)
        centred = found.strength - (sums / len(values))[:, None]
        n = torch.tensor(len(values))
        return {
            "count": len(values),
            "not_finite": len(values) - found.usable.sum(1),
            "sum": exact(sums),
            "squares": raw_products(centred.square().sum(1), sums, sums, n),
            "embeddings": exact(everywhere),
            "embedded": raw_products(centred @ units, sums[:, None], everywhere, n),
            "min": found.strength.amin(1),
            "max": found.strength.amax(1),
        }

    def combine(self, one: State, other: State) -> State:
        check_same_channels(len(one["min"]), len(other["min"]))
        sums = dict.fromkeys(("embedded", "embeddings", "sum", "squares"), added)
        counts = dict.fromkeys(("count", "not_finite"), operator.add)
        return combined(one, other, **counts, **sums, min=torch.minimum, max=torch.maximum)

    def summarize(self, state: State) -> MonoScoreResult:
        n, width = state["count"], state["max"] - state["min"]
        images, (limbs, lowest) = torch.tensor(n), state["sum"]
        everywhere, mean = total(state["embeddings"])[0], total(state["sum"])[0] / n
        scatter = central_products(state["squares"], state["sum"], state["sum"], images)
        towards = central_products(
            state["embedded"], (limbs[:, :, None], lowest), state["embeddings"], images
        )
        above = (mean - state["min"]) / width
        direction = towards / width[:, None] + above[:, None] * everywhere
        weight, itself = n * above, scatter / width.square() + n * above.square()
        pairs = weight.square() - itself
        score = (direction.square().sum(1) - itself) / pairs
        nothing = (width == 0) | (state["not_finite"] > 0) | (pairs <= ROUNDING * weight.square())
        return MonoScoreResult(
            score=score.masked_fill(nothing, torch.nan),
            baseline=float((everywhere.square().sum() - n) / (n * (n - 1))) if n > 1 else float("nan"),
            not_finite=state["not_finite"],
        )
