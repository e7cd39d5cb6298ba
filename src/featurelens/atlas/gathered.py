"""Everything that was gathered about a network, as its pages need it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, final

import torch
from torch import nn

from featurelens._hooks import named_modules
from featurelens.atlas.filters import filters
from featurelens.atlas.pages import blocks, number_of
from featurelens.atlas.seen import Seen
from featurelens.atlas.survey import LayerSurvey, Survey
from featurelens.atlas.wiring import Wires, normalized, wires
from featurelens.recording import ActivationRecorder
from featurelens.recording.receptive import ReceptiveField

if TYPE_CHECKING:
    from featurelens.atlas.atlas import Atlas


@final
@dataclass(frozen=True)
class Gathered:
    """The survey, images of the user's, and what the tasks of a build made, by the names of their files."""

    atlas: Atlas
    survey: Survey
    folders: dict[str, str]
    sample: torch.Tensor
    results: dict[str, Any]

    @property
    def layers(self) -> dict[str, LayerSurvey]:
        """The layers, in the order of the forward pass."""
        return self.survey.layers

    @cached_property
    def number(self) -> dict[str, int]:
        """The place of each layer among them."""
        return {name: number for number, name in enumerate(self.layers)}

    @cached_property
    def labels(self) -> dict[int, int]:
        """The label of each image shown."""
        return {int(row): label for row, label in self.results["examples.json"]["labels"].items()}

    @property
    def map_tiles(self) -> dict[str, list[int]]:
        """Width and height of the maps of each layer that has positions."""
        tiles: dict[str, list[int]] = self.results["examples.json"]["tiles"]
        return tiles

    def module(self, name: str) -> nn.Module | None:
        """Return a layer's module."""
        return named_modules(self.atlas.model).get(name.partition("#")[0])

    def effect(self, name: str) -> dict[str, Any] | None:
        """Return what ablating a layer gave, if it could be ablated."""
        result: dict[str, Any] = self.results.get(f"{self.folders[name]}/effect.json", {})
        return None if not result or "failed" in result else result

    def pictures(self, name: str) -> list[dict[str, Any]]:
        """Return the figures of a layer's optimized images, block by block; empty if it could not be optimized."""
        channels = blocks(self.layers[name].channels)
        names = [f"{self.folders[name]}/{number_of(block)}-pictures.json" for block in channels]
        found = [self.results[each] for each in names if each in self.results]
        return [] if any("failed" in each for each in found) else found

    def notes(self, name: str) -> list[str]:
        """Return why a layer could not be ablated or optimized."""
        folder = f"{self.folders[name]}/"
        own = [result for task, result in self.results.items() if task.startswith(folder)]
        return list(dict.fromkeys(result["failed"] for result in own if "failed" in result))

    def probe(self, name: str) -> dict[str, float]:
        """Return how well a linear probe of a layer predicts the labels, if it was fitted."""
        found: dict[str, dict[str, float]] = self.results.get("probe.json", {})
        return found.get(name, {})

    @cached_property
    def _images(self) -> torch.Tensor:
        """Two images as the model takes them."""
        return self.atlas.source.prepared(self.sample[:2])

    @cached_property
    def shapes(self) -> dict[str, list[int]]:
        """The shape of each layer's output for one image."""
        found = ActivationRecorder(self.atlas.model, list(self.layers))(self._images)
        return {name: list(output.shape[1:]) for name, output in found.items()}

    @cached_property
    def wires(self) -> dict[str, Wires]:
        """The weights into each layer."""
        return wires(self.atlas.model, list(self.layers), self._images)

    @cached_property
    def normalized(self) -> set[str]:
        """The layers in front of a normalization."""
        return normalized(self.atlas.model, list(self.layers), self._images)

    def dead(self, name: str) -> torch.Tensor:
        """Return ``(C,)`` bool: whether the images make no difference to what a channel hands on.

        All have the same largest value, or none is above 0, unless a normalization reads the layer.
        """
        layer = self.layers[name]
        silent = ~(layer.highest > 0) & (name not in self.normalized)
        return silent | layer.strongest.tied

    def filters(self, name: str) -> torch.Tensor | None:
        """Return the kernels of a first layer, which reads the image itself."""
        if name in self.wires and self.wires[name].source is None and not self.number[name]:
            return filters(self.module(name), self._images.shape[1])
        return None

    def field(self, name: str) -> ReceptiveField | None:
        """Return the receptive field of a layer of maps, if it was found."""
        return Seen.of(self.results["seen.json"][name]).field
