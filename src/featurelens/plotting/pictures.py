"""What images, volumes and signals look like: pixels, slices and lines, in a range that can be shown."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from matplotlib.colors import Colormap
from numpy.typing import NDArray

from featurelens.plotting.arrays import Array, Floats, finite_range, to_floats
from featurelens.plotting.colours import NAMES, NOT_FINITE_NOTE, colour_map, paint_not_finite
from featurelens.plotting.grid import Lines, Mosaic, Tile, mosaic_columns

SLICES = 4  # of a volume


@dataclass(frozen=True)
class Pictures:
    """``(N, H, W)`` values for a colour map or ``(N, H, W, 3)`` RGB, in [0, 1], and what was done to them."""

    pixels: Floats
    cmap: Colormap
    notes: tuple[str, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Height and width of each picture."""
        return self.pixels.shape[1:3]

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


@dataclass(frozen=True)
class Volumes:
    """Slices of volumes: as many for each of them as `each` says."""

    slices: Pictures
    each: int
    note: str

    @property
    def cmap(self) -> Colormap:
        return self.slices.cmap

    @property
    def notes(self) -> tuple[str, ...]:
        return (self.note, *self.slices.notes)

    @property
    def shape(self) -> tuple[int, ...]:
        """Height and width of each picture."""
        return self.tile(0, "").shape

    def rgb(self) -> NDArray[np.uint8]:
        """Return ``(N, H, W, 3)`` bytes, the slices one pixel apart."""
        slices = self.slices.rgb()
        volumes = slices.reshape(-1, self.each, *slices.shape[1:])
        return np.stack([lay_out(volume, gap=1) for volume in volumes])

    def tile(self, index: int, label: str) -> Mosaic:
        first = index * self.each
        return Mosaic(tuple(self.slices.tile(first + k, "") for k in range(self.each)), label)


@dataclass(frozen=True)
class Signals:
    """Signals ``(N, C, L)`` in [0, 1] for charts, and what was done to them."""

    values: Floats
    notes: tuple[str, ...]
    cmap: ClassVar[None] = None
    shape: ClassVar[tuple[int, ...]] = Lines.shape

    def tile(self, index: int, label: str) -> Lines:
        return Lines(self.values[index], label)


def drawn(images: Array) -> Pictures | Volumes | Signals:
    """Turn images ``(N, C, H, W)``, volumes or signals into what can be drawn."""
    if images.ndim == 3:
        return _as_signals(images)
    return as_pictures(images) if images.ndim == 4 else _as_volumes(images)


def as_pictures(images: Array) -> Pictures:
    """Turn ``(N, C, H, W)`` images into pictures."""
    values, notes = _floats(images), []
    channels = values.shape[1]
    broken = not np.isfinite(values).all()
    if channels not in (1, 3):
        values, columns = _side_by_side(values)
        notes.append(f"{channels} channels, {columns} in a row")
    values, stretched = _stretched(values)
    notes += stretched
    if broken:
        notes.append(NOT_FINITE_NOTE)
    pixels = paint_not_finite(values.transpose(0, 2, 3, 1)) if channels == 3 else values[:, 0]
    return Pictures(pixels, colour_map("gray" if channels == 1 else "viridis"), tuple(notes))


def _as_signals(signals: Array) -> Signals:
    values, stretched = _stretched(_floats(signals))
    channels, length = values.shape[1:]
    if channels == 1:
        lines = []
    elif channels <= len(NAMES):
        lines = ["channel " + ", ".join(f"{channel} {NAMES[channel]}" for channel in range(channels))]
    else:
        lines = [f"{channels} channels, the first dark, the last bright"]
    broken = [] if np.isfinite(values).all() else ["gaps: NaN or infinite"]
    across = f"signals (N, C, L): position 0 to {length - 1} from left to right, 0 to 1 from bottom to top"
    return Signals(values, (across, *lines, *stretched, *broken))


def _as_volumes(volumes: Array) -> Volumes:
    values = _floats(volumes)
    depth = values.shape[2]
    shown = min(depth, SLICES)
    chosen = [int((k + 0.5) * depth / shown) for k in range(shown)]  # each from the middle of its share
    slices = values[:, :, chosen].swapaxes(1, 2)
    note = f"volumes: slices {', '.join(map(str, chosen))} of {depth} along the first axis, row by row"
    return Volumes(as_pictures(slices.reshape(-1, *slices.shape[2:])), shown, note)


def _floats(images: Array) -> Floats:
    values = to_floats(images)
    return values / 255 if images.dtype in (torch.uint8, np.uint8) else values


def _stretched(values: Floats) -> tuple[Floats, list[str]]:
    """Bring values that leave [0, 1] back to it, and say so."""
    low, high = finite_range(values)
    if low >= -1e-6 and high <= 1 + 1e-6:
        return values, []
    return (values - low) / ((high - low) or 1.0), [f"stretched from [{low:.3g}, {high:.3g}] to [0, 1]"]


def lay_out(pictures: NDArray[np.uint8], *, gap: int) -> NDArray[np.uint8]:
    """Lay pictures ``(N, H, W, 3)`` out as one, about as many in a row as in a column, with white between them."""
    n, height, width, _ = pictures.shape
    columns = mosaic_columns(n)
    rows = math.ceil(n / columns)
    page = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, 3), 255, dtype=np.uint8)
    for index, picture in enumerate(pictures):
        top, left = index // columns * (height + gap), index % columns * (width + gap)
        page[top : top + height, left : left + width] = picture
    return page


def _side_by_side(values: Floats) -> tuple[Floats, int]:
    """Lay the channels of images ``(N, C, H, W)`` out as ``(N, 1, rows * H, columns * W)``; return them, and columns."""
    n, channels, height, width = values.shape
    columns = channels if channels < 4 else math.ceil(channels**0.5)
    rows = math.ceil(channels / columns)
    filled = np.full((n, rows * columns, height, width), finite_range(values)[0], dtype=values.dtype)
    filled[:, :channels] = values
    tiles = filled.reshape(n, rows, columns, height, width).swapaxes(2, 3)
    return tiles.reshape(n, 1, rows * height, columns * width), columns
