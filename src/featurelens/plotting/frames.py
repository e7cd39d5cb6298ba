"""How optimized images developed: as a strip of frames, and as an animated GIF."""

from __future__ import annotations

import io
import math
import os
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from featurelens._checks import check_type, check_whole
from featurelens._saving import whole_file
from featurelens.maximization import MaximizationResult
from featurelens.plotting.images import SCORE_NOTE, draw_images, image_grid
from featurelens.plotting.page import objective_name, text_or
from featurelens.plotting.pictures import Signals, drawn, lay_out

SMALLEST = 128  # pixels across an image in a GIF: smaller ones are enlarged
GAP = 2
HEADING = "From the starting image to the optimized one"


def frames(
    result: MaximizationResult,
    *,
    limit: int = 8,
    shown: int = 8,
    title: str | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Show how optimized images developed: one in each row, the starting image on the left, the result on the right.

    Parameters
    ----------
    result
        From ``ActivationMaximizer.run(..., record_every=k)``.
    limit
        How many images to show at most.
    shown
        How many frames of each, evenly spaced.
    title, ax
        As for `image_grid`; the title is by default "From the starting image to the optimized one".

    Raises
    ------
    TypeError, ValueError
        If `result` is not a MaximizationResult with frames, or a number is below 1.

    Examples
    --------
    >>> import featurelens as fl
    >>> maximizer = fl.ActivationMaximizer(torch.nn.Conv2d(1, 4, 3), fl.FourierImage((1, 8, 8)), steps=8)
    >>> len(frames(maximizer.run("", record_every=2), limit=3).axes[0].images)
    15
    """
    kept = _frames_of(result)
    rows = min(check_whole(limit, argument="limit", least=1), len(kept))
    columns = min(check_whole(shown, argument="shown", least=1), kept.shape[1])
    chosen = torch.linspace(0, kept.shape[1] - 1, columns).round().long()
    scored = zip(result.objectives, result.scores.tolist(), strict=True)
    ends = [f"{objective_name(objective)}\nscore {score:.3g}" for objective, score in scored][:rows]
    labels = [end if column == columns - 1 else "" for end in ends for column in range(columns)]
    images = kept[:rows, chosen].flatten(0, 1)
    return draw_images(images, labels, columns, len(images), text_or(title, HEADING), SCORE_NOTE, ax)


def write_animation(
    result: MaximizationResult, path: str | os.PathLike[str], *, limit: int = 16, rate: int = 12
) -> None:
    """Write the frames of a result as an animated GIF, the images beside each other.

    Parameters
    ----------
    result
        From ``ActivationMaximizer.run(..., record_every=k)``.
    path
        The file.
    limit
        How many images to show at most.
    rate
        Frames in a second.

    Raises
    ------
    TypeError, ValueError
        If `result` is not a MaximizationResult with frames, `path` not a path, or a number is below 1.
    OSError
        If the file cannot be written.
    """
    kept = _frames_of(result)
    kept = kept[: check_whole(limit, argument="limit", least=1)]
    duration = 1000 / check_whole(rate, argument="rate", least=1)
    with whole_file(path) as unfinished:
        first, *further = [_page(frame) for frame in kept.transpose(0, 1)]
        first.save(unfinished, format="GIF", save_all=True, append_images=further, duration=duration, loop=0)


def _page(frame: torch.Tensor) -> Any:
    """Return what images ``(N, C, ...)`` look like at one time, for Pillow."""
    from PIL import Image

    pictures = drawn(frame)
    if isinstance(pictures, Signals):
        file = io.BytesIO()
        image_grid(frame, limit=len(frame)).savefig(file, format="png")
        return Image.open(file).convert("RGB")
    pixels = pictures.rgb()
    scale = math.ceil(SMALLEST / max(pixels.shape[1:3]))
    gap = GAP if frame.ndim == 4 else 3 * scale  # wider than between the slices of a volume
    return Image.fromarray(lay_out(pixels.repeat(scale, axis=1).repeat(scale, axis=2), gap=gap))


def _frames_of(result: MaximizationResult) -> torch.Tensor:
    check_type(result, MaximizationResult, argument="result", expected="a MaximizationResult")
    if result.frames is None:
        raise ValueError("this run kept no frames: pass record_every= to ActivationMaximizer.run")
    return result.frames
