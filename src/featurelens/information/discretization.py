"""Discretization: samples cut into bins, many rows at a time."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch

from featurelens.information import compiled

Strategy = Literal["quantile", "uniform"]
STRATEGIES: tuple[Strategy, ...] = ("quantile", "uniform")


def bin_codes(rows: torch.Tensor, bins: int, strategy: Strategy) -> torch.Tensor:
    """Return the bin 0 ... `bins` - 1 of every value, each row of `rows` ``(..., N)`` cut on its own."""
    return quantile_codes(rows, bins) if strategy == "quantile" else uniform_codes(rows, bins)


def uniform_codes(rows: torch.Tensor, bins: int) -> torch.Tensor:
    """Return equal-width bins between each row's own extremes, bin for bin those of :func:`numpy.histogram2d`.

    A row without range is one bin. The codes come as int32 in the shape of `rows`.

    >>> uniform_codes(torch.tensor([0.0, 0.25, 0.5, 1.0]), 4)
    tensor([0, 1, 2, 3], dtype=torch.int32)
    """
    low, high = extremes(rows)
    if not bool(torch.isfinite(high - low).all()):
        rows, low, high = rows.double(), low.double(), high.double()
    step = (high.double() - low.double()) / bins
    # Edges are float64, and far from zero they are rounded by a larger share of a bin.
    offset = float((torch.maximum(low.abs(), high.abs()) / step)[step > 0].max()) if bool(step.any()) else 0.0
    doubt = 8 * (bins * torch.finfo(rows.dtype).eps + offset * torch.finfo(torch.float64).eps)
    if not doubt < 0.25:
        edges = step * torch.arange(1, bins, device=rows.device) + low
        return torch.searchsorted(edges, rows.double(), right=True, out_int32=True) * (step > 0)
    codes, close = _rough_codes(rows, low, step, doubt)
    if close[0].numel():
        row = (*close[:-1], torch.zeros_like(close[-1]))
        settled = _settled(codes[close], rows[close].double(), low[row].double(), step[row], bins)
        codes[close] = settled * (step[row] > 0)
    return codes


def digitized_codes(rows: torch.Tensor, bins: int) -> torch.Tensor:
    """Return ``numpy.digitize(row, numpy.histogram_bin_edges(row, bins)) - 1`` of each row of ``(M, N)``, as int32.

    Codes run from 0 to `bins`: the largest value stands on the last edge and has a bin of its own. Edges have the
    precision of `rows`.

    >>> digitized_codes(torch.tensor([[0.0, 0.25, 0.5, 1.0]]), 4)
    tensor([[0, 1, 2, 4]], dtype=torch.int32)
    """
    low, high = extremes(rows)
    flat = low == high
    low, high = torch.where(flat, low - 0.5, low), torch.where(flat, high + 0.5, high)
    # numpy before 2 computes with float64 and rounds; the type of a scalar's range tells.
    kind = np.linspace(rows.new_zeros(1).cpu().numpy()[0], 1.0, 2).dtype
    first, last = (side[:, 0].cpu().numpy().astype(kind) for side in (low, high))
    edges = torch.from_numpy(np.ascontiguousarray(np.linspace(first, last, bins + 1, axis=-1))).to(rows)
    if rows.device.type == "cpu" and (digitize := compiled.machine_code(compiled.digitize)):
        return torch.from_numpy(digitize(rows.contiguous().numpy(), edges.numpy()))
    # Far from zero the edges are rounded by a larger share of a bin.
    offset = float((torch.maximum(low.abs(), high.abs()) / (high - low)).max())
    doubt = 8 * bins * torch.finfo(rows.dtype).eps * offset
    if not doubt < 0.25:
        return torch.searchsorted(edges, rows.contiguous(), right=True, out_int32=True) - 1
    codes, close = _rough_codes(rows, low, (high.double() - low.double()) / bins, doubt)
    if close[0].numel():
        row, values, found = close[0], rows[close], codes[close].clamp(0, bins)
        found -= (values < edges[row, found]).to(torch.int32)
        found += ((found < bins) & (values >= edges[row, (found + 1).clamp(max=bins)])).to(torch.int32)
        codes[close] = found
    return codes


def _rough_codes(
    rows: torch.Tensor, low: torch.Tensor, step: torch.Tensor, doubt: float
) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
    """Return ``(rows - low) / step`` without its fraction, and which values are within `doubt` bins of an edge.

    Edges are not computed in this way, and division in the rows' own precision rounds differently. The lowest value
    needs no second look, and after a ReLU it is half of all values.
    """
    place = (rows - low).mul_(torch.where(step > 0, 1 / step, 0.0).to(rows.dtype))
    codes = place.to(torch.int32)
    close = place.sub_(codes).sub_(0.5).abs_() > 0.5 - doubt
    return codes, close.logical_and_(rows > low).nonzero(as_tuple=True)


def _settled(
    codes: torch.Tensor, values: torch.Tensor, low: torch.Tensor, step: torch.Tensor, bins: int
) -> torch.Tensor:
    codes = codes.clamp(0, bins - 1)
    codes -= (values < codes * step + low).to(torch.int32)
    codes += ((values >= (codes + 1) * step + low) & (codes < bins - 1)).to(torch.int32)
    return codes.clamp_(0, bins - 1)


def quantile_codes(rows: torch.Tensor, bins: int) -> torch.Tensor:
    """Return equal-count bins per row: bin ``floor(bins * mid-rank / N)``, so equal values share a bin.

    Values that repeat more often than twice a bin's share get a bin to themselves: the zeros of a ReLU stay
    apart from the small positive values. The codes come as int32 in the shape of `rows`.

    >>> quantile_codes(torch.tensor([0.0, 0.0, 0.0, 0.0, 0.1, 0.2, 0.3, 0.4]), 4)
    tensor([1, 1, 1, 1, 2, 2, 3, 3], dtype=torch.int32)
    """
    n = rows.shape[-1]
    ordered = sort_rows(rows)
    # The value that opens bin b is the smallest whose mid-rank, (first + last + 1) / 2, reaches b N / bins.
    target = torch.arange(1, bins, device=rows.device, dtype=torch.float64) * (n / bins)
    place = (target - 0.5).ceil().long().clamp(0, n - 1).expand(*rows.shape[:-1], bins - 1).contiguous()
    value = ordered.gather(-1, place)
    first = torch.searchsorted(ordered, value)
    after = torch.searchsorted(ordered, value, right=True)
    reaches = (first + after).double() / 2 >= target
    opening = ordered.gather(-1, torch.where(reaches, first, after).clamp(max=n - 1))
    beyond = ~reaches & (after >= n)
    opening = torch.where(beyond, torch.inf, opening)
    return torch.searchsorted(opening, rows.contiguous(), right=True, out_int32=True)


def extremes(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the least and the largest value ``(..., 1)`` of each row ``(..., N)``; numpy is several times as fast on the CPU."""
    if rows.device.type != "cpu":
        return torch.aminmax(rows, dim=-1, keepdim=True)
    values = rows.numpy()
    return torch.from_numpy(values.min(axis=-1, keepdims=True)), torch.from_numpy(
        values.max(axis=-1, keepdims=True)
    )


def sort_rows(rows: torch.Tensor) -> torch.Tensor:
    """Sort along the last dimension; on the CPU with numpy, whose sort is ten times as fast as torch's."""
    if rows.device.type != "cpu":
        return rows.sort(dim=-1).values
    return torch.from_numpy(np.sort(rows.numpy(), axis=-1))
