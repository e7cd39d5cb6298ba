"""Rows of images with text at the left: the strongest images of channels, alone or beside optimized ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from featurelens._checks import as_list, check_type, check_whole, count, describe, to_tensor
from featurelens.maximization import RealImageComparison
from featurelens.maximization.layouts import LAYOUTS
from featurelens.plotting.arrays import check_array, check_limit
from featurelens.plotting.colours import INK, NOT_FINITE_NOTE, QUIET
from featurelens.plotting.grid import AnyTile, Grid, draw_tile
from featurelens.plotting.page import (
    LINE,
    about,
    figure_of,
    first_of,
    objective_name,
    page,
    room,
    text_or,
    wrap,
)
from featurelens.plotting.pictures import drawn
from featurelens.recording import ReceptiveField
from featurelens.statistics import TopKResult

NAME = 0.95  # inches left of a row for the name of its channel
IMAGE = 0.85  # width of a picture, in inches
GREY = 0.85  # beyond the border of an image
TEXT = 1.9  # width of the words left of an optimized image
APART = 0.25  # between the optimized image and the real ones


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
    """Draw a row for each channel: the images that activate it most, strongest first.

    Each image is labelled with the channel's value. With `receptive_field` only the part of the image that the unit
    depends on is shown, pale grey beyond the image border. A channel with the same largest value in every image (a dead
    ReLU, say) is hatched and labelled with that value.

    Parameters
    ----------
    result
        From `ActivationRecorder.stream` with `TopK`.
    images
        A tensor ``(N, C, H, W)`` or a map-style data set: ``images[row]`` is the image ``(C, H, W)`` in that row of the
        data set, or a tuple that begins with it.
    channels
        Which channels; by default the first `limit`.
    receptive_field
        From the function `receptive_field`, for this layer and image size.
    limit
        How many channels to show at most; the title says when there are more.
    title, ax
        As for `image_grid`; by default "Strongest images", with the layer if the result has one.

    Raises
    ------
    TypeError, ValueError
        If an argument is not one of the above, a channel does not exist, or `receptive_field` is passed for a layer
        without maps.

    Examples
    --------
    >>> strongest = TopKResult(values=torch.ones(1, 2), rows=torch.tensor([[3, 0]]),
    ...     positions=torch.zeros(1, 2, 0), tied=torch.tensor([False]))
    >>> len(strongest_images(strongest, torch.rand(4, 1, 8, 8)).axes[0].images)
    2
    """
    check_type(result, TopKResult, argument="result", expected="a TopKResult")
    chosen = _chosen(result, images, channels, receptive_field)
    shown = chosen[: check_limit(limit, len(chosen))]
    heading = first_of(
        text_or(title, about("Strongest images", result.layer)), len(shown), len(chosen), noun=" channels"
    )
    return _draw_strongest(result, images, shown, receptive_field, heading, ax)


def _chosen(
    result: TopKResult, images: Any, channels: Sequence[int] | None, receptive_field: ReceptiveField | None
) -> list[int]:
    """Check what goes with the result, and return the channels to be shown."""
    if channels is not None:
        listed = as_list(channels, argument="channels", expected="a list of channels")
        channels = [check_whole(channel, argument="channels") for channel in listed]
    if not hasattr(images, "__getitem__") or getattr(images, "ndim", 1) == 0:
        raise TypeError(
            f"images must be a tensor (N, C, H, W) or a map-style data set; got {describe(images)}"
        )
    last = int(result.rows.max())
    if hasattr(images, "__len__") and len(images) <= last:
        raise ValueError(f"images must hold image {last}, which the result names; got {describe(images)}")
    total = len(result.rows)
    chosen = list(range(total)) if channels is None else channels
    if not chosen or not all(0 <= channel < total for channel in chosen):
        raise ValueError(f"channels must be one or more of 0 ... {total - 1}; got {describe(channels)}")
    expected = "what featurelens.receptive_field returns"
    check_type(receptive_field, ReceptiveField | None, argument="receptive_field", expected=expected)
    if receptive_field is not None and result.positions.shape[2] != 2:
        raise ValueError("receptive_field needs feature maps (N, C, H, W); this layer has none")
    return chosen


def _draw_strongest(
    result: TopKResult,
    images: Any,
    shown: list[int],
    receptive_field: ReceptiveField | None,
    heading: str,
    ax: Axes | None,
) -> Figure:
    most = result.rows.shape[1]
    places = [(row, rank) for row, c in enumerate(shown) for rank in range(most) if result.rows[c, rank] >= 0]
    cut = [_picture(result, images, shown[row], rank, receptive_field) for row, rank in places]
    if len({image.shape for image in cut}) > 1:
        raise ValueError(f"images must be of one size; got {describe(cut)}")
    pictures = drawn(check_array(torch.stack(cut), LAYOUTS, argument="images"))
    height, width = pictures.shape
    across = min(IMAGE, (room(ax)[0] - NAME) / most - 0.08)
    grid = Grid(most, len(shown), (across, across * height / width), left=NAME)
    notes = ["receptive fields; pale grey lies outside the image"] if receptive_field is not None else []
    if tied := sum(bool(result.tied[channel]) for channel in shown):
        notes.append(f"hatched: {count(tied, 'channel')} equally strong in every image (dead, for example)")
    notes += [note for note in pictures.notes if note != NOT_FINITE_NOTE]
    ax = page(grid.width, grid.height, title=heading, note="; ".join(notes), ax=ax)
    for index, (row, rank) in enumerate(places):
        value = float(result.values[shown[row], rank])
        tile = pictures.tile(index, f"{value:.3g}")
        if result.tied[shown[row]]:
            tile = replace(tile, label="", constant=value)
        draw_tile(ax, tile, grid.corner(row * most + rank), grid.tile, pictures.cmap)
    for row, channel in enumerate(shown):
        y = grid.corner(row * most)[1] + grid.tile[1] / 2
        ax.text(0, y, f"channel {channel}", fontsize=8, color=INK, va="center", ha="left")
    return figure_of(ax)


def _picture(
    result: TopKResult, images: Any, channel: int, rank: int, receptive_field: ReceptiveField | None
) -> torch.Tensor:
    """Return one image ``(C, H, W)``, or what the unit sees of it in a frame that is the same for all."""
    row = int(result.rows[channel, rank])
    item = images[row]
    found = item[0] if isinstance(item, tuple | list) and item else item
    array = found if isinstance(found, torch.Tensor) else np.asarray(found)  # of a PIL image, for example
    image = to_tensor(array, f"images[{row}]").cpu().float()
    if receptive_field is None:
        return image
    if image.ndim != 3:
        raise ValueError(f"receptive_field needs images (C, H, W); images[{row}] is a {describe(image)}")
    top, bottom, left, right = receptive_field.box(result.positions[channel, rank])
    frame = [int((part[:, 1] - part[:, 0]).max()) for part in (receptive_field.rows, receptive_field.columns)]
    above = _missing(frame[0], top, bottom, image.shape[1])
    before = _missing(frame[1], left, right, image.shape[2])
    return torch.nn.functional.pad(image[:, top:bottom, left:right], (*before, *above), value=GREY)


def _missing(frame: int, first: int, stop: int, size: int) -> tuple[int, int]:
    """Return how much of a frame lies before and behind the pixels that are there."""
    missing = frame - (stop - first)
    if first == 0 and stop == size:
        return missing // 2, missing - missing // 2
    return (missing, 0) if first == 0 else (0, missing)


def comparison(
    comparison: RealImageComparison,
    *,
    limit: int = 16,
    shown: int = 5,
    title: str | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Draw a row for each objective: its name, its optimized image, and the strongest real images.

    Each image is labelled with its value of the objective.

    Parameters
    ----------
    comparison
        From `MaximizationResult.compare`.
    limit
        How many objectives to show at most; the title says when there are more.
    shown
        How many real images to show at most in each row.
    title, ax
        As for `image_grid`; by default a summary of the comparison.

    Raises
    ------
    TypeError, ValueError
        If `comparison` is not a RealImageComparison, or `limit` or `shown` is below 1.

    Examples
    --------
    >>> import featurelens as fl
    >>> model = torch.nn.Conv2d(1, 4, 3)
    >>> result = fl.ActivationMaximizer(model, fl.FourierImage((1, 8, 8)), steps=2).run(model)
    >>> len(comparison(result.compare(torch.rand(20, 1, 8, 8))).axes[0].images)
    24
    """
    check_type(comparison, RealImageComparison, argument="comparison", expected="a RealImageComparison")
    rows = check_limit(limit, len(comparison))
    real = check_limit(shown, comparison.top_images.shape[1], argument="shown")
    title = text_or(title, repr(comparison)[len("RealImageComparison(") : -1].capitalize())
    if rows < len(comparison):
        title += f" (first {rows} of {len(comparison)} shown)"
    return _draw_comparison(comparison, rows, real, title, ax)


def _draw_comparison(
    comparison: RealImageComparison, rows: int, real: int, heading: str, ax: Axes | None
) -> Figure:
    optimized = drawn(comparison.images[:rows])
    height, width = optimized.shape
    ratio = min(max(height / width, 0.25), 4.0)
    size = (IMAGE / max(ratio, 1) ** 0.5, IMAGE * ratio / max(ratio, 1) ** 0.5)
    grid = Grid(real + 1, rows, size, left=TEXT)
    note = "; ".join(
        [
            "left: the optimized image; right of it: the strongest real images; above each: its score",
            *optimized.notes,
        ]
    )
    ax = page(grid.width + APART, grid.height, title=heading, note=note, ax=ax)
    # Apart, as a model may accept images of any size, so that real ones may have another than the optimized ones.
    for k in range(rows):
        photographs = drawn(comparison.top_images[k, :real])
        tiles: list[AnyTile] = [optimized.tile(k, f"{float(comparison.scores[k]):.3g}")]
        if not bool(comparison.dead[k]):  # or any image would be as strong as another
            values = comparison.top_scores[k, :real].tolist()
            tiles += [photographs.tile(column, f"{value:.3g}") for column, value in enumerate(values)]
        for column, tile in enumerate(tiles):
            x, y = grid.corner(k * grid.columns + column)
            place = (x + (APART if column else 0), y)
            draw_tile(ax, tile, place, _fitted(tile.shape, size), photographs.cmap)
        _describe(ax, objective_name(comparison.objectives[k]), comparison.judgements[k], y)
    return figure_of(ax)


def _fitted(shape: tuple[int, ...], size: tuple[float, float]) -> tuple[float, float]:
    """Return width and height of a picture ``(H, W, ...)``, as large as it can be within `size` and not distorted."""
    scale = min(size[0] / shape[1], size[1] / shape[0])
    return shape[1] * scale, shape[0] * scale


def _describe(ax: Axes, objective: str, judgement: str, y: float) -> None:
    """Write what a row is about, and the judgement below it."""
    lines = wrap(objective, TEXT - 0.15, 8.0)[:3]
    ax.text(0, y, "\n".join(lines), fontsize=8, color=INK, va="top", ha="left")
    below = y + len(lines) * 8 * LINE / 72 + 0.02
    words = "\n".join(wrap(judgement, TEXT - 0.15, 6.5))
    ax.text(0, below, words, fontsize=6.5, color=QUIET, va="top", ha="left")
