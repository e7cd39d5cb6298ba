"""Sums over the counts of many short rows of codes at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from featurelens.information._entropy import Correction, count_weights


def row_sums(keys: torch.Tensor, cells: int, correction: Correction) -> torch.Tensor:
    """Return ``sum_cells w[count]`` of every row of keys ``(..., P)`` below `cells`, float64 of shape ``(...)``.

    A dense table would have `cells` entries per row, nearly all of them zero; sorting a row puts equal keys
    side by side, and the lengths of its runs are the counts.

    >>> row_sums(torch.tensor([[3, 1, 3, 3], [0, 1, 2, 3]]), 4, "none")
    tensor([3.2958, 0.0000], dtype=torch.float64)
    """
    rows = keys.reshape(-1, keys.shape[-1])
    weights = count_weights(rows.shape[1], correction)
    if keys.device.type == "cpu":
        sums = torch.from_numpy(_run_sums(rows.numpy(), cells, weights.numpy()))
    else:
        sums = _run_sums_on_device(rows, weights.to(keys.device))
    return sums.reshape(keys.shape[:-1])


def _run_sums(rows: np.ndarray[Any, Any], cells: int, weights: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Sum over runs, looking only at those longer than one.

    A run of length c gives w(c) = c w(1) + [w(c) - c w(1)]: the first part is the same for every row, and the
    second is zero for the many keys that occur once.
    """
    narrow = next(
        dtype for dtype in (np.uint8, np.uint16, np.int32, np.int64) if cells - 1 <= np.iinfo(dtype).max
    )
    # Up to 16 bits are sorted digit by digit ("stable"), in time proportional to their number.
    ordered = np.sort(rows.astype(narrow), axis=1, kind="stable" if cells <= 2**16 else None)
    # same[i]: position i repeats its left neighbour. The first column is False, so no run crosses into the
    # next row.
    same = np.zeros((rows.shape[0], rows.shape[1] + 1), dtype=bool)
    np.equal(ordered[:, 1:], ordered[:, :-1], out=same[:, 1:-1])
    opens = same[:, 1:] > same[:, :-1]
    closes = same[:, :-1] > same[:, 1:]
    lengths = np.flatnonzero(closes) - np.flatnonzero(opens) + 1
    single = weights[1]
    gain = (weights - single * np.arange(len(weights)))[lengths]
    sums = np.full(len(rows), single * rows.shape[1])
    runs = np.count_nonzero(opens, axis=1)
    filled = np.flatnonzero(runs)
    if len(filled):
        sums[filled] += np.add.reduceat(gain, (np.cumsum(runs) - runs)[filled])
    return sums


def _run_sums_on_device(rows: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    ordered = rows.sort(dim=1).values
    opens = torch.ones_like(ordered, dtype=torch.bool)
    opens[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    starts = opens.flatten().nonzero()[:, 0]
    lengths = torch.diff(starts, append=starts.new_tensor([ordered.numel()]))
    sums = torch.zeros(len(rows), dtype=torch.float64, device=rows.device)
    return sums.index_add_(0, starts // rows.shape[1], weights[lengths])
