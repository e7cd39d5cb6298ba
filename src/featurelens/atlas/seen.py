"""What the units of a layer see of an image: their receptive fields, and the window that an optimized image has to fill."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self, final

import torch
from torch import nn

from featurelens.atlas.source import Source
from featurelens.recording import ActivationRecorder, receptive_field
from featurelens.recording.receptive import ReceptiveField

Window = tuple[slice, slice]
"""Rows and columns of an image."""

AROUND = 2
"""Sides of a window, as a multiple of the receptive field: what lies around it shows where it ends."""

SMALLEST = 8
"""Pixels along a side of a window."""

TRIED = 8
"""Images by which a window is judged."""

TOLERANCE = 0.01
"""Share of the largest value: half precision rounds by as much, and whoever sees beyond the window differs by more."""


@final
@dataclass(frozen=True)
class Seen:
    """The receptive field of a layer of maps, and the window around that of the map's centre; None where there is none."""

    field: ReceptiveField | None = None
    window: Window | None = None

    @classmethod
    def by(cls, model: nn.Module, layer: str, source: Source, images: torch.Tensor) -> Self:
        """Look at real images `(N, C, H, W)` of the user's through a layer."""
        prepared = source.prepared(images[:TRIED])
        if prepared.ndim != 4 or prepared.shape[2:] != images.shape[2:]:
            return cls()
        channels, height, width = prepared.shape[1:]
        try:
            field = receptive_field(model, layer, (channels, height, width))
        except (ValueError, TypeError, LookupError, RuntimeError):
            return cls()
        return cls(field, _window(model, layer, field, source, images[:TRIED]))

    @classmethod
    def of(cls, saved: dict[str, Any]) -> Self:
        """Return what `saved` was made of."""
        if saved["rows"] is None:
            return cls()
        field = ReceptiveField(torch.tensor(saved["rows"]), torch.tensor(saved["columns"]))
        window = saved["window"]
        return cls(field, None if window is None else (slice(*window[0]), slice(*window[1])))

    @property
    def saved(self) -> dict[str, Any]:
        """All of it, as it stands in a file."""
        window = None if self.window is None else [[part.start, part.stop] for part in self.window]
        rows, columns = (
            (None, None) if self.field is None else (self.field.rows.tolist(), self.field.columns.tolist())
        )
        return {"rows": rows, "columns": columns, "window": window}

    @property
    def pixels(self) -> list[int] | None:
        """Height and width of the window."""
        return None if self.window is None else [part.stop - part.start for part in self.window]

    def cut(self, images: torch.Tensor) -> torch.Tensor:
        """Return what lies in the window, or images as they are."""
        return images if self.window is None else images[:, :, self.window[0], self.window[1]]


def _window(
    model: nn.Module, layer: str, field: ReceptiveField, source: Source, images: torch.Tensor
) -> Window | None:
    """Return the window in which the centre of the map gives what it gives in the whole of real images.

    None where it is as large as the image, or the unit sees beyond it or knows where in the image it lies.
    """
    axes = (field.rows, field.columns)
    centre = [len(axis) // 2 for axis in axes]
    seen = [int(axis[at, 1] - axis[at, 0]) for axis, at in zip(axes, centre, strict=True)]
    sizes = list(images.shape[2:])
    sides = [min(size, max(SMALLEST, AROUND * own)) for size, own in zip(sizes, seen, strict=True)]
    if sides == sizes or min(centre) == 0:
        return None
    try:
        corner = _maps(model, layer, source.prepared(images[:1, :, : sides[0], : sides[1]]))
        inner = [size // 2 for size in corner.shape[2:]]
        parts = []
        for axis, outside, inside, side in zip(axes, centre, inner, sides, strict=True):
            # A unit lies as many strides behind the edge as its number says, in the window as in the image.
            start = (outside - inside) * int(axis[outside, 0] - axis[outside - 1, 0])
            parts.append(slice(start, start + side))
        if any(part.start < 0 or part.stop > size for part, size in zip(parts, sizes, strict=True)):
            return None
        window = (parts[0], parts[1])
        found = _maps(model, layer, source.prepared(Seen(field, window).cut(images)))
    except RuntimeError:  # what lies before the layer takes no smaller images
        return None
    expected = _maps(model, layer, source.prepared(images))
    found, expected = found[:, :, inner[0], inner[1]], expected[:, :, centre[0], centre[1]]
    same = (found - expected).abs() <= TOLERANCE * expected.abs().max()
    return window if bool(same.all()) else None


def _maps(model: nn.Module, layer: str, images: torch.Tensor) -> torch.Tensor:
    """Return a layer's maps; what follows does not run, as it may need images of another size."""
    only_call = layer if "#" in layer else f"{layer}#1"
    maps: torch.Tensor = ActivationRecorder(model, only_call, stop_early=True)(images)[only_call]
    return maps.float().cpu()
