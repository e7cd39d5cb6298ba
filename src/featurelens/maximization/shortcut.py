"""Where every image looks at one channel of a last convolution, that channel is all that is computed for it."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import nn

from featurelens.maximization.objectives import Objective
from featurelens.maximization.terms import LayerTerm, Unit


def channels_looked_at(layer: nn.Module, objectives: Sequence[Objective]) -> list[int] | None:
    """Return the channel of `layer` that each objective looks at; None where the shortcut does not apply."""
    if type(layer) is not nn.Conv2d or layer.groups != 1 or layer.padding_mode != "zeros":
        return None
    if "forward" in vars(layer) or layer._forward_hooks:  # hooks of the user expect the whole output
        return None
    found = []
    for objective in objectives:
        terms = [term for _, term in objective.terms if isinstance(term, LayerTerm)]
        if len(terms) != 1 or not isinstance(terms[0], Unit) or terms[0].channel_axis != 1:
            return None
        found.append(terms[0].index)
    return found


def on_the_only_channel(objective: Objective) -> Objective:
    """Return `objective` as it reads where its layer returns a single channel."""
    return Objective(
        tuple((w, replace(term, index=0) if isinstance(term, Unit) else term) for w, term in objective.terms)
    )


@contextmanager
def only_channels(layer: nn.Conv2d, channels: Sequence[int]) -> Iterator[None]:
    """Let `layer` return `(N, 1, H, W)` inside the block: channel ``channels[k]`` for image k.

    A convolution whose filter differs from image to image is one product of matrices, giving what each tap of the
    filter sees everywhere, and then the same sum of shifted taps for all images.
    """
    index = torch.tensor(list(channels), device=layer.weight.device)
    height, width = layer.kernel_size
    shifts = torch.eye(height * width, dtype=layer.weight.dtype, device=layer.weight.device)
    shifts = shifts.view(1, height * width, height, width)

    thread = threading.get_ident()

    def forward(images: torch.Tensor) -> torch.Tensor:
        # What runs beside, and a batch that is not the images', get the layer as it is.
        if threading.get_ident() != thread or len(images) != len(index):
            return type(layer).forward(layer, images)
        filters = layer.weight[index].permute(0, 2, 3, 1).flatten(1, 2)  # (N, taps, C)
        seen = (filters @ images.flatten(2)).unflatten(2, images.shape[2:])  # type: ignore[no-untyped-call]
        summed = F.conv2d(seen, shifts, None, layer.stride, layer.padding, layer.dilation)
        return summed if layer.bias is None else summed + layer.bias[index].view(-1, 1, 1, 1).to(summed.dtype)

    own = vars(layer)
    own["forward"] = forward
    try:
        yield
    finally:
        del own["forward"]
