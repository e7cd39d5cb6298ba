"""The images to which every channel responds most."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

import torch

from featurelens._checks import check_whole, count
from featurelens.statistics._blocks import with_float64
from featurelens.statistics.base import State, Statistic, check_same_channels

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NOBODY = 2**62  # the row of a place that nobody holds; sorts behind every image


@final
@dataclass(frozen=True, repr=False, eq=False)
class TopKResult:
    """The strongest images of every channel, strongest first.

    Attributes
    ----------
    values : torch.Tensor
        ``(C, k)`` float64: the channel's largest value in that image; NaN where there were fewer than k images.
    rows : torch.Tensor
        ``(C, k)`` int64: the image's row in the data set; -1 where there is none.
    positions : torch.Tensor
        ``(C, k, D)`` int64: where in the map the value stands, ``(h, w)`` for feature maps ``(N, C, H, W)``; D is 0
        for ``(N, C)``.
    tied : torch.Tensor
        ``(C,)`` bool: whether the channel's largest value is the same in every image of the data set, as in a dead
        channel. None is then stronger than another, and those listed are merely the first.
    layer : str or None
        Where it was gathered, if by a stream.
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

    def __repr__(self) -> str:
        channels, k = self.values.shape
        return f"{type(self).__name__}({count(channels, 'channel')}, {count(k, 'image')} each)"


@final
@dataclass(eq=False)
class TopK(Statistic):
    """The `k` images in which each channel is largest, with the value, the row and the position.

    Images of equal value are ranked by row, the first of the data set first; within an image the first position
    wins. NaN is never among the largest; an infinite value is.

    Parameters
    ----------
    k : int
        How many images for each channel.

    Raises
    ------
    TypeError, ValueError
        If `k` is not a whole number from 1.

    Examples
    --------
    >>> strongest = TopK(2)
    >>> strongest.update(torch.tensor([[1.0], [3.0], [3.0]]))
    >>> strongest.compute().rows.tolist()
    [[1, 2]]
    """

    k: int

    def __post_init__(self) -> None:
        self.k = check_whole(self.k, argument="k", least=1)

    def measure(self, values: torch.Tensor, first_row: int, labels: torch.Tensor | None) -> State:
        largest, position = _largest(values)
        rows = torch.arange(first_row, first_row + len(values)).expand_as(largest)
        rows = rows.masked_fill(largest.isnan(), NOBODY)
        # Rows ascend, so that a stable sort by value leaves equal values in their order.
        chosen = largest.nan_to_num(-torch.inf, torch.inf, -torch.inf).sort(
            dim=1, descending=True, stable=True
        )
        part = {
            "values": chosen.values,
            "rows": rows.gather(1, chosen.indices),
            "positions": position.gather(1, chosen.indices[..., None].expand(-1, -1, position.shape[2])),
        }
        least = largest.nan_to_num(torch.inf, torch.inf, -torch.inf).amin(1)
        return {**self._best(part), "least": least}

    def combine(self, one: State, other: State) -> State:
        check_same_channels(len(one["rows"]), len(other["rows"]))
        if one["positions"].shape[2] != other["positions"].shape[2]:
            raise ValueError("maps must have as many dimensions in every batch")
        ranked = ("values", "rows", "positions")
        best = self._best({name: torch.cat([one[name], other[name]], dim=1) for name in ranked})
        return {**best, "least": torch.minimum(one["least"], other["least"])}

    def _best(self, state: State) -> State:
        """Return the first k by value, then by row."""
        by_row = state["rows"].sort(dim=1, stable=True).indices
        by_value = state["values"].gather(1, by_row).sort(dim=1, descending=True, stable=True).indices
        order = by_row.gather(1, by_value)
        # What nobody holds has the value of minus infinity, and so may an image: the row tells them apart.
        held = (state["rows"].gather(1, order) >= NOBODY).sort(dim=1, stable=True).indices[:, : self.k]
        order = order.gather(1, held)
        return {
            "values": state["values"].gather(1, order),
            "rows": state["rows"].gather(1, order),
            "positions": state["positions"].gather(
                1, order[..., None].expand(-1, -1, state["positions"].shape[2])
            ),
        }

    def summarize(self, state: State) -> TopKResult:
        missing = self.k - state["rows"].shape[1]
        rows = torch.nn.functional.pad(state["rows"], (0, missing), value=NOBODY)
        values = torch.nn.functional.pad(state["values"], (0, missing))
        positions = torch.nn.functional.pad(state["positions"], (0, 0, 0, missing))
        nobody = rows >= NOBODY
        return TopKResult(
            values.masked_fill(nobody, torch.nan),
            rows.masked_fill(nobody, -1),
            positions.masked_fill(nobody[..., None], -1),
            (state["least"] == values[:, 0]) & ~nobody[:, 0] & (self.rows > 1),
        )


def _largest(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return each channel's largest value in each image ``(C, N)``, NaN if it has no other, and where it stands."""
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
