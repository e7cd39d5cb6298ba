"""Mean, scatter and activity of every feature map, at a fraction of the cost of a forward pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

import torch

from featurelens.statistics import Statistic


@final
@dataclass(frozen=True, eq=False)
class Maps:
    """Every channel in every image.

    Attributes
    ----------
    mean : torch.Tensor
        ``(N, C)`` float64: mean over positions; NaN or infinite if a value of the map is.
    scatter : torch.Tensor
        ``(N, C)`` float64: sum over positions of the squared distance from the map's mean.
    active : torch.Tensor
        ``(N, C)`` float64: positions at which the channel is positive.
    positions : int
        Positions in a map.
    """

    mean: torch.Tensor
    scatter: torch.Tensor
    active: torch.Tensor
    positions: int


@final
@dataclass(eq=False)
class MapStatistics(Statistic):
    """What `Maps` holds; unlike `Moments` and `Activity` not the same to the last bit for any division of the data.

    >>> statistics = MapStatistics()
    >>> statistics.update(torch.tensor([[[0.0, 6.0, 6.0, 0.0], [-1.0, -1.0, -1.0, -1.0]]]))
    >>> found = statistics.compute()
    >>> found.mean.tolist(), found.scatter.tolist(), found.active.tolist()
    ([[3.0, -1.0]], [[36.0, 0.0]], [[2.0, 0.0]])
    """

    def measure(self, values: torch.Tensor, first_row: int, labels: torch.Tensor | None) -> dict[str, Any]:
        maps = values.flatten(2) if values.ndim > 2 else values[:, :, None]
        if maps.dtype != torch.float64:
            maps = maps.float()
        mean = maps.mean(2)
        scatter = torch.linalg.vector_norm(maps - mean[:, :, None], dim=2).double().square()
        active = (maps > 0).sum(2)
        return {
            "maps": torch.stack([mean.double(), scatter, active.double()]).cpu(),
            "positions": maps.shape[2],
        }

    def combine(self, one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
        return {**one, "maps": torch.cat([one["maps"], other["maps"]], dim=1)}

    def summarize(self, state: dict[str, Any]) -> Maps:
        mean, scatter, active = state["maps"]
        return Maps(mean, scatter, active, state["positions"])
