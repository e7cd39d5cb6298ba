"""Every channel's values counted against the labels, and their mean and variance in each class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, final

import numpy as np
import torch

from featurelens._checks import check_choice, check_type, check_whole, count, describe
from featurelens.statistics._blocks import with_float64
from featurelens.statistics._cells import Cells
from featurelens.statistics._exact import added, exact, products_about_mean, products_about_zero, total
from featurelens.statistics.base import State, Statistic, check_same_channels

if TYPE_CHECKING:
    from featurelens.information import ChannelInformationResult

Method = Literal["binned", "gaussian"]
METHODS: tuple[Method, ...] = ("binned", "gaussian")


@final
@dataclass(frozen=True, repr=False, eq=False)
class JointCountsResult:
    """What every channel was, class by class.

    Attributes
    ----------
    counts : torch.Tensor
        ``(C, 256, K)`` int64: images by cell and class; cell b of channel c holds ``start + b * width <= value <
        start + (b + 1) * width``.
    start, width : torch.Tensor
        ``(C,)`` float64, in the units of the activations; a width of 0 for a channel without finite values.
    mean, variance : torch.Tensor
        ``(C, K)`` float64 in each class, the number of images being the divisor; NaN for a class without images.
    not_finite : torch.Tensor
        ``(C,)`` int64: images whose value was NaN or infinite, which are in none of the above.
    """

    counts: torch.Tensor
    start: torch.Tensor
    width: torch.Tensor
    mean: torch.Tensor
    variance: torch.Tensor
    not_finite: torch.Tensor

    def mutual_information(
        self,
        *,
        method: Method = "binned",
        bins: int | Literal["auto"] = "auto",
        units: Literal["nats", "bits"] = "nats",
    ) -> ChannelInformationResult:
        """Estimate the information of every channel with the label.

        Parameters
        ----------
        method : {"binned", "gaussian"}
            "binned" joins the cells into bins of equal count and is what `channel_information` gives for values cut
            to their cells. "gaussian" takes each class for a normal distribution and integrates their mixture.
        bins : int or "auto"
            For "binned": at most so many bins; "auto" leaves five images to a cell of the table.
        units : {"nats", "bits"}
            Unit of all values.

        Returns
        -------
        ChannelInformationResult
            Also with the entropy of the labels, which no channel can exceed; its notes say how large the bias is.

        Raises
        ------
        TypeError, ValueError
            If an argument is none of the above, there are images of one class only, or a channel was not finite.
        """
        from featurelens.information.counts import information_from_counts, information_of_gaussians

        check_choice(method, METHODS, argument="method")
        if int(self.not_finite.sum()):
            broken = self.not_finite.nonzero()[:, 0].tolist()
            raise ValueError(
                f"information needs finite values; {count(len(broken), 'channel')} had others, the first {broken[0]}"
            )
        if method == "gaussian":
            return information_of_gaussians(self.counts[0].sum(0), self.mean, self.variance, units=units)
        return information_from_counts(self.counts, bins=bins, units=units)

    def __repr__(self) -> str:
        channels, _, classes = self.counts.shape
        images = int(self.counts[0].sum() + self.not_finite[0])
        return f"{type(self).__name__}({count(channels, 'channel')}, {classes} classes, {count(images, 'image')})"


@final
@dataclass(eq=False)
class JointCounts(Statistic):
    """Every channel's mean over positions, counted against the labels, with its mean and variance in each class.

    From this come estimates of what each channel knows of the label, binned and Gaussian, without a second pass. For the
    maximum instead of the mean over positions record with ``reduce="max"``. The 256 cells of a channel have equal
    width, a power of two, and widen as its range does: a result depends on the data only, not on their order. The
    table takes 2 KiB for each channel and class.

    Parameters
    ----------
    classes : int
        Number of classes; labels are 0 ... `classes` - 1.

    Raises
    ------
    TypeError, ValueError
        If `classes` is not a whole number from 2.

    Examples
    --------
    >>> labels = torch.arange(1000) % 2
    >>> joint = JointCounts(classes=2)
    >>> joint.update(torch.stack([labels + 0.1 * torch.rand(1000), torch.rand(1000)], dim=1), labels=labels)
    >>> [round(abs(value), 1) for value in joint.compute().mutual_information().values.tolist()]
    [0.7, 0.0]
    """

    classes: int
    needs_labels: ClassVar[bool] = True

    def __post_init__(self) -> None:
        self.classes = check_whole(self.classes, argument="classes", least=2)

    def check_labels(self, labels: torch.Tensor | None) -> None:
        super().check_labels(labels)
        check_type(labels, torch.Tensor, argument="labels", expected="a tensor (N,) of integers")
        assert labels is not None
        if labels.is_floating_point() or labels.is_complex():
            raise TypeError(f"labels must be integers; got {describe(labels)}")
        if labels.ndim != 1 or not len(labels):
            raise ValueError(f"labels must have shape (N,), one for each row; got {describe(labels)}")
        low, high = labels.long().aminmax()  # int64, as torch knows little of unsigned integers
        if low < 0 or high >= self.classes:
            wrong = int(low if low < 0 else high)
            raise ValueError(f"labels must be 0 ... {self.classes - 1} for {self}; got {wrong}")

    def measure(self, values: torch.Tensor, first_row: int, labels: torch.Tensor | None) -> State:
        assert labels is not None
        maps = with_float64(values).flatten(2) if values.ndim > 2 else with_float64(values)[:, :, None]
        pooled = maps.mean(2, dtype=torch.float64).T.contiguous().cpu()
        labels = labels.to(
            "cpu", torch.int64, copy=True
        )  # kept until the next batch, when theirs may be others
        finite = torch.isfinite(pooled)
        here = torch.unique(labels)
        column = torch.searchsorted(here, labels)

        def by_class(rows: torch.Tensor) -> torch.Tensor:
            return torch.zeros(len(rows), len(here), dtype=rows.dtype).index_add_(1, column, rows)

        usable = pooled.masked_fill(~finite, 0.0)
        numbers, sums = by_class(finite.long()), by_class(usable)
        means = (sums / numbers.clamp_min(1))[:, column]
        scatter = by_class(((usable - means) * finite).square())
        return {
            "classes": here,
            "sum": exact(sums),
            "squares": products_about_zero(scatter, sums, sums, numbers),
            "not_finite": (~finite).sum(1),
            # The table of a single batch would be nearly empty: its values are entered into the next part's.
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
        return {
            "classes": classes,
            **{
                name: added(*(_among(classes, part["classes"], part[name]) for part in (one, other)))
                for name in ("sum", "squares")
            },
            "not_finite": one["not_finite"] + other["not_finite"],
            **_plain(cells),
        }

    def summarize(self, state: State) -> JointCountsResult:
        cells = self._cells(state)
        numbers = cells.counts.sum(1)
        sums, squares = (
            _among(torch.arange(self.classes), state["classes"], state[name]) for name in ("sum", "squares")
        )
        scatter = products_about_mean(squares, sums, sums, numbers).clamp_min(0.0)
        width = np.ldexp(1.0, cells.level)
        # One cell at its finest holds equal values only, whose means are rounded, each class's and batch's otherwise.
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
        if "values" in state:
            cells = Cells.empty(len(state["values"]), self.classes)
            cells.add(state["values"], state["labels"])
            return cells
        level, first, last = (state[name].numpy() for name in ("level", "first", "last"))
        return Cells(level, first, last, state["counts"])


def _among(
    classes: torch.Tensor, here: torch.Tensor, summed: tuple[torch.Tensor, int]
) -> tuple[torch.Tensor, int]:
    """Return exact sums ``(L, C, k)`` of the classes `here` as those of all `classes`."""
    limbs, lowest = summed
    spread = limbs.new_zeros(*limbs.shape[:2], len(classes))
    spread[:, :, torch.searchsorted(classes, here)] = limbs
    return spread, lowest


def _plain(cells: Cells) -> State:
    level, first, last = (torch.from_numpy(part) for part in (cells.level, cells.first, cells.last))
    return {"level": level, "first": first, "last": last, "counts": cells.counts}
