"""Which channels feed which: the weights of convolutions and linear layers, and the layer whose channels they read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import nn

from featurelens._channels import axis_by_type
from featurelens._hooks import hooked, named_modules, on_device_of, visiting
from featurelens._structure import first_tensor
from featurelens.atlas.numbers import rounded

STRONGEST = 8
"""Inputs and outputs listed for a channel."""

CANDIDATES = 4
"""Layers before one that are tried as the source of its input."""

PROBES = 2
"""Channels that must each reach their own place in the input, and no other."""


@final
@dataclass(frozen=True)
class Wires:
    """Weights ``(outputs, inputs)`` from the channels of one layer, if it is known, to those of another.

    A weight is the length of the kernel between two channels, with the sign of its sum.
    """

    weights: torch.Tensor
    source: str | None

    def inputs(self, channel: int, number: int | None) -> dict[str, Any]:
        """Return the strongest inputs of a channel; `number` is that of the source."""
        return _strongest(self.weights[channel], number)

    def outputs(self, channel: int, number: int) -> dict[str, Any]:
        """Return what a channel of the source feeds most strongly; `number` is that of the layer fed."""
        return _strongest(self.weights[:, channel], number)


def wires(model: nn.Module, layers: Sequence[str], images: torch.Tensor) -> dict[str, Wires]:
    """Return the wires into each layer that is a convolution or linear, from the layers before it.

    A layer is the source if a change of one of its channels changes that channel of the input alone: activations, norms
    and pooling may lie between, and so may sums of other layers.

    Parameters
    ----------
    model, layers
        The layers in the order of the forward pass.
    images
        A batch of the model's input.
    """
    modules, images = named_modules(model), on_device_of(model, images)
    found: dict[str, Wires] = {}
    for place, name in enumerate(layers):
        module = modules.get(name)
        if not isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear):
            continue
        if getattr(module, "groups", 1) != 1:
            continue
        weights = module.weight.detach().float().cpu()
        before = [other for other in layers[:place][::-1] if other in modules][:CANDIDATES]
        source, channels = None, weights.shape[1]
        for other in before:
            reached = _channels_fed(model, modules[other], module, images)
            if reached is not None:
                source, channels = other, reached
                break
        kernels = weights.reshape(len(weights), channels, -1)
        signs = torch.where(kernels.sum(2) < 0, -1.0, 1.0)
        found[name] = Wires(kernels.square().sum(2).sqrt() * signs, source)
    return found


def normalized(model: nn.Module, layers: Sequence[str], images: torch.Tensor) -> set[str]:
    """Return the layers whose output a normalization reads, so that being above 0 tells nothing of them."""
    modules = named_modules(model)
    chosen = [modules[own] for name in layers if (own := name.partition("#")[0]) in modules]
    returned: dict[nn.Module, Any] = {}
    read: set[nn.Module] = set()

    def keep(module: nn.Module, args: Any, output: Any) -> None:
        returned[module] = output

    def compare(module: nn.Module, args: Any, kwargs: Any) -> None:
        given = first_tensor((args, kwargs))
        read.update(layer for layer, output in returned.items() if given is not None and output is given)

    norms = {module: compare for module in modules.values() if _is_norm(module)}
    with visiting(model), hooked(dict.fromkeys(chosen, keep), before=norms):
        model(on_device_of(model, images))
    return {name for name in layers if modules.get(name.partition("#")[0]) in read}


def _is_norm(module: nn.Module) -> bool:
    return any(
        "Norm" in kind.__name__ for kind in type(module).mro()
    )  # torch's, frozen ones, and those of models


def _channels_fed(model: nn.Module, source: nn.Module, target: nn.Module, images: torch.Tensor) -> int | None:
    """Return the source's number of channels if each reaches its own place in the target's input, else None."""
    seen: list[torch.Tensor] = []
    output: list[torch.Tensor] = []
    changed: list[int] = []

    def watch(module: nn.Module, args: Any, kwargs: Any) -> None:
        given = first_tensor((args, kwargs))
        if given is not None:
            seen.append(given.detach().float().clone())

    def change(module: nn.Module, args: Any, returned: Any) -> Any:
        if not isinstance(returned, torch.Tensor):
            return returned
        axis = axis_by_type(source) or 1
        if not changed:
            output.append(returned.detach().movedim(axis, 1))
            return returned
        other = returned.clone()
        # Far above all others: an activation in between cannot cut it off, nor a maximum over positions hide it.
        other.select(axis, changed[0]).add_(10 * returned.abs().amax() + 1)
        return other

    with visiting(model), hooked({source: change}, before={target: watch}):
        model(images)
        if len(seen) != 1 or len(output) != 1:
            return None  # called several times, or not at all
        channels = output[0].shape[1]
        axis = 1 if not isinstance(target, nn.Linear) else -1
        plain = seen[0].movedim(axis, 1)
        if plain.shape[1] % channels:
            return None
        strongest = output[0].abs().transpose(0, 1).flatten(1).amax(1).argsort(descending=True)
        for channel in strongest[:PROBES].tolist():
            changed[:], seen[:] = [channel], []
            model(images)
            differs = (seen[0].movedim(axis, 1) != plain).transpose(0, 1).flatten(1).any(1)
            places = differs.reshape(channels, -1).any(1).nonzero().flatten().tolist()
            if places != [channel]:
                return None
    return channels


def _strongest(row: torch.Tensor, layer: int | None) -> dict[str, Any]:
    places = row.abs().topk(min(STRONGEST, len(row))).indices
    return {
        "layer": layer,
        "channels": places.tolist(),
        "weights": [rounded(weight) for weight in row[places].tolist()],
    }
