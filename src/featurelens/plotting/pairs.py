"""A heat map in blocks, for pairs of image channels and activation channels."""

from __future__ import annotations

import math
from typing import Any

from matplotlib.axes import Axes
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure

from featurelens._checks import check_type, check_whole
from featurelens.information import SpatialMutualInformationResult
from featurelens.plotting.arrays import Floats, to_floats
from featurelens.plotting.colours import INK, QUIET, colour_map, is_signed, limits, text_colour
from featurelens.plotting.grid import Grid, Tile, draw_grid, label_size
from featurelens.plotting.page import figure_of, page, room, text_or

CELL = (0.38, 0.27)  # width and height, in inches, of a value that can be read
FEW = 4  # so many image channels stand in blocks of a page's width
SIDE, HEAD = 0.3, 0.2  # inches left of the rows for their numbers, and above for the words
WORDS = 1.0  # how wide those are


def pair_matrix(
    result: SpatialMutualInformationResult,
    *,
    limit: int = 64,
    title: str | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Draw spatial information for every pair of image channel and activation channel.

    With a null, the excess over it is drawn, the part that is not bias: red above the null, blue below.

    Parameters
    ----------
    result
        From `spatial_mutual_information`.
    limit
        How many channels of either side to show at most; the title says when there are more.
    title
        The heading; by default the number of pairs.
    ax
        Draw here instead of on a new figure.

    Raises
    ------
    TypeError, ValueError
        If `result` is not a `SpatialMutualInformationResult`, or `limit` is below 1.

    Examples
    --------
    >>> import torch
    >>> from featurelens.information import spatial_mutual_information
    >>> images = torch.rand(4, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    >>> maps = torch.cat([images, images.flip(2)], dim=1)
    >>> len(pair_matrix(spatial_mutual_information(images, maps, seed=0)).axes[0].images)
    2
    """
    expected = "what spatial_mutual_information returns"
    check_type(result, SpatialMutualInformationResult, argument="result", expected=expected)
    limit = check_whole(limit, argument="limit", least=1)
    values = to_floats(result.per_pair)
    if result.null_per_pair is not None:
        values = values - to_floats(result.null_per_pair)
    shown = values[:limit, :limit]
    signed = result.null_per_pair is not None or is_signed(shown)
    cmap, span = colour_map("RdBu_r" if signed else "viridis"), limits(shown, signed=signed)
    heading = text_or(title, "Spatial information of {} × {} pairs of channels".format(*values.shape[:2]))
    if shown.size < values.size:
        heading += f" (first {shown.shape[0]} × {shown.shape[1]})"
    grid = _grid(shown.shape, room(ax))
    ax = page(max(grid.width, WORDS), grid.height, title=heading, note=_note(result), bar=(cmap, span), ax=ax)
    tiles = [Tile(column[:, None], str(number), span) for number, column in enumerate(shown.T)]
    draw_grid(ax, tiles, grid, cmap)
    _write_values(ax, shown, grid, cmap, Normalize(*span))
    _number_rows(ax, len(shown), grid)
    return figure_of(ax)


def _grid(shape: tuple[int, ...], space: tuple[float, float]) -> Grid:
    """Return a grid with a tile for each activation channel."""
    rows, channels = shape
    left = SIDE if rows > 1 else 0.0
    columns = min(channels, 16) if rows <= FEW else channels
    gap = 0.06 if rows <= FEW else 0.0
    blocks = math.ceil(channels / columns)
    label = 0.17
    wide = min((space[0] - left + gap) / columns - gap, CELL[0])
    tall = min(((space[1] - HEAD) / blocks - label - gap) / rows, CELL[1], wide)
    return Grid(columns, blocks, (wide, tall * rows), gap, label, left, HEAD)


def _write_values(ax: Axes, values: Floats, grid: Grid, cmap: Colormap, scale: Normalize) -> None:
    """Write every value into its cell, if the cells have room for it."""
    wide, tall = grid.tile[0], grid.tile[1] / len(values)
    if wide < 0.8 * CELL[0] or tall < 0.6 * CELL[1]:
        return
    style: dict[str, Any] = {"fontsize": 7, "ha": "center", "va": "center"}
    for channel, column in enumerate(values.T):
        x, y = grid.corner(channel)
        for row, value in enumerate(column):
            text = f"{round(value, 2) + 0.0:.2f}"  # no -0.00
            colour = text_colour(cmap(scale(value)))
            ax.text(x + wide / 2, y + (row + 0.5) * tall, text, color=colour, **style)


def _number_rows(ax: Axes, rows: int, grid: Grid) -> None:
    words: dict[str, Any] = {"fontsize": 7.0, "color": QUIET, "ha": "left", "va": "top"}
    ax.text(grid.left, 0, "activation channel", **words)
    if rows == 1:
        return
    tall = grid.tile[1] / rows
    style: dict[str, Any] = {"fontsize": label_size(2 * tall), "color": INK, "ha": "right", "va": "center"}
    for block in range(grid.rows):
        top = grid.corner(block * grid.columns)[1]
        for row in range(rows):
            ax.text(grid.left - 0.05, top + (row + 0.5) * tall, str(row), **style)
        ax.text(0, top, "image", rotation=90, **words)


def _note(result: SpatialMutualInformationResult) -> str:
    if result.null_mean is None:
        return f"{result.units}; no null, so values include bias; mean {result.value:.3f}"
    return f"excess over the null in {result.units}: mean {result.excess:.3f}, null {result.null_mean:.3f}"
