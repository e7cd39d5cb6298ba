"""The second pass: thumbnails of the images that channels are shown with, and the channels' feature maps in them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import final

import numpy as np
import torch
from PIL import Image
from torch import nn

from featurelens.atlas.parts import Parts
from featurelens.atlas.source import Source
from featurelens.atlas.survey import LayerSurvey
from featurelens.atlas.thumbnails import HIGHLIGHT, MAPS, REAL, TINY, View, encoded, picture
from featurelens.layers import Selector
from featurelens.recording import ActivationRecorder
from featurelens.recording.streaming import Statistics
from featurelens.statistics import Statistic
from featurelens.statistics.base import State


@final
@dataclass(eq=False)
class MapsOf(Statistic):
    """Feature maps of the channels in the images that they are shown with, as shares of the channel's largest value.

    `shown` ``(C, S)`` says which image of the pass stands at each place of a channel, -1 for none; `highest` ``(C,)``
    is the value that counts as 1. `tokens` says that a layer without rows and columns has the tokens of an image.
    """

    shown: torch.Tensor = field(repr=False)
    highest: torch.Tensor = field(repr=False)
    tokens: bool = False

    def measure(self, values: torch.Tensor, first_row: int, labels: torch.Tensor | None) -> State:
        here = (self.shown >= first_row) & (self.shown < first_row + len(values))
        channel, place = here.nonzero().unbind(1)
        found = values[(self.shown[here] - first_row).to(values.device), channel.to(values.device)]
        found = found.float().cpu()
        maps = _small(_square(found) if self.tokens else found)
        shares = maps / self.highest[channel, None, None].clamp(min=torch.finfo(torch.float32).tiny)
        drawn = torch.zeros(*self.shown.shape, *maps.shape[1:], dtype=torch.uint8)
        drawn[channel, place] = (shares.nan_to_num(0).clamp(0, 1) * 255).round().byte()
        return {"maps": drawn}

    def combine(self, one: State, other: State) -> State:
        return {"maps": torch.maximum(one["maps"], other["maps"])}

    def summarize(self, state: State) -> torch.Tensor:
        maps: torch.Tensor = state["maps"]
        return maps


def cut(
    model: nn.Module,
    source: Source,
    view: View,
    found: Mapping[str, LayerSurvey],
    parts: Parts,
    *,
    progress: bool,
) -> tuple[dict[str, torch.Tensor], dict[int, int]]:
    """Write a thumbnail of every image shown; return the maps of every layer ``(C, S, h, w)``, 0 to 255, and labels."""
    wanted = torch.unique(torch.cat([layer.shown_rows.flatten() for layer in found.values()]))
    wanted = wanted[wanted >= 0]
    labels: dict[int, int] = {}

    def images() -> Iterator[torch.Tensor]:
        position = 0
        for chunk in source.chunks(wanted.tolist()):
            for row, image in zip(wanted[position:].tolist(), chunk.images, strict=False):
                drawn = picture(view.unit(image), REAL)
                parts.write(f"images/real/{row}.webp", encoded(drawn, exact=max(drawn.size) <= TINY))
            if chunk.labels is not None:
                rows = wanted[position : position + len(chunk.images)].tolist()
                labels.update(zip(rows, chunk.labels.tolist(), strict=True))
            position += len(chunk.images)
            yield chunk.images

    statistics: dict[Selector, Statistics] = {
        name: MapsOf(
            _positions(layer.shown_rows, wanted), layer.highest.nan_to_num(0).float(), view.low.ndim == 3
        )
        for name, layer in found.items()
    }
    result = ActivationRecorder(model, list(found)).stream(
        images(),
        statistics,
        inputs=source.prepared,
        shard=(0, 1),
        progress=progress,
    )
    return {name: result[name].maps_of for name in result}, labels


def maps_sheet(maps: torch.Tensor) -> Image.Image:
    """Draw the maps ``(C, S, h, w)`` of some channels, a row for each: one colour, as opaque as the map is high."""
    channels, places, height, width = maps.shape
    opacity = maps.permute(0, 2, 1, 3).reshape(channels * height, places * width)
    pixels = np.zeros((*opacity.shape, 4), np.uint8)
    pixels[..., :3] = HIGHLIGHT
    pixels[..., 3] = opacity.numpy()
    pixels[pixels[..., 3] == 0] = 0  # the colour of nothing would take space
    return Image.fromarray(pixels)


def _positions(rows: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Return the number in the second pass of each row of the data set."""
    return torch.where(rows < 0, -1, torch.searchsorted(wanted, rows.clamp(min=0)))


def _square(maps: torch.Tensor) -> torch.Tensor:
    """Return values of tokens ``(M, L)`` in the square that they come from, without a class token in front of it."""
    if maps.ndim != 2:
        return maps
    edge = math.isqrt(maps.shape[1])
    if edge > 1 and edge * edge in (maps.shape[1], maps.shape[1] - 1):
        return maps[:, maps.shape[1] - edge * edge :].reshape(-1, edge, edge)
    return maps


def _small(maps: torch.Tensor) -> torch.Tensor:
    """Return maps ``(M, ...)`` as ``(M, h, w)`` of at most 16 values an edge; of a volume, the strongest of its slices."""
    while maps.ndim > 3:
        maps = maps.amax(1)
    while maps.ndim < 3:
        maps = maps[:, None]
    size = [math.ceil(length / math.ceil(length / MAPS)) for length in maps.shape[1:]]
    return torch.nn.functional.adaptive_max_pool2d(maps[:, None], size)[:, 0]
