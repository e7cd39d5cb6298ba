"""The first pass over the data: the strongest images of every channel, and all channels in a random sample of images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch

from featurelens.recording import ActivationRecorder
from featurelens.statistics import RandomSample, RandomSampleResult, StreamResult, TopK, TopKResult

from featurelens.atlas.parts import Parts
from featurelens.atlas.source import Source

STRONGEST = 9
"""Images shown as a channel's strongest."""

QUANTILES = (0.99, 0.95, 0.9, 0.75, 0.5, 0.25, 0.1, 0.0)
"""Where in the order of the sampled images examples of a channel are taken."""

BLOCKS = 16
"""Parts in which the data are read, where their number of batches is known: an interrupted pass goes on at the next."""


@final
@dataclass(frozen=True)
class LayerSurvey:
    """What the pass found in one layer of C channels."""

    strongest: TopKResult
    sample: RandomSampleResult

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


def survey(
    recorder: ActivationRecorder, source: Source, parts: Parts, *, sample: int, seed: int, progress: bool
) -> tuple[dict[str, LayerSurvey], int]:
    """Return what the pass found in every layer, and the number of images."""
    statistics = [TopK(STRONGEST), RandomSample(sample, seed)]
    total = source.number_of_batches
    blocks = min(BLOCKS, total) if total else 1
    names = []
    for index in range(blocks):
        names.append(parts.path(f"survey/{index:02d}-{blocks:02d}.pt"))
        if not names[-1].exists():
            recorder.stream(
                source.loader,
                statistics,
                inputs=source.for_model,
                labels=source.labels,
                shard=(index, blocks),
                progress=progress,
            ).save(names[-1])
    merged = StreamResult.merge(names)
    found = {name: LayerSurvey(merged[name].top_k, merged[name].random_sample) for name in merged}
    return found, merged.rows
