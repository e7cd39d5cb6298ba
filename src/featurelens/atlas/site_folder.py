"""A finished atlas in its folder: opened in a browser, or read channel by channel."""

from __future__ import annotations

import json
import os
import webbrowser
from collections.abc import Iterator
from pathlib import Path
from typing import Any, final

from featurelens._checks import check_path, check_type, count, describe
from featurelens._html import Shown
from featurelens.atlas.card import ChannelCard, tile_of


@final
class AtlasSite(Shown):
    """An atlas that `Atlas.build` wrote.

    Parameters
    ----------
    folder
        The atlas's folder.

    Raises
    ------
    ValueError
        If no finished atlas is there.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = check_path(folder, argument="folder", expected="a folder's path")
        try:
            self.manifest: dict[str, Any] = self.read("manifest")
        except (OSError, ValueError):
            raise ValueError(
                f"{describe(str(self.folder))} holds no finished atlas: there is no data/manifest.js"
            ) from None

    @property
    def index(self) -> Path:
        """The first page."""
        return (self.folder / "index.html").absolute()

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers."""
        return tuple(layer["name"] for layer in self.manifest["layers"])

    def __getitem__(self, channel: str) -> ChannelCard:
        """Return the card of a channel, such as ``"conv1:7"``.

        Raises
        ------
        LookupError
            If the atlas has no such layer or channel.
        """
        name, _, number = str(channel).rpartition(":")
        entries = {layer["name"]: layer for layer in self.manifest["layers"]}
        if not number.isdecimal() or name not in entries:
            raise LookupError(
                f"a channel is written layer:number, such as {self.layers[0]}:0; got {describe(channel)} "
                f"(layers: {', '.join(self.layers)})"
            )
        entry, place = entries[name], int(number)
        if place >= entry["channels"]:
            raise LookupError(f"layer {name!r} has channels 0 to {entry['channels'] - 1}; got {place}")
        columns = self.read(f"{entry['folder']}/table")["columns"]
        file, offset = divmod(place, self.manifest["block"])
        details = self.read(f"{entry['folder']}/{file:04d}")["channels"][offset]
        return ChannelCard(
            layer=name,
            channel=place,
            figures={key: values[place] for key, values in columns.items()},
            details=details,
            titles={figure["key"]: figure["title"] for figure in self.manifest["figures"]},
            pictures=tuple(self._pictures(entry, details, file, offset)),
        )

    def _pictures(
        self, entry: dict[str, Any], details: dict[str, Any], file: int, offset: int
    ) -> Iterator[tuple[str, bytes]]:
        best = entry["sheets"].get("best")
        if best is not None:
            sheet = self.folder / "images" / entry["folder"] / f"{file:04d}-best.webp"
            text = f"optimized, {details['pictures']['score']:.3g}"
            yield text, tile_of(sheet, offset, tuple(best["tile"]), best["columns"])
        for example in details["strongest"]:
            image = self.folder / "images" / "real" / f"{example['row']}.webp"
            yield f"image {example['row']}, {example['value']:.3g}", image.read_bytes()

    def open(self) -> None:
        """Show the first page in the browser."""
        webbrowser.open(self.index.as_uri())

    def read(self, name: str) -> Any:
        """Return the content of the data file `name`, such as "manifest" or "000-conv1/table".

        Raises
        ------
        TypeError, FileNotFoundError
            If `name` is not text, or the atlas has no such file.
        """
        check_type(name, str, argument="name", expected="the name of a data file")
        path = self.folder / "data" / f"{name}.js"
        if not path.is_file():
            raise FileNotFoundError(f"the atlas has no data file {describe(name)}")
        text = path.read_text(encoding="utf-8")
        return json.loads(text[text.index(",") + 1 : text.rindex(")")])

    def __str__(self) -> str:
        channels = sum(layer["channels"] for layer in self.manifest["layers"])
        layers = count(len(self.manifest["layers"]), "layer")
        return f"Atlas of {self.manifest['title']}: {layers}, {count(channels, 'channel')}; {self.index}"

    def __repr__(self) -> str:
        return f"AtlasSite({str(self.folder)!r})"
