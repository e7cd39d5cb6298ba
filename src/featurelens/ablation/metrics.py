"""Scores of outputs given their labels, image by image: accuracy, cross-entropy, or the user's own function."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Literal, TypeAlias, final

import torch
import torch.nn.functional as F

from featurelens._checks import check_choice, check_whole, describe

Metric: TypeAlias = Literal["accuracy", "loss"] | Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Scores outputs `(N, ...)` given their labels: `(N,)`, one score per image, higher being better."""


class Scorer(ABC):
    """Scores all variants of one batch after the other.

    Attributes
    ----------
    name
        Of the metric.
    sign
        1 if a higher score is better, else -1.
    classes
        How many classes there are; None if images have no single class.
    labels
        Of the batch that was read.
    """

    name: str
    sign = 1
    classes: int | None = None
    labels: torch.Tensor

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of the results should know."""
        return ()

    @abstractmethod
    def read(self, plain: torch.Tensor, labels: torch.Tensor, squashed: Callable[[], bool]) -> torch.Tensor:
        """Take the plain outputs and the labels of the next batch; return the weight of each image `(N,)`.

        `squashed` runs the model once more, to tell whether a sigmoid makes its outputs.
        """

    @abstractmethod
    def score(self, outputs: torch.Tensor) -> torch.Tensor:
        """Return the score `(V, N)` of every image in outputs `(V, N, ...)` for the batch that was read."""


def scorer(metric: Metric, ignore_index: int) -> Scorer:
    """Return the scorer of a metric.

    Raises
    ------
    TypeError, ValueError
        If `metric` is neither a name nor a function, or `ignore_index` is not a whole number.
    """
    ignore_index = check_whole(ignore_index, argument="ignore_index", least=-(2**63), most=2**63 - 1)
    if callable(metric):
        return OwnScorer(metric)
    check_choice(metric, ("accuracy", "loss"), argument="metric", further=" or a function")
    return LabelScorer(metric, ignore_index)


@final
class OwnScorer(Scorer):
    """A function of the user's, for labels of any kind."""

    def __init__(self, function: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> None:
        self.function = function
        self.name = getattr(function, "__name__", type(function).__name__)

    def read(self, plain: torch.Tensor, labels: torch.Tensor, squashed: Callable[[], bool]) -> torch.Tensor:
        self.labels = labels
        return torch.ones(len(labels))

    def score(self, outputs: torch.Tensor) -> torch.Tensor:
        scores: list[Any] = [self.function(output, self.labels) for output in outputs]
        for found in scores:
            if not isinstance(found, torch.Tensor) or found.shape != self.labels.shape[:1]:
                raise ValueError(
                    f"metric must return one score for each image, {(len(self.labels),)}; {self.name} returned "
                    f"{describe(found)}"
                )
        return torch.stack(scores)


@final
class LabelScorer(Scorer):
    """Accuracy, or cross-entropy in nats: of classes, or of yes-or-no labels.

    Labels are class numbers for outputs `(N, classes, ...)`; or they are 0 or 1, one for each output. An image's score is
    the mean over its labels, and its weight is their number: with labels for every pixel, results are means over pixels.
    """

    def __init__(self, name: str, ignore_index: int) -> None:
        self.name, self.ignore_index = name, ignore_index
        self.sign = -1 if name == "loss" else 1
        self.binary = self.one_hot = False
        self.probabilities: bool | None = None  # until the first batch

    @property
    def notes(self) -> tuple[str, ...]:
        found = []
        if self.probabilities:
            reason = "a sigmoid makes them" if self.binary else "they are from 0 to 1 and sum to 1"
            found.append(f"the outputs are taken as probabilities, since {reason}")
        if self.one_hot:
            found.append(
                "the labels are taken as yes or no for each output, although each image has exactly one yes: for classes, "
                "pass labels.argmax(1)"
            )
        return tuple(found)

    def read(self, plain: torch.Tensor, labels: torch.Tensor, squashed: Callable[[], bool]) -> torch.Tensor:
        self.binary = is_binary(plain, labels, self.name)
        shape = (len(plain), *plain.shape[2:])
        if self.binary and labels.shape != plain.shape:
            labels = labels.reshape(plain.shape)
        self.kept = labels != self.ignore_index
        self._check_range(labels[self.kept], plain.shape[1] if plain.ndim > 1 else 1)
        self.labels = labels.where(self.kept, 0)
        self.labels = self.labels.to(plain.dtype) if self.binary else self.labels.long()
        one_each = labels.numel() == len(labels)
        self.classes = (2 if self.binary else plain.shape[1]) if one_each and shape == (len(plain),) else None
        one_hot = self.binary and plain.shape[1:2] > (1,) and bool((self.labels.sum(1) == 1).all())
        first = self.probabilities is None
        self.one_hot = one_hot and (first or self.one_hot)
        self.probabilities = self._are_probabilities(plain, squashed) if first else self.probabilities
        return self.kept.flatten(1).sum(1) if self.kept.ndim > 1 else self.kept.long()

    def score(self, outputs: torch.Tensor) -> torch.Tensor:
        times, flat = len(outputs), outputs.flatten(0, 1)
        flat = flat if flat.dtype == torch.float64 else flat.float()
        labels, kept = (part.repeat(times, *[1] * (part.ndim - 1)) for part in (self.labels, self.kept))
        if self.probabilities and bool(((flat < 0) | (flat > 1.001)).any()):
            raise ValueError(
                "the outputs of the first batch were probabilities, but later ones are not from 0 to 1: choose the logits "
                "with output=, or pass your own metric"
            )
        values = (self._hits if self.name == "accuracy" else self._losses)(flat, labels)
        values = values.where(kept, 0).reshape(times, len(self.labels), -1)
        return values.sum(2) / kept.view(values.shape).sum(2).clamp_min(1)

    def _hits(self, outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        if self.binary:
            return ((outputs > (0.5 if self.probabilities else 0)) == (labels > 0.5)).double()
        return (outputs.argmax(1) == labels).double()

    def _losses(self, outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        if self.binary:
            labels = labels.to(outputs)
            function = F.binary_cross_entropy if self.probabilities else F.binary_cross_entropy_with_logits
            outputs = outputs.clamp(0, 1) if self.probabilities else outputs
            return function(outputs, labels, reduction="none")
        if self.probabilities:
            outputs = outputs.clamp_min(torch.finfo(outputs.dtype).tiny).log()
            return F.nll_loss(outputs, labels, reduction="none")
        return F.cross_entropy(outputs, labels, reduction="none")

    def _are_probabilities(self, plain: torch.Tensor, squashed: Callable[[], bool]) -> bool:
        """Whether the model ends in softmax or sigmoid, as far as its outputs tell."""
        if self.name == "accuracy" and not self.binary:
            return False  # the largest is the same
        found = bool(((plain >= 0) & (plain <= 1)).all())
        if found and self.binary:
            return squashed()  # logits can be from 0 to 1, too
        if found:
            exact = plain.dtype in (torch.float32, torch.float64)
            found = bool(((plain.float().sum(1) - 1).abs() < (1e-3 if exact else 2e-2)).all())
        return found

    def _check_range(self, labels: torch.Tensor, size: int) -> None:
        """Check the labels that count, for `size` outputs of each image or pixel."""
        if not labels.numel():
            return
        least, most = labels.min().item(), labels.max().item()
        if self.binary:
            if not bool(((labels == 0) | (labels == 1)).all()):
                raise ValueError(
                    f"labels of the outputs' own shape must be 0 or 1, for yes or no; got {least:g} to {most:g}: for "
                    "regression pass a metric of your own"
                )
        elif least < 0 or most >= size:
            outside = sorted(set(labels[(labels < 0) | (labels >= size)].tolist()))
            hint = f"; pass ignore_index={outside[0]} to leave out these labels" if len(outside) == 1 else ""
            raise ValueError(
                f"labels must be from 0 to {size - 1}, for {size} class scores; got {int(least)} to {int(most)}"
                f"{'' if outside == [size] else hint}"
            )


def is_binary(outputs: torch.Tensor, labels: torch.Tensor, metric: str) -> bool:
    """Whether labels are 0 or 1 for each output, and not class numbers.

    Raises
    ------
    ValueError
        If the shapes fit neither.
    """
    without = (len(outputs), *outputs.shape[2:])  # the axis of the classes
    if outputs.is_floating_point():
        if labels.shape == outputs.shape or (outputs.shape[1:2] == (1,) and labels.shape == without):
            return True
        if outputs.ndim > 1 and labels.shape == without and not labels.is_floating_point():
            return False
    raise ValueError(
        f"metric={metric!r} takes class scores (N, classes) and whole-numbered labels (N,); got "
        f"{describe(outputs)} and {describe(labels)}"
    )
