"""Feature maps as numbered tiles, alone or beside their input."""

from __future__ import annotations

from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from featurelens._checks import check_choice, count
from featurelens.plotting.arrays import (
    Array,
    Floats,
    check_array,
    check_limit,
    only_value,
    select_image,
    to_floats,
)
from featurelens.plotting.colours import NOT_FINITE_NOTE, colour_map, limits, scale_words
from featurelens.plotting.grid import LABEL, Tile, arrange, draw_grid, draw_tile
from featurelens.plotting.page import HEIGHT, WIDTH, figure_of, first_of, page, room, text_or
from featurelens.plotting.pictures import as_pictures

LAYOUTS = {4: "(N, C, H, W)", 3: "(C, H, W)"}
BETWEEN = 0.3  # inches between the input and its feature maps


def feature_maps(
    maps: Array,
    *,
    image: int = 0,
    scale: Literal["map", "shared"] = "map",
    limit: int = 64,
    title: str | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Show every channel of one image's feature maps as a numbered tile.

    A layer without negative values, in any image of `maps`, is drawn in viridis, others in RdBu_r with white at zero. A
    constant channel (a dead ReLU, say) is hatched and labelled with its value; NaN and infinite values are pink.

    Parameters
    ----------
    maps
        Activations, ``(N, C, H, W)``, or ``(C, H, W)`` of one image. Arrange a transformer's tokens ``(N, L, D)`` in
        rows first: ``patches.mT.unflatten(2, (rows, columns))``. To draw tokens, or a series ``(N, C, L)``, as one
        picture for each image, pass ``tokens[:, None]``.
    image
        Which image of the batch.
    scale
        ``"map"`` scales the colours of each map separately, to show patterns; ``"shared"`` uses one scale, with numbers
        beside the colour bar, to show which maps are strong. Maps of 1x1 always share a scale.
    limit
        How many channels to show at most; the title says when there are more.
    title
        The heading; by default the number and size of the maps.
    ax
        Draw here instead of on a new figure.

    Raises
    ------
    TypeError, ValueError
        If `maps` does not hold real numbers in one of these shapes or is empty, the batch has no such image, or `scale`
        is unknown.

    Examples
    --------
    >>> import torch
    >>> figure = feature_maps(torch.rand(8, 6, 14, 14), image=3)
    >>> figure.get_suptitle()
    '6 feature maps of 14×14'
    """
    return _draw(maps, None, image, scale, limit, title, ax)


def input_and_feature_maps(
    inputs: Array,
    maps: Array,
    *,
    image: int = 0,
    scale: Literal["map", "shared"] = "map",
    limit: int = 64,
    title: str | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Show an input image and, beside it, the feature maps that a layer computed from it.

    Parameters
    ----------
    inputs
        The images, ``(N, C, H, W)`` or ``(C, H, W)``; drawn as by `image_grid`.
    maps
        The layer's output for them, ``(N, C, H, W)`` or ``(C, H, W)``.
    image
        Which image of both batches.
    scale, limit, title, ax
        As for `feature_maps`.

    Raises
    ------
    TypeError, ValueError
        As for `feature_maps`, and likewise for `inputs`.

    Examples
    --------
    >>> import torch
    >>> figure = input_and_feature_maps(torch.rand(8, 3, 32, 32), torch.randn(8, 16, 15, 15))
    >>> figure.get_suptitle()
    'Input and 16 feature maps of 15×15'
    """
    inputs = check_array(inputs, LAYOUTS, argument="inputs")
    return _draw(maps, inputs, image, scale, limit, title, ax)


def _draw(
    maps: Array, inputs: Array | None, image: int, scale: str, limit: int, title: str | None, ax: Axes | None
) -> Figure:
    check_choice(scale, ("map", "shared"), argument="scale")
    chosen = select_image(check_array(maps, LAYOUTS, argument="maps"), image, argument="maps")
    values = to_floats(chosen[: check_limit(limit, len(chosen))])
    shape = values.shape[1:]
    signed, shared = bool((maps < 0).any()), scale == "shared" or values[0].size == 1
    cmap, common = colour_map("RdBu_r" if signed else "viridis"), limits(values, signed=signed)
    heading, notes = (
        f"{count(len(chosen), 'feature map')} of {shape[0]}×{shape[1]}",
        _notes(values, signed, shared),
    )
    if maps.ndim == 3:
        notes.append("read as (C, H, W), the maps of one image")  # and not as tokens (N, L, D)
    if inputs is None:
        grid = arrange(len(values), shape, room(ax))
        height = grid.height
    else:
        pictures = as_pictures(select_image(inputs, image, argument="inputs")[None])
        across, down = room(ax) if ax else (WIDTH + 1, HEIGHT)
        frame = arrange(1, pictures.pixels.shape[1:3], (0.3 * across, down))
        grid = arrange(len(values), shape, (across, down), left=frame.width + BETWEEN)
        height, heading = max(grid.height, frame.height), f"Input and {heading}"
        notes += pictures.notes
    heading = first_of(text_or(title, heading), len(values), len(chosen))
    words = () if shared else scale_words(signed=signed)
    note = "; ".join(notes)
    ax = page(grid.width, height, title=heading, note=note, bar=(cmap, common), words=words, ax=ax)
    if inputs is not None:
        draw_tile(ax, pictures.tile(0, "input"), (0, LABEL), frame.tile, pictures.cmap)
    tiles = [
        Tile(each, str(channel), common if shared else limits(each, signed=signed), only_value(each))
        for channel, each in enumerate(values)
    ]
    draw_grid(ax, tiles, grid, cmap)
    return figure_of(ax)


def _notes(values: Floats, signed: bool, shared: bool) -> list[str]:
    notes = ["red positive, blue negative, white zero" if signed else "dark low, bright high"]
    notes.append("one scale for all maps" if shared else "each map scaled separately")
    if constant := sum(only_value(each) is not None for each in values):
        notes.append(f"hatched: {count(constant, 'constant channel')}")
    if not np.isfinite(values).all():
        notes.append(NOT_FINITE_NOTE)
    return notes
