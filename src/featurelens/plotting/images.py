"""Images as pictures, volumes as slices and signals as lines: in a grid, and in files."""

from __future__ import annotations

import os
from collections.abc import Sequence

import matplotlib.image
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from featurelens._checks import as_list, check_path, check_type, check_whole, count
from featurelens._saving import whole_file
from featurelens.maximization import MaximizationResult
from featurelens.maximization.layouts import LAYOUTS
from featurelens.plotting.arrays import Array, check_array, check_labels, check_limit
from featurelens.plotting.grid import LABEL, Grid, arrange, break_label, draw_grid, label_size
from featurelens.plotting.page import figure_of, first_of, objective_name, page, room, text_or
from featurelens.plotting.pictures import Signals, drawn

SCORE_NOTE = "score: the value of the objective for this image"


def image_grid(
    images: Array,
    *,
    labels: Sequence[object] | Array | None = None,
    columns: int | None = None,
    limit: int = 64,
    title: str | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Show a batch of images in a grid.

    One channel is drawn in grey, three as RGB, any other number side by side in viridis. Values in [0, 1] and ``uint8``
    are shown as they are; a batch that leaves [0, 1] (normalized images) is stretched to it as a whole, and the note under
    the title says so. NaN and infinite values are pink. Of volumes, four evenly spaced slices along their first spatial
    axis are shown. Signals are charts with a line for each channel, with gaps at NaN and infinite values.

    Parameters
    ----------
    images
        ``(N, C, H, W)``, volumes ``(N, C, D, H, W)`` or signals ``(N, C, L)``.
    labels
        One for each image, written above it.
    columns
        Pictures in a row; by default the fullest rectangle.
    limit
        How many images to show at most; the title says when there are more.
    title
        The heading; by default none.
    ax
        Draw here instead of on a new figure.

    Raises
    ------
    TypeError, ValueError
        If `images` is not one of these, of real numbers, or is empty, or `labels` has another length.

    Examples
    --------
    >>> import torch
    >>> figure = image_grid(torch.rand(12, 3, 32, 32), labels=range(12), title="Noise")
    >>> len(figure.axes[0].images)
    12
    """
    return draw_images(images, labels, columns, limit, title, "", ax)


def draw_images(
    images: Array,
    labels: Sequence[object] | Array | None,
    columns: int | None,
    limit: int,
    title: str | None,
    note: str,
    ax: Axes | None,
) -> Figure:
    """Draw what `image_grid` draws, with a further note under the title."""
    images = check_array(images, LAYOUTS, argument="images")
    names = check_labels(labels, len(images), "image")
    shown = check_limit(limit, len(images))
    if columns is not None:
        columns = check_whole(columns, argument="columns", least=1)
    pictures = drawn(images[:shown])
    names, grid = _labelled(names[:shown], pictures.shape, columns, room(ax))
    heading = first_of(text_or(title, "" if shown == len(images) else "Images"), shown, len(images))
    notes = "; ".join([note, *pictures.notes] if note else pictures.notes)
    ax = page(grid.width, grid.height, title=heading, note=notes, ax=ax)
    draw_grid(ax, [pictures.tile(i, names[i]) for i in range(shown)], grid, pictures.cmap)
    return figure_of(ax)


def maximization(
    result: MaximizationResult,
    *,
    limit: int = 64,
    columns: int | None = None,
    title: str | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Show optimized images in a grid, each with its objective and its score above it.

    Parameters
    ----------
    result
        From `ActivationMaximizer.run`.
    limit, columns, title, ax
        As for `image_grid`; the title is by default "Optimized images".

    Raises
    ------
    TypeError
        If `result` is not a MaximizationResult.
    ValueError
        If `limit` or `columns` is below 1.

    Examples
    --------
    >>> import torch
    >>> import featurelens as fl
    >>> model = torch.nn.Conv2d(1, 4, 3)
    >>> result = fl.ActivationMaximizer(model, fl.FourierImage((1, 8, 8)), steps=2).run(model)
    >>> len(maximization(result).axes[0].images)
    4
    """
    check_type(result, MaximizationResult, argument="result", expected="a MaximizationResult")
    scored = zip(result.objectives, result.scores.tolist(), strict=True)
    labels = [f"{objective_name(objective)}\nscore {score:.3g}" for objective, score in scored]
    return draw_images(
        result.images, labels, columns, limit, text_or(title, "Optimized images"), SCORE_NOTE, ax
    )


def write_images(images: Array, paths: Sequence[str | os.PathLike[str]]) -> None:
    """Write each of `images`, as for `image_grid`, to the PNG file at its place in `paths`.

    Images and the slices of volumes are written pixel by pixel, signals as a line chart.

    Raises
    ------
    TypeError, ValueError
        If `images` is not as for `image_grid`, or `paths` does not hold one path for each image.
    OSError
        If a file cannot be written.

    Examples
    --------
    >>> import pathlib, tempfile, torch
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_images(torch.rand(1, 3, 8, 8), [pathlib.Path(folder) / "image.png"])
    """
    images = check_array(images, LAYOUTS, argument="images")
    listed = as_list(paths, argument="paths", expected="a list of files' paths")
    files = [check_path(path, argument="paths", expected="files' paths") for path in listed]
    if len(files) != len(images):
        raise ValueError(f"paths must name all of {count(len(images), 'image')}; got {len(files)}")
    pictures = drawn(images)
    pixels = None if isinstance(pictures, Signals) else pictures.rgb()
    for index, file in enumerate(files):
        with whole_file(file, argument="paths") as unfinished:
            if pixels is None:
                image_grid(images[index : index + 1]).savefig(unfinished, format="png")
            else:
                matplotlib.image.imsave(unfinished, pixels[index], format="png")


def _labelled(
    names: list[str], shape: tuple[int, ...], columns: int | None, space: tuple[float, float]
) -> tuple[list[str], Grid]:
    """Return the labels, broken into lines, and a grid that has room for them."""
    label = LABEL if any(names) else 0.0
    while True:
        grid = arrange(len(names), shape, space, columns=columns, label=label)
        broken = [break_label(name, grid.tile[0]) for name in names]
        lines = max(name.count("\n") for name in broken)
        needed = label and LABEL + lines * label_size(grid.tile[0]) * 1.2 / 72
        if needed <= label:
            return broken, grid
        label = needed  # which may make the tiles smaller, and the lines more
