"""Histogram and quantiles of every channel."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, final

import torch

from featurelens._checks import count, describe, to_numbers
from featurelens._html import Shown
from featurelens.statistics.base import State, Statistic, check_same_channels
from featurelens.statistics.channel_blocks import channel_blocks

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MANTISSA = 4  # bits: 16 bins for every doubling
DROPPED = 23 - MANTISSA
SIGN = 1 << (8 + MANTISSA)
INFINITE = 0xFF << MANTISSA  # what is left of the bits of an infinite value; those of a NaN are no less
IN_NO_BIN = 2**40


@final
@dataclass(frozen=True, repr=False, eq=False)
class HistogramResult(Shown):
    """Counts of values, channel by channel; all channels share the bins.

    Attributes
    ----------
    edges : torch.Tensor
        ``(B + 1,)`` float64, in the units of the activations; bin b holds ``edges[b] <= value < edges[b + 1]``. With
        your own edges, the outermost edges are infinite: the first and last bins hold all values beyond yours. Without,
        the bins of negative values mirror those of positive ones and include their upper edge instead of the lower.
    counts : torch.Tensor
        ``(C, B)`` int64.
    not_finite : torch.Tensor
        ``(C,)`` int64: number of NaN and infinite values, which are in no bin.
    layer : str or None
        The layer, if measured by `ActivationRecorder.stream`.
    """

    edges: torch.Tensor
    counts: torch.Tensor
    not_finite: torch.Tensor
    layer: str | None = None

    def quantile(self, q: float | Sequence[float]) -> torch.Tensor:
        """Return the `q` quantile of each channel, ``(C,)``, or ``(Q, C)`` for several.

        Values are assumed to be uniform within a bin; a quantile in an infinite bin is infinite. NaN for a channel
        without values.

        Raises
        ------
        TypeError, ValueError
            If `q` is not one or more numbers in [0, 1].
        """
        shares = to_numbers(q, argument="q", expected="a number or several in [0, 1]")
        if not bool(((shares >= 0) & (shares <= 1)).all()):
            raise ValueError(f"q must be in [0, 1]; got {q!r}")
        rank = shares.reshape(-1, 1) * self.counts.sum(1)  # (Q, C)
        cumulative = self.counts.cumsum(1)
        place = torch.searchsorted(cumulative.double(), rank.T.clamp_min(0.5).contiguous()).T
        place = place.clamp(max=self.counts.shape[1] - 1)
        inside = self.counts.gather(1, place.T).T
        share = (rank - (cumulative.gather(1, place.T).T - inside)) / inside.clamp_min(1)
        low, high = self.edges[place], self.edges[place + 1]
        found = torch.where(torch.isfinite(high - low), low + share * (high - low), torch.nan)
        found = torch.where(low.isneginf(), low, torch.where(high.isposinf(), high, found))
        found = torch.where(inside > 0, found, torch.nan)
        return found[0] if shares.ndim == 0 else found

    def plot(self, *, title: str | None = None, ax: Axes | None = None) -> Figure:
        """Draw quantiles of every channel; see `plotting.channel_quantiles`."""
        from featurelens import plotting

        return plotting.channel_quantiles(self, title=title, ax=ax)

    def __str__(self) -> str:
        medians = self.quantile(0.5)
        return (
            f"{count(len(medians), 'channel')} in {count(self.counts.shape[1], 'bin')}; "
            f"medians from {medians.min():.4g} to {medians.max():.4g}"
        )

    def __repr__(self) -> str:
        channels, bins = self.counts.shape
        broken = int(self.not_finite.sum())
        rest = f", {broken} values not finite" if broken else ""
        return f"{type(self).__name__}({count(channels, 'channel')}, {count(bins, 'bin')}{rest})"


@final
@dataclass(eq=False)
class Histogram(Statistic):
    """Counts of each channel's values, over images and positions.

    Without `edges`, the range need not be known in advance: bins follow the floating-point format (sign, exponent and
    four bits of the mantissa), 16 for every doubling, each at most 6.25 % wide. Zero has its own bin, shared only with
    values below 10^-39. Empty bins take no memory, and are merged in the result.

    Parameters
    ----------
    edges : list or tuple of float, or None
        Your own bins, as two or more ascending numbers: ``edges[b] <= value < edges[b + 1]``.

    Raises
    ------
    TypeError, ValueError
        If `edges` are not two or more numbers in ascending order.

    Examples
    --------
    >>> histogram = Histogram()
    >>> histogram.update(torch.linspace(0, 1, 1001)[:, None])
    >>> round(histogram.compute().quantile(0.25).item(), 2)
    0.25
    """

    edges: Sequence[float] | None = None

    def __post_init__(self) -> None:
        if self.edges is None:
            return
        edges = to_numbers(self.edges, argument="edges", expected="a list of numbers")
        ascending = edges.ndim == 1 and len(edges) > 1 and bool((edges.diff() > 0).all())
        if not ascending or not bool(torch.isfinite(edges).all()):
            raise ValueError(
                f"edges must be two or more finite numbers, ascending; got {describe(self.edges)}"
            )
        self.edges = tuple(edges.tolist())

    def measure(self, values: torch.Tensor, first_row: int, labels: torch.Tensor | None) -> State:
        if self.edges is None:
            exact = values.dtype == torch.float64 or not values.is_floating_point()
            blocks = channel_blocks(values, torch.float64 if exact else torch.float32)
            keys = _keys_of_leading_bits()
            found = [_counted(_leading_bits(block), keys) for block in blocks]
        else:
            edges = torch.tensor(self.edges, dtype=torch.float64)
            keys = torch.arange(len(edges) + 2)
            keys[-1] = IN_NO_BIN
            found = [_counted(_bins(block, edges), keys) for block in channel_blocks(values)]
        keys = torch.unique(torch.cat([part for part, _ in found]))
        counts = torch.cat([_spread(part, counts, keys) for part, counts in found])
        seen = values.numel() // values.shape[1]
        return {"keys": keys, "counts": counts, "not_finite": seen - counts.sum(1)}

    def combine(self, one: State, other: State) -> State:
        check_same_channels(len(one["counts"]), len(other["counts"]))
        keys = one["keys"]
        if not torch.equal(keys, other["keys"]):
            keys = torch.unique(torch.cat([keys, other["keys"]]))
        counts = _spread(one["keys"], one["counts"], keys)
        counts[:, torch.searchsorted(keys, other["keys"])] += other["counts"]
        return {"keys": keys, "counts": counts, "not_finite": one["not_finite"] + other["not_finite"]}

    def summarize(self, state: State) -> HistogramResult:
        keys = state["keys"]
        if self.edges is not None:
            bins = torch.arange(len(self.edges) + 1)
            edges = torch.tensor([-math.inf, *self.edges, math.inf], dtype=torch.float64)
        else:
            shown = keys if len(keys) else torch.tensor([0])  # no finite value: the bin of zero, empty
            ends = torch.unique(torch.cat([shown, shown + 1]))
            bins, edges = ends[:-1], _lower_edge(ends)
        return HistogramResult(edges, _spread(keys, state["counts"], bins), state["not_finite"])


def _counted(codes: torch.Tensor, keys: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return which keys occur in rows of codes ``(c, M)``, ascending ``(B,)``, and their counts by row ``(c, B)``.

    `keys` has the key of each possible code.
    """
    if len(keys) > codes.shape[1]:  # most of them do not occur
        present = torch.bincount(codes.flatten(), minlength=len(keys)).nonzero()[:, 0]
        column = torch.zeros(len(keys), dtype=torch.int64, device=codes.device)
        column[present] = torch.arange(len(present), device=codes.device)
        codes, keys = column[codes.long()], keys[present.cpu()]
    cells = codes + len(keys) * torch.arange(len(codes), device=codes.device)[:, None]
    counts = torch.bincount(cells.flatten(), minlength=len(codes) * len(keys)).reshape(len(codes), -1).cpu()
    usable = (keys != IN_NO_BIN) & counts.any(0)
    ordered, place = torch.unique(keys[usable], return_inverse=True)
    return ordered, counts.new_zeros(len(counts), len(ordered)).index_add_(1, place, counts[:, usable])


def _bins(block: torch.Tensor, edges: torch.Tensor) -> torch.Tensor:
    """Return the bins between `edges` that values lie in, and one more for those that are not finite."""
    bins = torch.bucketize(block.contiguous(), edges.to(block.device), right=True)
    return bins.masked_fill(~torch.isfinite(block), len(edges) + 1)


def _leading_bits(values: torch.Tensor) -> torch.Tensor:
    """Return the exponent and first bits of the mantissa of values, from `SIGN` on for positive ones."""
    if values.dtype == torch.float64:  # cut to float32: rounding would bring some of them into the next bin
        cut = (values.view(torch.int64) & ~((1 << (52 - MANTISSA)) - 1)).view(torch.float64)
        largest = torch.finfo(torch.float32).max
        values = torch.where(torch.isfinite(values), cut.clamp(-largest, largest), values).float()
    return (values.view(torch.int32) >> DROPPED) + SIGN


@cache
def _keys_of_leading_bits() -> torch.Tensor:
    """Return keys that ascend with the values; minus zero is zero."""
    magnitude = torch.arange(SIGN)
    keys = torch.cat([torch.where(magnitude > 0, -1 - magnitude, 0), magnitude])
    return keys.masked_fill((magnitude >= INFINITE).repeat(2), IN_NO_BIN)


def _lower_edge(keys: torch.Tensor) -> torch.Tensor:
    magnitude = (keys.abs() << DROPPED).to(torch.int32).view(torch.float32).double()
    return torch.where(keys < 0, -magnitude, magnitude)


def _spread(keys: torch.Tensor, counts: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Return counts ``(C, B)`` of `keys` as counts of all the `wanted` keys."""
    spread = counts.new_zeros(len(counts), len(wanted))
    spread[:, torch.searchsorted(wanted, keys)] = counts
    return spread
