"""The images that activate every channel most."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, final

import numpy as np
import torch

from featurelens._checks import check_whole, count
from featurelens._html import Shown
from featurelens.statistics.base import State, Statistic, check_same_channels
from featurelens.statistics.channel_blocks import with_float64

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NO_IMAGE = 2**62  # the row of a place that no image has; sorts behind every image


@final
@dataclass(frozen=True, repr=False, eq=False)
class TopKResult(Shown):
    """The strongest images of every channel, strongest first.

    Attributes
    ----------
    values : torch.Tensor
        ``(C, k)`` float64: the channel's largest value in the image; NaN if there were fewer than k images.
    rows : torch.Tensor
        ``(C, k)`` int64: the image's row in the data set; -1 where there is none.
    positions : torch.Tensor
        ``(C, k, D)`` int64: position of that value in the map, ``(h, w)`` for feature maps ``(N, C, H, W)``; D is 0
        for ``(N, C)``.
    tied : torch.Tensor
        ``(C,)`` bool: whether the channel's largest value is the same in every image of the data set, as in a dead
        channel. The listed images are then merely the first.
    layer : str or None
        The layer, if measured by `ActivationRecorder.stream`.
    """

    values: torch.Tensor
    rows: torch.Tensor
    positions: torch.Tensor
    tied: torch.Tensor
    layer: str | None = None

    def plot(
        self,
        images: Any,
        *,
        channels: Sequence[int] | None = None,
        receptive_field: Any = None,
        limit: int = 16,
        title: str | None = None,
        ax: Axes | None = None,
    ) -> Figure:
        """Draw a row of pictures for each channel; see `plotting.strongest_images`."""
        from featurelens import plotting

        return plotting.strongest_images(
            self, images, channels=channels, receptive_field=receptive_field, limit=limit, title=title, ax=ax
        )

    def __str__(self) -> str:
        channels, k = self.values.shape
        text = f"The {count(k, 'strongest image')} of each of {count(channels, 'channel')}"
        tied = int(self.tied.sum())
        return f"{text}; {count(tied, 'channel')} equally strong in every image" if tied else text

    def __repr__(self) -> str:
        channels, k = self.values.shape
        return f"{type(self).__name__}({count(channels, 'channel')}, {count(k, 'image')} each)"


@final
@dataclass(eq=False)
class TopK(Statistic):
    """The `k` images in which each channel has its largest values, with value, row and position.

    Images with equal values are ranked by row; within an image the first position wins. NaN is never among the largest;
    infinite values may be. Rows are those of the data set, so the loader may not shuffle.

    Parameters
    ----------
    k : int
        Number of images for each channel.

    Raises
    ------
    TypeError, ValueError
        If `k` is not a whole number of at least 1.

    Examples
    --------
    >>> strongest = TopK(2)
    >>> strongest.update(torch.tensor([[1.0], [3.0], [3.0]]))
    >>> strongest.compute().rows.tolist()
    [[1, 2]]
    """

    k: int

    needs_order: ClassVar[bool] = True

    def __post_init__(self) -> None:
        self.k = check_whole(self.k, argument="k", least=1)

    def measure(self, values: torch.Tensor, first_row: int, labels: torch.Tensor | None) -> State:
        largest, positions = _largest(values)
        rows = torch.arange(first_row, first_row + len(values)).expand_as(largest)
        ranked = {
            "values": largest.nan_to_num(-torch.inf, torch.inf, -torch.inf),
            "rows": rows.masked_fill(largest.isnan(), NO_IMAGE),
            "positions": positions,
        }
        return {**self._best(ranked), "least": largest.nan_to_num(torch.inf, torch.inf, -torch.inf).amin(1)}

    def combine(self, one: State, other: State) -> State:
        check_same_channels(len(one["rows"]), len(other["rows"]))
        if one["positions"].shape[2] != other["positions"].shape[2]:
            raise ValueError("maps must have the same number of dimensions in every batch")
        ranked = {
            name: torch.cat([one[name], other[name]], dim=1) for name in ("values", "rows", "positions")
        }
        return {**self._best(ranked), "least": torch.minimum(one["least"], other["least"])}

    def _best(self, state: State) -> State:
        """Return the first k by value, then by row; places without an image come last."""
        values, rows = state["values"].numpy(), state["rows"].numpy()
        order = torch.from_numpy(np.lexsort((rows, -values, rows == NO_IMAGE), axis=1)[:, : self.k])
        return {
            "values": state["values"].gather(1, order),
            "rows": state["rows"].gather(1, order),
            "positions": state["positions"].take_along_dim(order[..., None], 1),
        }

    def summarize(self, state: State) -> TopKResult:
        missing = self.k - state["rows"].shape[1]
        rows = _longer(state["rows"], missing, NO_IMAGE)
        values, positions = (_longer(state[name], missing, 0) for name in ("values", "positions"))
        empty = rows == NO_IMAGE
        return TopKResult(
            values.masked_fill(empty, torch.nan),
            rows.masked_fill(empty, -1),
            positions.masked_fill(empty[..., None], -1),
            (state["least"] == values[:, 0]) & ~empty[:, 0] & (self.rows > 1),
        )


def _largest(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return each channel's largest value in each image ``(C, N)``, NaN if all values are, and its position."""
    values = with_float64(values)
    if values.ndim == 2:
        largest = values.T.double().cpu()
        return largest, torch.zeros(*largest.shape, 0, dtype=torch.int64)
    maps = values.flatten(2)
    if not maps.is_floating_point() or maps.itemsize == 1:  # torch compares no float8
        maps = maps.double()
    found, place = maps.max(dim=2)
    if bool(found.isnan().any()):  # max gives NaN wherever there is one
        nothing = maps.isnan().all(2)
        found, place = maps.nan_to_num(-torch.inf, torch.inf, -torch.inf).max(dim=2)
        found = found.masked_fill(nothing, torch.nan)
    position = torch.stack(torch.unravel_index(place.T.cpu(), values.shape[2:]), dim=2)
    return found.T.double().cpu(), position


def _longer(columns: torch.Tensor, missing: int, value: int) -> torch.Tensor:
    """Return ``(C, K, ...)`` with `missing` more columns of a value."""
    return torch.cat([columns, columns.new_full((len(columns), missing, *columns.shape[2:]), value)], dim=1)
