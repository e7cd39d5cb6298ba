"""The atlas of a small network, as a part of the site: the quickstart's network, trained and looked into on digits."""

from __future__ import annotations

import sys
from pathlib import Path

from sphinx.application import Sphinx

import featurelens as fl

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))

from reference import fit, fitting_network, load


def write(app: Sphinx, error: Exception | None) -> None:
    """Build the atlas beside the pages, unless it is there."""
    folder = Path(app.outdir) / "atlas"
    if error is not None or app.builder.name != "html" or app.tags.has("book") or folder.exists():
        return
    data = load("digits", Path("data"))
    model = fitting_network(data.channels, data.size, len(data.classes))
    fit(model, data.train, data.test, epochs=10, lr=2e-3, anneal=True, batch_size=32)
    title = "A small network on digits"
    fl.Atlas(model, data.test, classes=data.classes, title=title, progress=False).build(folder)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register."""
    app.connect("build-finished", write)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
