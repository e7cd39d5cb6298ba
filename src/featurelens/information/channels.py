"""Mutual information between each channel and the label: thousands of channels in one pass."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, final

import torch

from featurelens._checks import check_choice, check_flag, count, describe, to_tensor
from featurelens._random import Seed, make_generator, permutation
from featurelens.information.binned import MOST_BINS, SAMPLES_PER_CELL, check_binning
from featurelens.information.chance import ChanceTable, cells_seen
from featurelens.information.chunks import row_slices, shown
from featurelens.information.discretization import Strategy, bin_codes
from featurelens.information.entropy import Correction, count_weights, information_from_sums
from featurelens.information.estimator import Null, Options
from featurelens.information.results import ChannelInformationResult, Units
from featurelens.information.variables import ArrayLike, as_variable, entropy, with_full_precision

if TYPE_CHECKING:
    from collections.abc import Iterator

Reduce = Literal["mean", "max"]

VALUES_AT_A_TIME = 2**18
"""Small enough for a core's cache."""
PERMUTATIONS = 20
"""Enough for the mean of the null, with which a channel is compared."""


def channel_information(
    activations: ArrayLike,
    labels: ArrayLike,
    *,
    bins: int | Literal["auto"] = "auto",
    strategy: Strategy = "quantile",
    correction: Correction = "permutation",
    reduce: Reduce = "mean",
    null: Null | None = "permutation",
    permutations: int = PERMUTATIONS,
    units: Units = "nats",
    progress: bool = True,
    seed: Seed = 0,
) -> ChannelInformationResult:
    """Estimate the mutual information between each single channel and the label.

    Channel c gets the value of ``BinnedMutualInformation(bins=...).estimate(activations[:, c], labels)``, about a
    hundred times as fast; a constant channel gets 0.

    Parameters
    ----------
    activations, labels
        ``(N, C)``, or ``(N, C, ...)``, which is first reduced by `reduce`, "mean" or "max"; ``(N,)`` integers or
        booleans.
    bins
        Bins per channel, at most N; "auto" aims for five samples per cell: ``N / 5K`` for K labels, from 2 to 64.
    strategy, correction
        As in :class:`BinnedMutualInformation`.
    null, permutations, units, seed
        As in :meth:`MutualInformation.estimate`; the null permutes the labels.
    progress
        Show a progress bar; without a terminal, write a line every ten seconds.

    Raises
    ------
    TypeError, ValueError
        If shapes or lengths do not match, values are not finite, there is only one label or one for every sample, or an
        option is not one of the above.

    Examples
    --------
    >>> labels = torch.arange(1000) % 2
    >>> activations = torch.stack([labels + 0.1 * torch.rand(1000), torch.rand(1000)], dim=1)
    >>> result = channel_information(activations, labels)
    >>> [round(abs(value), 1) for value in result.values.tolist()]
    [0.7, 0.0]
    """
    check_choice(reduce, ("mean", "max"), argument="reduce")
    bins = check_binning(bins, strategy, correction)
    check_flag(progress, argument="progress")
    options = Options(null=null, permutations=permutations, units=units, seed=seed)
    rows = _as_rows(activations, reduce)
    classes = _as_classes(labels, samples=rows.shape[1]).to(rows.device)
    table = _ChannelTable(rows, classes, bins, strategy, correction)
    return _measured(table, classes, options, progress)


@final
class _ChannelTable:
    """Bins of all channels, counted against as many orders of the labels as needed."""

    def __init__(
        self,
        rows: torch.Tensor,
        classes: torch.Tensor,
        bins: int | Literal["auto"],
        strategy: Strategy,
        correction: Correction,
    ) -> None:
        n = len(classes)
        self.levels = int(classes.max()) + 1
        self.bins = max(2, min(MOST_BINS, n // (SAMPLES_PER_CELL * self.levels))) if bins == "auto" else bins
        if bins != "auto" and bins > n:
            raise ValueError(f"bins must be at most the number of samples, {n}; got {bins}")
        self.correction: Correction = correction
        self.method = f"channels(bins={self.bins}, strategy={strategy!r}, correction={correction!r})"
        self.weights = count_weights(n, correction).to(rows.device)
        parts = row_slices(len(rows), n, VALUES_AT_A_TIME)
        self.codes = torch.cat([bin_codes(rows[part], self.bins, strategy) for part in parts])  # (C, N) int32
        self.constant = (rows == rows[:, :1]).all(dim=1)
        sizes, labels = self._bin_counts(), classes.bincount()
        self.channel_sums, self.label_sum = self.weights[sizes].sum(dim=1), self.weights[labels].sum()
        self.chance = None
        if correction == "permutation":
            self.chance = ChanceTable(sizes, labels, n).of(sizes, labels[None])

    def information(self, classes: torch.Tensor) -> torch.Tensor:
        """Return the information ``(C,)`` in nats between every channel and `classes`, the labels in some order."""
        sums, seen = [], []
        for counts in self._tables(classes, self.levels):
            sums.append(self.weights[counts].sum(dim=1))
            seen.append(cells_seen(counts))
        values = information_from_sums(
            torch.cat(sums), self.channel_sums, self.label_sum, n=len(classes), correction=self.correction
        )
        if self.chance is not None:
            values = self.chance.taken_off(values[:, None], torch.cat(seen)[:, None])[:, 0]
        return values.masked_fill(self.constant, 0.0).cpu()

    def _bin_counts(self) -> torch.Tensor:
        """Return how many samples each channel has in each bin, ``(C, bins)``."""
        return torch.cat(list(self._tables(torch.zeros_like(self.codes[0]), levels=1)))

    def _tables(self, classes: torch.Tensor, levels: int) -> Iterator[torch.Tensor]:
        """Yield the counts ``(c, bins * levels)`` of channels' bins against `classes`, some channels at a time."""
        cells, classes = self.bins * levels, classes.int()
        for channels in row_slices(len(self.codes), max(len(classes), cells), VALUES_AT_A_TIME):
            part = self.codes[channels]
            offset = torch.arange(len(part), dtype=torch.int32, device=part.device)[:, None] * cells
            counts = torch.bincount((part * levels + classes + offset).flatten(), minlength=len(part) * cells)
            yield counts.reshape(len(part), cells)


def _measured(
    table: _ChannelTable, classes: torch.Tensor, options: Options, progress: bool
) -> ChannelInformationResult:
    n = len(classes)
    values = table.information(classes)
    null_mean, p_values = None, None
    if options.null is not None:
        generator = make_generator(options.seed)
        orders = shown(range(options.permutations), "permuting", "permutation", progress)
        shuffled = torch.stack(
            [table.information(classes[permutation(n, generator, classes.device)]) for _ in orders]
        )
        null_mean = shuffled.mean(dim=0)
        p_values = (1.0 + (shuffled >= values).sum(dim=0).double()) / (1 + options.permutations)
    constant = int(table.constant.sum())
    return ChannelInformationResult(
        values=values,
        method=table.method,
        n=n,
        null_mean=null_mean,
        p_values=p_values,
        label_entropy=entropy(classes),
        ceiling=math.log(table.bins),
        notes=(f"{count(constant, 'channel')} never changed",) if constant else (),
    ).to(options.units)


def _as_rows(activations: ArrayLike, reduce: Reduce) -> torch.Tensor:
    """Return activations as ``(C, N)`` in their own precision."""
    values = to_tensor(activations, "activations")
    if values.ndim < 2 or 0 in values.shape:
        raise ValueError(
            "activations must have shape (N, C) or (N, C, ...) with no empty dimension; "
            f"got {describe(values)}"
        )
    values = with_full_precision(values)
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
    classes = as_variable(values, "labels").values
    if int(classes.max()) + 1 == samples:
        raise ValueError(f"labels must recur; got {samples} different labels for as many samples")
    return classes
