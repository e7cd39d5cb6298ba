"""The receptive field: which part of the image a unit of a layer depends on."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import nn

from featurelens._channels import Unsuitable
from featurelens._checks import check_dense, check_whole, describe
from featurelens._html import Shown
from featurelens.layers import Selector
from featurelens.recording.recorder import ActivationRecorder

PROBES = 16  # images in a batch
CHANGE = 10.0  # of a pixel, in standard deviations of a normal distribution
NOISE = 1000  # roundings of the largest value in a map: no more is a change


@final
@dataclass(frozen=True, repr=False, eq=False)
class ReceptiveField(Shown):
    """The part of the image that each position of a layer's map depends on.

    Attributes
    ----------
    rows, columns : torch.Tensor
        ``(H, 2)`` and ``(W, 2)`` int64, for each row and column of the map: the first pixel that it depends on, and the
        one after the last.
    """

    rows: torch.Tensor
    columns: torch.Tensor

    def box(self, position: Sequence[int] | torch.Tensor) -> tuple[int, int, int, int]:
        """Return the receptive field of position ``(h, w)`` as ``(top, bottom, left, right)`` in pixels, for slices.

        Raises
        ------
        TypeError
            If `position` is not two whole numbers.
        IndexError
            If the map has no such position.
        """
        given: Any = position
        indices = given.tolist() if isinstance(given, torch.Tensor) else given
        if not isinstance(indices, Sequence) or len(indices) != 2:
            raise TypeError(f"position must be two whole numbers, (h, w); got {describe(position)}")
        h, w = (check_whole(index, argument="position") for index in indices)
        height, width = len(self.rows), len(self.columns)
        if not (-height <= h < height and -width <= w < width):
            raise IndexError(f"position must lie in the map of {height}x{width}; got ({h}, {w})")
        (top, bottom), (left, right) = self.rows[h].tolist(), self.columns[w].tolist()
        return top, bottom, left, right

    def __repr__(self) -> str:
        height, width = (int((part[:, 1] - part[:, 0]).max()) for part in (self.rows, self.columns))
        return f"{type(self).__name__}({len(self.rows)}x{len(self.columns)} positions, up to {height}x{width} pixels)"


def receptive_field(model: nn.Module, layer: Selector, shape: tuple[int, int, int]) -> ReceptiveField:
    """Find the pixels that each position of a layer depends on, by changing them.

    Each row and each column of pixels is set to NaN in turn. NaN propagates where an ordinary change may not: through
    zero weights, inactive ReLUs and maxima of other values. Comparisons stop NaN (``torch.where(y > 0, y, 0)``), so
    large increases and decreases are tried as well. Pixels that act only through a comparison, without changing its
    outcome, may be missed. The field is clipped at the border of the image. If a network mixes all positions
    (attention, squeeze-and-excitation), every position depends on the whole image.

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
    TypeError, ValueError
        If an argument is not one of the above, the layer returns no maps or several, or some positions depend on no
        pixel.
    RuntimeError
        If the model fails on images of that shape.

    Examples
    --------
    >>> model = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
    >>> receptive_field(model, "2", (1, 8, 8)).box((0, 1))
    (0, 3, 1, 5)
    """
    sizes: Any = shape
    whole = isinstance(sizes, tuple | list) and len(sizes) == 3
    if not whole or not all(type(size) is int and size > 0 for size in sizes):
        raise ValueError(f"shape must be (C, H, W) of an image; got {describe(shape)}")
    recorder = ActivationRecorder(model, layer, reduce=_marked)
    if len(recorder.layers) != 1:
        raise ValueError(f"layer must be one call of one layer; got {', '.join(recorder.layers)}")
    name = _only_call(recorder, _two_images(shape))
    call = name if "#" in name else f"{name}#1"
    found = receptive_fields(model, [call], shape)
    if call not in found:
        raise ValueError(
            f"layer {name!r} has positions that respond to no pixel, so their receptive field is unknown"
        )
    return found[call]


def receptive_fields(
    model: nn.Module, calls: Sequence[str], shape: tuple[int, int, int]
) -> dict[str, ReceptiveField]:
    """Find the receptive fields of several `calls` of layers, named as ``conv#1``, in the same passes.

    Calls with positions that respond to no pixel are left out. For the rest see `receptive_field`.
    """
    recorder = ActivationRecorder(model, list(calls), reduce=_marked, stop_early=True)
    sides: list[dict[str, torch.Tensor]] = []
    # cuDNN's fast algorithms compute tiles of pixels together, in which NaN would spread.
    with torch.backends.cudnn.flags(enabled=False):
        for axis, pixels in ((2, shape[1]), (3, shape[2])):
            parts = [_run(recorder, part, axis, shape) for part in torch.split(torch.arange(pixels), PROBES)]
            sides.append({call: torch.cat([part[call] for part in parts]) for call in calls})
    rows, columns = sides
    return {
        call: ReceptiveField(_extent(rows[call]), _extent(columns[call]))
        for call in calls
        if bool(rows[call].any(0).all() and columns[call].any(0).all())
    }


def _only_call(recorder: ActivationRecorder, images: torch.Tensor) -> str:
    """Return what a layer's call is named, after a whole pass, which shows whether the layer is called once."""
    try:
        found = _marks(recorder, images)
    except Unsuitable as error:
        raise ValueError(f"layer {recorder.layers[0]!r} {error}") from None
    if len(found) != 1:
        raise ValueError(f"layer must be one call of one layer; got {', '.join(found)}")
    return next(iter(found))


def _two_images(shape: tuple[int, int, int]) -> torch.Tensor:
    try:
        return torch.zeros(2, *shape)
    except RuntimeError as error:
        raise ValueError(f"shape {shape} is that of an image too large for memory") from error


def _run(
    recorder: ActivationRecorder, lines: torch.Tensor, axis: int, shape: tuple[int, int, int]
) -> dict[str, torch.Tensor]:
    """Return which rows of each layer's map see each row of pixels in `lines` (axis 2), or the same of columns (axis 3)."""
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(1, *shape, generator=generator, dtype=torch.float32)
    change = CHANGE * torch.randn(image.shape, generator=generator, dtype=torch.float32)
    probes = []
    for marked in (torch.full_like(image, torch.nan), image + change, image - change):
        images = image.repeat(len(lines), 1, 1, 1)
        line = marked.transpose(1, axis)[0, lines]
        images.transpose(1, axis)[torch.arange(len(lines)), lines] = line
        probes.append(_marks(recorder, torch.cat([image, images])))
    return {name: torch.stack([marks[name] for marks in probes]).any(0).any(4 - axis) for name in probes[0]}


def _marks(recorder: ActivationRecorder, images: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return where each layer's maps of all images but the first are NaN, or differ from those of the first."""
    parameter = next((p for p in recorder.model.parameters() if p.is_floating_point()), None)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="the batch, a .* holds .* NaN")  # they are meant
        found = recorder(images if parameter is None else images.to(parameter.dtype))
    for name, marks in found.items():
        check_dense(marks, argument=f"what layer {name!r} returns")
    return {name: marks.cpu() for name, marks in found.items()}


def _marked(output: Any) -> torch.Tensor:
    if not isinstance(output, torch.Tensor) or output.ndim != 4:
        raise Unsuitable(f"must return maps (N, C, H, W); got {describe(output)}")
    if not output.is_floating_point():
        return (output[1:] != output[:1]).any(1)
    usual, probed = output[:1], output[1:]
    unequal = torch.where(probed == usual, 0, probed - usual)  # equal infinite values have no difference
    difference = unequal.abs_().amax(1)
    largest = usual.abs().nan_to_num(0.0, 0.0).amax() + difference.nan_to_num(0.0, 0.0).amax(
        (1, 2), keepdim=True
    )
    # Equal images of a batch may be summed in another order.
    return ~(difference <= NOISE * torch.finfo(output.dtype).eps * largest)  # NaN is a change


def _extent(marks: torch.Tensor) -> torch.Tensor:
    """Return the first pixel that each position sees and the one behind the last, of marks ``(pixels, positions)``."""
    order = torch.arange(len(marks))[:, None]
    first = torch.where(marks, order, len(marks)).amin(0)
    last = torch.where(marks, order, -1).amax(0)
    return torch.stack([first, last + 1], dim=1)
