"""What an observer measures of a layer, as numbers by name."""

from __future__ import annotations

import math

import torch

from featurelens.callbacks.map_statistics import Maps
from featurelens.information import channel_information
from featurelens.similarity import cka

Values = dict[str, float]


def activity(maps: Maps) -> Values:
    """Return activation statistics over all channels of a layer, without maps that are not finite."""
    usable = maps.mean.isfinite()
    mean = maps.mean[usable].mean()
    variance = (maps.scatter[usable] / maps.positions + (maps.mean[usable] - mean).square()).mean()
    silent = (maps.active == 0) | ~usable
    return {
        "activation_mean": float(mean),
        "activation_std": float(variance.sqrt()),
        "active_share": float(maps.active[usable].mean() / maps.positions),
        "dead_share": float((silent.all(0) & usable.any(0)).double().mean()),
        "not_finite_share": float((~usable).double().mean()),
    }


def information(means: torch.Tensor, labels: torch.Tensor) -> float:
    """Return the mean over channels of the information in nats between a channel's means ``(N, C)`` and the labels ``(N,)``.

    It is 0 on average where they are independent, so no null is subtracted. NaN if a mean is not finite.
    """
    if not _finite(means):
        return math.nan
    return float(channel_information(means, labels, null=None, progress=False).values.mean())


def similarity(means: torch.Tensor, before: torch.Tensor) -> float:
    """Return the debiased CKA of a layer's channel means ``(N, C)`` with earlier ones; NaN if it is undefined."""
    if all(_finite(side) and bool((side != side[0]).any()) for side in (means, before)):
        return cka(means, before).value
    return math.nan


def _finite(means: torch.Tensor) -> bool:
    return bool(means.isfinite().all())
