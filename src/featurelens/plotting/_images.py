"""Images as pictures in a grid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from featurelens._checks import check_whole, count, describe
from featurelens.plotting._arrays import Array, check_array, to_floats
from featurelens.plotting._colours import NOT_FINITE_NOTE, colour_map, paint_not_finite
from featurelens.plotting._grid import LABEL, Grid, Tile, arrange, break_label, draw_grid, label_size
from featurelens.plotting._page import finish, page, room

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from featurelens.plotting._arrays import Floats


def image_grid(
    images: Array,
    *,
    labels: Sequence[object] | Array | None = None,
    columns: int | None = None,
    limit: int = 64,
    title: str | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Show a batch of images as pictures.

    One channel is drawn in grey, three as RGB, any other number as the mean over the channels in viridis.
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
    TypeError
        If `images` is not a tensor or array of real numbers.
    ValueError
        If `images` is not ``(N, C, H, W)`` or is empty, or if `labels` has another length.

    Examples
    --------
    >>> import torch
    >>> figure = image_grid(torch.rand(12, 3, 32, 32), labels=range(12), title="Noise")
    >>> len(figure.axes[0].images)
    12
    """
    images = check_array(images, {4: "(N, C, H, W)"}, argument="images")
    names = check_labels(labels, len(images), "image")
    shown = min(check_whole(limit, argument="limit", least=1), len(images))
    if columns is not None:
        check_whole(columns, argument="columns", least=1)
    pictures = as_pictures(images[:shown])
    names, grid = _labelled(names[:shown], pictures.pixels.shape[1:3], columns, room(ax))
    heading = title or ""
    if shown < len(images):
        heading = f"{title or 'Images'} (first {shown} of {len(images)})"
    ax = page(grid.width, grid.height, title=heading, note="; ".join(pictures.notes), ax=ax)
    draw_grid(ax, [pictures.tile(i, names[i]) for i in range(shown)], grid, pictures.cmap)
    return finish(ax, grid.width, grid.height)


def _labelled(
    names: list[str], shape: tuple[int, ...], columns: int | None, space: tuple[float, float]
) -> tuple[list[str], Grid]:
    """Return the labels, broken into lines, and a grid that has room for them."""
    label, broken = LABEL if any(names) else 0.0, names
    while True:
        grid = arrange(len(names), (shape[0], shape[1]), columns=columns, room=space, label=label)
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
        values = values.mean(axis=1, keepdims=True)
        notes.append(f"mean over {channels} channels")
    finite = values[np.isfinite(values)]
    if finite.size and (finite.min() < -1e-6 or finite.max() > 1 + 1e-6):
        low, high = finite.min(), finite.max()
        values = (values - low) / ((high - low) or 1.0)
        notes.append(f"stretched from [{low:.3g}, {high:.3g}] to [0, 1]")
    if broken:
        notes.append(NOT_FINITE_NOTE)
    pixels = paint_not_finite(values.transpose(0, 2, 3, 1)) if channels == 3 else values[:, 0]
    return Pictures(pixels, colour_map("gray" if channels == 1 else "viridis"), tuple(notes))


def check_labels(labels: Sequence[object] | Array | None, number: int, noun: str) -> list[str]:
    """Return a text for each of `number` images (or what else `noun` says), empty ones without labels."""
    if labels is None:
        return [""] * number
    if isinstance(labels, str) or not hasattr(labels, "__len__"):
        raise TypeError(f"labels must be a sequence with one label for each {noun}; got {describe(labels)}")
    if isinstance(labels, torch.Tensor | np.ndarray):
        labels = labels.tolist()
    if len(labels) != number:
        raise ValueError(f"labels must name all of {count(number, noun)}; got {count(len(labels), 'label')}")
    return [str(label) for label in labels]
