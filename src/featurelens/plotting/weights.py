"""The weights of a convolution as pictures."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import nn

from featurelens._checks import check_choice, check_whole, count, describe
from featurelens.plotting.arrays import Array, Floats, check_array, to_floats
from featurelens.plotting.colours import INK, NOT_FINITE_NOTE, QUIET, colour_map, limits, paint_not_finite
from featurelens.plotting.grid import Grid, Tile, arrange, draw_grid, label_size
from featurelens.plotting.page import figure_of, page, room

SIDE = 0.42  # inches left of a table for its row numbers
HEAD = 0.32  # inches above it for its column numbers


def filters(
    weight: Array | nn.Module,
    *,
    scale: Literal["filter", "shared"] = "filter",
    limit: int | None = None,
    title: str | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Show the filters of a convolution.

    Filters over one input channel are drawn in RdBu_r with white at zero; filters over three channels as RGB pictures
    in which mid-grey is zero; others as a table with a row for each filter and a column for each input channel. NaN and
    infinite weights are pink.

    Parameters
    ----------
    weight
        ``(out, in, kh, kw)``, or a convolution (any module with such a ``weight``, also an `nn.ConvTranspose2d`).
    scale
        ``"filter"`` scales the colours of each filter separately; ``"shared"`` gives all one scale. Filters of a single
        weight are always shared.
    limit
        How many filters, and in a table how many input channels, to show at most; the title says when there are more.
        By default 64 filters, and 16 by 16 in a table.
    title
        The heading; by default the number and size of the filters.
    ax
        Draw here instead of on a new figure.

    Raises
    ------
    TypeError, ValueError
        If `weight` is not a non-empty array ``(out, in, kh, kw)`` or a module with one, or if `scale` is unknown.

    Examples
    --------
    >>> filters(nn.Conv2d(3, 32, 5)).get_suptitle()
    '32 filters of 5×5'
    """
    check_choice(scale, ("filter", "shared"), argument="scale")
    weight = check_array(_weight_of(weight), {4: "(out, in, kh, kw)"}, argument="weight")
    if limit is not None:
        check_whole(limit, argument="limit", least=1)
    table = weight.shape[1] not in (1, 3)
    most = limit or (16 if table else 64)
    values = to_floats(weight[:most, :most] if table else weight[:most])
    shared = scale == "shared" or values[0].size == 1
    heading = _heading(title, tuple(weight.shape), values.shape)
    draw = _draw_colour if weight.shape[1] == 3 else _draw_signed
    return draw(values, shared=shared, heading=heading, ax=ax)


def _draw_signed(values: Floats, *, shared: bool, heading: str, ax: Axes | None) -> Figure:
    """Draw ``(out, in, kh, kw)`` weights in RdBu_r: one tile for each filter, or a table of them."""
    channels = values.shape[1]
    common = limits(values, signed=True)
    tiles = [
        Tile(plane, "" if channels > 1 else str(number), common if shared else limits(kernel, signed=True))
        for number, kernel in enumerate(values)
        for plane in kernel
    ]
    table: dict[str, Any] = {"columns": channels, "label": 0.0, "gap": 0.05, "left": SIDE, "top": HEAD}
    grid = arrange(len(tiles), values.shape[2:], room(ax), **(table if channels > 1 else {}))
    cmap = colour_map("RdBu_r")
    note = _note("red positive, blue negative, white zero", values, shared=shared)
    bar = (cmap, common) if shared else None
    ax = page(grid.width, grid.height, title=heading, note=note, bar=bar, ax=ax)
    draw_grid(ax, tiles, grid, cmap)
    if channels > 1:
        _number_table(ax, grid)
    return figure_of(ax)


def _draw_colour(values: Floats, *, shared: bool, heading: str, ax: Axes | None) -> Figure:
    """Draw ``(out, 3, kh, kw)`` weights as RGB pictures around mid-grey."""
    common = limits(values, signed=True)[1]
    reach = np.array([common if shared else limits(kernel, signed=True)[1] for kernel in values])
    pictures = paint_not_finite((0.5 + values / (2 * reach[:, None, None, None])).transpose(0, 2, 3, 1))
    grid = arrange(len(values), values.shape[2:], room(ax))
    note = _note("colours are the weights of red, green and blue, grey is zero", values, shared=shared)
    ax = page(grid.width, grid.height, title=heading, note=note, ax=ax)
    draw_grid(ax, [Tile(picture, str(number)) for number, picture in enumerate(pictures)], grid)
    return figure_of(ax)


def _number_table(ax: Axes, grid: Grid) -> None:
    """Write the numbers of filters and input channels beside a table of them."""
    (width, height), (left, top) = grid.tile, (grid.left, grid.top)
    style: dict[str, Any] = {"fontsize": label_size(width), "color": INK}
    names: dict[str, Any] = {"fontsize": 7.0, "color": QUIET, "ha": "left", "va": "top"}
    for column in range(grid.columns):
        x = grid.corner(column)[0] + width / 2
        ax.text(x, top - 0.03, str(column), ha="center", va="bottom", **style)
    for row in range(grid.rows):
        y = grid.corner(row * grid.columns)[1] + height / 2
        ax.text(left - 0.06, y, str(row), ha="right", va="center", **style)
    ax.text(left, 0, "input channel", **names)
    ax.text(0, top, "filter", rotation=90, **names)


def _weight_of(weight: object) -> object:
    """Return the weight of a module in the order ``(out, in, kh, kw)``, anything else as it is."""
    if not isinstance(weight, nn.Module):
        return weight
    inner = getattr(weight, "weight", None)
    if not isinstance(inner, torch.Tensor):
        raise TypeError(f"weight must be a tensor or a module that has one; got {describe(weight)}")
    if isinstance(weight, nn.ConvTranspose2d):  # stored as (in, out / groups, kh, kw)
        groups, (_, out, *kernel) = weight.groups, inner.shape
        return inner.reshape(groups, -1, out, *kernel).transpose(1, 2).flatten(0, 1)
    return inner


def _heading(title: str | None, full: tuple[int, ...], shown: tuple[int, ...]) -> str:
    text = title or f"{count(full[0], 'filter')} of {full[2]}×{full[3]}"
    sizes = zip(shown, full, ("filters", "input channels"), strict=False)
    cut = [f"first {part} of {whole} {noun}" for part, whole, noun in sizes if part < whole]
    return f"{text} ({', '.join(cut)})" if cut else text


def _note(colours: str, values: Floats, *, shared: bool) -> str:
    note = f"{colours}; {'one scale for all filters' if shared else 'each filter on its own scale'}"
    return note if np.isfinite(values).all() else f"{note}; {NOT_FINITE_NOTE}"
