"""What layers carry of the labels, on a sample of the images: accuracy lost without a channel, and that of a linear probe."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from featurelens.ablation import ChannelAblator
from featurelens.atlas.numbers import column, rounded
from featurelens.atlas.source import BATCH
from featurelens.information import linear_probe

if TYPE_CHECKING:
    from featurelens.atlas.atlas import Atlas

MOST_VALUES = 2**20
"""In a batch of images on the CPU: layers return many times as many, and larger tensors cost more than their share."""

Loader = list[tuple[torch.Tensor, torch.Tensor]]


def sample_loader(atlas: Atlas, rows: torch.Tensor) -> Loader | None:
    """Return images of these rows, as the model takes them, and their labels, in batches; None without labels."""
    taken = atlas.source.take(rows.tolist())
    if taken.labels is None:
        return None
    on_cpu = all(parameter.device.type == "cpu" for parameter in atlas.model.parameters())
    size = min(BATCH, 2 + MOST_VALUES // taken.images[0].numel()) if on_cpu else BATCH
    # No batch is smaller than `size`: some models take no single image.
    number = max(1, len(taken.images) // size)
    images = atlas.source.prepared(taken.images).tensor_split(number)
    return list(zip(images, taken.labels.tensor_split(number), strict=True))


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
        "q": None if found.q_value is None else column(found.q_value),
        "per_class": None if found.per_class is None else column(found.per_class),
        "per_class_error": None
        if found.per_class_standard_error is None
        else column(found.per_class_standard_error),
    }


def probes(atlas: Atlas, layers: list[str], rows: torch.Tensor) -> dict[str, Any]:
    """Return accuracy and nats of a linear probe of every layer, and the accuracy of shuffled labels; empty without one."""
    loader = sample_loader(atlas, rows)
    try:
        found = linear_probe(
            atlas.model, layers, loader or [], permutations=1, seed=atlas.seed, progress=atlas.progress
        )
    except (ValueError, TypeError, RuntimeError):  # too few images, or a layer that is not finite
        return {}
    columns = {"probe_accuracy": column(found.accuracy), "probe_nats": column(found.nats)}
    if found.null_accuracy is not None:
        columns["probe_null"] = column(found.null_accuracy)
    return {
        layer: {key: values[place] for key, values in columns.items()}
        for place, layer in enumerate(found.layers)
    }
