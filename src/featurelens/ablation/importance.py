"""What channels are worth to a task: every variant scored image by image over a data set."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Literal, TypeAlias, final

import torch
import torch.nn.functional as F

from featurelens._checks import check_choice, describe
from featurelens._random import Seed, make_generator
from featurelens.ablation.masks import (
    AblatedLayer,
    Fill,
    Mode,
    check_chunk,
    check_fill,
    chosen_channels,
    one_by_one,
)
from featurelens.ablation.result import AblationCurve, ImportanceResult
from featurelens.ablation.suffix import Output, Suffix, following
from featurelens.recording import ActivationRecorder
from featurelens.recording.inputs import checked_loader, labels_of
from featurelens.recording.reductions import Unsuitable

Metric: TypeAlias = Literal["accuracy", "loss"] | Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Scores outputs `(N, ...)` given their labels: `(N,)`, one score per image, higher being better."""


@final
class Scores:
    """Sums of the scores of every variant over a data set, by class; without class labels there is a single class.

    Attributes
    ----------
    plain, sums
        The sums with nothing ablated, `(K,)`, and for each variant, `(V, K)`.
    counts
        Images of each class, `(K,)`.
    channels, total
        The channels that the variants ablate, and how many the layer has.
    fill, notes
        As in the results.
    """

    def __init__(self, metric: Metric) -> None:
        if not callable(metric):
            check_choice(metric, ("accuracy", "loss"), argument="metric", further=" or a function")
        named: Any = {"accuracy": accuracy, "loss": loss}
        self.metric = getattr(metric, "__name__", type(metric).__name__) if callable(metric) else metric
        self._function = metric if callable(metric) else named[metric]
        self._sign = -1 if metric == "loss" else 1
        self.n = self.total = self._values = self._broken = 0
        self.by_class = True
        self.counts, self.plain = torch.zeros(1).double(), torch.zeros(1).double()
        self.sums = torch.zeros(0, 1).double()
        self._lost = self._lost_squared = torch.zeros(0).double()
        self.channels: list[int] = []
        self.fill, self._notes = "tensor", dict[str, None]()

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of the results should know."""
        return (*self._notes, *not_finite(self._broken, self._values))

    def add(self, suffix: Suffix, mask: torch.Tensor, labels: torch.Tensor, chunk: int | None) -> None:
        """Score every variant of one batch."""
        labels = labels.to(suffix.baseline.device)
        if labels.ndim != 1 or labels.is_floating_point() or labels.is_complex() or int(labels.min()) < 0:
            self.by_class = False
        classes = labels.cpu().long() if self.by_class else torch.zeros(len(labels), dtype=torch.long)
        if self._function in (accuracy, loss):
            _check_classes(suffix.baseline, labels, self.metric)
        plain = self._score(suffix.baseline[None], labels)[0]
        scores = torch.cat([self._score(outputs, labels) for _, outputs in suffix.outputs(mask, chunk)])
        if not self.n:
            self.sums = self.sums.new_zeros(len(mask), self.sums.shape[1])
            self._lost = self._lost_squared = self.sums.new_zeros(len(mask))
        more = max(0, int(classes.max()) + 1 - len(self.counts))
        self.counts = F.pad(self.counts, (0, more)).index_add(0, classes, torch.ones_like(plain))
        self.plain = F.pad(self.plain, (0, more)).index_add(0, classes, plain)
        self.sums = F.pad(self.sums, (0, more)).index_add(1, classes, scores)
        lost = self._sign * (plain - scores)
        self._lost = self._lost + lost.sum(1)
        self._lost_squared = self._lost_squared + lost.square().sum(1)
        self.n += len(labels)
        self._notes |= dict.fromkeys(suffix.notes)

    def _score(self, outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return the score of each image `(V, N)`, and count outputs that are not finite."""
        self._values += outputs.numel()
        self._broken += int((~torch.isfinite(outputs)).sum())
        scores = [self._function(output, labels) for output in outputs]
        for found in scores:
            if not isinstance(found, torch.Tensor) or found.shape != labels.shape[:1]:
                raise ValueError(
                    f"metric must return one score for each image, {(len(labels),)}; {self.metric} returned "
                    f"{describe(found)}"
                )
        return torch.stack(scores).detach().cpu().double()

    def importance(self, layer: str, mode: Mode) -> ImportanceResult:
        """Return what is lost with each variant."""
        mean = self._lost / self.n
        variance = (self._lost_squared / self.n - mean.square()).clamp_min(0) * self.n / max(self.n - 1, 1)
        by_class = self._sign * (self.plain - self.sums) / self.counts
        return ImportanceResult(
            importance=mean,
            standard_error=(variance / self.n).sqrt(),
            per_class=by_class if self.by_class else None,
            baseline=float(self.plain.sum() / self.n),
            baseline_per_class=self.plain / self.counts if self.by_class else None,
            counts=self.counts.long() if self.by_class else None,
            channels=tuple(self.channels),
            n=self.n,
            layer=layer,
            metric=self.metric,
            mode=mode,
            fill=self.fill,
            notes=self.notes,
        )

    def curve(self, layer: str) -> AblationCurve:
        """Return the mean score with nothing ablated, and then of each variant."""
        sums = torch.cat([self.plain[None], self.sums])
        return AblationCurve(
            values=sums.sum(1) / self.n,
            per_class=sums / self.counts if self.by_class else None,
            order=tuple(self.channels),
            total=self.total,
            n=self.n,
            layer=layer,
            metric=self.metric,
            fill=self.fill,
            notes=self.notes,
        )


def score(
    layer: AblatedLayer,
    output: Output,
    loader: Any,
    metric: Metric,
    fill: Fill,
    chunk: int | None,
    seed: Seed,
    progress: bool,
    channels: list[int] | None,
    mode: Mode,
    cumulative: bool = False,
) -> Scores:
    """Score variants over a data set: of one channel each or, `cumulative`, of more and more channels.

    Without `channels` these are all of the layer's, for cumulative variants in random order.
    """
    from tqdm import tqdm

    check_chunk(chunk)
    scores, filler, generator = Scores(metric), check_fill(fill), make_generator(seed)
    scores.fill = filler if isinstance(filler, str) else "tensor"
    pair = isinstance(loader, tuple) and len(loader) == 2 and isinstance(loader[0], torch.Tensor)
    caller = "curve" if cumulative else "importance"
    batches = checked_loader([loader] if pair else loader, progress=progress, caller=caller)
    if scores.fill == "mean" and isinstance(batches, Iterator):
        raise ValueError(
            f"fill='mean' reads the loader twice, first for the means; {describe(loader)} can be read only once"
        )
    filled = _means(layer, batches, progress) if scores.fill == "mean" else filler
    mask: torch.Tensor | None = None
    bar = tqdm(batches, desc="ablating", unit="batch", disable=None if progress else True)
    for number, batch in enumerate(bar, 1):
        images, labels = _labelled(layer, batch, f"images of batch {number}")
        if len(images) == 1 and scores.fill == "resample":
            raise ValueError(
                f"fill='resample' takes a channel from another image of the batch; batch {number} has one image: "
                "pass drop_last=True to the DataLoader"
            )
        with following(layer, images, filled, generator, output=output) as suffix:
            if mask is None:
                scores.total = suffix.channels
                if cumulative and channels is None:
                    channels = torch.randperm(scores.total, generator=generator).tolist()
                scores.channels = chosen_channels(
                    channels, scores.total, argument="order" if cumulative else "channels"
                )
                mask = one_by_one(scores.channels, scores.total, mode)
                mask = mask.cumsum(0).bool() if cumulative else mask
            scores.add(suffix, mask.to(suffix.features.device), labels, chunk)
    if mask is None:
        raise ValueError(f"the loader yielded no batch; got {describe(loader)}")
    return scores


def _means(layer: AblatedLayer, loader: Iterable[Any], progress: bool) -> dict[int, torch.Tensor]:
    """Return the mean `(C,)` of every channel over the data set, for each of the layer's calls."""

    def by_image(output: Any) -> torch.Tensor:
        try:
            features = layer.check(output)
        except (TypeError, ValueError) as error:
            raise Unsuitable(str(error)) from None
        others = [axis for axis in range(1, features.ndim) if axis != layer.channel_axis % features.ndim]
        return features.mean(others) if others else features

    recorder = ActivationRecorder(layer.model, layer.name, reduce=by_image)
    recorded = recorder.record(loader, progress=progress).values()
    return {call: found.double().mean(0) for call, found in enumerate(recorded, layer.choice.call or 1)}


def _labelled(layer: AblatedLayer, batch: Any, where: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the images and labels of a batch: a pair, or a dict with labels under a usual name."""
    labels = labels_of(batch)
    if labels is None:
        raise TypeError(f"the loader must yield batches (images, labels); got {describe(batch)}")
    images = layer.images_in(batch, where=where) if isinstance(batch, Mapping) else batch[0]
    if not isinstance(images, torch.Tensor) or not isinstance(labels, torch.Tensor):
        raise TypeError(f"the loader must yield batches (images, labels) of tensors; got {describe(batch)}")
    if labels.ndim == 0 or images.ndim == 0 or len(labels) != len(images):
        raise ValueError(f"a batch must have as many labels as images; got {describe(batch)}")
    return layer.images_in(images, where=where), labels


def accuracy(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return for each image whether its largest output, `(N, classes)`, is its label's.

    >>> accuracy(torch.tensor([[0.1, 0.9], [0.8, 0.2]]), torch.tensor([1, 1]))
    tensor([1., 0.])
    """
    right = (outputs.argmax(1) == labels).float()
    return right.flatten(1).mean(1) if right.ndim > 1 else right


def loss(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the cross-entropy of each image, in nats."""
    values = F.cross_entropy(outputs, labels, reduction="none")
    return values.flatten(1).mean(1) if values.ndim > 1 else values


def _check_classes(outputs: torch.Tensor, labels: torch.Tensor, metric: str) -> None:
    fits = outputs.ndim > 1 and labels.shape == (len(outputs), *outputs.shape[2:])
    if not fits or labels.is_floating_point():
        raise ValueError(
            f"metric={metric!r} takes class scores (N, classes) and whole-numbered labels (N,); got "
            f"{describe(outputs)} and {describe(labels)}"
        )
    if int(labels.min()) < 0 or int(labels.max()) >= outputs.shape[1]:
        raise ValueError(
            f"labels must be from 0 to {outputs.shape[1] - 1}, for {outputs.shape[1]} class scores; got "
            f"{int(labels.min())} to {int(labels.max())}"
        )


def not_finite(broken: int, total: int) -> tuple[str, ...]:
    """Return the note on outputs that are NaN or infinite, if there are any."""
    return (f"{broken} of {total} outputs are not finite",) if broken else ()
