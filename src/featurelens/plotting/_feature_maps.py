"""Feature maps as numbered tiles, alone or beside the input that caused them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from featurelens._checks import check_choice, check_whole, count
from featurelens.plotting._arrays import Array, check_array, only_value, select_image, to_floats
from featurelens.plotting._colours import NOT_FINITE_NOTE, is_signed, limits, value_map
from featurelens.plotting._grid import HEIGHT, LABEL, WIDTH, Tile, arrange, draw_grid, draw_tile
from featurelens.plotting._images import as_pictures
from featurelens.plotting._page import finish, page, room

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

    from featurelens.plotting._arrays import Floats

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

    Maps that are never negative are drawn in viridis, maps of both signs in RdBu_r with white at zero. A
    channel with one value everywhere (a dead ReLU, say) is hatched and carries that value, so that nobody
    takes it for a picture; NaN and infinite values are pink.

    Parameters
    ----------
    maps
        Activations, ``(N, C, H, W)``, or ``(C, H, W)`` of one image. The tokens ``(N, L, D)`` of a transformer
        are no maps until its patches are put back into rows: ``patches.mT.unflatten(2, (rows, columns))``. As
        ``tokens[:, None]`` they are one picture for each image, and so is a series ``(N, C, L)``.
    image
        Which image of the batch.
    scale
        ``"map"`` stretches the colours over each map by itself, which shows patterns; ``"shared"`` gives all
        maps one scale with a colour bar, which shows who is strong. Maps of 1x1 are always shared.
    limit
        How many channels to show at most; the title says when there are more.
    title
        The heading; by default the number and size of the maps.
    ax
        Draw here instead of on a new figure.

    Raises
    ------
    TypeError
        If `maps` is not a tensor or array of real numbers.
    ValueError
        If `maps` has another number of dimensions or is empty, if the batch has no image `image`, or if
        `scale` is unknown.

    Examples
    --------
    >>> import torch
    >>> figure = feature_maps(torch.rand(8, 6, 14, 14), image=3)
    >>> figure.get_suptitle()
    '6 feature maps of 14×14'
    """
    view = _MapView(maps, image, scale, limit)
    grid = arrange(len(view.values), view.values.shape[1:], room=room(ax))
    ax = page(
        grid.width, grid.height, title=view.heading(title), note=view.note(), bar=view.colour_bar(), ax=ax
    )
    draw_grid(ax, view.tiles(), grid, view.cmap)
    return finish(ax, grid.width, grid.height)


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
    """Show an input image and, beside it, the feature maps it caused.

    Parameters
    ----------
    inputs
        The images that went in, ``(N, C, H, W)`` or ``(C, H, W)``; drawn as by `image_grid`.
    maps
        What a layer made of them, ``(N, C, H, W)`` or ``(C, H, W)``.
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
    view = _MapView(maps, image, scale, limit)
    pictures = as_pictures(select_image(inputs, image, argument="inputs")[None])
    across, down = room(ax) if ax else (WIDTH + 1, HEIGHT)
    frame = arrange(1, pictures.pixels.shape[1:3], room=(0.3 * across, down))
    start = frame.width + BETWEEN
    grid = arrange(len(view.values), view.values.shape[1:], room=(across - start, down))
    width, height = start + grid.width, max(grid.height, frame.height)
    heading = view.heading(title) if title else f"Input and {view.heading(None)}"
    ax = page(width, height, title=heading, note=view.note(pictures.notes), bar=view.colour_bar(), ax=ax)
    draw_tile(ax, pictures.tile(0, "input"), (0, LABEL), frame.tile, pictures.cmap)
    draw_grid(ax, view.tiles(), grid, view.cmap, offset=(start, 0))
    return finish(ax, width, height)


class _MapView:
    """The maps of one image, ready to be drawn."""

    def __init__(self, maps: Array, image: int, scale: str, limit: int) -> None:
        check_choice(scale, ("map", "shared"), argument="scale")
        chosen = select_image(check_array(maps, LAYOUTS, argument="maps"), image, argument="maps")
        self.channels = chosen.shape[0]
        self.values: Floats = to_floats(chosen[: check_whole(limit, argument="limit", least=1)])
        self.shared = scale == "shared" or self.values[0].size == 1
        self.signed = is_signed(self.values)
        self.single = maps.ndim == 3
        self.cmap = value_map(self.values)

    def tiles(self) -> list[Tile]:
        common = limits(self.values, signed=self.signed)
        return [
            Tile(
                values,
                label=str(channel),
                limits=common if self.shared else limits(values, signed=self.signed),
                constant=only_value(values),
            )
            for channel, values in enumerate(self.values)
        ]

    def colour_bar(self) -> tuple[Colormap, tuple[float, float]] | None:
        return (self.cmap, limits(self.values, signed=self.signed)) if self.shared else None

    def heading(self, title: str | None) -> str:
        shown, height, width = self.values.shape
        text = title or f"{count(self.channels, 'feature map')} of {height}×{width}"
        return text if shown == self.channels else f"{text} (first {shown} of {self.channels})"

    def note(self, notes: tuple[str, ...] = ()) -> str:
        colours = "red positive, blue negative, white zero" if self.signed else "dark low, bright high"
        parts = [colours, "one scale for all maps" if self.shared else "each map on its own scale"]
        constant = sum(only_value(values) is not None for values in self.values)
        if constant:
            parts.append(f"hatched: {count(constant, 'channel')} with one value everywhere")
        if not np.isfinite(self.values).all():
            parts.append(NOT_FINITE_NOTE)
        if self.single:
            parts.append("read as (C, H, W), the maps of one image")  # and not as tokens (N, L, D)
        return "; ".join([*parts, *notes])
