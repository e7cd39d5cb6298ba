"""What channels are worth to a task: every variant scored image by image over a data set."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, final

import torch

from featurelens._batches import Given
from featurelens._checks import describe
from featurelens._progress import progress_bar
from featurelens._random import Seed, make_generator, random_state_kept
from featurelens._structure import tensors
from featurelens.ablation.following import following
from featurelens.ablation.importance_result import AblationCurve, ImportanceResult
from featurelens.ablation.layer import AblatedLayer
from featurelens.ablation.masks import Fill, Mode, Name, Variants, check_chunk, check_fill
from featurelens.ablation.metrics import Scorer
from featurelens.ablation.paired import PairedDifferences, is_hit
from featurelens.ablation.suffix import Output, Suffix, not_finite
from featurelens.recording.inputs import checked_loader, labels_of


@final
class Scores:
    """Sums of the scores of every variant over a data set, by class; without class labels there is a single class.

    Images count by their weight: the number of labels of an image, of which its score is the mean.

    Attributes
    ----------
    plain, sums, squares
        The sums with nothing ablated, `(K,)`, for each variant, `(V, K)`, and those of the squares of what is lost.
    counts
        The weight of each class, `(K,)`.
    n
        Images that have labels.
    channels, noun, total
        The channels that the variants ablate, what they are called, and how many the layer has.
    fill, notes
        As in the results.
    """

    def __init__(self, scorer: Scorer) -> None:
        self.scorer = scorer
        self.n = self.total = self._values = self._broken = 0
        self.counts = self.plain = self.sums = self.squares = torch.zeros(())
        self._paired = PairedDifferences()
        self.channels, self.noun = list[Name](), "channel"
        self.fill, self._notes = "tensor", dict[str, None]()

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of the results should know."""
        return (*self._notes, *self.scorer.notes, *not_finite(self._broken, self._values))

    def add(self, suffix: Suffix, mask: torch.Tensor, labels: torch.Tensor, chunk: int | None) -> None:
        """Score every variant of one batch."""
        scorer, labels = self.scorer, labels.to(suffix.baseline.device)
        weights = scorer.read(suffix.baseline, labels, suffix.is_squashed).cpu().double()
        plain = self._score(suffix.baseline[None])[0]
        scores = torch.cat([self._score(outputs) for _, outputs in suffix.outputs(mask, chunk)])
        if not self.counts.ndim:
            self.counts = self.plain = torch.zeros(scorer.classes or 1).double()
            self.sums = torch.zeros(len(mask), len(self.counts)).double()
            self.squares = torch.zeros_like(self.sums)
        single = scorer.classes is None
        classes = torch.zeros(len(plain)).long() if single else scorer.labels.flatten().long().cpu()
        self.counts = self.counts.index_add(0, classes, weights)
        self.plain = self.plain.index_add(0, classes, weights * plain)
        self.sums = self.sums.index_add(1, classes, weights * scores)
        self.squares = self.squares.index_add(1, classes, weights * (plain - scores).square())
        self._paired.add(scorer.sign * (plain - scores), weights, exact=is_hit(plain) and is_hit(scores))
        self.n += int((weights > 0).sum())
        self._notes |= dict.fromkeys(suffix.notes)

    def _score(self, outputs: torch.Tensor) -> torch.Tensor:
        """Return the score of each image `(V, N)`, and count outputs that are not finite."""
        self._values += outputs.numel()
        self._broken += int((~torch.isfinite(outputs)).sum())
        return self.scorer.score(outputs).detach().cpu().double()

    def importance(self, layer: str, mode: Mode) -> ImportanceResult:
        """Return what is lost with each variant."""
        by_class = None if self.scorer.classes is None else self.counts
        lost = None if by_class is None else (self.plain - self.sums) / by_class
        scatter = None if lost is None else (self.squares / self.counts - lost.square()).clamp_min(0)
        return ImportanceResult(
            importance=self._paired.mean,
            standard_error=self._paired.standard_error,
            p_value=self._paired.p_value(),
            per_class=None if lost is None else self.scorer.sign * lost,
            per_class_standard_error=None if scatter is None else (scatter / (self.counts - 1)).sqrt(),
            baseline=float(self.plain.sum() / self.counts.sum()),
            baseline_per_class=None if by_class is None else self.plain / by_class,
            counts=None if by_class is None else by_class.long(),
            channels=tuple(self.channels),
            n=self.n,
            layer=layer,
            metric=self.scorer.name,
            mode=mode,
            fill=self.fill,
            noun=self.noun,
            notes=self.notes,
        )

    def curve(self, layer: str) -> AblationCurve:
        """Return the mean score with nothing ablated, and then of each variant."""
        sums = torch.cat([self.plain[None], self.sums])
        return AblationCurve(
            values=sums.sum(1) / self.counts.sum(),
            per_class=None if self.scorer.classes is None else sums / self.counts,
            order=tuple(self.channels),
            total=self.total,
            n=self.n,
            layer=layer,
            metric=self.scorer.name,
            fill=self.fill,
            noun=self.noun,
            notes=self.notes,
        )


@random_state_kept()
def score(
    layer: AblatedLayer,
    output: Output,
    loader: Any,
    scorer: Scorer,
    variants: Variants,
    fill: Fill,
    chunk: int | None,
    seed: Seed,
    progress: bool,
) -> Scores:
    """Score variants over a data set."""
    chunk = check_chunk(chunk)
    scores, filler, generator = Scores(scorer), check_fill(fill), make_generator(seed)
    scores.fill = filler if isinstance(filler, str) else "tensor"
    scores.noun = variants.groups.noun
    pair = isinstance(loader, tuple) and len(loader) == 2 and isinstance(loader[0], torch.Tensor)
    caller = "curve" if variants.cumulative else "importance"
    batches = checked_loader([loader] if pair else loader, progress=progress, caller=caller)
    if scores.fill == "mean" and isinstance(batches, Iterator):
        raise ValueError(
            f"fill='mean' reads the loader twice, first for the means; {describe(loader)} can be read only once"
        )
    filled = _means(layer, output, batches, progress) if scores.fill == "mean" else filler
    mask: torch.Tensor | None = None
    bar = progress_bar(batches, what="ablating", unit="batch", progress=progress)
    for number, batch in enumerate(bar, 1):
        given, labels = _labelled(layer, batch, f"images of batch {number}")
        if given.rows == 1 and scores.fill == "resample":
            raise ValueError(
                f"fill='resample' takes a channel from another image of the batch; batch {number} has one image: "
                "pass drop_last=True to the DataLoader"
            )
        with following(layer, given, filled, generator, output=output) as suffix:
            if mask is None:
                scores.channels, mask = variants.mask(suffix.channels, generator)
                scores.total = len(variants.groups.names(suffix.channels))
            scores.add(suffix, mask.to(suffix.features.device), labels, chunk)
    if mask is None:
        raise ValueError(f"the loader yielded no batch; got {describe(loader)}")
    if not scores.n:
        raise ValueError("every label is ignored, by ignore_index: nothing can be scored")
    return scores


def _means(
    layer: AblatedLayer, output: Output, loader: Iterable[Any], progress: bool
) -> dict[int, torch.Tensor]:
    """Return the mean `(C,)` of every channel over the data set, for each of the layer's calls."""
    sums, images = dict[int, torch.Tensor](), 0
    bar = progress_bar(loader, what="means", unit="batch", progress=progress)
    for number, batch in enumerate(bar, 1):
        given, _ = _labelled(layer, batch, f"images of batch {number}")
        images += given.rows or 0
        with following(layer, given, "zero", make_generator(0), output) as suffix:
            for call, features in suffix.calls.items():
                first = features.double().movedim(layer.channel_axis, 1)
                sums[call] = sums.get(call, 0) + first.reshape(*first.shape[:2], -1).mean(2).sum(0)
    return {call: total / images for call, total in sums.items()}


def _labelled(layer: AblatedLayer, batch: Any, where: str) -> tuple[Given, torch.Tensor]:
    """Return the model's inputs and the labels in a batch: a pair, or a dict with labels under a usual name."""
    batch = layer.inputs_apart(batch)
    labels = labels_of(batch)
    if labels is None:
        raise TypeError(f"the loader must yield batches (images, labels); got {describe(batch)}")
    first = batch if isinstance(batch, Mapping) else batch[0]
    if not isinstance(labels, torch.Tensor) or not tensors(first):
        raise TypeError(f"the loader must yield batches (images, labels) of tensors; got {describe(batch)}")
    given = layer.inputs_in(first if isinstance(first, torch.Tensor) else batch, where=where)
    if labels.ndim == 0 or len(labels) != given.rows:
        raise ValueError(f"a batch must have as many labels as images; got {describe(batch)}")
    return given, labels
