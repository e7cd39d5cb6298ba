"""What a layer's channels carry: the accuracy lost without each of them, on a sample of the images."""

from __future__ import annotations

from typing import Any

import torch

from featurelens.ablation import ChannelAblator, ImportanceResult
from featurelens.atlas.parts import Parts
from featurelens.atlas.source import BATCH, Source


def sample_loader(source: Source, rows: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]] | None:
    """Return images of these rows, as the model takes them, and their labels, in batches; None without labels."""
    taken = source.take(rows.tolist())
    if taken.labels is None:
        return None
    images = taken.images if source.preprocess is None else source.preprocess(taken.images.clone())
    return list(zip(images.split(BATCH), taken.labels.split(BATCH), strict=True))


def effect(
    model: torch.nn.Module, layer: str, loader: list[Any], parts: Parts, folder: str, *, seed: int, progress: bool
) -> ImportanceResult:
    """Return the importance of every channel of a layer, from its file if it was measured before."""
    path = parts.path(f"{folder}/importance.pt")
    if not path.exists():
        ablator = ChannelAblator(model, layer)
        ablator.importance(loader, fill="mean", seed=seed, progress=progress).save(path)
    return ImportanceResult.load(path)
