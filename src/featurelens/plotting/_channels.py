"""Information channel by channel: bars against the label, a heat map for pairs of channels."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.colors import Normalize
from matplotlib.lines import Line2D

from featurelens._checks import check_type, check_whole, count
from featurelens.information import ChannelInformationResult, SpatialMutualInformationResult
from featurelens.plotting._arrays import to_floats
from featurelens.plotting._colours import INK, PALE, QUIET, SERIES, is_signed, limits, text_colour, value_map
from featurelens.plotting._curves import chart, dress
from featurelens.plotting._grid import WIDTH, Grid, Tile, draw_grid, label_size
from featurelens.plotting._page import LINE, NOTE, finish, page, room, wrap

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap

    from featurelens.plotting._arrays import Floats

STRIP = 0.13  # of the height of the bars
NARROWEST, BARS = 4.8, 3.5  # width and height in inches
CELL = (0.38, 0.27)  # width and height, in inches, of a value that can be read
FEW = 4  # so many image channels stand in blocks of a page's width
SIDE, HEAD = 0.3, 0.2  # inches left of the rows for their numbers, and above for the words
WORDS = 1.0  # how wide those are


def channel_bars(
    result: ChannelInformationResult, *, limit: int = 32, title: str | None = None, ax: Axes | None = None
) -> Axes:
    """Draw what each channel knows of the label, the channel that knows most first.

    The dark stroke on a bar is its null, the information that is left with shuffled labels: a bar that does
    not rise above its stroke knows nothing. The entropy of the labels is a line where it does not dwarf the
    bars, and is told in words in any case.

    Parameters
    ----------
    result
        From `channel_information`.
    limit
        How many channels to show at most; the title says when there are more.
    title
        The heading; by default "Information with the label".
    ax
        Draw here instead of on a new figure.

    Raises
    ------
    TypeError
        If `result` is not a `ChannelInformationResult`.
    ValueError
        If `limit` is below 1.

    Examples
    --------
    >>> import torch
    >>> from featurelens.information import ChannelInformationResult
    >>> values = torch.tensor([0.1, 0.7, 0.4])
    >>> ax = channel_bars(ChannelInformationResult(values=values, method="channels()", n=100))
    >>> [label.get_text() for label in ax.get_xticklabels()]
    ['1', '2', '0']
    """
    check_type(
        result, ChannelInformationResult, argument="result", expected="what channel_information returns"
    )
    shown = result.top(check_whole(limit, argument="limit", least=1))
    places = np.arange(len(shown))
    heights = to_floats(result.values)[shown]
    ax = chart(ax, size=(min(max(1.5 + 0.2 * len(shown), NARROWEST), WIDTH), BARS))
    ax.bar(places, heights, width=0.72, color=SERIES[0], zorder=2)
    if result.null_mean is not None:
        nulls = to_floats(result.null_mean)[shown]
        ax.hlines(nulls, places - 0.42, places + 0.42, color="white", linewidth=3.2, zorder=3)
        ax.hlines(nulls, places - 0.42, places + 0.42, color=INK, linewidth=1.6, zorder=4)
        key = Line2D([], [], color=INK, linewidth=1.6, label="null (shuffled labels)")
        ax.legend(handles=[key], frameon=False, fontsize=9, loc="upper right", borderaxespad=0)
    _draw_entropy(ax, result.label_entropy, float(heights.max()))
    if ax.texts or result.null_mean is not None:  # a strip above the bars, for the words
        low, high = ax.dataLim.intervaly
        ax.set_ylim(top=high + STRIP * (high - min(low, 0.0)))
    text = title or "Information with the label"
    if len(shown) < len(result):
        text += f" (best {len(shown)} of {len(result)} channels)"
    ylabel = f"mutual information ({result.units})"
    note = wrap(_bar_note(result), room(ax)[0] - 0.9, NOTE)  # less the axis and its label
    dress(ax, xlabel="channel, best first", ylabel=ylabel, title=text, pad=12 + NOTE * LINE * len(note))
    ax.annotate(
        "\n".join(note),
        (0, 1),
        (0, 8),
        xycoords="axes fraction",
        textcoords="offset points",
        fontsize=NOTE,
        color=QUIET,
        in_layout=False,
    )
    step = math.ceil(len(shown) / 64)  # so many labels stand side by side, if they stand on end
    ax.set_xticks(places[::step], [str(channel) for channel in shown[::step]])
    ax.set_xlim(-0.7, len(shown) - 0.3)
    ax.tick_params(axis="x", length=0, labelsize=9 if len(shown) <= 20 else 6.5)
    if len(shown) > 36:
        ax.tick_params(axis="x", rotation=90)
    ax.axhline(0, color=PALE, linewidth=0.8, zorder=1)
    return ax


def pair_matrix(
    result: SpatialMutualInformationResult,
    *,
    limit: int = 64,
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw spatial information for every pair of image channel and activation channel.

    With a null, what is drawn is the excess over it, the part that is not bias: red above, blue below.

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
    TypeError
        If `result` is not a `SpatialMutualInformationResult`.
    ValueError
        If `limit` is below 1.

    Examples
    --------
    >>> import torch
    >>> from featurelens.information import spatial_mutual_information
    >>> images = torch.rand(4, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    >>> maps = torch.cat([images, images.flip(2)], dim=1)
    >>> ax = pair_matrix(spatial_mutual_information(images, maps, seed=0))
    >>> len(ax.images)
    2
    """
    check_type(
        result,
        SpatialMutualInformationResult,
        argument="result",
        expected="what spatial_mutual_information returns",
    )
    check_whole(limit, argument="limit", least=1)
    values = to_floats(result.per_pair)
    if result.null_per_pair is not None:
        values = values - to_floats(result.null_per_pair)
    shown = values[:limit, :limit]
    signed = result.null_per_pair is not None or is_signed(shown)
    cmap, span = value_map(-np.abs(shown) if signed else shown), limits(shown, signed=signed)
    grid, side = _pair_grid(shown.shape, room(ax))
    width, height = max(grid.width + side, WORDS), grid.height + HEAD
    text = title or f"Spatial information of {values.shape[0]} × {values.shape[1]} pairs of channels"
    if shown.size < values.size:
        text += f" (first {shown.shape[0]} × {shown.shape[1]})"
    ax = page(width, height, title=text, note=_pair_note(result), bar=(cmap, span), ax=ax)
    tiles = [Tile(column[:, None], str(number), span) for number, column in enumerate(shown.T)]
    draw_grid(ax, tiles, grid, cmap, offset=(side, HEAD))
    _write_values(ax, shown, grid, side, (cmap, span))
    _number_rows(ax, shown.shape[0], grid, side)
    finish(ax, width, height)
    return ax


def _draw_entropy(ax: Axes, entropy: float | None, highest: float) -> None:
    """Draw H(Y) where the bars fill at least a third of the height under it."""
    if entropy is not None and entropy <= 3 * highest:
        ax.axhline(entropy, color=QUIET, linewidth=0.8, zorder=1)
        ax.annotate(
            f"H(Y) = {entropy:.2f}",
            (0.0, entropy),
            (2, 2),
            xycoords=ax.get_yaxis_transform(),
            textcoords="offset points",
            va="bottom",
            fontsize=8,
            color=QUIET,
        )


def _bar_note(result: ChannelInformationResult) -> str:
    note = f"{result.method}, {count(result.n, 'sample')}"
    if result.label_entropy is not None:
        note += f"; the labels hold {result.label_entropy:.3f} {result.units}"
    return note


def _pair_grid(shape: tuple[int, ...], space: tuple[float, float]) -> tuple[Grid, float]:
    """Return a grid with a tile for each activation channel, and the width kept for the row numbers."""
    rows, channels = shape
    side = SIDE if rows > 1 else 0.0
    columns = min(channels, 16) if rows <= FEW else channels
    gap = 0.06 if rows <= FEW else 0.0
    blocks = math.ceil(channels / columns)
    label = 0.17
    wide = min((space[0] - side + gap) / columns - gap, CELL[0])
    tall = min(((space[1] - HEAD) / blocks - label - gap) / rows, CELL[1], wide)
    return Grid(columns, blocks, (wide, tall * rows), gap, label), side


def _write_values(
    ax: Axes, values: Floats, grid: Grid, side: float, colours: tuple[Colormap, tuple[float, float]]
) -> None:
    """Write every value into its cell, if the cells have room for it."""
    wide, tall = grid.tile[0], grid.tile[1] / len(values)
    if wide < 0.8 * CELL[0] or tall < 0.6 * CELL[1]:
        return
    cmap, scale = colours[0], Normalize(*colours[1])
    for channel, column in enumerate(values.T):
        x, y = grid.corner(channel)
        for row, value in enumerate(column):
            style: dict[str, Any] = {"fontsize": 7, "color": text_colour(cmap(scale(value)))}
            place = (x + side + wide / 2, y + HEAD + (row + 0.5) * tall)
            ax.text(*place, f"{round(value, 2) + 0.0:.2f}", ha="center", va="center", **style)  # no -0.00


def _number_rows(ax: Axes, rows: int, grid: Grid, side: float) -> None:
    words: dict[str, Any] = {"fontsize": 7.0, "color": QUIET}
    ax.text(side, 0, "activation channel", ha="left", va="top", **words)
    if rows == 1:
        return
    tall = grid.tile[1] / rows
    for block in range(grid.rows):
        top = grid.corner(block * grid.columns)[1] + HEAD
        for row in range(rows):
            ax.text(
                side - 0.05,
                top + (row + 0.5) * tall,
                str(row),
                ha="right",
                va="center",
                fontsize=label_size(2 * tall),
                color=INK,
            )
        ax.text(0, top, "image", ha="left", va="top", rotation=90, **words)


def _pair_note(result: SpatialMutualInformationResult) -> str:
    if result.null_mean is None:
        return f"{result.units}, without a null: bias is part of every value; mean {result.value:.3f}"
    return (
        f"excess over the null, {result.units}: on average {result.excess:.3f} with a null of "
        f"{result.null_mean:.3f}"
    )
