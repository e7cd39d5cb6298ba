"""A random sample of images: the same ones in every layer, however the data set is divided."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, final

import numpy as np
import torch
from numpy.typing import NDArray

from featurelens._checks import check_choice, check_whole, count
from featurelens._html import Shown
from featurelens.statistics.base import State, Statistic, check_same_channels
from featurelens.statistics.channel_blocks import as_maps


@final
@dataclass(frozen=True, repr=False, eq=False)
class SampleResult(Shown):
    """Activations for a random sample of the images.

    Attributes
    ----------
    values : torch.Tensor
        ``(n, C)`` float64: each channel's mean over positions, or its maximum.
    rows : torch.Tensor
        ``(n,)`` int64: the images' rows in the data set, in rising order.
    labels : torch.Tensor or None
        Their labels, if every batch had some.
    layer : str or None
        The layer, if measured by `ActivationRecorder.stream`.
    """

    values: torch.Tensor
    rows: torch.Tensor
    labels: torch.Tensor | None = None
    layer: str | None = None

    def __str__(self) -> str:
        images, channels = self.values.shape
        return f"{count(channels, 'channel')} for {count(images, 'random image')}"

    def __repr__(self) -> str:
        images, channels = self.values.shape
        return f"{type(self).__name__}({count(images, 'image')}, {count(channels, 'channel')})"


@final
@dataclass(eq=False)
class Sample(Statistic):
    """The channels' means over positions, or maxima, in `images` random images, for whatever needs the images themselves.

    For example the dimension of a layer (`similarity.intrinsic_dimension`), or the channels of one layer that are nearest to
    those of another (`similarity.nearest_channels`). Which images are drawn depends on `seed` and on their rows only, so
    every layer, share and network has the same ones. Memory: 8 bytes for each image and channel.

    Parameters
    ----------
    images : int
        Size of the sample; all images if there are fewer.
    seed : int
        Another seed draws other images.
    reduce : str
        "mean" or "max" over positions.

    Raises
    ------
    TypeError, ValueError
        If `images` is not a whole number of at least 1, `seed` not a whole number of at least 0, or `reduce` is neither.

    Examples
    --------
    >>> sample = Sample(3)
    >>> sample.update(torch.arange(100.0)[:, None])
    >>> found = sample.compute()
    >>> found, torch.equal(found.values[:, 0].long(), found.rows)
    (SampleResult(3 images, 1 channel), True)
    """

    images: int
    seed: int = 0
    reduce: Literal["mean", "max"] = "mean"

    def __post_init__(self) -> None:
        self.images = check_whole(self.images, argument="images", least=1)
        self.seed = check_whole(self.seed, argument="seed", least=0)
        check_choice(self.reduce, ("mean", "max"), argument="reduce")

    def measure(self, values: torch.Tensor, first_row: int, labels: torch.Tensor | None) -> State:
        rows = torch.arange(first_row, first_row + len(values))
        drawn = torch.from_numpy(_places(rows.numpy(), self.seed).argsort()[: self.images].copy())
        maps = as_maps(values[drawn.to(values.device)])
        reduced = maps.mean(2, dtype=torch.float64) if self.reduce == "mean" else maps.amax(2).double()
        state = {"rows": rows[drawn], "values": reduced.cpu()}
        return state if labels is None else {**state, "labels": labels.detach().cpu()[drawn]}

    def combine(self, one: State, other: State) -> State:
        check_same_channels(one["values"].shape[1], other["values"].shape[1])
        if (
            len(one["rows"]) == self.images
        ):  # few of the rest are drawn: the sample need not be copied for none
            last = _places(one["rows"].numpy(), self.seed).max()
            drawn = torch.from_numpy(_places(other["rows"].numpy(), self.seed) < last)
            other = {name: values[drawn] for name, values in other.items()}
            if not len(other["rows"]):
                return one
        both = {name: torch.cat([one[name], other[name]]) for name in one if name in other}
        first = torch.from_numpy(_places(both["rows"].numpy(), self.seed).argsort()[: self.images].copy())
        return {name: values[first] for name, values in both.items()}

    def summarize(self, state: State) -> SampleResult:
        order = state["rows"].argsort()
        return SampleResult(**{name: values[order] for name, values in state.items()})


def _places(rows: NDArray[np.int64], seed: int) -> NDArray[np.uint64]:
    """Return a random number for every row, different for different rows (SplitMix64 of Steele et al. 2014)."""
    with np.errstate(over="ignore"):
        mixed = rows.astype(np.uint64)
        for number in (seed, 0):
            mixed = mixed + np.uint64(((2 * number + 1) * 0x9E3779B97F4A7C15) % 2**64)
            mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            mixed = mixed ^ (mixed >> np.uint64(31))
    return mixed
