"""From the activations of batches to those of a data set."""

from __future__ import annotations

import torch

from featurelens._structure import concatenate, shapes, tensors
from featurelens.recording.activations import Activations


def check_batch_axis(activations: Activations, batch: torch.Tensor | None) -> None:
    """Raise a ValueError unless axis 0 of everything recorded is the batch."""
    if batch is None or batch.ndim == 0:
        return
    for name, value in activations.items():
        if any(tensor.ndim == 0 or len(tensor) != len(batch) for tensor in tensors(value)):
            raise ValueError(
                f"layer {name!r} returned {shapes(value)} for a batch of {len(batch)}: axis 0 is not the batch, so "
                "batches cannot be joined; bring it there with reduce={" + repr(name) + ": function}"
            )


def joined(batches: list[Activations]) -> Activations:
    """Join batch by batch, layer by layer; each layer's parts are let go as soon as they are joined."""
    first = batches[0]
    names = list(first)
    for batch in batches:
        if list(batch) != names:
            raise ValueError(f"the layers' calls differ between batches: {names} and then {list(batch)}")
    parts = [batch._layers for batch in batches]
    layers = {}
    for name in names:
        try:
            layers[name] = concatenate([part.pop(name) for part in parts])
        except ValueError as error:
            raise ValueError(f"layer {name!r} cannot be joined over batches: {error}") from None
    try:
        output = concatenate([batch.output for batch in batches])
    except ValueError:  # detections, say: a list for each batch serves better than none
        output = [batch.output for batch in batches]
    return Activations(layers, output=output, aliases=first._aliases)
