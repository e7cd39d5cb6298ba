"""Optimized images: all of them in a grid, how their objectives rose, and beside the strongest real images."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.image
import numpy as np

from featurelens._checks import check_type, check_whole, count
from featurelens.maximization import MaximizationResult, Objective, RealImageComparison
from featurelens.plotting._arrays import Array, check_array, to_floats
from featurelens.plotting._colours import INK, QUIET, SERIES
from featurelens.plotting._curves import SIZE, chart, dress
from featurelens.plotting._grid import Grid, draw_tile
from featurelens.plotting._images import as_pictures, image_grid
from featurelens.plotting._page import finish, page, wrap

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def maximization(
    result: MaximizationResult,
    *,
    limit: int = 64,
    columns: int | None = None,
    title: str | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Show optimized images in a grid, each with its score and its objective above it.

    One channel is drawn in grey, three as RGB, any other number as the mean over the channels in viridis.

    Parameters
    ----------
    result
        What `ActivationMaximizer.run` gave.
    limit
        How many images to show at most; the title says when there are more.
    columns
        Pictures in a row; by default the fullest rectangle.
    title
        The heading; by default none.
    ax
        Draw here instead of on a new figure.

    Raises
    ------
    TypeError
        If `result` is not a MaximizationResult.
    ValueError
        If `limit` or `columns` is below 1.

    Examples
    --------
    >>> import torch, featurelens as fl
    >>> model = torch.nn.Conv2d(1, 4, 3)
    >>> result = fl.ActivationMaximizer(model, fl.FourierImage((1, 8, 8)), steps=2).run(model)
    >>> len(maximization(result).axes[0].images)
    4
    """
    check_type(result, MaximizationResult, argument="result", expected="a MaximizationResult")
    labels = [
        f"{score:.3g}  {objective}"
        for objective, score in zip(result.objectives, result.scores.tolist(), strict=True)
    ]
    return image_grid(result.images, labels=labels, columns=columns, limit=limit, title=title, ax=ax)


MOST_LINES = 7
LEGEND = 2.5  # width of the words in the legend, in inches


def maximization_history(
    result: MaximizationResult, *, title: str | None = None, ax: Axes | None = None
) -> Axes:
    """Draw how the objectives rose: a line each for up to seven, and else their median, quartiles and range.

    Objectives of different kinds (other layers, other terms) have nothing to do with each other's units: then each goes
    from its lowest value, 0, to its highest, 1, and the legend says what these are.

    Parameters
    ----------
    result
        What `ActivationMaximizer.run` gave.
    title
        The heading; by default none.
    ax
        Draw here instead of on a new figure.

    Raises
    ------
    TypeError
        If `result` is not a MaximizationResult.

    Examples
    --------
    >>> import torch, featurelens as fl
    >>> model = torch.nn.Conv2d(1, 4, 3)
    >>> result = fl.ActivationMaximizer(model, fl.FourierImage((1, 8, 8)), steps=2).run(model)
    >>> len(maximization_history(result).lines)
    4
    """
    check_type(result, MaximizationResult, argument="result", expected="a MaximizationResult")
    values = to_floats(result.history)
    names, ylabel = [str(objective) for objective in result.objectives], "objective"
    if len({_kind(objective) for objective in result.objectives}) > 1:
        low, high = values.min(axis=0), values.max(axis=0)
        names = [f"{name} ({a:.3g} to {b:.3g})" for name, a, b in zip(names, low, high, strict=True)]
        values = (values - low) / np.where(high > low, high - low, 1.0)
        ylabel = "objective: 0 lowest, 1 highest"
    steps = np.arange(1, len(values) + 1)
    ax = chart(ax, size=SIZE)
    if values.shape[1] <= MOST_LINES:
        for row, name in enumerate(names):
            marker, label = "o" if len(steps) == 1 else "", "\n".join(wrap(name, LEGEND, 8.0))
            ax.plot(steps, values[:, row], color=SERIES[row], label=label, marker=marker, linewidth=1.4)
    else:
        low, quarter, middle, three, high = np.quantile(values, [0, 0.25, 0.5, 0.75, 1], axis=1)
        ax.fill_between(steps, low, high, color=SERIES[0], alpha=0.15, linewidth=0, label="all")
        ax.fill_between(steps, quarter, three, color=SERIES[0], alpha=0.35, linewidth=0, label="middle half")
        ax.plot(steps, middle, color=SERIES[0], linewidth=1.6, label=f"median of {values.shape[1]}")
    dress(ax, xlabel="step", ylabel=ylabel, title=title)
    ax.legend(facecolor="white", edgecolor="none", framealpha=0.85, fontsize=8)
    return ax


def _kind(objective: Objective) -> Hashable:
    """Return what objectives have in common whose values can be compared."""
    return tuple((type(term), getattr(term, "layer", None)) for _, term in objective.terms)


IMAGE = 0.85  # width of a picture, in inches
TEXT = 1.9  # width of the words at the left of a row
APART = 0.25  # between the optimized image and the real ones


def comparison(
    comparison: RealImageComparison,
    *,
    limit: int = 16,
    shown: int = 5,
    title: str | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Draw a row for each objective: what it is, its optimized image, and the strongest real images beside it.

    Above every picture stands the value that the objective has for it.

    Parameters
    ----------
    comparison
        What `MaximizationResult.compare` gave.
    limit
        How many objectives to show at most; the title says when there are more.
    shown
        How many real images to show in a row at most.
    title
        The heading; by default the comparison in a sentence.
    ax
        Draw here instead of on a new figure.

    Raises
    ------
    TypeError
        If `comparison` is not a RealImageComparison.
    ValueError
        If `limit` or `shown` is below 1.

    Examples
    --------
    >>> import torch, featurelens as fl
    >>> model = torch.nn.Conv2d(1, 4, 3)
    >>> result = fl.ActivationMaximizer(model, fl.FourierImage((1, 8, 8)), steps=2).run(model)
    >>> len(comparison(result.compare(torch.rand(20, 1, 8, 8))).axes[0].images)
    24
    """
    check_type(comparison, RealImageComparison, argument="comparison", expected="a RealImageComparison")
    rows = min(check_whole(limit, argument="limit", least=1), len(comparison))
    real = min(check_whole(shown, argument="shown", least=1), comparison.top_images.shape[1])
    ratio = min(max(comparison.images.shape[2] / comparison.images.shape[3], 0.25), 4.0)
    size = (IMAGE / max(ratio, 1) ** 0.5, IMAGE * ratio / max(ratio, 1) ** 0.5)
    grid = Grid(real + 1, rows, size)
    heading = title if title is not None else repr(comparison)[len("RealImageComparison(") : -1].capitalize()
    if rows < len(comparison):
        heading += f" (first {rows} of {len(comparison)} shown)"
    width = TEXT + grid.width + APART
    # apart, as a model may take images of any size, and real ones may have another than the optimized
    optimized = as_pictures(comparison.images[:rows])
    photographs = [as_pictures(comparison.top_images[k, :real]) for k in range(rows)]
    note = "left: the optimized image; right of it: the strongest real images"
    ax = page(width, grid.height, title=heading, note=note, ax=ax)
    for k, row in enumerate(photographs):
        values = [float(comparison.scores[k])]
        if not bool(comparison.dead[k]):  # or any image would be as strong as another
            values += comparison.top_scores[k, :real].tolist()
        for column, value in enumerate(values):
            x, y = grid.corner(k * grid.columns + column)
            x += TEXT + (APART if column else 0)
            drawn = row.tile(column - 1, f"{value:.3g}") if column else optimized.tile(k, f"{value:.3g}")
            draw_tile(ax, drawn, (x, y), _fitted(drawn.pixels.shape, size), row.cmap)
        _, y = grid.corner(k * grid.columns)
        _describe(ax, str(comparison.objectives[k]), comparison.judgements[k], y)
    return finish(ax, width, grid.height)


def _fitted(shape: tuple[int, ...], size: tuple[float, float]) -> tuple[float, float]:
    """Return width and height of a picture ``(H, W, ...)``, as large as it can be within `size` and not distorted."""
    scale = min(size[0] / shape[1], size[1] / shape[0])
    return shape[1] * scale, shape[0] * scale


def _describe(ax: Axes, objective: str, judgement: str, y: float) -> None:
    """Write what a row is about, and the judgement below it."""
    lines = wrap(objective, TEXT - 0.15, 8.0)[:3]
    ax.text(0, y, "\n".join(lines), fontsize=8, color=INK, va="top", ha="left")
    below = y + len(lines) * 8 * 1.35 / 72 + 0.02
    words = "\n".join(wrap(judgement, TEXT - 0.15, 6.5))
    ax.text(0, below, words, fontsize=6.5, color=QUIET, va="top", ha="left")


def write_images(images: Array, paths: Sequence[Path]) -> None:
    """Write each of ``(N, C, H, W)`` images, pixel by pixel, to the PNG file at its place in `paths`.

    Raises
    ------
    ValueError
        If there is not one path for each image.

    Examples
    --------
    >>> import pathlib, tempfile, torch
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_images(torch.rand(1, 3, 8, 8), [pathlib.Path(folder) / "image.png"])
    """
    images = check_array(images, {4: "(N, C, H, W)"}, argument="images")
    if len(paths) != len(images):
        raise ValueError(f"paths must name all of {count(len(images), 'image')}; got {len(paths)}")
    for pixels, path in zip(as_pictures(images).rgb(), paths, strict=True):
        matplotlib.image.imsave(path, pixels)
