"""Optimized images of a block of channels: the best, those of other seeds, the minimizing one, and how far to trust them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, final

import torch
from PIL import Image

from featurelens import objectives
from featurelens.atlas.numbers import column
from featurelens.atlas.parts import Parts
from featurelens.atlas.seen import TRIED, Seen, outputs
from featurelens.atlas.source import Source
from featurelens.atlas.survey import LayerSurvey
from featurelens.atlas.thumbnails import BEST, FRAMES, OTHERS, TINY, View, encoded, picture, sheet
from featurelens.maximization import (
    ActivationMaximizer,
    FourierImage,
    ImageStatistics,
    MaximizationResult,
    RealImageComparison,
)

SEEDS = 3
"""Further images of each channel, from other seeds."""

NUMBER_OF_FRAMES = 8

RANDOM = 64
"""Random real images that pictures are compared with, beside the strongest of their channels."""


@final
@dataclass(frozen=True)
class Painter:
    """Makes the optimized images of channels."""

    model: torch.nn.Module
    source: Source
    sample: torch.Tensor
    steps: int
    seed: int
    progress: bool

    def paint(
        self,
        layer: str,
        survey: LayerSurvey,
        channels: Sequence[int],
        seen: Seen,
        parts: Parts,
        folder: str,
    ) -> Any:
        """Optimize images of `channels`, of what is `seen` of them, write their sheets, and return their figures."""
        image = self._part(seen)
        wanted = [objectives.neuron(layer, index) for index in channels]
        every = max(1, self.steps // (NUMBER_OF_FRAMES - 1))
        best = self._maximizer(image, 0).run(wanted, record_every=every)
        others = [self._maximizer(image, 1 + number).run(wanted) for number in range(SEEDS)]
        signed = bool((outputs(self.model, layer, self.source.prepared(self.sample[:TRIED])) < 0).any())
        least = self._maximizer(image, 0).run([-objective for objective in wanted]) if signed else None
        compared = self._compare(best, others, survey, channels, seen)
        self._write_sheets(best, others, least, parts, folder)
        where = "at the centre of the map: " if survey.strongest.positions.shape[2] else ""
        return _figures(channels, best, others, least, compared, where, seen.pixels)

    def _maximizer(self, image: FourierImage | None, number: int) -> ActivationMaximizer:
        return ActivationMaximizer(
            self.model,
            image,
            sample=self.sample,
            preprocess=self.source.preprocess,
            steps=self.steps,
            seed=self.seed + number,
            progress=self.progress,
        )

    def _part(self, seen: Seen) -> FourierImage | None:
        """Return the parametrization of a part of images: their colours, which a part may lack, and its own spectrum."""
        if seen.window is None:
            return None
        whole: Any = self._maximizer(None, 0).parametrization
        images = View.of(self.sample).unit(seen.cut(self.sample))
        statistics = whole.statistics
        if statistics is not None:
            statistics = replace(statistics, spectrum=ImageStatistics.fit(images, progress=False).spectrum)
        return FourierImage(tuple(images.shape[1:]), statistics=statistics)

    def _compare(
        self,
        best: MaximizationResult,
        others: Sequence[MaximizationResult],
        survey: LayerSurvey,
        channels: Sequence[int],
        seen: Seen,
    ) -> RealImageComparison:
        """Compare with the strongest images of these channels, among which are those of the whole data set."""
        strongest = survey.at_centre[list(channels)].flatten()
        rows = torch.unique(torch.cat([strongest[strongest >= 0], survey.sample.rows[:RANDOM]]))
        images = seen.cut(self.source.take(rows.tolist()).images)
        return best.compare(images, top=8, seeds=others, progress=False)

    def _write_sheets(
        self,
        best: MaximizationResult,
        others: Sequence[MaximizationResult],
        least: MaximizationResult | None,
        parts: Parts,
        folder: str,
    ) -> None:
        drawn = [picture(image, BEST) for image in best.images]
        tiny = max(drawn[0].size) <= TINY
        parts.write(f"{folder}-best.webp", encoded(sheet(drawn, 8), exact=tiny))
        rows: list[Image.Image | None] = []
        for place in range(len(best)):
            rows += [picture(result.images[place], OTHERS) for result in others]
            rows.append(None if least is None else picture(least.images[place], OTHERS))
        parts.write(f"{folder}-others.webp", encoded(sheet(rows, SEEDS + 1), exact=tiny))
        assert best.frames is not None
        chosen = (
            torch.linspace(0, best.frames.shape[1] - 1, NUMBER_OF_FRAMES, dtype=torch.float32).round().long()
        )
        frames: list[Image.Image | None] = [
            picture(frame, FRAMES) for way in best.frames[:, chosen] for frame in way
        ]
        parts.write(f"{folder}-frames.webp", encoded(sheet(frames, NUMBER_OF_FRAMES), exact=tiny))


def _figures(
    channels: Sequence[int],
    best: MaximizationResult,
    others: Sequence[MaximizationResult],
    least: MaximizationResult | None,
    compared: RealImageComparison,
    where: str,
    pixels: list[int] | None,
) -> dict[str, Any]:
    """Return the figures of the images, column by column; `where` the channel was maximized begins the judgement."""
    path = compared.path
    trusted = compared.judged & ~(compared.dead | compared.weaker | compared.plainer | compared.detours)
    return {
        "channels": list(channels),
        "pixels": [pixels] * len(channels),
        "score": column(best.scores),
        "others": column(torch.stack([result.scores for result in others], dim=1)),
        "minimum": None if least is None else column(-least.scores),
        "strongest": column(compared.data_maximum),
        "plain": column(compared.plain_scores),
        "judgement": [f"{where}{judgement}" for judgement in compared.judgements],
        "trusted": trusted.tolist(),
        "path": column(path.optimized.nanmean(1)),
        "path_real": column(path.strongest.nanmean(1)),
        "path_random": column(path.random.nanmean(1)),
        "agreement": column(path.seeds.nanmean(1)),
        "tile": {"best": _size(best, BEST), "others": _size(best, OTHERS), "frames": _size(best, FRAMES)},
    }


def _size(result: MaximizationResult, edge: int) -> list[int]:
    return list(picture(result.images[0], edge).size)
