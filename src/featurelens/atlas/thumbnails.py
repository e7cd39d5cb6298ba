"""Images, signals and volumes as small pictures, and sheets of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

import numpy as np
import torch
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL import Image

BEST, OTHERS, FRAMES, REAL, MAPS = 128, 96, 64, 128, 16
"""Largest edges of pictures, in pixels."""

TINY = 20
"""Pictures with no longer edge are kept without loss: blocks of eight pixels would blur them."""

LINES = ((0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167), (86, 180, 233), (230, 159, 0))
"""Colours of the channels of a signal (Okabe and Ito)."""

HIGHLIGHT = (255, 120, 0)
"""The colour of a feature map that is laid over an image."""


@final
@dataclass(frozen=True)
class View:
    """How values become brightness: the range of each channel in the user's images, ``(C, 1, ...)``."""

    low: torch.Tensor
    high: torch.Tensor

    @classmethod
    def of(cls, images: torch.Tensor) -> View:
        """Return the view of images such as these `(N, C, ...)`: as they are if they lie in [0, 1]."""
        values = images.detach().float().cpu()
        axes = [0, *range(2, values.ndim)]
        low, high = values.amin(axes, keepdim=True)[0], values.amax(axes, keepdim=True)[0]
        if float(low.min()) >= 0 and float(high.max()) <= 1:
            return cls(torch.zeros_like(low), torch.ones_like(high))
        return cls(low, torch.where(high > low, high, low + 1))

    def unit(self, image: torch.Tensor) -> torch.Tensor:
        """Return an image `(C, ...)` of the user's in [0, 1]."""
        values = image.detach().float().cpu()
        return ((values - self.low) / (self.high - self.low)).clamp(0, 1).nan_to_num(0)


def picture(image: torch.Tensor, edge: int) -> Image.Image:
    """Draw an image, signal or volume `(C, ...)` in [0, 1], with no edge longer than `edge` pixels.

    One channel is grey, three are colours, other numbers of bands and the slices of volumes stand side by side; the
    channels of a signal are lines.
    """
    from PIL import Image

    values = image.detach().float().cpu().clamp(0, 1)
    if values.ndim == 2:
        return _lines(values, edge)
    if values.ndim == 4:
        values = _grid(values.flatten(0, 1))[None]
    elif len(values) not in (1, 3):
        values = _grid(values)[None]
    pixels = (values.movedim(0, 2) * 255).round().byte().numpy()
    drawn = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    scale = edge / max(drawn.size)
    if scale >= 1:
        return drawn.convert("RGB")
    size = (max(1, round(drawn.width * scale)), max(1, round(drawn.height * scale)))
    return drawn.convert("RGB").resize(size, Image.Resampling.LANCZOS)


def sheet(pictures: Sequence[Image.Image | None], columns: int) -> Image.Image:
    """Lay out pictures of one size row by row; None leaves a place empty."""
    from PIL import Image

    first = next(drawn for drawn in pictures if drawn is not None)
    width, height = first.size
    rows = math.ceil(len(pictures) / columns)
    laid = Image.new(first.mode, (columns * width, rows * height))
    for place, drawn in enumerate(pictures):
        if drawn is not None:
            laid.paste(drawn.resize((width, height)), (place % columns * width, place // columns * height))
    return laid


def encoded(drawn: Image.Image, *, exact: bool = False) -> bytes:
    """Return a picture as WebP: without loss if it must be `exact`, or if opacity in it means a value."""
    import io

    stream = io.BytesIO()
    options: dict[str, Any] = {"lossless": True} if exact or drawn.mode == "RGBA" else {"quality": 82}
    drawn.save(stream, "WEBP", method=4, **options)
    return stream.getvalue()


def _grid(slices: torch.Tensor) -> torch.Tensor:
    """Lay out slices ``(S, H, W)`` in a grid that is about square."""
    number, height, width = slices.shape
    columns = max(1, round(math.sqrt(number * height / width)))
    rows = math.ceil(number / columns)
    padded = torch.cat([slices, slices.new_zeros(rows * columns - number, height, width)])
    return padded.reshape(rows, columns, height, width).movedim(2, 1).reshape(rows * height, columns * width)


def _lines(signal: torch.Tensor, edge: int) -> Image.Image:
    """Draw the channels of a signal ``(C, L)`` as lines over each other, twice as wide as high."""
    from PIL import Image, ImageDraw

    width, height = edge, max(2, edge // 2)
    fine: NDArray[Any] = signal.numpy()
    drawn = Image.new("RGB", (2 * width, 2 * height), "white")
    pen = ImageDraw.Draw(drawn)
    x = np.linspace(1, 2 * width - 2, fine.shape[1])
    for channel, values in enumerate(fine):
        y = (1 - values) * (2 * height - 5) + 2
        points = list(zip(x.tolist(), y.tolist(), strict=True))
        pen.line(points if len(points) > 1 else points * 2, fill=LINES[channel % len(LINES)], width=2)
    return drawn.resize((width, height), Image.Resampling.LANCZOS)
