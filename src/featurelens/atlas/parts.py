"""Work that is done, in files: each part of an atlas is made once, and found again after an interruption."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, final

from featurelens.atlas.numbers import plain_json


@final
class Parts:
    """The finished parts of an atlas in `folder`.

    A file is written beside its place and then renamed: one that is there is whole.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, name: str) -> Path:
        """Return where a part lies, with the folder made."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def write(self, name: str, content: bytes) -> None:
        """Write a file."""
        path = self.path(name)
        unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            unfinished.write_bytes(content)
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)

    def json(self, name: str, make: Callable[[], Any]) -> Any:
        """Return what a JSON file holds; if there is none, `make` it and write it."""
        path = self.path(name)
        if not path.exists():
            self.write(name, plain_json(make()).encode())
        return json.loads(path.read_text())
