"""One channel of a finished atlas, as a notebook shows it."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

EDGE = 96
"""Height of the pictures, in pixels."""


@final
@dataclass(frozen=True, repr=False)
class ChannelCard:
    """What an atlas knows of one channel; made by ``site["layer:7"]``.

    Attributes
    ----------
    layer, channel
        Which channel.
    figures : dict
        Its figures, by their keys; None for those that are not known.
    details : dict
        Everything on its page, as the file format describes it.
    titles : dict
        What the figures are called, by their keys.
    pictures : tuple
        Captions, and pictures as WebP: the optimized image and the strongest real ones.
    """

    layer: str
    channel: int
    figures: dict[str, Any]
    details: dict[str, Any]
    titles: dict[str, str] = field(default_factory=dict)
    pictures: tuple[tuple[str, bytes], ...] = ()

    def __str__(self) -> str:
        known = ", ".join(f"{title} {value}" for title, value in self._known())
        return f"{self.layer}:{self.channel}: {known}"

    def _known(self) -> Iterator[tuple[str, str]]:
        """Yield the titles and values of the figures that are known."""
        for key, value in self.figures.items():
            if value is not None:
                text = ("no", "yes")[value] if isinstance(value, bool) else f"{value:.4g}"
                yield self.titles.get(key, key), text

    def __repr__(self) -> str:
        return f"ChannelCard({self.layer}:{self.channel})"

    def _repr_html_(self) -> str:
        drawn = "".join(
            f'<figure style="margin:0 8px 0 0"><img height="{EDGE}" style="image-rendering:pixelated" alt="{html.escape(text)}" '
            f'src="data:image/webp;base64,{base64.b64encode(data).decode()}"><figcaption style="font-size:smaller">'
            f"{html.escape(text)}</figcaption></figure>"
            for text, data in self.pictures
        )
        rows = "".join(
            f"<tr><td>{html.escape(title)}</td><td>{value}</td></tr>" for title, value in self._known()
        )
        judged = (self.details["pictures"] or {}).get("judgement", "")
        return (
            f"<p><b>{html.escape(self.layer)}:{self.channel}</b> {html.escape(judged)}</p>"
            f'<div style="display:flex;flex-wrap:wrap">{drawn}</div><table>{rows}</table>'
        )


def tile_of(sheet: Path, place: int, tile: tuple[int, int], columns: int) -> bytes:
    """Return one tile of a sheet as WebP."""
    from PIL import Image

    width, height = tile
    left, top = place % columns * width, place // columns * height
    stream = io.BytesIO()
    with Image.open(sheet) as laid:
        laid.crop((left, top, left + width, top + height)).save(stream, "WEBP", lossless=True)
    return stream.getvalue()
