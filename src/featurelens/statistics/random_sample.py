"""Every channel's value in a random sample of the images: what pairs of channels, quantiles and labels are studied on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch

from featurelens._checks import check_whole, count
from featurelens.statistics.base import State, Statistic, check_same_channels
from featurelens.statistics.channel_blocks import as_maps


@final
@dataclass(frozen=True, repr=False, eq=False)
class RandomSampleResult:
    """Values of all channels in a random sample of the images.

    Attributes
    ----------
    rows : torch.Tensor
        ``(n,)`` int64: rows of the data set, in ascending order; the same for every layer.
    values : torch.Tensor
        ``(n, C)`` float32: each channel's largest value in each of these images.
    labels : torch.Tensor or None
        Their labels, if the data have any.
    """

    rows: torch.Tensor
    values: torch.Tensor
    labels: torch.Tensor | None = None

    def __str__(self) -> str:
        images, channels = self.values.shape
        return f"{count(channels, 'channel')} in a random sample of {count(images, 'image')}"

    def __repr__(self) -> str:
        images, channels = self.values.shape
        return f"{type(self).__name__}({count(images, 'image')}, {count(channels, 'channel')})"


@final
@dataclass(eq=False)
class RandomSample(Statistic):
    """Each channel's largest value in `n` images, drawn without replacement; all images if there are no more.

    Which rows are drawn depends on their numbers and `seed` only: every layer, and every part of the data, agrees.

    Parameters
    ----------
    n : int
        Number of images.
    seed : int
        Another seed draws other images.

    Raises
    ------
    TypeError, ValueError
        If `n` is not a whole number of at least 1, or `seed` not a whole number.

    Examples
    --------
    >>> sample = RandomSample(2)
    >>> sample.update(torch.arange(6.0).reshape(3, 2))
    >>> sample.compute()
    RandomSampleResult(2 images, 2 channels)
    """

    n: int
    seed: int = 0

    def __post_init__(self) -> None:
        self.n = check_whole(self.n, argument="n", least=1)
        self.seed = check_whole(self.seed, argument="seed")

    def measure(self, values: torch.Tensor, first_row: int, labels: torch.Tensor | None) -> State:
        rows = torch.arange(first_row, first_row + len(values))
        state = {"rows": rows, "values": as_maps(values).amax(2).float().cpu()}
        if isinstance(labels, torch.Tensor):
            state["labels"] = labels.detach().to("cpu", copy=True)
        return self._drawn(state)

    def combine(self, one: State, other: State) -> State:
        check_same_channels(one["values"].shape[1], other["values"].shape[1])
        if (
            len(one["rows"]) == self.n
        ):  # most of a later part is not drawn: the sample need not be copied for it
            last = self._ranks(one["rows"]).max()
            other = _at(other, self._ranks(other["rows"]) < last)
            if not len(other["rows"]):
                return one
        both = {name: torch.cat([one[name], other[name]]) for name in one.keys() & other.keys()}
        return self._drawn(both)

    def summarize(self, state: State) -> RandomSampleResult:
        state = _at(state, state["rows"].argsort())
        return RandomSampleResult(state["rows"], state["values"], state.get("labels"))

    def _drawn(self, state: State) -> State:
        """Return the rows that come first in the random order."""
        if len(state["rows"]) <= self.n:
            return state
        return _at(state, self._ranks(state["rows"]).argsort()[: self.n])

    def _ranks(self, rows: torch.Tensor) -> torch.Tensor:
        """Return a random number for each row, which no two rows share: the finalizer of SplitMix64 is a bijection."""
        mixed = rows + _as_int64((self.seed + 1) * 0x9E3779B97F4A7C15)
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            mixed = (mixed ^ _shifted(mixed, shift)) * _as_int64(factor)
        return mixed ^ _shifted(mixed, 31)


def _at(state: State, places: torch.Tensor) -> State:
    return {name: values[places] for name, values in state.items()}


def _shifted(values: torch.Tensor, bits: int) -> torch.Tensor:
    """Shift 64 bits to the right, filling with zeros; torch fills with the sign."""
    return (values >> bits) & ((1 << (64 - bits)) - 1)


def _as_int64(value: int) -> int:
    """Return the signed number with the same 64 bits."""
    return (value + 2**63) % 2**64 - 2**63
