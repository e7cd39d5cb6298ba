"""Pictures in rows and columns on one Axes: the geometry of every grid, in inches."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.patches import Rectangle

from featurelens.plotting.arrays import Floats
from featurelens.plotting.colours import INK, PALE, QUIET, line_colours

GAP = 0.08
LABEL = 0.16  # height of the line of text above a tile
MOST_LINES = 4  # of a label
LONGEST = 6.0  # a 1x128 map is drawn with stretched pixels instead of as a hairline


@dataclass(frozen=True)
class Tile:
    """One small picture: ``(H, W)`` values to be coloured, or an ``(H, W, 3)`` picture as it is."""

    pixels: Floats
    label: str = ""
    limits: tuple[float, float] = (0.0, 1.0)
    constant: float | None = None  # the only value of a map without a pattern

    @property
    def shape(self) -> tuple[int, ...]:
        return self.pixels.shape[:2]


@dataclass(frozen=True)
class Lines:
    """One small chart: a line for each channel of a signal ``(C, L)`` in [0, 1]."""

    values: Floats
    label: str = ""
    constant: float | None = None
    shape: ClassVar[tuple[int, ...]] = (1, 2)  # height and width, in any unit


@dataclass(frozen=True)
class Mosaic:
    """Several pictures of one size in the place of one, row by row: slices of a volume."""

    tiles: tuple[Tile, ...]
    label: str = ""
    constant: float | None = None

    @property
    def columns(self) -> int:
        return mosaic_columns(len(self.tiles))

    @property
    def rows(self) -> int:
        return math.ceil(len(self.tiles) / self.columns)

    @property
    def shape(self) -> tuple[int, ...]:
        height, width = self.tiles[0].shape
        return self.rows * height, self.columns * width


AnyTile: TypeAlias = Tile | Lines | Mosaic


def mosaic_columns(count: int) -> int:
    """Return how many of `count` pictures stand side by side where rows and columns are about as many."""
    return math.ceil(math.sqrt(count))


@dataclass(frozen=True)
class Grid:
    """Rows and columns of equal tiles, filled row by row, with room for words at the left and the top."""

    columns: int
    rows: int
    tile: tuple[float, float]
    gap: float = GAP
    label: float = LABEL
    left: float = 0.0
    top: float = 0.0

    @property
    def width(self) -> float:
        return self.left + self.columns * (self.tile[0] + self.gap) - self.gap

    @property
    def height(self) -> float:
        return self.top + self.rows * (self.tile[1] + self.label + self.gap) - self.gap

    def corner(self, index: int) -> tuple[float, float]:
        """Return the left and upper edge of tile `index`, its label not included."""
        row, column = divmod(index, self.columns)
        down = self.tile[1] + self.label + self.gap
        return self.left + column * (self.tile[0] + self.gap), self.top + row * down + self.label


def arrange(
    count: int,
    shape: tuple[int, ...],
    room: tuple[float, float],
    *,
    columns: int | None = None,
    label: float = LABEL,
    gap: float = GAP,
    left: float = 0.0,
    top: float = 0.0,
) -> Grid:
    """Choose columns and tile size for `count` pictures of ``(H, W)`` pixels in `room` inches."""
    ratio = min(max(shape[0] / shape[1], 1 / LONGEST), LONGEST)
    columns = columns or _best_columns(count, ratio)
    rows = math.ceil(count / columns)
    across = (room[0] - left + gap) / columns - gap
    down = (room[1] - top + gap) / rows - gap - label
    largest = max(1.4, 3 / math.sqrt(count))  # few pictures may be large, but no picture need be huge
    width = max(min(across, down / ratio, largest / math.sqrt(ratio)), 0.05)
    return Grid(columns, rows, (width, width * ratio), gap, label, left, top)


def _best_columns(count: int, ratio: float) -> int:
    """Prefer a full rectangle, then one about half again as wide as it is high."""

    def cost(columns: int) -> float:
        rows = math.ceil(count / columns)
        empty = rows * columns - count
        return abs(math.log(columns / (rows * ratio) / 1.5)) + 0.5 * (empty > 0) + empty / count

    return min(range(1, count + 1), key=cost)


def draw_grid(ax: Axes, tiles: Sequence[AnyTile], grid: Grid, cmap: Colormap | None = None) -> None:
    """Draw `tiles` on a page."""
    for index, tile in enumerate(tiles):
        draw_tile(ax, tile, grid.corner(index), grid.tile, cmap)


def draw_tile(
    ax: Axes,
    tile: AnyTile,
    corner: tuple[float, float],
    size: tuple[float, float],
    cmap: Colormap | None,
) -> None:
    """Draw one picture with a hairline around it and its label above."""
    (x, y), (width, height) = corner, size
    if tile.constant is not None:
        _draw_constant(ax, tile.constant, corner, size)
    elif isinstance(tile, Lines):
        _draw_lines(ax, tile.values, corner, size)
    elif isinstance(tile, Mosaic):
        _draw_mosaic(ax, tile, corner, size, cmap)
    else:
        # Magnified pixels keep their edges; a map with more pixels than the tile has is averaged, not sampled.
        magnified = tile.pixels.shape[1] <= width * ax.figure.dpi
        ax.imshow(
            tile.pixels,
            cmap=cmap,
            vmin=tile.limits[0],
            vmax=tile.limits[1],
            extent=(x, x + width, y + height, y),
            interpolation="nearest" if magnified else "antialiased",
            interpolation_stage="rgba",
            aspect="equal",
        )
    if not isinstance(tile, Mosaic) or tile.constant is not None:
        frame = Rectangle((x, y), width, height, fill=False, edgecolor=PALE, linewidth=0.5, clip_on=False)
        ax.add_patch(frame)
    if tile.label:
        colour = INK if tile.constant is None else QUIET
        text = "\n".join(shorten(line, width) for line in tile.label.splitlines())
        ax.text(x, y - 0.025, text, fontsize=label_size(width), color=colour, ha="left", va="bottom")


def _draw_lines(ax: Axes, values: Floats, corner: tuple[float, float], size: tuple[float, float]) -> None:
    """Draw the channels of a signal over a pale line at 0.5; 0 and 1 lie just inside the frame."""
    (x, y), (width, height) = corner, size
    ax.plot([x, x + width], [y + height / 2] * 2, color=PALE, linewidth=0.5)
    place = x + width * (np.arange(values.shape[1]) + 0.5) / values.shape[1]
    marker = "." if len(place) == 1 else ""
    for channel, colour in zip(values, line_colours(len(values)), strict=True):
        up = 0.05 + 0.9 * channel
        ax.plot(place, y + height * (1 - up), color=colour, linewidth=0.8, marker=marker, markersize=3)


def _draw_mosaic(
    ax: Axes, mosaic: Mosaic, corner: tuple[float, float], size: tuple[float, float], cmap: Colormap | None
) -> None:
    """Draw the parts of a mosaic, each in its own frame."""
    gap = 0.03 * size[0]
    columns, rows = mosaic.columns, mosaic.rows
    part = ((size[0] + gap) / columns - gap, (size[1] + gap) / rows - gap)
    grid = Grid(columns, rows, part, gap=gap, label=0.0)
    for index, tile in enumerate(mosaic.tiles):
        across, down = grid.corner(index)
        draw_tile(ax, tile, (corner[0] + across, corner[1] + down), part, cmap)


def _draw_constant(ax: Axes, value: float, corner: tuple[float, float], size: tuple[float, float]) -> None:
    """Draw a hatched tile with the one value of a map, so that it does not look like a picture."""
    ax.add_patch(Rectangle(corner, *size, facecolor="#f6f7f9", edgecolor=PALE, hatch="////", linewidth=0))
    x, y = corner[0] + size[0] / 2, corner[1] + size[1] / 2
    box = {"boxstyle": "round,pad=0.2", "facecolor": "white", "edgecolor": "none"}
    style: dict[str, Any] = {"fontsize": label_size(size[0]), "color": QUIET, "ha": "center", "va": "center"}
    ax.text(x, y, f"{value:.2g}", bbox=box, **style)


def label_size(width: float) -> float:
    """Return the font size, in points, that suits a tile `width` inches wide."""
    return min(max(9 * width, 5.5), 8.0)


def _fitting(width: float) -> int:
    """Return how many characters of a label stand side by side above a tile `width` inches wide."""
    return max(int(width * 72 / (0.58 * label_size(width))), 2)


def break_label(text: str, width: float) -> str:
    """Spread a label over up to `MOST_LINES` lines: at spaces and dots, and inside words that are too long."""
    wrapper = textwrap.TextWrapper(
        _fitting(width), max_lines=MOST_LINES, placeholder="…", break_on_hyphens=False
    )
    wrapper.wordsep_simple_re = re.compile(r"(\s+|(?<=\.)(?=[A-Za-z_]))")
    return "\n".join(line for paragraph in text.splitlines() for line in wrapper.wrap(paragraph))


def shorten(text: str, width: float) -> str:
    """Return a label that stands above a tile `width` inches wide."""
    fits = _fitting(width)
    return text if len(text) <= fits else text[: fits - 1] + "…"
