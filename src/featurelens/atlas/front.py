"""The sheet of the first page: channels that stand for each layer, and those that matter most."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

from featurelens.atlas.gathered import Gathered
from featurelens.atlas.pages import BLOCK
from featurelens.atlas.parts import Parts
from featurelens.atlas.tables import Columns, ranked
from featurelens.atlas.thumbnails import encoded, sheet

COLUMNS, LARGEST = 8, 16
EDGE = 48
ORDER = ("importance", "information", "maximum")
"""Figures by which channels are chosen: the first that is known."""


def write_front(gathered: Gathered, tables: dict[str, Columns], parts: Parts) -> dict[str, Any]:
    """Write the sheet, and return its entry in the manifest."""
    key = next(
        key for key in ORDER if any(ranked(table, key) for table in tables.values()) or key == ORDER[-1]
    )
    layers = [[channel for channel, _ in ranked(table, key)[:COLUMNS]] for table in tables.values()]
    everything = [
        (number, channel, value)
        for number, table in enumerate(tables.values())
        for channel, value in ranked(table, key)
    ]
    largest = sorted(everything, key=lambda entry: -entry[2])[:LARGEST]
    names = list(tables)
    tiles: list[Image.Image | None] = []
    for name, channels in zip(names, layers, strict=True):
        tiles += [_picture(gathered, parts, name, channel) for channel in channels]
        tiles += [None] * (COLUMNS - len(channels))
    tiles += [_picture(gathered, parts, names[number], channel) for number, channel, _ in largest]
    size = max((tile.size for tile in tiles if tile is not None), key=math.prod, default=(EDGE, EDGE))
    # Optimized images of early layers are smaller, and of other proportions where strides are.
    tiles = [
        None if tile is None else ImageOps.pad(tile, size, Image.Resampling.BICUBIC, "gray") for tile in tiles
    ]
    if any(tile is not None for tile in tiles):
        parts.write("images/front.webp", encoded(sheet(tiles, COLUMNS), exact=max(size) < EDGE))
    return {
        "tile": list(size),
        "columns": COLUMNS,
        "layers": layers,
        "figure": key,
        "largest": [list(entry) for entry in largest],
    }


def _picture(gathered: Gathered, parts: Parts, name: str, channel: int) -> Image.Image | None:
    """Return the optimized image of a channel, or else the real image that activates it most."""
    painted = gathered.pictures(name)
    if painted:
        block, place = divmod(channel, BLOCK)
        width, height = painted[0]["tile"]["best"]
        path = parts.path(f"images/{gathered.folders[name]}/{block:04d}-best.webp")
        left, top = place % 8 * width, place // 8 * height
        return _opened(path, (left, top, left + width, top + height))
    row = int(gathered.layers[name].strongest.rows[channel, 0])
    return None if row < 0 else _opened(parts.path(f"images/real/{row}.webp"))


def _opened(path: Path, box: tuple[int, int, int, int] | None = None) -> Image.Image:
    """Return a picture, or a part of it, with no edge longer than those of the sheet."""
    with Image.open(path) as whole:
        picture = whole.convert("RGB").crop(box) if box else whole.convert("RGB")
    picture.thumbnail((EDGE, EDGE), Image.Resampling.LANCZOS)
    return picture
