"""Keeps the figure that ends a gallery cell: featurelens draws without pyplot, which the usual scraper asks."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure
from sphinx_gallery.scrapers import figure_rst


def figure_scraper(block: Any, block_vars: dict[str, Any], gallery_conf: dict[str, Any]) -> str:
    """Save the figure that is the value of the cell's last line, as a notebook would show it."""
    value = block_vars["example_globals"].get("___")
    drawn = block_vars.setdefault("drawn", [])
    if not isinstance(value, Figure) or any(value is figure for figure in drawn):  # or of an earlier cell
        return ""
    drawn.append(value)
    path = next(block_vars["image_path_iterator"])
    value.savefig(path, dpi=110, facecolor="white", bbox_inches="tight")
    title = value.get_suptitle() or value.axes[0].get_title(loc="left")
    return str(figure_rst([path], gallery_conf["src_dir"], title))
