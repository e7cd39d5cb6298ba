"""What each channel knows of the label: thousands of channels in one pass."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Self, final

import numpy as np
import torch

from featurelens._checks import check_choice, check_whole, count, describe
from featurelens._random import Seed, check_seed, make_generator, permutation
from featurelens.information._chunks import row_slices
from featurelens.information._discretize import STRATEGIES, Strategy, bin_codes
from featurelens.information._entropy import CORRECTIONS, Correction, count_weights, information_from_sums
from featurelens.information._variables import ArrayLike, entropy, make_variable, to_tensor
from featurelens.information.base import Null
from featurelens.information.binned import MOST_BINS, SAMPLES_PER_CELL
from featurelens.information.result import NATS_PER_UNIT, MutualInformationResult, Units, rescaled

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from featurelens.statistics import JointCountsResult

Reduce = Literal["mean", "max"]

VALUES_AT_A_TIME = 2**21


@final
@dataclass(frozen=True, kw_only=True)
class ChannelInformationResult:
    """Mutual information of each channel with the label, made by `channel_information`.

    ``result[c]`` is channel c alone, as a `MutualInformationResult`; ``numpy.asarray(result)`` are the values.

    Attributes
    ----------
    values : torch.Tensor
        ``(C,)`` float64, in `units`.
    null_mean, p_values : torch.Tensor or None
        ``(C,)`` float64: mean with shuffled labels, and the share of shuffles (the true order counted) that reach the
        value.
    label_entropy : float or None
        Entropy of the labels: no channel can know more.
    ceiling : float or None
        Logarithm of the number of bins: no channel can show more.
    units, method, n, notes
        As in :class:`MutualInformationResult`.

    Examples
    --------
    >>> result = ChannelInformationResult(values=torch.tensor([0.1, 0.7]), method="channels()", n=100)
    >>> result
    ChannelInformationResult(2 channels, 0.1000 to 0.7000 nats, channels(), n=100)
    >>> result.top(1)
    [1]
    """

    values: torch.Tensor
    method: str
    n: int
    units: Units = "nats"
    null_mean: torch.Tensor | None = None
    p_values: torch.Tensor | None = None
    label_entropy: float | None = None
    ceiling: float | None = None
    notes: tuple[str, ...] = ()

    @classmethod
    def from_counts(
        cls,
        counts: JointCountsResult,
        *,
        method: Literal["binned", "gaussian"] = "binned",
        bins: int | Literal["auto"] = "auto",
        units: Units = "nats",
    ) -> Self:
        """Estimate the information of every channel with the label from what `JointCounts` found in one pass.

        Parameters
        ----------
        counts : JointCountsResult
            ``recorder.stream(loader, fl.statistics.JointCounts(classes))["conv1"].joint_counts``, say.
        method : {"binned", "gaussian"}
            "binned" joins the cells into bins of equal count, and is what `channel_information` returns for values cut
            to their cells. "gaussian" assumes a normal distribution in each class and integrates their mixture.
        bins : int or "auto"
            For "binned": at most this many bins; "auto" leaves five images to a cell of the table.
        units : {"nats", "bits"}
            Unit of all values.

        Raises
        ------
        TypeError, ValueError
            If an argument is none of the above, there are images of one class only, or a channel was not finite.
        """
        from featurelens.information.counts import information_of_joint_counts

        return information_of_joint_counts(counts, method=method, bins=bins, units=units)

    def top(self, k: int) -> list[int]:
        """Return the `k` channels that know most, best first; all of them if there are fewer.

        Raises
        ------
        TypeError, ValueError
            If `k` is not a whole number from 0.
        """
        k = check_whole(k, argument="k", least=0)
        return self.values.argsort(descending=True, stable=True)[:k].tolist()

    def plot(self, *, limit: int = 32, title: str | None = None, ax: Axes | None = None) -> Figure:
        """Draw a bar for each of the channels that know most; see `plotting.channel_bars`."""
        from featurelens import plotting

        return plotting.channel_bars(self, limit=limit, title=title, ax=ax)

    def to(self, units: Units) -> Self:
        """Return the same result in ``"nats"`` or ``"bits"``."""
        return rescaled(self, units, ("values", "null_mean", "label_entropy", "ceiling"))

    def __len__(self) -> int:
        return len(self.values)

    def __iter__(self) -> Iterator[MutualInformationResult]:
        return (self[channel] for channel in range(len(self)))

    def __getitem__(self, channel: int) -> MutualInformationResult:
        channel = check_whole(channel, argument="channel")
        return MutualInformationResult(
            value=float(self.values[channel]),
            units=self.units,
            method=self.method,
            n=self.n,
            dim_x=1,
            dim_y=1,
            null_mean=None if self.null_mean is None else float(self.null_mean[channel]),
            p_value=None if self.p_values is None else float(self.p_values[channel]),
            ceiling=self.ceiling,
            label_entropy=self.label_entropy,
            notes=self.notes,
        )

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        return np.array(self.values.numpy(), dtype=dtype)

    def __repr__(self) -> str:
        low, high = float(self.values.min()), float(self.values.max())
        return (
            f"{type(self).__name__}({count(len(self), 'channel')}, {low:.4f} to {high:.4f} {self.units}, "
            f"{self.method}, n={self.n})"
        )

    def __str__(self) -> str:
        best = ", ".join(f"{channel}: {float(self.values[channel]):.3f}" for channel in self.top(5))
        text = f"{count(len(self), 'channel')} by {self.method} from {count(self.n, 'sample')}; most {best}"
        text += f" {self.units}"
        if self.null_mean is not None:
            text += f", above their nulls by {float((self.values - self.null_mean).mean()):.3f} on average"
        if self.label_entropy is not None:
            text += f"; the labels hold {self.label_entropy:.3f}"
        return "; ".join([text, *self.notes])


def channel_information(
    activations: ArrayLike,
    labels: ArrayLike,
    *,
    bins: int | Literal["auto"] = "auto",
    strategy: Strategy = "quantile",
    correction: Correction = "grassberger",
    reduce: Reduce = "mean",
    null: Null | None = None,
    permutations: int = 100,
    units: Units = "nats",
    seed: Seed = None,
) -> ChannelInformationResult:
    """Estimate the information of every channel with the label, each channel on its own.

    Every channel is cut into bins of its own and counted against the labels; a channel gives what
    ``BinnedMutualInformation(bins=...).estimate(activations[:, c], labels)`` gives, some hundred times as
    fast. A channel that never changes knows nothing and gets 0.

    Parameters
    ----------
    activations : torch.Tensor or numpy.ndarray
        ``(N, C)``, or ``(N, C, ...)`` with the further dimensions reduced first.
    labels : torch.Tensor or numpy.ndarray
        ``(N,)`` integers or booleans.
    bins : int or "auto"
        Bins per channel, at most N; ``"auto"`` leaves five samples to a cell: ``N / 5K`` for K labels, from 2 to
        64.
    strategy : {"quantile", "uniform"}
        Bins of equal count (the zeros of a ReLU get one of their own) or equal width.
    correction : {"grassberger", "miller-madow", "none"}
        As in :class:`BinnedMutualInformation`.
    reduce : {"mean", "max"}
        What is made of the dimensions after the second.
    null : {"permutation"}, optional
        Also count against `permutations` random orders of the labels.
    permutations : int
        Number of random orders.
    units : {"nats", "bits"}
        Unit of all values.
    seed : int, torch.Generator or None
        For the permutations.

    Returns
    -------
    ChannelInformationResult

    Raises
    ------
    TypeError
        If the activations are not real numbers, the labels not integers, or an option is of another type.
    ValueError
        If shapes or lengths do not fit, values are not finite, there is only one label, there are more bins than
        samples, or an option is not one of the above.

    Examples
    --------
    >>> labels = torch.arange(1000) % 2
    >>> activations = torch.stack([labels + 0.1 * torch.rand(1000), torch.rand(1000)], dim=1)
    >>> result = channel_information(activations, labels)
    >>> [round(abs(value), 1) for value in result.values.tolist()]
    [0.7, 0.0]
    """
    for value, choices, argument in (
        (strategy, STRATEGIES, "strategy"),
        (correction, CORRECTIONS, "correction"),
        (reduce, ("mean", "max"), "reduce"),
        (null, (None, "permutation"), "null"),
        (units, NATS_PER_UNIT, "units"),
    ):
        check_choice(value, choices, argument=argument)
    check_whole(permutations, argument="permutations", least=1)
    check_seed(seed)
    if bins != "auto":
        check_whole(bins, argument="bins", least=2)
    rows = _as_rows(activations, reduce)
    classes = _as_classes(labels, samples=rows.shape[1]).to(rows.device)
    if bins == "auto":
        bins = _bins_for(classes)
    elif bins > len(classes):
        raise ValueError(f"bins must be at most the number of samples, {len(classes)}; got {bins}")
    table = _ChannelTable.of(rows, bins, strategy, correction)
    values = table.information(classes)
    shuffled = None
    if null is not None:
        generator = make_generator(seed)
        shuffled = torch.stack(
            [
                table.information(classes[permutation(len(classes), generator, classes.device)])
                for _ in range(permutations)
            ]
        )
    constant = int(table.constant.sum())
    return ChannelInformationResult(
        values=values,
        method=f"channels(bins={table.bins}, strategy={strategy!r}, correction={correction!r})",
        n=len(classes),
        null_mean=None if shuffled is None else shuffled.mean(dim=0),
        p_values=None
        if shuffled is None
        else (1.0 + (shuffled >= values).sum(dim=0).double()) / (1 + permutations),
        label_entropy=entropy(classes),
        ceiling=math.log(table.bins),
        notes=(f"{count(constant, 'channel')} never changed",) if constant else (),
    ).to(units)


@final
@dataclass(frozen=True)
class _ChannelTable:
    """Bins of all channels, counted against as many orders of the labels as are asked for."""

    codes: torch.Tensor  # (C, N) int32
    sums: torch.Tensor  # (C,)
    constant: torch.Tensor  # (C,) bool
    bins: int
    correction: Correction

    @classmethod
    def of(cls, rows: torch.Tensor, bins: int, strategy: Strategy, correction: Correction) -> Self:
        codes = torch.cat(
            [
                bin_codes(part, bins, strategy)
                for part in (rows[s] for s in row_slices(len(rows), rows.shape[1], VALUES_AT_A_TIME))
            ]
        )
        constant = (rows == rows[:, :1]).all(dim=1)
        nothing = torch.zeros(rows.shape[1], dtype=torch.long, device=rows.device)
        table = cls(codes, torch.zeros(len(codes)), constant, bins, correction)
        return dataclasses.replace(table, sums=table.cell_sums(nothing, 1))

    def cell_sums(self, classes: torch.Tensor, levels: int) -> torch.Tensor:
        """Return ``sum_cells w[count]`` ``(C,)`` of every channel's table of bins against `classes`."""
        n = len(classes)
        weights = count_weights(n, self.correction).to(classes.device)
        cells = self.bins * levels
        sums = []
        for channels in row_slices(len(self.codes), max(n, cells), VALUES_AT_A_TIME):
            part = self.codes[channels]
            offset = torch.arange(len(part), device=part.device)[:, None] * cells
            counts = torch.bincount((part * levels + classes + offset).flatten(), minlength=len(part) * cells)
            sums.append(weights[counts].reshape(len(part), cells).sum(dim=1))
        return torch.cat(sums)

    def information(self, classes: torch.Tensor) -> torch.Tensor:
        """Return the information ``(C,)`` in nats of every channel with `classes`."""
        n = len(classes)
        weights = count_weights(n, self.correction).to(classes.device)
        label_sum = weights[classes.bincount()].sum()
        joint = self.cell_sums(classes, int(classes.max()) + 1)
        values = information_from_sums(joint, self.sums, label_sum, n=n, correction=self.correction)
        return values.masked_fill(self.constant, 0.0).cpu()


def _as_rows(activations: ArrayLike, reduce: Reduce) -> torch.Tensor:
    """Return activations as ``(C, N)`` in their own precision."""
    values = to_tensor(activations, "activations")
    if values.ndim < 2 or 0 in values.shape:
        raise ValueError(
            f"activations must have shape (N, C) or (N, C, ...), none of them 0; got {describe(values)}"
        )
    if not values.is_floating_point() or values.dtype in {torch.float16, torch.bfloat16}:
        values = values.float()
    if values.ndim > 2:
        spatial = values.flatten(2)
        values = spatial.mean(dim=2) if reduce == "mean" else spatial.amax(dim=2)
    finite = torch.isfinite(values)
    if not bool(finite.all()):
        bad = (~finite).any(dim=0).nonzero()[:, 0].tolist()
        raise ValueError(
            f"activations must be finite; got {describe(values)} with NaN or infinite values in "
            f"{count(len(bad), 'channel')}, the first {bad[0]}"
        )
    return values.T.contiguous()


def _as_classes(labels: ArrayLike, *, samples: int) -> torch.Tensor:
    """Return labels as codes ``(N,)``."""
    values = to_tensor(labels, "labels")
    if values.ndim != 1:
        raise ValueError(f"labels must have shape (N,), one for each sample; got {describe(values)}")
    if len(values) != samples:
        raise ValueError(
            f"activations and labels must have the same number of samples; got {samples} and {len(values)}"
        )
    if values.is_floating_point():
        raise TypeError(f"labels must be integers or booleans; got {describe(values)}")
    return make_variable(values, "labels").values


def _bins_for(classes: torch.Tensor) -> int:
    return max(2, min(MOST_BINS, len(classes) // (SAMPLES_PER_CELL * (int(classes.max()) + 1))))
