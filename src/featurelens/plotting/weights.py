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
from featurelens.plotting.colours import (
    INK,
    NOT_FINITE_NOTE,
    QUIET,
    colour_map,
    limits,
    paint_not_finite,
    scale_words,
)
from featurelens.plotting.grid import Grid, Tile, arrange, draw_grid, label_size
from featurelens.plotting.page import figure_of, page, room, text_or

SIDE = 0.42  # inches left of a table for its row numbers
HEAD = 0.32  # inches above it for its column numbers
SIGNED_NOTE = "red positive, blue negative, white zero"
COLOUR_NOTE = "colours: the weights of red, green and blue; grey is zero"


def filters(
    weight: Array | nn.Module,
    *,
    scale: Literal["filter", "shared"] = "filter",
    limit: int | None = None,
    title: str | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Show the filters of a convolution.

    Filters with one input channel are drawn in RdBu_r with white at zero; filters with three as RGB pictures in which
    mid-grey is zero; others as a table with a row for each filter and a column for each input channel. NaN and infinite
    weights are pink.

    Parameters
    ----------
    weight
        ``(out, in, kh, kw)``, or a convolution (any module with such a ``weight``, including `nn.ConvTranspose2d`).
    scale
        ``"filter"`` scales the colours of each filter separately; ``"shared"`` uses one scale for all. Filters of a
        single weight always share a scale.
    limit
        How many filters to show at most, and in a table how many input channels; the title says when there are more. By
        default 64 filters, and 16 by 16 in a table.
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
        limit = check_whole(limit, argument="limit", least=1)
    table = weight.shape[1] not in (1, 3)
    most = limit or (16 if table else 64)
    values = to_floats(weight[:most, :most] if table else weight[:most])
    heading = _heading(title, tuple(weight.shape), values.shape)
    return _draw(values, scale == "shared" or values[0].size == 1, heading, ax)


def _draw(values: Floats, shared: bool, heading: str, ax: Axes | None) -> Figure:
    """Draw ``(out, in, kh, kw)`` weights: one tile for each filter, or a table of them."""
    colour, table = values.shape[1] == 3, values.shape[1] not in (1, 3)
    common = limits(values, signed=True)
    spans = [common if shared else limits(kernel, signed=True) for kernel in values]
    if colour:
        reach = np.array(spans)[:, 1, None, None, None]
        pictures = paint_not_finite((0.5 + values / (2 * reach)).transpose(0, 2, 3, 1))
        tiles = [Tile(picture, str(number)) for number, picture in enumerate(pictures)]
    else:
        labelled = zip(values, spans, range(len(values)), strict=True)
        tiles = [
            Tile(plane, "" if table else str(number), span)
            for kernel, span, number in labelled
            for plane in kernel
        ]
    words: dict[str, Any] = {"label": 0.0, "gap": 0.05, "left": SIDE, "top": HEAD} if table else {}
    columns = values.shape[1] if table else None
    grid = arrange(len(tiles), values.shape[2:], room(ax), columns=columns, **words)
    cmap = colour_map("RdBu_r")
    notes = [COLOUR_NOTE if colour else SIGNED_NOTE]
    notes.append("one scale for all filters" if shared else "each filter scaled separately")
    if not np.isfinite(values).all():
        notes.append(NOT_FINITE_NOTE)
    bar, scale = None if colour else (cmap, common), () if shared else scale_words(signed=True)
    ax = page(grid.width, grid.height, title=heading, note="; ".join(notes), bar=bar, words=scale, ax=ax)
    draw_grid(ax, tiles, grid, cmap)
    if table:
        _number_table(ax, grid)
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
        raise TypeError(f"weight must be a tensor or a module with a weight; got {describe(weight)}")
    if isinstance(weight, nn.ConvTranspose2d):  # stored as (in, out / groups, kh, kw)
        groups, (_, out, *kernel) = weight.groups, inner.shape
        return inner.reshape(groups, -1, out, *kernel).transpose(1, 2).flatten(0, 1)
    return inner


def _heading(title: str | None, full: tuple[int, ...], shown: tuple[int, ...]) -> str:
    text = text_or(title, f"{count(full[0], 'filter')} of {full[2]}×{full[3]}")
    sizes = zip(shown, full, ("filters", "input channels"), strict=False)
    cut = [f"first {part} of {whole} {noun}" for part, whole, noun in sizes if part < whole]
    return f"{text} ({', '.join(cut)})" if cut else text
