"""The first pass over the data: the strongest images of every channel, and all channels in a random sample of images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import torch

from featurelens._sharding import Share
from featurelens.atlas.parts import Parts
from featurelens.recording import ActivationRecorder
from featurelens.statistics import (
    Activity,
    ActivityResult,
    ClassSelectivity,
    ClassSelectivityResult,
    Sample,
    SampleResult,
    Statistic,
    StreamResult,
    TopK,
    TopKResult,
)
from featurelens.statistics.base import State

if TYPE_CHECKING:
    from featurelens.atlas.atlas import Atlas

STRONGEST = 8
"""Images shown as a channel's strongest."""

QUANTILES = (0.99, 0.95, 0.9, 0.75, 0.5, 0.25, 0.1, 0.0)
"""Where in the order of the sampled images examples of a channel are taken."""

BLOCKS = 16
"""Parts in which the data are read, where their number of batches is known: an interrupted pass goes on at the next."""


@final
@dataclass(eq=False)
class StrongestAtCentre(Statistic):
    """The images in which each channel is largest at the centre of its map, the value that optimized images maximize."""

    k: int

    def measure(self, values: torch.Tensor, first_row: int, labels: torch.Tensor | None) -> State:
        centre: tuple[Any, ...] = (..., *(size // 2 for size in values.shape[2:]))
        return TopK(self.k).measure(values[centre], first_row, labels)

    def combine(self, one: State, other: State) -> State:
        return TopK(self.k).combine(one, other)

    def summarize(self, state: State) -> torch.Tensor:
        rows: torch.Tensor = TopK(self.k).summarize(state).rows
        return rows


@final
@dataclass(frozen=True)
class LayerSurvey:
    """What the pass found in one layer of C channels.

    The value of a channel in an image is its largest one; `at_centre` ``(C, K)`` are the rows of the images in
    which it is largest at the centre of its map, -1 for none.
    """

    strongest: TopKResult
    sample: SampleResult
    activity: ActivityResult
    at_centre: torch.Tensor
    by_class: ClassSelectivityResult | None

    @property
    def channels(self) -> int:
        """Number of channels."""
        return len(self.strongest.values)

    @property
    def highest(self) -> torch.Tensor:
        """``(C,)``: the largest value over all images, NaN without one."""
        return self.strongest.values[:, 0]

    @property
    def range_places(self) -> torch.Tensor:
        """``(C, Q)``: places in the sample of images at the quantiles."""
        order = self.sample.values.argsort(dim=0, stable=True)
        places = [round(quantile * (len(order) - 1)) for quantile in QUANTILES]
        return order[places].T

    @property
    def shown_rows(self) -> torch.Tensor:
        """``(C, K + Q)``: rows of the images shown, the strongest first; -1 for none."""
        return torch.cat([self.strongest.rows, self.sample.rows[self.range_places]], dim=1)


@final
@dataclass(frozen=True)
class Survey:
    """What the pass found in every layer, over so many images."""

    layers: dict[str, LayerSurvey]
    images: int

    @property
    def rows(self) -> torch.Tensor:
        """Rows of the data set of the images in the sample, in ascending order."""
        return next(iter(self.layers.values())).sample.rows

    @property
    def labels(self) -> torch.Tensor | None:
        """Labels of the images in the sample."""
        return next(iter(self.layers.values())).sample.labels


def survey_blocks(atlas: Atlas, recorder: ActivationRecorder, work: Parts, share: Share) -> list[Path]:
    """Measure the blocks of this share that are not measured yet, and return the files of all."""
    sample = Sample(atlas.sample, atlas.seed, reduce="max")
    statistics: list[Statistic] = [TopK(STRONGEST), StrongestAtCentre(STRONGEST), sample, Activity()]
    if atlas.classes is not None and len(atlas.classes) > 1:
        statistics.append(ClassSelectivity(len(atlas.classes)))
    total = atlas.source.number_of_batches
    blocks = min(BLOCKS, total) if total else 1
    files = [work.path(f"survey/{index:02d}-{blocks:02d}.pt") for index in range(blocks)]
    for index, file in enumerate(files):
        if index % share.count == share.index and not file.exists():
            recorder.stream(
                atlas.source.loader,
                statistics,
                inputs=atlas.source.for_model,
                labels=atlas.source.labels,
                shard=(index, blocks),
                progress=atlas.progress,
            ).save(file)
    return files


def merged(files: list[Path]) -> Survey:
    """Return what the blocks found together."""
    result = StreamResult.merge(files)
    layers = {
        name: LayerSurvey(
            strongest=layer.top_k,
            sample=layer.sample,
            activity=layer.activity,
            at_centre=layer.strongest_at_centre,
            by_class=getattr(layer, "class_selectivity", None),
        )
        for name, layer in result.items()
    }
    return Survey(layers, result.rows)
