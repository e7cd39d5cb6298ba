"""How near a layer's activations are to the distribution that they have in real images."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Self, final

import torch
from torch import nn

from featurelens._checks import check_module
from featurelens._hooks import unwrap, visiting
from featurelens.layers import Selector
from featurelens.maximization.batches import in_batches, tensors_in
from featurelens.maximization.evaluation import Layers
from featurelens.maximization.layouts import LAYOUTS
from featurelens.maximization.terms import ChannelTerm, check_axis

QUANTILES = 16


@final
@dataclass(frozen=True)
class Realism(ChannelTerm):
    """Minus the mean squared distance to the quantiles of real images, in standard deviations of each channel."""

    quantiles: tuple[tuple[float, ...], ...] = field(repr=False)
    deviations: tuple[float, ...] = field(repr=False)
    shared = ("channel_axis", "quantiles", "deviations")

    def __str__(self) -> str:
        return f"realism of {self.layer_name}"

    def check(self, shape: tuple[int, ...]) -> None:
        super().check(shape)
        if shape[self.channel_axis] != len(self.quantiles):
            raise ValueError(
                f"{self} was measured on {len(self.quantiles)} channels; the layer returns {shape}: measure it on the "
                "model that is maximized"
            )

    def values(self, terms: Sequence[Self], observed: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        found = quantiles(observed.movedim(self.channel_axis, 1)[rows].float())
        wanted, deviations = (
            torch.tensor(each, device=found.device, dtype=torch.float32)
            for each in (self.quantiles, self.deviations)
        )
        return -((found - wanted) / deviations[:, None]).square().mean((1, 2))


def quantiles(activations: torch.Tensor) -> torch.Tensor:
    """Return the quantiles over positions ``(N, C, 16)`` of activations ``(N, C, ...)``, from least to largest."""
    ordered = activations.reshape(*activations.shape[:2], -1).sort(dim=2).values
    places = (
        torch.linspace(0, ordered.shape[2] - 1, QUANTILES, device=ordered.device, dtype=torch.float32)
        .round()
        .long()
    )
    return ordered[:, :, places]


def measured(
    model: nn.Module,
    layer: Selector,
    loader: torch.Tensor | Iterable[Any],
    *,
    axis: int | None,
    progress: bool,
) -> Realism:
    """Measure the distribution of a layer's activations over real images, in one pass."""
    model = unwrap(check_module(model))
    layers, n = Layers(model, [layer]), 0
    total, sums, squares = torch.zeros(3, dtype=torch.float64)
    with visiting(model):
        for images in tensors_in(
            in_batches(loader), "image", *LAYOUTS.values(), title="measuring", progress=progress
        ):
            outputs = layers.outputs(images.clone())  # the model may change them in place
            if axis is None:
                axis = layers.axis(layer, outputs, "realism(model, {!r}, loader, axis=-1)")
            (output,) = outputs.values()
            if output.ndim < 3:
                raise ValueError(
                    f"layer {layer!r} must return (N, C, ...) with positions; got {tuple(output.shape)}"
                )
            check_axis(axis, tuple(output.shape), str(layer))
            maps = output.movedim(axis, 1).float().cpu()
            pixels = maps.transpose(0, 1).flatten(1).double()
            n, total = n + len(maps), total + quantiles(maps).double().sum(0)
            sums, squares = sums + pixels.sum(1), squares + pixels.square().sum(1)
    if not bool(total.isfinite().all()):
        raise ValueError(f"layer {layer!r} returned NaN or infinite values for images of the loader")
    positions = n * (pixels.shape[1] // len(maps))
    variances = squares / positions - (sums / positions).square()
    deviations = variances.clamp(min=1e-6 * max(float(variances.max()), 1e-12)).sqrt()
    wanted = torch.as_tensor(total / n)
    return Realism(
        layer, axis=axis, quantiles=tuple(map(tuple, wanted.tolist())), deviations=tuple(deviations.tolist())
    )
