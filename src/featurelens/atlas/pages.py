"""The site: data files for the pages, and the pages themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

from featurelens.atlas.numbers import plain_json
from featurelens.atlas.parts import Parts

BLOCK = 64
"""Channels in a file of details, and in a sheet."""


def folder_of(number: int, name: str) -> str:
    """Return the folder of a layer: its number, and of its name what every file system and address bears.

    >>> folder_of(3, "layer1.0.conv1"), folder_of(12, "act#2")
    ('003-layer1.0.conv1', '012-act_2')
    """
    safe = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "_" for c in name)
    return f"{number:03d}-{safe[:64]}".rstrip(".")


def blocks(channels: int) -> list[range]:
    """Return the channels of each file of details."""
    return [range(first, min(first + BLOCK, channels)) for first in range(0, channels, BLOCK)]


def number_of(channels: range) -> str:
    """Return the number of the file of details of these channels, as it stands in names."""
    return f"{channels.start // BLOCK:04d}"


def write_data(parts: Parts, name: str, content: Any) -> None:
    """Write a data file."""
    parts.write(f"data/{name}.js", f"atlas.receive({plain_json(name)},{plain_json(content)});\n".encode())


def write_pages(parts: Parts) -> None:
    """Copy the pages, which are the same for every atlas."""
    for page in sorted(
        resources.files("featurelens.atlas").joinpath("site").iterdir(), key=lambda each: each.name
    ):
        place = page.name if page.name.endswith(".html") else f"site/{page.name}"
        parts.write(place, page.read_bytes())


def transposed(columns: Mapping[str, Sequence[Any] | None], place: int) -> dict[str, Any]:
    """Return one channel's entries of columns; None for a column that is not there."""
    return {name: None if values is None else values[place] for name, values in columns.items()}
