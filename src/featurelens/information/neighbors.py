"""Counting neighbours in the maximum norm: trees and sorted columns on the CPU, blocks of distances elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, final

import numpy as np
import torch

from featurelens.information.chunks import elements_at_a_time, map_threaded, row_slices

if TYPE_CHECKING:
    from featurelens.information.variables import Variable

Rule = Literal["joint", "axes", "closed"]
"""Which radius counts in the margins.

``joint``  strictly within the distance of the k-th joint neighbour (KSG variant 1)
``axes``   within the farthest of the k joint neighbours along that side alone (KSG variant 2)
``closed`` up to and including the distance of the k-th joint neighbour (where values repeat)
"""

TREE_DIMENSIONS = 12
CHUNK_ELEMENTS = 2**22
"""Distances held at a time by an accelerator: three blocks of 32 MiB, however many samples there are."""
CACHED_ELEMENTS = 2**16
"""Distances held at a time by one core: blocks of 512 KiB stay in its cache."""


@final
@dataclass(frozen=True, kw_only=True)
class Counts:
    """Per sample, all ``(N,)`` int64 on the CPU: others within the margins' radii, and within the joint radius.

    `rank` is k, or one less than the size of a smaller class of labels. `joint` is None where it is not needed.
    `touching` means that the joint radius is zero: the sample has k twins.
    """

    x: torch.Tensor
    y: torch.Tensor
    rank: torch.Tensor
    touching: torch.Tensor
    joint: torch.Tensor | None = None


def neighbor_counts(x: Variable, y: Variable, k: int, rule: Rule) -> Counts:
    """Return how many samples lie around each sample in both margins.

    Two labels are at distance 0 if equal and infinitely far apart otherwise, so that joint neighbours of a
    sample share its label. At most one side may be discrete.
    """
    columns = sum(side.values.shape[1] for side in (x, y) if not side.discrete)
    if columns > TREE_DIMENSIONS or x.device.type != "cpu":
        return _counts_by_blocks(x, y, k, rule)
    return _counts_by_tree(x, y, k, rule)


# -- trees and sorted columns --------------------------------------------------------------------

Array = np.ndarray[Any, Any]


def _counts_by_tree(x: Variable, y: Variable, k: int, rule: Rule) -> Counts:
    from scipy.spatial import cKDTree  # scipy costs more to import than torch saves

    labels = next((side.values.numpy() for side in (x, y) if side.discrete), None)
    values = [side.values.numpy() for side in (x, y) if not side.discrete]
    rank = np.full(len(x), k)
    if labels is not None:
        others = np.bincount(labels)[labels] - 1
        rank = np.minimum(k, others)
        # Another axis, on which labels are farther apart than any values: neighbours share the label.
        values.append(labels[:, None] * (2.0 * np.ptp(values[0], axis=0).max() + 1.0))
    points = np.concatenate(values, axis=1)
    distance, index = cKDTree(points).query(
        points, k=list(range(2, k + 2)), p=np.inf, workers=torch.get_num_threads()
    )
    radius = np.where(rank > 0, distance[np.arange(len(x)), rank - 1], 0.0)

    def margin(side: Variable) -> torch.Tensor:
        if side.discrete:
            return torch.from_numpy(others)
        own, reach = side.values.numpy(), radius
        if rule == "axes":
            reach = np.abs(own[index] - own[:, None]).max(axis=(1, 2))
        return torch.from_numpy(_count_within(own, reach, closed=rule != "joint"))

    within = _count_within(points, radius, closed=True) if rule == "closed" else None
    return Counts(
        x=margin(x),
        y=margin(y),
        rank=torch.from_numpy(rank),
        touching=torch.from_numpy((radius == 0) & (rank > 0)),
        joint=None if within is None else torch.from_numpy(within),
    )


def _count_within(points: Array, radius: Array, *, closed: bool) -> Array:
    """Return how many others lie within `radius` of each of `points` ``(N, D)``."""
    if points.shape[1] > 1:
        return _count_in_boxes(points, radius, closed=closed)
    values = points[:, 0]
    ordered = np.sort(values)
    # value + radius is rounded where the distance was not: a slack of a few units in the last place makes sure that the
    # boundary point, the neighbour that defines the radius, is on the right side.
    slack = 4 * np.finfo(values.dtype).eps * max(abs(ordered[0]), abs(ordered[-1]))
    reach = radius + slack if closed else np.maximum(radius - slack, 0.0)
    # Ascending queries walk through memory in order, which makes the search several times as fast.
    order = np.argsort(values)
    queries, reach = ordered, reach[order]
    above = np.searchsorted(ordered, queries + reach, side="right")
    below = np.searchsorted(ordered, queries - reach, side="left")
    inside = np.empty(len(values), dtype=np.int64)
    inside[order] = above - below - 1
    if not closed:
        inside[radius == 0] = 0  # among twins nothing is strictly within a radius of zero
    return inside


def _count_in_boxes(points: Array, radius: Array, *, closed: bool) -> Array:
    """Return what :func:`_count_within` does in several columns: compare with what is near in the first one.

    A tree visits nearly every point where balls hold hundreds, which is common in a margin; a few passes over columns in
    memory are faster, and only over the points between the first column's limits.
    """
    order = np.argsort(points[:, 0])
    columns = np.ascontiguousarray(points[order].T)
    reach = radius[order]
    first = columns[0]
    slack = 4 * np.finfo(first.dtype).eps * max(abs(first[0]), abs(first[-1]))
    compare = np.less_equal if closed else np.less

    def count(rows: slice) -> Array:
        farthest = reach[rows].max() + slack
        low = np.searchsorted(first, first[rows.start] - farthest)
        high = np.searchsorted(first, first[rows.stop - 1] + farthest, side="right")
        near = np.ones((rows.stop - rows.start, high - low), dtype=bool)
        apart = np.empty(near.shape)
        for column in columns:
            np.abs(np.subtract(column[low:high], column[rows, None], out=apart), out=apart)
            near &= compare(apart, reach[rows, None])
        inside: Array = np.count_nonzero(near, axis=1)
        return inside

    rows = row_slices(len(first), len(first), CACHED_ELEMENTS)
    inside = np.empty(len(first), dtype=np.int64)
    inside[order] = np.concatenate(map_threaded(count, rows, torch.device("cpu")))
    counts: Array = np.maximum(
        inside - 1, 0
    )  # among twins not even the point itself is within a radius of zero
    return counts


# -- blocks of distances -------------------------------------------------------------------------


def _counts_by_blocks(x: Variable, y: Variable, k: int, rule: Rule) -> Counts:
    n = len(x)
    rank = torch.full((n,), k, device=x.device)
    for side in (x, y):
        if side.discrete:
            rank = torch.minimum(rank, torch.bincount(side.values)[side.values] - 1)
    chunks = row_slices(n, n, min(CHUNK_ELEMENTS, elements_at_a_time(x.device)))
    parts = map_threaded(lambda rows: _block_counts(x, y, rows, rank[rows], rule), chunks, x.device)
    near_x, near_y, touching, joint = (torch.cat(column).cpu() for column in zip(*parts, strict=True))
    return Counts(
        x=near_x, y=near_y, rank=rank.cpu(), touching=touching, joint=joint if rule == "closed" else None
    )


def _block_counts(
    x: Variable, y: Variable, rows: slice, rank: torch.Tensor, rule: Rule
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    apart_x, apart_y = _distances(x, rows), _distances(y, rows)
    joint = torch.maximum(apart_x, apart_y)
    joint.diagonal(rows.start).fill_(-1.0)  # the sample itself comes first, also among twins
    nearest, index = joint.topk(int(rank.max()) + 1, largest=False)
    radius = nearest.gather(1, rank[:, None]).clamp_min(0.0)
    if rule == "axes":
        neighbors = index[:, 1:]
        radius_x = apart_x.gather(1, neighbors).amax(dim=1, keepdim=True)
        radius_y = apart_y.gather(1, neighbors).amax(dim=1, keepdim=True)
        return (
            (apart_x <= radius_x).sum(dim=1) - 1,
            (apart_y <= radius_y).sum(dim=1) - 1,
            radius[:, 0] == 0,
            rank,
        )
    inside = torch.le if rule == "closed" else torch.lt
    # Among twins nothing is strictly within a radius of zero, not even the sample itself.
    near_x, near_y = ((inside(apart, radius).sum(dim=1) - 1).clamp_min(0) for apart in (apart_x, apart_y))
    return near_x, near_y, (radius[:, 0] == 0) & (rank > 0), (joint <= radius).sum(dim=1) - 1


def _distances(side: Variable, rows: slice) -> torch.Tensor:
    if side.discrete:
        same = side.values[rows][:, None] == side.values
        return torch.zeros_like(same, dtype=torch.float64).masked_fill_(~same, torch.inf)
    return torch.cdist(side.values[rows], side.values, p=torch.inf)
