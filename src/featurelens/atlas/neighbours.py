"""Channels that go together: by the correlation of their values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from featurelens.atlas.numbers import rounded

NEAREST = 8
"""Neighbours listed for a channel."""

AT_A_TIME = 2**22
"""Correlations in memory together."""


def nearest(values: Mapping[str, torch.Tensor]) -> dict[str, list[list[dict[str, Any]]]]:
    """Return each channel's nearest channels in any layer, by Pearson correlation over the same images ``(n, C)``."""
    names = list(values)
    standard = torch.cat([standardized(each) for each in values.values()], dim=1)
    layer_of = torch.cat([torch.full((each.shape[1],), k) for k, each in enumerate(values.values())])
    channel_of = torch.cat([torch.arange(each.shape[1]) for each in values.values()])
    listed: list[list[dict[str, Any]]] = []
    step = max(1, AT_A_TIME // standard.shape[1])
    for start in range(0, standard.shape[1], step):
        correlation = standard[:, start : start + step].T @ standard
        own = torch.arange(start, start + len(correlation))
        correlation[torch.arange(len(correlation)), own] = -2
        best = correlation.topk(min(NEAREST, correlation.shape[1] - 1), dim=1)
        for found, places in zip(best.values.tolist(), best.indices, strict=True):
            layers, channels = layer_of[places].tolist(), channel_of[places].tolist()
            listed.append(
                [
                    {"layer": layer, "channel": channel, "correlation": rounded(value)}
                    for value, layer, channel in zip(found, layers, channels, strict=True)
                    if value > 0
                ]
            )
    result, first = {}, 0
    for name in names:
        result[name] = listed[first : first + values[name].shape[1]]
        first += values[name].shape[1]
    return result


def standardized(values: torch.Tensor) -> torch.Tensor:
    """Return columns of mean 0 and length 1, float64; a constant column, and one that is not finite, becomes 0."""
    values = values.double()
    usable = values.isfinite().all(0) & (values != values[0]).any(
        0
    )  # a mean is rounded: constants would not be 0
    centred = torch.where(usable, values - values.mean(0), 0.0)
    largest = (
        centred.abs().amax(0).where(usable, 1.0)
    )  # the squares of what is left neither vanish nor overflow
    return torch.nn.functional.normalize(centred / largest, dim=0)
