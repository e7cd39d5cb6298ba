"""What channels are worth to a task: scores of variants over a data set, as results."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, final

import torch

from featurelens.ablation.result import AblationCurve, ImportanceResult
from featurelens.ablation.scoring import Metric, Score, Tally, score
from featurelens.ablation.site import Site
from featurelens.ablation.variants import Fill, Mode, chosen_channels, one_by_one, step_by_step


@final
@dataclass(frozen=True)
class Run:
    """One pass over a data set, in which variants of a layer are scored."""

    site: Site
    loader: Iterable[Any]
    metric: Metric
    fill: Fill
    chunk: int | None
    generator: torch.Generator
    progress: bool

    def score(self, mask_for: Callable[[int, torch.device], torch.Tensor]) -> tuple[Tally, tuple[str, ...]]:
        """Return the scores of the variants that `mask_for` makes for a number of channels, and the notes."""
        tally = Tally(Score.of(self.metric))
        notes = score(
            tally, self.site, self.loader, mask_for, self.fill, self.chunk, self.generator, self.progress
        )
        return tally, notes

    @property
    def fill_name(self) -> str:
        return self.fill if isinstance(self.fill, str) else "tensor"


def importance(run: Run, mode: Mode, channels: list[int] | None) -> ImportanceResult:
    """Return what is lost with each of `channels`, all of them if None."""
    listed: list[int] = []

    def mask_for(total: int, device: torch.device) -> torch.Tensor:
        listed.extend(chosen_channels(channels, total))
        return one_by_one(listed, total, mode, device)

    tally, notes = run.score(mask_for)
    lost, error = tally.lost()
    return ImportanceResult(
        importance=lost,
        standard_error=error,
        per_class=tally.lost_by_class(),
        baseline=float(tally.plain.sum() / tally.n),
        baseline_per_class=tally.plain / tally.counts if tally.by_class else None,
        counts=tally.counts.long() if tally.by_class else None,
        channels=tuple(listed),
        n=tally.n,
        layer=run.site.name,
        metric=tally.score.name,
        mode=mode,
        fill=run.fill_name,
        notes=notes,
    )


def curve(run: Run, order: list[int] | None) -> AblationCurve:
    """Return the scores with more and more channels removed in `order`, at random if None."""
    listed: list[int] = []
    channels = 0

    def mask_for(total: int, device: torch.device) -> torch.Tensor:
        nonlocal channels
        channels = total
        drawn = torch.randperm(total, generator=run.generator).tolist() if order is None else order
        listed.extend(chosen_channels(drawn, total))
        return step_by_step(listed, total, device)

    tally, notes = run.score(mask_for)
    sums = torch.cat([tally.plain[None], tally.sums])
    return AblationCurve(
        values=sums.sum(1) / tally.n,
        per_class=sums / tally.counts if tally.by_class else None,
        order=tuple(listed),
        total=channels,
        n=tally.n,
        layer=run.site.name,
        metric=tally.score.name,
        fill=run.fill_name,
        notes=notes,
    )
