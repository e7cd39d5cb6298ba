"""Joint counts of every channel's values and the labels, and mean and variance in each class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
import torch

from featurelens._checks import check_whole, count
from featurelens._html import Shown
from featurelens.statistics.base import State, Statistic, check_same_channels
from featurelens.statistics.by_class import among, check_classes, sum_by_class
from featurelens.statistics.cells import Cells
from featurelens.statistics.channel_blocks import as_maps
from featurelens.statistics.exact_sums import added, central_products, exact, raw_products, total


@final
@dataclass(frozen=True, repr=False, eq=False)
class JointCountsResult(Shown):
    """Counts, mean and variance of every channel, class by class.

    ``fl.ChannelInformationResult.from_counts(result)`` estimates the mutual information of every channel with the label.

    Attributes
    ----------
    counts : torch.Tensor
        ``(C, 256, K)`` int64: number of images by cell and class; cell b of channel c holds ``start + b * width <=
        value < start + (b + 1) * width``.
    start, width : torch.Tensor
        ``(C,)`` float64, in the units of the activations; a width of 0 for a channel without finite values.
    mean, variance : torch.Tensor
        ``(C, K)`` float64 in each class, with divisor the number of images; NaN for a class without images.
    not_finite : torch.Tensor
        ``(C,)`` int64: images whose value was NaN or infinite, which are left out of all of the above.
    """

    counts: torch.Tensor
    start: torch.Tensor
    width: torch.Tensor
    mean: torch.Tensor
    variance: torch.Tensor
    not_finite: torch.Tensor

    @property
    def images(self) -> int:
        """Number of images, including those with NaN or infinite values."""
        return int(self.counts[0].sum() + self.not_finite[0])

    def __str__(self) -> str:
        channels, _, classes = self.counts.shape
        return f"{count(channels, 'channel')} counted against {classes} classes over {count(self.images, 'image')}"

    def __repr__(self) -> str:
        channels, _, classes = self.counts.shape
        return f"{type(self).__name__}({count(channels, 'channel')}, {classes} classes, {count(self.images, 'image')})"


@final
@dataclass(eq=False)
class JointCounts(Statistic):
    """Counts of every channel's mean over positions against the labels, with mean and variance in each class.

    They suffice to estimate the mutual information of each channel with the label, binned or Gaussian, without a second
    pass. For the maximum instead of the mean over positions, record with ``reduce="max"``. The 256 cells of a channel
    have equal width, a power of two, and widen with its range: the result depends on the data only, not on their order.
    The table takes 2 KiB for each channel and class.

    Parameters
    ----------
    classes : int
        Number of classes; labels are 0 ... `classes` - 1.

    Raises
    ------
    TypeError, ValueError
        If `classes` is not a whole number of at least 2.

    Examples
    --------
    >>> joint = JointCounts(classes=2)
    >>> joint.update(torch.tensor([[1.0], [3.0], [5.0]]), labels=torch.tensor([0, 0, 1]))
    >>> result = joint.compute()
    >>> result
    JointCountsResult(1 channel, 2 classes, 3 images)
    >>> result.mean.tolist(), result.variance.tolist()
    ([[2.0, 5.0]], [[1.0, 0.0]])
    """

    classes: int
    needs_labels: ClassVar[bool] = True

    def __post_init__(self) -> None:
        self.classes = check_whole(self.classes, argument="classes", least=2)

    def check_labels(self, labels: torch.Tensor | None) -> None:
        super().check_labels(labels)
        check_classes(labels, self.classes, user=self)

    def measure(self, values: torch.Tensor, first_row: int, labels: torch.Tensor | None) -> State:
        assert labels is not None
        pooled = as_maps(values).mean(2, dtype=torch.float64).T.contiguous().cpu()
        labels = labels.to(
            "cpu", torch.int64, copy=True
        )  # kept until the next batch, which may overwrite them
        finite = torch.isfinite(pooled)
        here = torch.unique(labels)
        column = torch.searchsorted(here, labels)

        usable = pooled.masked_fill(~finite, 0.0)
        numbers, sums = (sum_by_class(rows, column, len(here)) for rows in (finite.long(), usable))
        means = (sums / numbers.clamp_min(1))[:, column]
        scatter = sum_by_class(((usable - means) * finite).square(), column, len(here))
        return {
            "classes": here,
            "sum": exact(sums),
            "squares": raw_products(scatter, sums, sums, numbers),
            "not_finite": (~finite).sum(1),
            # The table of a single batch would be nearly empty: its values are counted in that of the next part.
            "values": pooled,
            "labels": labels,
        }

    def combine(self, one: State, other: State) -> State:
        check_same_channels(len(one["not_finite"]), len(other["not_finite"]))
        cells = self._cells(one)
        if "values" in other:
            cells.add(other["values"], other["labels"])
        else:
            cells.merge(self._cells(other))
        classes = torch.unique(torch.cat([one["classes"], other["classes"]]))
        state = {"classes": classes, "not_finite": one["not_finite"] + other["not_finite"], **cells.state()}
        for name in ("sum", "squares"):
            state[name] = added(*(among(classes, part["classes"], part[name]) for part in (one, other)))
        return state

    def summarize(self, state: State) -> JointCountsResult:
        cells = self._cells(state)
        numbers = cells.counts.sum(1)
        sums, squares = (
            among(torch.arange(self.classes), state["classes"], state[name]) for name in ("sum", "squares")
        )
        scatter = central_products(squares, sums, sums, numbers).clamp_min(0.0)
        width = np.ldexp(1.0, cells.level)
        # A single cell at its finest holds equal values only, whose means each class and batch rounds differently.
        constant = ((cells.counts.sum(2) > 0).sum(1) == 1)[:, None]
        mean = total(sums)[0] / numbers
        overall = (total(sums)[0].sum(1) / numbers.sum(1))[:, None]
        return JointCountsResult(
            counts=cells.counts,
            start=torch.from_numpy(cells.first * width),
            width=torch.from_numpy(width),
            mean=torch.where(constant & (numbers > 0), overall, mean),
            variance=scatter.masked_fill(constant, 0.0) / numbers,
            not_finite=state["not_finite"],
        )

    def _cells(self, state: State) -> Cells:
        if "values" not in state:
            return Cells.of(state)
        cells = Cells.empty(len(state["values"]), self.classes)
        cells.add(state["values"], state["labels"])
        return cells
