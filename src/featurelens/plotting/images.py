"""Images as pictures: in a grid, and in files."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib.image
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.figure import Figure
from numpy.typing import NDArray

from featurelens._checks import check_type, check_whole, count
from featurelens.maximization import MaximizationResult
from featurelens.plotting.arrays import (
    Array,
    Floats,
    check_array,
    check_labels,
    check_limit,
    finite_range,
    to_floats,
)
from featurelens.plotting.colours import NOT_FINITE_NOTE, colour_map, paint_not_finite
from featurelens.plotting.grid import LABEL, Grid, Tile, arrange, break_label, draw_grid, label_size
from featurelens.plotting.page import figure_of, first_of, page, room


def image_grid(
    images: Array,
    *,
    labels: Sequence[object] | Array | None = None,
    columns: int | None = None,
    limit: int = 64,
    title: str | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Show a batch of images in a grid.

    One channel is drawn in grey, three as RGB. Of any other number the channels are drawn side by side, in viridis.
    Values in [0, 1] and ``uint8`` are shown as they are; a batch that leaves [0, 1] (normalized images) is
    stretched to it as a whole, and the note under the title says so. NaN and infinite values are pink.

    Parameters
    ----------
    images
        ``(N, C, H, W)``.
    labels
        One for each image, written above it.
    columns
        Pictures in a row; by default the fullest rectangle.
    limit
        How many images to show at most; the title says when there are more.
    title
        The heading; by default none.
    ax
        Draw here instead of on a new figure.

    Raises
    ------
    TypeError, ValueError
        If `images` is not ``(N, C, H, W)`` of real numbers or is empty, or `labels` has another length.

    Examples
    --------
    >>> figure = image_grid(torch.rand(12, 3, 32, 32), labels=range(12), title="Noise")
    >>> len(figure.axes[0].images)
    12
    """
    images = check_array(images, {4: "(N, C, H, W)"}, argument="images")
    names = check_labels(labels, len(images), "image")
    shown = check_limit(limit, len(images))
    if columns is not None:
        check_whole(columns, argument="columns", least=1)
    pictures = as_pictures(images[:shown])
    names, grid = _labelled(names[:shown], pictures.pixels.shape[1:3], columns, room(ax))
    heading = first_of(title or ("" if shown == len(images) else "Images"), shown, len(images))
    ax = page(grid.width, grid.height, title=heading, note="; ".join(pictures.notes), ax=ax)
    draw_grid(ax, [pictures.tile(i, names[i]) for i in range(shown)], grid, pictures.cmap)
    return figure_of(ax)


def maximization(
    result: MaximizationResult,
    *,
    limit: int = 64,
    columns: int | None = None,
    title: str | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Show optimized images in a grid, each with its score and its objective above it.

    Parameters
    ----------
    result
        From `ActivationMaximizer.run`.
    limit, columns, title, ax
        As for `image_grid`.

    Raises
    ------
    TypeError
        If `result` is not a MaximizationResult.
    ValueError
        If `limit` or `columns` is below 1.

    Examples
    --------
    >>> import featurelens as fl
    >>> model = torch.nn.Conv2d(1, 4, 3)
    >>> result = fl.ActivationMaximizer(model, fl.FourierImage((1, 8, 8)), steps=2).run(model)
    >>> len(maximization(result).axes[0].images)
    4
    """
    check_type(result, MaximizationResult, argument="result", expected="a MaximizationResult")
    scored = zip(result.scores.tolist(), result.objectives, strict=True)
    labels = [f"{score:.3g}  {objective}" for score, objective in scored]
    return image_grid(result.images, labels=labels, columns=columns, limit=limit, title=title, ax=ax)


def write_images(images: Array, paths: Sequence[Path]) -> None:
    """Write each of ``(N, C, H, W)`` images, pixel by pixel, to the PNG file at its place in `paths`.

    Raises
    ------
    ValueError
        If there is not one path for each image.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_images(torch.rand(1, 3, 8, 8), [pathlib.Path(folder) / "image.png"])
    """
    images = check_array(images, {4: "(N, C, H, W)"}, argument="images")
    if len(paths) != len(images):
        raise ValueError(f"paths must name all of {count(len(images), 'image')}; got {len(paths)}")
    for pixels, path in zip(as_pictures(images).rgb(), paths, strict=True):
        matplotlib.image.imsave(path, pixels)


def _labelled(
    names: list[str], shape: tuple[int, ...], columns: int | None, space: tuple[float, float]
) -> tuple[list[str], Grid]:
    """Return the labels, broken into lines, and a grid that has room for them."""
    label = LABEL if any(names) else 0.0
    while True:
        grid = arrange(len(names), shape, space, columns=columns, label=label)
        broken = [break_label(name, grid.tile[0]) for name in names]
        lines = max(name.count("\n") for name in broken)
        needed = label and LABEL + lines * label_size(grid.tile[0]) * 1.2 / 72
        if needed <= label:
            return broken, grid
        label = needed  # which may make the tiles smaller, and the lines more


@dataclass(frozen=True)
class Pictures:
    """``(N, H, W)`` values for a colour map or ``(N, H, W, 3)`` RGB, in [0, 1], and what was done to them."""

    pixels: Floats
    cmap: Colormap
    notes: tuple[str, ...]

    def rgb(self) -> NDArray[np.uint8]:
        """Return ``(N, H, W, 3)`` bytes, as image files hold them."""
        if self.pixels.ndim == 4:
            coloured = self.pixels
        elif self.cmap.name == "gray":  # exactly: a colour map has its own way of rounding to 256 shades
            coloured = paint_not_finite(np.stack([self.pixels] * 3, axis=-1))
        else:
            coloured = self.cmap(self.pixels)[..., :3]
        rounded: NDArray[np.uint8] = np.rint(255 * coloured).astype(np.uint8)
        return rounded

    def tile(self, index: int, label: str) -> Tile:
        return Tile(self.pixels[index], label)


def as_pictures(images: Array) -> Pictures:
    """Turn ``(N, C, H, W)`` images into pictures."""
    values, notes = to_floats(images), []
    if images.dtype in (torch.uint8, np.uint8):
        values = values / 255
    channels = values.shape[1]
    broken = not np.isfinite(values).all()
    if channels not in (1, 3):
        values, columns = _side_by_side(values)
        notes.append(f"{channels} channels, {columns} in a row")
    low, high = finite_range(values)
    if low < -1e-6 or high > 1 + 1e-6:
        values = (values - low) / ((high - low) or 1.0)
        notes.append(f"stretched from [{low:.3g}, {high:.3g}] to [0, 1]")
    if broken:
        notes.append(NOT_FINITE_NOTE)
    pixels = paint_not_finite(values.transpose(0, 2, 3, 1)) if channels == 3 else values[:, 0]
    return Pictures(pixels, colour_map("gray" if channels == 1 else "viridis"), tuple(notes))


def _side_by_side(values: Floats) -> tuple[Floats, int]:
    """Lay the channels of images ``(N, C, H, W)`` out as ``(N, 1, rows * H, columns * W)``; return them, and columns."""
    n, channels, height, width = values.shape
    columns = channels if channels < 4 else math.ceil(channels**0.5)
    rows = math.ceil(channels / columns)
    filled = np.full((n, rows * columns, height, width), finite_range(values)[0], dtype=values.dtype)
    filled[:, :channels] = values
    tiles = filled.reshape(n, rows, columns, height, width).swapaxes(2, 3)
    return tiles.reshape(n, 1, rows * height, columns * width), columns
