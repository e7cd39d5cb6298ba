"""What ablation leaves of an image: strips of pictures for one image or several."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from featurelens._checks import check_choice, check_type
from featurelens.ablation import AblationResult
from featurelens.plotting.arrays import Floats, check_image, check_limit, finite_range, only_value, to_floats
from featurelens.plotting.colours import NOT_FINITE_NOTE, QUIET
from featurelens.plotting.grid import Tile, arrange, draw_tile, label_size, shorten
from featurelens.plotting.page import figure_of, first_of, layer_name, page, room, text_or
from featurelens.plotting.pictures import Pictures, as_pictures

BELOW = 0.15  # inches under a picture for its error

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
    """Show an image, its full reconstruction, and the reconstructions with each channel kept alone or left out.

    Below each is its mean squared error against the original, unless pictures are scaled separately. A constant picture
    (of a dead channel, say) is hatched and labelled with its value.

    Parameters
    ----------
    result
        From a `ChannelAblator`'s `sweep` whose outputs are images.
    image
        Which image of the batch.
    scale
        "shared" draws all on the original's scale and clips values outside it; "each" scales every picture separately,
        to show patterns; "auto" chooses "shared" if the full reconstruction is closer to the original than its mean
        colour is, as a trained decoder's should be, and otherwise "each".
    limit
        How many channels to show at most; the default title says when there are more.
    title
        The heading; by default what was done to which layer.
    ax
        Draw here instead of on a new figure.

    Raises
    ------
    TypeError, ValueError
        If `result` is not an `AblationResult` whose outputs are images, or there is no such image.

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
    shared = _check(result, scale)
    check_image(image, len(result.images), where="the result")
    labels = _labels(result, limit, "original", f"all {result.noun}s")
    return _draw(result, [image], labels, shared, text_or(title, _heading(result, labels)), ax)


def ablation_gallery(
    result: AblationResult,
    *,
    images: int = 6,
    scale: Scale = "auto",
    limit: int = 14,
    title: str | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Show `reconstructions` of several images, one row for each.

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
    shared = _check(result, scale)
    total = len(result.images)
    rows = list(range(check_limit(images, total, argument="images")))
    labels = _labels(result, limit, "image", "all")
    heading = text_or(title, _heading(result, labels))
    if len(rows) < total:
        heading += f", {len(rows)} of {total} images"
    return _draw(result, rows, labels, shared, heading, ax, columns=len(labels))


def _check(result: AblationResult, scale: Scale) -> bool:
    """Check the result, and return whether its pictures share the original's scale."""
    check_type(result, AblationResult, argument="result", expected="what a ChannelAblator's sweep returns")
    check_choice(scale, ("auto", "shared", "each"), argument="scale")
    if result.baseline_error is None:
        raise ValueError(
            f"the outputs, {tuple(result.outputs.shape[2:])} for an image {tuple(result.images.shape[1:])}, are "
            "not reconstructions: pass the ablator a decoder, or select the reconstruction with output="
        )
    images = to_floats(result.images)
    variance = ((images - images.mean((2, 3), keepdims=True)) ** 2).mean()
    good = float(to_floats(result.baseline_error).mean()) <= float(variance)
    return scale == "shared" or (scale == "auto" and good)


def _labels(result: AblationResult, limit: int, *first: str) -> list[str]:
    return [*first, *map(str, result.channels[: check_limit(limit, len(result.channels))])]


def _heading(result: AblationResult, labels: list[str]) -> str:
    done = f"each {result.noun} alone" if result.mode == "keep" else f"without each {result.noun}"
    return first_of(
        f"{layer_name(result.layer, capital=True)}: {done}", len(labels) - 2, len(result.channels)
    )


def _draw(
    result: AblationResult,
    images: list[int],
    labels: list[str],
    shared: bool,
    heading: str,
    ax: Axes | None,
    columns: int | None = None,
) -> Figure:
    """Draw for each image: itself, its full reconstruction, and one picture for each channel."""
    assert result.error is not None
    assert result.baseline_error is not None
    parts = (result.images[None], result.baseline[None], result.outputs[: len(labels) - 2])
    pictures = np.concatenate([to_floats(part[:, images]) for part in parts])
    errors = np.concatenate(
        [to_floats(part[:, images]) for part in (result.baseline_error[None], result.error)]
    )
    count = len(images) * len(labels)
    grid = arrange(count, pictures.shape[3:], room(ax), columns=columns, gap=BELOW)
    if labels[1] != (shorter := shorten(labels[1], grid.tile[0])):
        labels = [labels[0], "all" if labels[1].startswith("all ") else shorter, *labels[2:]]
    tiles: list[Tile] = []
    below: list[str] = []
    for number in range(len(images)):
        drawn = _on_scale(pictures[:, number], shared=shared)
        constants = [None, *map(only_value, pictures[1:, number])]
        rows = zip(drawn.pixels, labels, constants, strict=True)
        tiles += [Tile(pixels, label, constant=constant) for pixels, label, constant in rows]
        # An error on another scale than the picture's would say nothing about it.
        below += ["", *(f"{error:.3g}" if shared else "" for error in errors[: len(labels) - 1, number])]
    note = _note(result, pictures, shared=shared, hatched=any(tile.constant is not None for tile in tiles))
    ax = page(grid.width, grid.height + BELOW, title=heading, note=note, ax=ax)
    style: dict[str, Any] = {"fontsize": label_size(grid.tile[0]), "color": QUIET, "ha": "left", "va": "top"}
    for index, (tile, error) in enumerate(zip(tiles, below, strict=True)):
        x, y = grid.corner(index)
        draw_tile(ax, tile, (x, y), grid.tile, drawn.cmap)
        ax.text(x, y + grid.tile[1] + 0.02, error, **style)
    return figure_of(ax)


def _on_scale(strip: Floats, *, shared: bool) -> Pictures:
    """Bring reconstructions to the range of the original, which comes first: by cutting, or each by its own range."""
    low, high = finite_range(strip[0])
    if low >= 0 and high <= 1:
        low, high = 0.0, 1.0
    if not shared:
        strip = np.stack([strip[0], *(_stretched(picture, low, high) for picture in strip[1:])])
    return as_pictures(strip.clip(low, high))


def _stretched(picture: Floats, low: float, high: float) -> Floats:
    """Bring a picture's own range to the one from `low` to `high`."""
    least, most = finite_range(picture, (0.0, 0.0))
    if least == most:
        return np.where(np.isfinite(picture), (low + high) / 2, picture)
    return low + (high - low) * (picture - least) / (most - least)


def _note(result: AblationResult, pictures: Floats, *, shared: bool, hatched: bool) -> str:
    parts = ["each image scaled separately"]
    if shared:
        parts = [
            "below each: mean squared error",
            "all on the original's scale, values clipped to it",
        ]
    if (channels := pictures.shape[2]) not in (1, 3):
        parts.append(f"{channels} channels side by side")
    if result.fill != "zero":
        parts.append(f"ablated {result.noun}s filled with {result.fill}")
    if hatched:
        parts.append("hatched: constant")
    if not np.isfinite(pictures).all():
        parts.append(NOT_FINITE_NOTE)
    return "; ".join(parts)
