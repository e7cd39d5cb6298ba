"""Which part of the image a unit of a layer sees."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

import torch
from torch import nn

from featurelens._checks import describe
from featurelens.recording.recorder import ActivationRecorder

if TYPE_CHECKING:
    from featurelens.layers import Selector

PROBES = 16  # images in a batch


@final
@dataclass(frozen=True, repr=False, eq=False)
class ReceptiveField:
    """The part of the image that each position of a layer's map depends on.

    Attributes
    ----------
    rows, columns : torch.Tensor
        ``(H, 2)`` and ``(W, 2)`` int64, for each row and column of the map: the first pixel that it sees, and the one
        behind the last.
    """

    rows: torch.Tensor
    columns: torch.Tensor

    def box(self, position: Sequence[int] | torch.Tensor) -> tuple[int, int, int, int]:
        """Return ``(top, bottom, left, right)`` in pixels, for slices, of what position ``(h, w)`` sees."""
        h, w = (int(index) for index in position)
        (top, bottom), (left, right) = self.rows[h].tolist(), self.columns[w].tolist()
        return top, bottom, left, right

    def __repr__(self) -> str:
        height, width = (int((part[:, 1] - part[:, 0]).max()) for part in (self.rows, self.columns))
        return f"{type(self).__name__}({len(self.rows)}x{len(self.columns)} positions, up to {height}x{width} pixels)"


def receptive_field(model: nn.Module, layer: Selector, shape: tuple[int, int, int]) -> ReceptiveField:
    """Find the pixels that each position of a layer depends on, whatever lies between, by marking them.

    One image for each row and each column of pixels is run with that row or column NaN, and NaN goes wherever the value
    would have gone: through weights of zero, ReLUs that are off, and maxima that others win, which gradients and small
    changes do not pass. What is found is clipped at the border of the image and includes padding's shadow; a network
    that mixes all positions (attention, squeeze-and-excitation) sees the whole image from everywhere.

    Parameters
    ----------
    model
        Takes images `(N, C, H, W)`.
    layer
        One layer that returns maps `(N, C, H, W)`; see `featurelens.layers`.
    shape
        ``(C, H, W)`` of an image.

    Raises
    ------
    LookupError
        If no layer matches.
    ValueError
        If the layer returns no maps or several, or stops NaN, so that nothing can be said.

    Examples
    --------
    >>> model = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
    >>> field = receptive_field(model, "2", (1, 8, 8))
    >>> field
    ReceptiveField(4x4 positions, up to 4x4 pixels)
    >>> field.box((0, 1))
    (0, 3, 1, 5)
    """
    sizes: Any = shape
    if not isinstance(sizes, tuple | list | torch.Size) or len(sizes) != 3 or min(sizes) < 1:
        raise ValueError(f"shape must be (C, H, W) of an image; got {describe(shape)}")
    recorder = ActivationRecorder(model, layer, reduce=_marked)
    sides = []
    # cuDNN's fast algorithms compute tiles of pixels together, in which NaN would spread.
    with torch.backends.cudnn.flags(enabled=False):
        for axis, pixels in ((2, shape[1]), (3, shape[2])):
            marks = torch.cat(
                [_run(recorder, part, axis, shape) for part in torch.split(torch.arange(pixels), PROBES)]
            )
            sides.append(_extent(marks.any(4 - axis), recorder.layers))
    return ReceptiveField(*sides)


def _run(
    recorder: ActivationRecorder, lines: torch.Tensor, axis: int, shape: tuple[int, int, int]
) -> torch.Tensor:
    """Return which positions ``(n, H, W)`` see each of the pixel rows (axis 2) or columns (axis 3) in `lines`."""
    images = torch.rand(1, *shape, generator=torch.Generator().manual_seed(0)).repeat(len(lines), 1, 1, 1)
    images.transpose(1, axis)[torch.arange(len(lines)), lines] = torch.nan
    parameter = next((p for p in recorder.model.parameters() if p.is_floating_point()), None)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="the batch, a .* holds .* NaN")  # they are meant
        found = recorder(images if parameter is None else images.to(parameter.dtype))
    if len(found) != 1:
        raise ValueError(f"layer must be one call of one layer; got {', '.join(found)}")
    marks: torch.Tensor = next(iter(found.values())).cpu()
    return marks


def _marked(output: Any) -> torch.Tensor:
    if not isinstance(output, torch.Tensor) or output.ndim != 4:
        raise ValueError(f"a receptive field needs maps (N, C, H, W); the layer returned {describe(output)}")
    return output.isnan().any(1)


def _extent(marks: torch.Tensor, layers: tuple[str, ...]) -> torch.Tensor:
    """Return the first pixel that each position sees and the one behind the last, of marks ``(pixels, positions)``."""
    if not bool(marks.any(0).all()):
        raise ValueError(f"layer {layers[0]!r} does not pass NaN on, so that what it sees cannot be told")
    order = torch.arange(len(marks))[:, None]
    first = torch.where(marks, order, len(marks)).amin(0)
    last = torch.where(marks, order, -1).amax(0)
    return torch.stack([first, last + 1], dim=1)
