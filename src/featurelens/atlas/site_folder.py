"""A finished atlas in its folder: opened in a browser, or read channel by channel."""

from __future__ import annotations

import json
import os
import webbrowser
from pathlib import Path
from typing import Any, final

from featurelens._checks import check_path, count


@final
class AtlasSite:
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
            raise ValueError(f"{self.folder} holds no finished atlas: there is no data/manifest.js") from None

    @property
    def index(self) -> Path:
        """The first page."""
        return (self.folder / "index.html").absolute()

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers."""
        return tuple(layer["name"] for layer in self.manifest["layers"])

    def open(self) -> None:
        """Show the first page in the browser."""
        webbrowser.open(self.index.as_uri())

    def read(self, name: str) -> Any:
        """Return the content of a data file, such as "manifest" or "000-conv1/table"."""
        text = (self.folder / "data" / f"{name}.js").read_text(encoding="utf-8")
        return json.loads(text[text.index(",") + 1 : text.rindex(")")])

    def __str__(self) -> str:
        channels = sum(layer["channels"] for layer in self.manifest["layers"])
        layers = count(len(self.manifest["layers"]), "layer")
        return f"Atlas of {self.manifest['title']}: {layers}, {count(channels, 'channel')}; {self.index}"

    def __repr__(self) -> str:
        return f"AtlasSite({str(self.folder)!r})"
