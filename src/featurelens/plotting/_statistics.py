"""What one pass over a data set found: the strongest images, the range of every channel, how channels go together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from featurelens._checks import check_type, check_whole, count, describe
from featurelens.plotting._arrays import to_floats
from featurelens.plotting._colours import INK, NOT_FINITE_NOTE, PALE, SERIES, colour_map
from featurelens.plotting._curves import SIZE, chart, dress
from featurelens.plotting._grid import Grid, Tile, draw_tile
from featurelens.plotting._images import as_pictures
from featurelens.plotting._importance import layer_name
from featurelens.plotting._page import finish, page, room
from featurelens.statistics import CovarianceResult, HistogramResult, TopKResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from featurelens.plotting._arrays import Floats
    from featurelens.recording import ReceptiveField

NAME = 0.95  # inches left of a row for the name of its channel
LARGEST = 0.85  # inches: the width of a picture
GREY = 0.85  # beyond the border of an image


def strongest_images(
    result: TopKResult,
    images: Any,
    *,
    channels: Sequence[int] | None = None,
    receptive_field: ReceptiveField | None = None,
    limit: int = 16,
    title: str | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Draw a row of pictures for each channel: the images to which it responds most, strongest first.

    Above every picture stands the channel's value. With `receptive_field` only the part of the image that the unit sees is
    shown; pale grey lies beyond the border of the image. A channel whose largest value is the same in every image (a
    dead ReLU, say) has none that are strongest: its row is hatched and carries that value.

    Parameters
    ----------
    result
        From a stream with `TopK`.
    images
        ``images[row]`` is the image ``(C, H, W)`` of that row of the data set, or a tuple that begins with it: a tensor
        ``(N, C, H, W)``, or a map-style data set.
    channels
        Which channels; by default the first `limit`.
    receptive_field
        From `receptive_field`, for the layer's maps and this size of images.
    limit
        How many channels to show at most; the title says when there are more.
    title
        The heading; by default "Strongest images", of the layer if the result is a stream's.
    ax
        Draw here instead of on a new figure.

    Raises
    ------
    TypeError
        If `result` is not a `TopKResult`, `channels` no list, or `images` cannot be asked for one.
    ValueError
        If a channel does not exist, `limit` is below 1, or `receptive_field` are given for a layer without maps.

    Examples
    --------
    >>> import featurelens as fl
    >>> images, model = torch.rand(20, 1, 8, 8), torch.nn.Conv2d(1, 4, 3)
    >>> found = fl.ActivationRecorder(model, "").stream(images.split(5), fl.statistics.TopK(3))
    >>> figure = strongest_images(found[""].top_k, images, receptive_field=fl.receptive_field(model, "", (1, 8, 8)))
    >>> len(figure.axes[0].images)
    12
    """
    check_type(result, TopKResult, argument="result", expected="a TopKResult")
    total = len(result.rows)
    if channels is not None:
        check_type(channels, Iterable, argument="channels", expected="a list of channels")
    if not hasattr(images, "__getitem__"):
        raise TypeError(
            f"images must be a tensor (N, C, H, W) or a map-style data set; got {describe(images)}"
        )
    chosen = list(range(total)) if channels is None else [int(channel) for channel in channels]
    if not chosen or not all(0 <= channel < total for channel in chosen):
        raise ValueError(f"channels must be one or more of 0 ... {total - 1}; got {describe(channels)}")
    shown = chosen[: check_whole(limit, argument="limit", least=1)]
    if receptive_field is not None and result.positions.shape[2] != 2:
        raise ValueError("receptive_field are of positions in maps (N, C, H, W); this layer has none")
    places = [(row, rank) for row, c in enumerate(shown) for rank in range(result.rows.shape[1])]
    places = [(row, rank) for row, rank in places if result.rows[shown[row], rank] >= 0]
    pictures = as_pictures(
        torch.stack([_picture(result, images, shown[row], rank, receptive_field) for row, rank in places])
    )
    height, width = pictures.pixels.shape[1:3]
    across = min(LARGEST, (room(ax)[0] - NAME) / result.rows.shape[1] - 0.08)
    grid = Grid(result.rows.shape[1], len(shown), (across, across * height / width))
    heading = title or _about("Strongest images", result.layer)
    if len(shown) < len(chosen):
        heading += f" (first {len(shown)} of {len(chosen)} channels)"
    notes = ["what the unit sees; pale grey lies outside the image"] if receptive_field is not None else []
    if tied := sum(bool(result.tied[channel]) for channel in shown):
        notes.append(f"hatched: {count(tied, 'channel')} equally strong in every image, as dead ones are")
    notes = [*notes, *(note for note in pictures.notes if note != NOT_FINITE_NOTE)]
    ax = page(NAME + grid.width, grid.height, title=heading, note="; ".join(notes), ax=ax)
    for index, (row, rank) in enumerate(places):
        x, y = grid.corner(row * grid.columns + rank)
        value = float(result.values[shown[row], rank])
        tile = pictures.tile(index, f"{value:.3g}")
        if result.tied[shown[row]]:
            tile = Tile(tile.pixels, constant=value)
        draw_tile(ax, tile, (NAME + x, y), grid.tile, pictures.cmap)
    for row, channel in enumerate(shown):
        _, y = grid.corner(row * grid.columns)
        ax.text(0, y + grid.tile[1] / 2, f"channel {channel}", fontsize=8, color=INK, va="center", ha="left")
    return finish(ax, NAME + grid.width, grid.height)


def _picture(
    result: TopKResult, images: Any, channel: int, rank: int, receptive_field: ReceptiveField | None
) -> torch.Tensor:
    """Return one image ``(C, H, W)``, or what the unit sees of it in a frame that is the same for all."""
    item = images[int(result.rows[channel, rank])]
    image = torch.as_tensor(np.asarray(item[0] if isinstance(item, tuple | list) else item)).float()
    if receptive_field is None:
        return image
    top, bottom, left, right = receptive_field.box(result.positions[channel, rank])
    frame = [int((part[:, 1] - part[:, 0]).max()) for part in (receptive_field.rows, receptive_field.columns)]
    above, before = (
        _missing(frame[0], top, bottom, image.shape[1]),
        _missing(frame[1], left, right, image.shape[2]),
    )
    return torch.nn.functional.pad(image[:, top:bottom, left:right], (*before, *above), value=GREY)


def _missing(frame: int, first: int, stop: int, size: int) -> tuple[int, int]:
    """Return how much of a frame lies before and behind the pixels that are there."""
    missing = frame - (stop - first)
    if first == 0 and stop == size:
        return missing // 2, missing - missing // 2
    return (missing, 0) if first == 0 else (0, missing)


def channel_quantiles(result: HistogramResult, *, title: str | None = None, ax: Axes | None = None) -> Axes:
    """Draw between which values each channel lies: its median, its middle half, and all but a twentieth.

    Parameters
    ----------
    result
        From a stream with `Histogram`.
    title
        The heading; by default "Values of every channel", of the layer if the result is a stream's.
    ax
        Draw here instead of on a new figure.

    Raises
    ------
    TypeError
        If `result` is not a `HistogramResult`.

    Examples
    --------
    >>> import featurelens as fl
    >>> histogram = fl.statistics.Histogram()
    >>> histogram.update(torch.randn(100, 8))
    >>> channel_quantiles(histogram.compute()).get_xlabel()
    'channel, by median'
    """
    check_type(result, HistogramResult, argument="result", expected="a HistogramResult")
    low, quarter, middle, three, high = to_floats(result.quantile([0.025, 0.25, 0.5, 0.75, 0.975]))
    order = np.argsort(middle, kind="stable")
    places = np.arange(len(order))
    ax = chart(ax, size=SIZE)
    edges = np.append(places, len(places)) - 0.5

    def steps(values: Floats) -> Floats:
        return np.append(values[order], values[order][-1])

    for lower, upper, strength, label in (
        (low, high, 0.18, "middle 95 %"),
        (quarter, three, 0.4, "middle half"),
    ):
        style: dict[str, Any] = {"color": SERIES[0], "alpha": strength, "linewidth": 0, "label": label}
        ax.fill_between(edges, steps(lower), steps(upper), step="post", **style)
    ax.step(edges, steps(middle), where="post", color=SERIES[0], linewidth=1.4, label="median")
    dress(
        ax,
        xlabel="channel, by median",
        ylabel="activation",
        title=title or _about("Values of every channel", result.layer),
    )
    if len(order) <= 24:
        ax.set_xticks(places, [str(channel) for channel in order])
    else:
        ax.set_xticks([])
    ax.set_xlim(-0.5, len(order) - 0.5)
    ax.legend(frameon=False, fontsize=8)
    return ax


def channel_correlations(
    result: CovarianceResult, *, title: str | None = None, ax: Axes | None = None
) -> Axes:
    """Draw the correlation between every two channels, those that go together side by side.

    Channels are ordered by their angle in the plane of the two strongest components (Friendly 2002, "Corrgrams:
    Exploratory displays for correlation matrices"). Those that never change have no correlation and are left out.

    Parameters
    ----------
    result
        From a stream with `Covariance`.
    title
        The heading; by default "Correlation of channels", of the layer if the result is a stream's.
    ax
        Draw here instead of on a new figure.

    Raises
    ------
    TypeError
        If `result` is not a `CovarianceResult`.
    ValueError
        If no channel ever changes.

    Examples
    --------
    >>> import featurelens as fl
    >>> covariance = fl.statistics.Covariance()
    >>> covariance.update(torch.randn(100, 8))
    >>> channel_correlations(covariance.compute()).get_title(loc="left")
    'Correlation of channels'
    """
    check_type(result, CovarianceResult, argument="result", expected="a CovarianceResult")
    moving = np.flatnonzero(to_floats(result.covariance.diagonal()) > 0)
    if not len(moving):
        raise ValueError("there is no correlation to draw: no channel ever changes")
    values = to_floats(result.correlation)[np.ix_(moving, moving)]
    order = _side_by_side(values)
    ax = chart(ax, size=(5.4, 4.6))
    picture = ax.imshow(
        values[np.ix_(order, order)], cmap=colour_map("RdBu_r"), vmin=-1, vmax=1, interpolation="nearest"
    )
    bar = ax.figure.colorbar(picture, ax=ax, shrink=0.85)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=8, color=PALE, labelcolor=INK)
    left = len(result.mean) - len(moving)
    heading = title or _about("Correlation of channels", result.layer)
    heading += f" ({left} that never change{'s' if left == 1 else ''} left out)" if left else ""
    dress(ax, xlabel="channel, like beside like", ylabel="channel", title=heading)
    ax.grid(visible=False)
    names = [str(channel) for channel in moving[order]] if len(moving) <= 24 else []
    ax.set_xticks(range(len(names)), names)
    ax.set_yticks(range(len(names)), names)
    return ax


def _about(what: str, layer: str | None) -> str:
    return what if layer is None else f"{what} of {layer_name(layer)}"


def _side_by_side(correlation: Floats) -> NDArray[np.intp]:
    """Return an order in which channels that go together are neighbours, cut where the circle has its widest gap."""
    if len(correlation) < 3:
        return np.arange(len(correlation))
    first, second = np.linalg.eigh(correlation)[1][:, [-1, -2]].T
    angle = np.arctan2(second, first)
    order = np.argsort(angle, kind="stable")
    gaps = np.diff(angle[order], append=angle[order[0]] + 2 * np.pi)
    return np.roll(order, -1 - int(gaps.argmax()))
