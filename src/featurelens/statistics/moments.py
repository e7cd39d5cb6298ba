"""Mean, variance and range of every channel."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import final

import torch

from featurelens._checks import count
from featurelens._html import Shown
from featurelens.statistics.base import State, Statistic, check_same_channels, combined
from featurelens.statistics.channel_blocks import channel_blocks
from featurelens.statistics.exact_sums import added, central_products, exact, raw_products, total


@final
@dataclass(frozen=True, repr=False, eq=False)
class MomentsResult(Shown):
    """Moments of each channel over its finite values, all positions pooled.

    Attributes
    ----------
    count : torch.Tensor
        ``(C,)`` int64: number of finite values.
    mean, variance, min, max : torch.Tensor
        ``(C,)`` float64, in the units of the activations (squared for the variance, whose divisor is `count`); NaN
        for a channel without a finite value.
    not_finite : torch.Tensor
        ``(C,)`` int64: number of NaN and infinite values, which are left out of all of the above.
    """

    count: torch.Tensor
    mean: torch.Tensor
    variance: torch.Tensor
    min: torch.Tensor
    max: torch.Tensor
    not_finite: torch.Tensor

    @property
    def std(self) -> torch.Tensor:
        """Standard deviation ``(C,)``."""
        return self.variance.sqrt()

    def __str__(self) -> str:
        means, stds = (f"{values.min():.4g} to {values.max():.4g}" for values in (self.mean, self.std))
        return (
            f"{count(len(self.mean), 'channel')} with means from {means} and standard deviations from {stds}"
        )

    def __repr__(self) -> str:
        broken = int(self.not_finite.sum())
        rest = f", {broken} values not finite" if broken else ""
        return f"{type(self).__name__}({count(len(self.mean), 'channel')}, {int(self.count.max())} values each{rest})"


@final
@dataclass(eq=False)
class Moments(Statistic):
    """Count, mean, variance, minimum and maximum of each channel, over images and positions.

    NaN and infinite values are counted and left out. Each batch is summed in float64 about its own mean, and batches
    are added without rounding: the result is bitwise the same however batches are split over workers.

    Examples
    --------
    >>> moments = Moments()
    >>> moments.update(torch.tensor([[1.0, 5.0], [3.0, 5.0]]))
    >>> found = moments.compute()
    >>> found.mean.tolist(), found.variance.tolist(), found.max.tolist()
    ([2.0, 5.0], [1.0, 0.0], [3.0, 5.0])
    """

    def measure(self, values: torch.Tensor, first_row: int, labels: torch.Tensor | None) -> State:
        parts = [torch.stack(_moments(block)) for block in channel_blocks(values)]
        finite, sums, scatter, low, high = torch.cat(parts, dim=1).cpu()
        finite = finite.long()
        return {
            "count": finite,
            "not_finite": values.numel() // values.shape[1] - finite,
            "sum": exact(sums),
            "squares": raw_products(scatter, sums, sums, finite),
            "min": low,
            "max": high,
        }

    def combine(self, one: State, other: State) -> State:
        check_same_channels(len(one["count"]), len(other["count"]))
        rules = {"count": operator.add, "not_finite": operator.add, "sum": added, "squares": added}
        return combined(one, other, **rules, min=torch.minimum, max=torch.maximum)

    def summarize(self, state: State) -> MomentsResult:
        finite = state["count"]
        scatter = central_products(state["squares"], state["sum"], state["sum"], finite).clamp_min(0.0)
        empty = finite == 0
        # The mean of equal numbers is rounded, so that batches seem to differ.
        scatter = scatter.masked_fill(state["min"] == state["max"], 0.0)
        mean, variance = total(state["sum"])[0] / finite, scatter / finite
        low, high = (state[name].masked_fill(empty, torch.nan) for name in ("min", "max"))
        return MomentsResult(finite, mean, variance, low, high, state["not_finite"])


def _moments(block: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Return count, sum, scatter about the mean, minimum and maximum of the finite values of every row."""
    sums = block.sum(1)
    finite = torch.full_like(sums, block.shape[1])
    low, high = torch.aminmax(block, dim=1)
    if not bool(torch.isfinite(sums).all()):
        usable = torch.isfinite(block)
        finite = usable.sum(1).double()
        low = block.masked_fill(~usable, torch.inf).amin(1)
        high = block.masked_fill(~usable, -torch.inf).amax(1)
        sums = block.masked_fill(~usable, 0.0).sum(1)
        mean = (sums / finite.clamp_min(1))[:, None]
        block = torch.where(usable, block, mean)
    mean = (sums / finite.clamp_min(1))[:, None]
    return finite, sums, (block - mean).square_().sum(1), low, high
