"""How well a model does with every variant, image by image, summed over a data set."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, final

import torch
import torch.nn.functional as F

from featurelens._checks import check_choice, describe
from featurelens.ablation.site import Site
from featurelens.ablation.suffix import Suffix
from featurelens.ablation.variants import Fill, check_chunk, check_fill

Metric: TypeAlias = Literal["accuracy", "loss"] | Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""How well an output `(N, ...)` does, given its labels: `(N,)`, one score for each image, higher being better."""


@final
@dataclass(frozen=True)
class Score:
    """A metric by name; `sign` is -1 where lower is better."""

    name: str
    function: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    sign: int = 1

    @classmethod
    def of(cls, metric: Metric) -> Score:
        """Return the score that `metric` names, or is."""
        if callable(metric):
            return cls(getattr(metric, "__name__", type(metric).__name__), metric)
        check_choice(metric, ("accuracy", "loss"), argument="metric", further=" or a function")
        return cls("accuracy", accuracy) if metric == "accuracy" else cls("loss", loss, sign=-1)

    def check(self, outputs: torch.Tensor, labels: torch.Tensor) -> None:
        """Raise a ValueError unless labels and outputs fit each other, as far as the metric is one of ours."""
        if self.function in (accuracy, loss):
            _check_classes(outputs, labels, self.name)

    def __call__(self, outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return the score of each image `(N,)`."""
        scores: Any = self.function(outputs, labels)
        if not isinstance(scores, torch.Tensor) or scores.shape != (len(outputs),):
            raise ValueError(
                f"metric must return one score for each image, {(len(outputs),)}; {self.name} returned {describe(scores)}"
            )
        return scores.detach()


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
            f"labels must be from 0 to {outputs.shape[1] - 1}, as there are {outputs.shape[1]} class scores; got "
            f"{int(labels.min())} to {int(labels.max())}"
        )


@final
class Tally:
    """Sums of scores over a data set, for every variant and, with class labels, every class.

    Attributes
    ----------
    n
        Images so far.
    counts
        `(K,)`, images of each class; a single class without class labels.
    plain
        `(K,)`, sum of the scores with nothing ablated.
    sums
        `(V, K)`, the same for each variant.
    by_class
        Whether all labels were class labels.
    values, broken
        How many numbers the outputs held, plain and ablated, and how many of these were not finite.
    """

    def __init__(self, score: Score) -> None:
        self.score = score
        self.n = 0
        self.by_class = True
        self.values = self.broken = 0
        self.counts = torch.zeros(1, dtype=torch.float64)
        self.plain = torch.zeros(1, dtype=torch.float64)
        self.sums = torch.zeros(0, 1, dtype=torch.float64)
        self._lost = self._lost_squared = torch.zeros(0, dtype=torch.float64)

    def add(self, suffix: Suffix, mask: torch.Tensor, labels: torch.Tensor, chunk: int | None) -> None:
        """Score every variant of one batch."""
        labels = labels.to(suffix.baseline.device)
        classes = self._classes(labels)
        if not self.n:
            self.sums = self.sums.new_zeros(len(mask), self.sums.shape[1])
            self._lost = self._lost_squared = self.sums.new_zeros(len(mask))
        self._grow(int(classes.max()) + 1)
        self.score.check(suffix.baseline, labels)
        plain = self.score(suffix.baseline, labels).cpu().double()
        self.counts.index_add_(0, classes, torch.ones_like(plain))
        self.plain.index_add_(0, classes, plain)
        self._inspect(suffix.baseline)
        parts = []
        for _, outputs in suffix.outputs(mask, chunk):
            self._inspect(outputs)
            parts.append(torch.stack([self.score(output, labels) for output in outputs]))
        scores = torch.cat(parts).cpu().double()
        self.sums.index_add_(1, classes, scores)
        lost = self.score.sign * (plain - scores)
        self._lost = self._lost + lost.sum(1)
        self._lost_squared = self._lost_squared + lost.square().sum(1)
        self.n += len(labels)

    def _inspect(self, outputs: torch.Tensor) -> None:
        self.values += outputs.numel()
        self.broken += int((~torch.isfinite(outputs)).sum())

    def lost(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the mean of what each variant lost `(V,)`, and the standard error of that mean over the images."""
        mean = self._lost / self.n
        variance = (self._lost_squared / self.n - mean.square()).clamp_min(0) * self.n / max(self.n - 1, 1)
        return mean, (variance / self.n).sqrt()

    def lost_by_class(self) -> torch.Tensor | None:
        """Return what each variant lost in each class `(V, K)`, NaN for classes without images."""
        return self.score.sign * (self.plain - self.sums) / self.counts if self.by_class else None

    def _classes(self, labels: torch.Tensor) -> torch.Tensor:
        whole = not (labels.is_floating_point() or labels.is_complex())
        if labels.ndim != 1 or not whole or int(labels.min()) < 0:
            self.by_class = False
        if self.by_class:
            return labels.cpu().long()
        return torch.zeros(len(labels), dtype=torch.long)

    def _grow(self, classes: int) -> None:
        more = classes - len(self.counts)
        if more > 0:
            self.counts, self.plain, self.sums = (
                F.pad(t, (0, more)) for t in (self.counts, self.plain, self.sums)
            )


def score(
    tally: Tally,
    site: Site,
    loader: Iterable[Any],
    mask_for: Callable[[int, torch.device], torch.Tensor],
    fill: Fill,
    chunk: int | None,
    generator: torch.Generator,
    progress: bool,
) -> tuple[str, ...]:
    """Score the variants that `mask_for` makes for a number of channels over a data set; return the notes."""
    from tqdm import tqdm

    checked = check_fill(fill)
    check_chunk(chunk)
    over_loader = isinstance(checked, str) and checked == "mean"
    check_loader(loader, twice=over_loader)
    filled = site.means(loader, progress=progress) if over_loader else checked
    notes: dict[str, None] = {}
    mask: torch.Tensor | None = None
    bar = tqdm(loader, desc="ablating", unit="batch", disable=None if progress else True)
    for number, batch in enumerate(bar, 1):
        images, labels = labelled(batch)
        if len(images) == 1 and isinstance(checked, str) and checked == "resample":
            raise ValueError(
                f"fill='resample' takes a channel from another image of the batch; batch {number} has one image: "
                "give the DataLoader drop_last=True"
            )
        suffix = site.suffix(images, filled, generator, where=f"images of batch {number}")
        if mask is None:
            mask = mask_for(suffix.channels, suffix.features.device)
        tally.add(suffix, mask, labels, chunk)
        notes |= dict.fromkeys(suffix.notes)
    if not tally.n:
        raise ValueError(f"the loader gave no batch; got {describe(loader)}")
    return (*notes, *not_finite(tally.broken, tally.values))


def not_finite(broken: int, total: int) -> tuple[str, ...]:
    """Return the note on outputs that are NaN or infinite, if there are any."""
    return (f"{broken} of {total} outputs are not finite",) if broken else ()


def labelled(batch: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the images and labels that a loader gave.

    Raises
    ------
    TypeError, ValueError
        If it is anything but a pair of tensors of the same length.
    """
    if not isinstance(batch, list | tuple) or len(batch) < 2:
        raise TypeError(f"the loader must give batches (images, labels); got {describe(batch)}")
    images, labels = batch[:2]
    if not isinstance(images, torch.Tensor) or not isinstance(labels, torch.Tensor):
        raise TypeError(f"the loader must give batches (images, labels) of tensors; got {describe(batch)}")
    if labels.ndim == 0 or images.ndim == 0 or len(labels) != len(images):
        raise ValueError(f"a batch must have as many labels as images; got {describe(batch)}")
    return images, labels


def check_loader(loader: object, *, twice: bool) -> None:
    """Raise an error unless `loader` can be run over batch by batch, more than once if `twice`."""
    if isinstance(loader, torch.utils.data.Dataset):
        raise TypeError(
            f"loader must give batches (images, labels); got the data set {type(loader).__name__}: "
            "wrap it in torch.utils.data.DataLoader"
        )
    if not isinstance(loader, Iterable) or isinstance(loader, str | torch.Tensor | torch.nn.Module):
        raise TypeError(f"loader must give batches (images, labels); got {describe(loader)}")
    if twice and isinstance(loader, Iterator):
        raise ValueError(
            f"fill='mean' goes over the loader twice, first for the means; got {describe(loader)}, which can be "
            "gone over once"
        )
