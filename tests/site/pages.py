"""The built site, as the tests of this folder read it."""

from __future__ import annotations

import pathlib
from html.parser import HTMLParser

import pytest

ROOT = pathlib.Path(__file__).parents[2]
SITE = ROOT / "docs" / "_build" / "html"
needs_site = pytest.mark.skipif(
    not (SITE / "index.html").exists(), reason="the site is not built: `nox -s docs` does that"
)


class Page(HTMLParser):
    """The links, sources and anchors of one HTML page."""

    def __init__(self, path: pathlib.Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.sources: list[str] = []
        self.anchors = {""}
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value for name, value in attrs if value}
        self.anchors.update(values[name] for name in ("id", "name") if name in values)
        if "href" in values:
            (self.links if tag == "a" else self.sources).append(values["href"])
        if "src" in values:
            self.sources.append(values["src"])
