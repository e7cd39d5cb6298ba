"""What the units of a layer see of an image: their receptive fields, and the window that an optimized image has to fill."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self, final

import torch
from torch import nn

from featurelens.atlas.source import Source
from featurelens.recording import ActivationRecorder
from featurelens.recording.receptive import ReceptiveField, receptive_fields

Window = tuple[slice, slice]
"""Rows and columns of an image."""

SMALLEST = 8
"""Pixels along a side of a window."""

TRIED = 8
"""Images by which windows and signs are judged."""

TOLERANCE = 0.01
"""Share of a channel's largest value: half precision rounds by as much, and a unit that sees more differs by more."""


@final
@dataclass(frozen=True)
class Seen:
    """The receptive field of a layer of maps, and the window around that of the map's centre; None where there is none."""

    field: ReceptiveField | None = None
    window: Window | None = None

    @classmethod
    def by(
        cls, model: nn.Module, layers: Sequence[str], source: Source, images: torch.Tensor
    ) -> dict[str, Self]:
        """Look at real images `(N, C, H, W)` of the user's through layers of maps."""
        images = images[:TRIED]
        prepared = source.prepared(images)
        if not layers or prepared.ndim != 4 or prepared.shape[2:] != images.shape[2:]:
            return {layer: cls() for layer in layers}
        channels, height, width = prepared.shape[1:]
        calls = [_call(layer) for layer in layers]
        try:
            fields = receptive_fields(model, calls, (channels, height, width))
        except torch.OutOfMemoryError:  # of the machine and the moment, not of the layers
            raise
        except (ValueError, TypeError, LookupError, RuntimeError):
            fields = {}
        found: dict[str, Self] = {}
        for layer, call in zip(layers, calls, strict=True):
            field = fields.get(call)
            window = None if field is None else _window(model, layer, field, source, images)
            found[layer] = cls(field, window)
        return found

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
        """Width and height of the window."""
        return None if self.window is None else [part.stop - part.start for part in reversed(self.window)]

    def cut(self, images: torch.Tensor) -> torch.Tensor:
        """Return what lies in the window, or images as they are."""
        return images if self.window is None else images[:, :, self.window[0], self.window[1]]


def _call(layer: str) -> str:
    return layer if "#" in layer else f"{layer}#1"


def _window(
    model: nn.Module, layer: str, field: ReceptiveField, source: Source, images: torch.Tensor
) -> Window | None:
    try:
        return _centred_window(model, layer, field, source, images)
    except torch.OutOfMemoryError:
        raise
    except Exception:  # noqa: BLE001  the user's functions, or layers before this one, may take no smaller images
        return None


def _centred_window(
    model: nn.Module, layer: str, field: ReceptiveField, source: Source, images: torch.Tensor
) -> Window | None:
    """Return the window in which the centre of the map gives what it gives in the whole of real images.

    None where it is as large as the image, or the unit sees beyond it or knows where in the image it lies.
    """
    axes, sizes = (field.rows, field.columns), images.shape[2:]
    centre = [len(axis) // 2 for axis in axes]
    sides = [_side(axis, at, size) for axis, at, size in zip(axes, centre, sizes, strict=True)]
    if sides == list(sizes):
        return None
    corner = outputs(model, layer, source.prepared(images[:2, :, : sides[0], : sides[1]]))
    inner = [size // 2 for size in corner.shape[2:]]
    window = []
    for axis, outside, inside, side in zip(axes, centre, inner, sides, strict=True):
        # A unit lies as many strides behind the edge as its number says, in the window as in the image.
        start = (outside - inside) * _stride(axis, outside)
        first, last = axis[outside].tolist()
        if not 0 <= start <= first < last <= start + side:
            return None
        window.append(slice(start, start + side))
    found = Seen(field, (window[0], window[1]))
    expected = outputs(model, layer, source.prepared(images))[:, :, centre[0], centre[1]]
    inside_it = outputs(model, layer, source.prepared(found.cut(images)))[:, :, inner[0], inner[1]]
    same = (inside_it - expected).abs() <= TOLERANCE * expected.abs().amax(0)
    return found.window if bool(same.all()) and bool(expected.any()) else None


def _side(axis: torch.Tensor, centre: int, size: int) -> int:
    """Return the side of a window: the receptive field, and at least half of it at each end, in whole strides."""
    seen, stride = int(axis[centre, 1] - axis[centre, 0]), _stride(axis, centre)
    if stride < 1:
        return size
    margin = max(seen, SMALLEST - seen)
    return min(size, seen + 2 * stride * math.ceil(margin / 2 / stride))


def _stride(axis: torch.Tensor, centre: int) -> int:
    return int(axis[centre, 0] - axis[centre - 1, 0]) if centre else 0


def outputs(model: nn.Module, layer: str, images: torch.Tensor) -> torch.Tensor:
    """Return what a layer returns for images; what follows does not run, as it may need images of another size."""
    call = _call(layer)
    maps: torch.Tensor = ActivationRecorder(model, call, stop_early=True)(images)[call]
    return maps.float().cpu()
