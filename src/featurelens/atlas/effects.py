"""What a layer's channels carry: the accuracy lost without each of them, on a sample of the images."""

from __future__ import annotations

from typing import Any

import torch

from featurelens.ablation import ChannelAblator
from featurelens.atlas.numbers import column, rounded
from featurelens.atlas.source import BATCH, Source

Loader = list[tuple[torch.Tensor, torch.Tensor]]


def sample_loader(source: Source, rows: torch.Tensor) -> Loader | None:
    """Return images of these rows, as the model takes them, and their labels, in batches; None without labels."""
    taken = source.take(rows.tolist())
    if taken.labels is None:
        return None
    images = torch.split(source.prepared(taken.images), BATCH)
    return list(zip(images, torch.split(taken.labels, BATCH), strict=True))


def effect(
    model: torch.nn.Module, layer: str, loader: Loader, *, seed: int, progress: bool
) -> dict[str, Any]:
    """Return the importance of every channel of a layer, as it stands in files."""
    found = ChannelAblator(model, layer).importance(loader, fill="mean", seed=seed, progress=progress)
    return {
        "metric": found.metric,
        "baseline": rounded(found.baseline),
        "images": found.n,
        "importance": column(found.importance),
        "error": column(found.standard_error),
        "q": column(found.q_value),
        "per_class": column(found.per_class),
    }
