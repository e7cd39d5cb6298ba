"""The channels that correlate most with each channel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch

from featurelens._checks import check_whole, count
from featurelens._html import Shown


@final
@dataclass(frozen=True, repr=False, eq=False)
class NearestChannels(Shown):
    """For every channel, those that correlate most with it, most first; made by `CovarianceResult.nearest`.

    `similarity.nearest_channels` makes one for two layers.

    Attributes
    ----------
    channels : torch.Tensor
        ``(C, k)`` int64: -1 where there is none, as for a constant channel.
    correlation : torch.Tensor
        ``(C, k)`` float64: Pearson correlation; NaN where there is none.
    """

    channels: torch.Tensor
    correlation: torch.Tensor

    def __str__(self) -> str:
        channels, k = self.channels.shape
        text = f"The {count(k, 'nearest channel')} of each of {count(channels, 'channel')}"
        best = self.correlation[:, 0].nan_to_num(-2.0)
        if float(best.max()) < -1:
            return text
        first = int(best.argmax())
        return f"{text}; closest are {first} and {int(self.channels[first, 0])}, with {float(best.max()):.3f}"

    def __repr__(self) -> str:
        channels, k = self.channels.shape
        return f"{type(self).__name__}({count(channels, 'channel')}, {k} each)"


def nearest(correlation: torch.Tensor, k: int) -> NearestChannels:
    """Return, for every row of ``(C, C')``, the `k` columns with the largest correlation, ties in order; NaN is none.

    >>> nearest(torch.tensor([[torch.nan, 0.5, 0.9], [0.5, torch.nan, torch.nan]]), k=2).channels.tolist()
    [[2, 1], [0, -1]]
    """
    k = min(check_whole(k, argument="k", least=1), correlation.shape[1])
    ranked = correlation.nan_to_num(-2.0).argsort(dim=1, descending=True, stable=True)[:, :k]
    values = correlation.gather(1, ranked)
    return NearestChannels(ranked.masked_fill(values.isnan(), -1), values)
