"""What ablation leaves of an image: strips for one image, a gallery for several."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from featurelens._checks import check_choice, check_type, check_whole
from featurelens.ablation import AblationResult
from featurelens.plotting._arrays import only_value, to_floats
from featurelens.plotting._colours import NOT_FINITE_NOTE, QUIET
from featurelens.plotting._grid import Grid, Tile, arrange, draw_tile, label_size
from featurelens.plotting._images import as_pictures
from featurelens.plotting._page import finish, page, room

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

    from featurelens.plotting._arrays import Floats

BELOW = 0.15  # inches under a picture for its error
ERROR_NOTE = "under each, the mean squared error"

Scale = Literal["auto", "shared", "each"]


def reconstructions(
    result: AblationResult,
    *,
    image: int = 0,
    scale: Scale = "auto",
    limit: int = 64,
    title: str | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Show one image, its full reconstruction, and what every channel makes of it, alone or left out.

    Under each stands its mean squared error against the original, unless pictures are stretched by themselves. What
    has one value everywhere (of a dead channel, say) is hatched and carries that value.

    Parameters
    ----------
    result
        From a `ChannelAblator`'s `sweep` whose outputs are images.
    image
        Which image of the batch.
    scale
        "shared" draws all on the original's scale, values outside of which are cut; "each" stretches every picture
        by itself, which shows patterns; "auto" takes "shared" if the full reconstruction is nearer to the original
        than its mean colour is, as a trained decoder's should be, and otherwise "each".
    limit
        How many channels to show at most; the title says when there are more.
    title
        The heading; by default what was done to which layer.
    ax
        Draw here instead of on a new figure.

    Raises
    ------
    TypeError
        If `result` is not an `AblationResult`.
    ValueError
        If its outputs are not images, or there is no such image.

    Examples
    --------
    >>> import torch
    >>> images = torch.rand(2, 3, 8, 8)
    >>> result = AblationResult(
    ...     outputs=torch.rand(5, 2, 3, 8, 8), baseline=images, images=images, channels=(0, 1, 2, 3, 4),
    ...     layer="conv1", mode="keep", fill="zero")
    >>> len(reconstructions(result, image=1).axes[0].images)
    7
    """
    view = _View(result, scale, limit)
    strip = view.strip(image)
    grid = arrange(len(strip), strip[0].pixels.shape[:2], room=room(ax), gap=BELOW)
    ax = page(grid.width, grid.height + BELOW, title=title or view.heading(), note=view.note(), ax=ax)
    _draw(ax, strip, grid, view.errors(image), view.cmap)
    return finish(ax, grid.width, grid.height + BELOW)


def ablation_gallery(
    result: AblationResult,
    *,
    images: int = 6,
    scale: Scale = "auto",
    limit: int = 14,
    title: str | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Show several images, one to a row: the original, its full reconstruction, and what every channel makes of it.

    Parameters
    ----------
    result, scale, title, ax
        As for `reconstructions`.
    images
        How many images to show at most, from the first.
    limit
        How many channels to show at most.

    Raises
    ------
    TypeError, ValueError
        As for `reconstructions`.

    Examples
    --------
    >>> import torch
    >>> images = torch.rand(2, 3, 8, 8)
    >>> result = AblationResult(
    ...     outputs=torch.rand(5, 2, 3, 8, 8), baseline=images, images=images, channels=(0, 1, 2, 3, 4),
    ...     layer="conv1", mode="keep", fill="zero")
    >>> len(ablation_gallery(result).axes[0].images)
    14
    """
    view = _View(result, scale, limit)
    shown = min(check_whole(images, argument="images", least=1), len(result.images))
    rows = [view.strip(image, ("image", "all")) for image in range(shown)]
    tiles = [tile for row in rows for tile in row]
    grid = arrange(len(tiles), tiles[0].pixels.shape[:2], columns=len(rows[0]), room=room(ax), gap=BELOW)
    errors = [error for image in range(shown) for error in view.errors(image)]
    heading = title or view.heading()
    if shown < len(result.images):
        heading += f", {shown} of {len(result.images)} images"
    ax = page(grid.width, grid.height + BELOW, title=heading, note=view.note(), ax=ax)
    _draw(ax, tiles, grid, errors, view.cmap)
    return finish(ax, grid.width, grid.height + BELOW)


class _View:
    """The pictures of a result, ready to be drawn."""

    def __init__(self, result: AblationResult, scale: str, limit: int) -> None:
        check_type(
            result, AblationResult, argument="result", expected="what a ChannelAblator's sweep returns"
        )
        check_choice(scale, ("auto", "shared", "each"), argument="scale")
        self.shown = min(check_whole(limit, argument="limit", least=1), len(result.channels))
        if result.reconstructions is None or result.error is None or result.baseline_error is None:
            raise ValueError(
                f"the outputs, {tuple(result.outputs.shape[2:])} for an image {tuple(result.images.shape[1:])}, are "
                "not reconstructions: give the ablator a decoder, or name the reconstruction with output="
            )
        self.result = result
        self.error = to_floats(result.error)
        self.baseline_error = to_floats(result.baseline_error)
        spread = to_floats(result.images)
        variance = ((spread - spread.mean((2, 3), keepdims=True)) ** 2).mean()
        good = float(self.baseline_error.mean()) <= float(variance)
        self.shared = scale == "shared" or (scale == "auto" and good)
        self.broken = not (np.isfinite(spread).all() and np.isfinite(self.error).all())
        self.cmap: Colormap | None = None
        self.hatched = False  # whether a tile so far has no pattern

    def strip(self, image: int, names: Sequence[str] = ("original", "all channels")) -> list[Tile]:
        """Return the tiles of one image: the original, the full reconstruction, and one for each channel."""
        size = len(self.result.images)
        if not -size <= check_whole(image, argument="image") < size:
            raise ValueError(f"image must be below {size}, the number of images in the result; got {image}")
        original = to_floats(self.result.images[image])
        others = np.concatenate(
            [
                to_floats(self.result.baseline[image])[None],
                to_floats(self.result.outputs[: self.shown, image]),
            ]
        )
        plain = [only_value(picture) for picture in others]
        low, high = _range(original)
        if self.shared:
            others = others.clip(low, high)
        else:
            others = np.stack([_stretched(picture, low, high) for picture in others])
        pictures = as_pictures(np.concatenate([original[None], others]).clip(low, high))
        self.cmap = pictures.cmap
        labels = [*names, *map(str, self.result.channels[: self.shown])]
        tiles = [pictures.tile(index, label) for index, label in enumerate(labels)]
        for index, value in enumerate(plain, 1):
            if value is not None:
                tiles[index] = replace(tiles[index], constant=value)
                self.hatched = True
        return tiles

    def errors(self, image: int) -> list[str]:
        """Return the text under each tile of one image, nothing for pictures that are stretched."""
        if not self.shared:  # an error on another scale than the picture's says nothing of it
            return [""] * (2 + self.shown)
        values = [self.baseline_error[image], *self.error[: self.shown, image]]
        return ["", *(f"{value:.3g}" for value in values)]

    def heading(self) -> str:
        done = "each channel alone" if self.result.mode == "keep" else "without each channel"
        layer = self.result.layer
        text = f"{'Layer ' + layer if layer[:1].isdigit() else layer or 'Model'}: {done}"
        total = len(self.result.channels)
        return text if self.shown == total else f"{text} (first {self.shown} of {total})"

    def note(self) -> str:
        scale = (
            f"{ERROR_NOTE}; all on the original's scale, beyond which values are cut"
            if self.shared
            else "every picture stretched by itself"
        )
        fill = "" if self.result.fill == "zero" else f"; ablated channels filled by {self.result.fill}"
        channels = self.result.images.shape[1]
        mean = "" if channels in (1, 3) else f"; mean over {channels} channels"
        hatched = "; hatched: one value everywhere" if self.hatched else ""
        return f"{scale}{mean}{fill}{hatched}" + (f"; {NOT_FINITE_NOTE}" if self.broken else "")


def _draw(ax: Axes, tiles: list[Tile], grid: Grid, errors: list[str], cmap: Colormap | None) -> None:
    for index, (tile, error) in enumerate(zip(tiles, errors, strict=True)):
        x, y = grid.corner(index)
        draw_tile(ax, tile, (x, y), grid.tile, cmap)
        size = label_size(grid.tile[0])
        ax.text(x, y + grid.tile[1] + 0.02, error, fontsize=size, color=QUIET, ha="left", va="top")


def _range(picture: Floats) -> tuple[float, float]:
    finite = picture[np.isfinite(picture)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    return (0.0, 1.0) if low >= 0 and high <= 1 else (low, high)


def _stretched(picture: Floats, low: float, high: float) -> Floats:
    """Bring a picture's own range to the one from `low` to `high`."""
    finite = picture[np.isfinite(picture)]
    if not finite.size or finite.min() == finite.max():
        return np.where(np.isfinite(picture), (low + high) / 2, picture)
    share: Floats = (picture - finite.min()) / (finite.max() - finite.min())
    return low + (high - low) * share
