"""How often which values occur in every channel."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

import torch

from featurelens._checks import count, describe
from featurelens.statistics._blocks import channel_blocks
from featurelens.statistics.base import State, Statistic, check_same_channels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MANTISSA = 4  # bits: 16 bins for every doubling
DROPPED = 23 - MANTISSA
SIGN = 1 << (8 + MANTISSA)
INFINITE = 0xFF << MANTISSA  # what is left of the bits of an infinite value, and the least of those of a NaN


@final
@dataclass(frozen=True, repr=False, eq=False)
class HistogramResult:
    """Counts of values, channel by channel; all channels share the bins.

    Attributes
    ----------
    edges : torch.Tensor
        ``(B + 1,)`` float64, in the units of the activations; bin b holds ``edges[b] <= value < edges[b + 1]``. With
        edges of the user's the outermost are infinite: the first and last bin hold what lies beyond. Without, the
        bins of negative values mirror those of positive ones, and hold their upper edge instead of the lower.
    counts : torch.Tensor
        ``(C, B)`` int64.
    not_finite : torch.Tensor
        ``(C,)`` int64: NaN and infinite values, which are in no bin.
    layer : str or None
        Where it was gathered, if by a stream.
    """

    edges: torch.Tensor
    counts: torch.Tensor
    not_finite: torch.Tensor
    layer: str | None = None

    def quantile(self, q: float | Sequence[float]) -> torch.Tensor:
        """Return the value below which a share `q` of each channel lies, ``(C,)``, or ``(Q, C)`` for several.

        Inside a bin values are taken to lie evenly; in an infinite bin nothing better than infinity is known. NaN
        for a channel without values.

        Raises
        ------
        TypeError, ValueError
            If a share is not a number in [0, 1].
        """
        try:
            shares = torch.as_tensor(q, dtype=torch.float64)
        except (TypeError, ValueError, RuntimeError):
            raise TypeError(f"q must be a number or several in [0, 1]; got {describe(q)}") from None
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

    def __repr__(self) -> str:
        channels, bins = self.counts.shape
        broken = int(self.not_finite.sum())
        rest = f", {broken} values not finite" if broken else ""
        return f"{type(self).__name__}({count(channels, 'channel')}, {count(bins, 'bin')}{rest})"


@final
@dataclass(eq=False)
class Histogram(Statistic):
    """How often which values occur in each channel, over images and positions.

    Without `edges` no range need be known: the bins are those of the floating-point numbers themselves (sign, exponent
    and four bits of the mantissa), 16 for every doubling, each at most 6.25 % wide. Zero has a bin with nothing else
    in it but what is nearer to it than 10^-39. Bins that nothing fell into take no memory, and are joined in the result.

    Parameters
    ----------
    edges : list or tuple of float, or None
        Two or more, ascending: bins of one's own, ``edges[b] <= value < edges[b + 1]``.

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
        try:
            edges = torch.as_tensor(self.edges, dtype=torch.float64)
        except (TypeError, ValueError, RuntimeError) as error:
            raise TypeError(f"edges must be a list of numbers; got {describe(self.edges)}") from error
        ascending = edges.ndim == 1 and len(edges) > 1 and bool((edges.diff() > 0).all())
        if not ascending or not bool(torch.isfinite(edges).all()):
            raise ValueError(
                f"edges must be two or more finite numbers, ascending; got {describe(self.edges)}"
            )
        self.edges = tuple(edges.tolist())

    def measure(self, values: torch.Tensor, first_row: int, labels: torch.Tensor | None) -> State:
        if self.edges is None:
            dtype = (
                torch.float64
                if values.dtype == torch.float64 or not values.is_floating_point()
                else torch.float32
            )
            found = [_counted_by_bits(block) for block in channel_blocks(values, dtype)]
        else:
            edges = torch.tensor(self.edges, dtype=torch.float64)
            found = [_counted_between(block, edges) for block in channel_blocks(values)]
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
            shown = keys if len(keys) else torch.tensor([0])  # nothing but NaN: the bin of zero, empty
            ends = torch.unique(torch.cat([shown, shown + 1]))
            bins, edges = ends[:-1], _lower_edge(ends)
        return HistogramResult(edges, _spread(keys, state["counts"], bins), state["not_finite"])


def _counted_by_bits(block: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return which keys occur in rows ``(c, M)``, ascending ``(B,)``, and how often each in each row ``(c, B)``."""
    leading = (_as_single(block).view(torch.int32) >> DROPPED) + SIGN
    present = torch.bincount(leading.flatten(), minlength=2 * SIGN).nonzero()[:, 0]
    counts = _row_counts(leading, present, 2 * SIGN)
    negative = present < SIGN
    magnitude = torch.where(negative, present, present - SIGN)
    # As keys, they ascend with the values; minus zero is zero.
    keys = torch.where(negative & (magnitude > 0), -1 - magnitude, magnitude)
    usable = magnitude < INFINITE
    ordered, place = torch.unique(keys[usable], return_inverse=True)
    joined = counts.new_zeros(len(counts), len(ordered)).index_add_(1, place, counts[:, usable])
    return ordered.cpu(), joined.cpu()


def _counted_between(block: torch.Tensor, edges: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return which bins between `edges` occur in rows, and how often in each."""
    possible = len(edges) + 2
    bins = torch.bucketize(block, edges.to(block.device), right=True)
    bins = bins.masked_fill(~torch.isfinite(block), possible - 1)
    keys = torch.arange(possible - 1)
    return keys, _row_counts(bins, torch.arange(possible, device=bins.device), possible).cpu()[:, :-1]


def _row_counts(codes: torch.Tensor, present: torch.Tensor, possible: int) -> torch.Tensor:
    """Return how often each of the codes `present` ``(B,)`` occurs in each row, ``(c, B)``."""
    column = torch.zeros(possible, dtype=torch.int64, device=codes.device)
    column[present] = torch.arange(len(present), device=codes.device)
    cells = column[codes.long()] + len(present) * torch.arange(len(codes), device=codes.device)[:, None]
    return torch.bincount(cells.flatten(), minlength=len(codes) * len(present)).reshape(len(codes), -1)


def _as_single(values: torch.Tensor) -> torch.Tensor:
    """Return float64 values cut to float32: rounding would bring some of them into the next bin."""
    if values.dtype == torch.float32:
        return values
    cut = (values.view(torch.int64) & ~((1 << (52 - MANTISSA)) - 1)).view(torch.float64)
    largest = torch.finfo(torch.float32).max
    return torch.where(torch.isfinite(values), cut.clamp(-largest, largest), values).float()


def _lower_edge(keys: torch.Tensor) -> torch.Tensor:
    magnitude = (keys.abs() << DROPPED).to(torch.int32).view(torch.float32).double()
    return torch.where(keys < 0, -magnitude, magnitude)


def _spread(keys: torch.Tensor, counts: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Return counts ``(C, B)`` of `keys` as those of all the `wanted`, which hold them."""
    spread = counts.new_zeros(len(counts), len(wanted))
    spread[:, torch.searchsorted(wanted, keys)] = counts
    return spread
