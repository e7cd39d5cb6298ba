"""The heat map of layers against layers."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from featurelens._checks import check_type
from featurelens.plotting.arrays import to_floats
from featurelens.plotting.chart import name_channels, name_rows
from featurelens.plotting.colours import colour_map, text_colour
from featurelens.plotting.heatmap import CELL, add_bar, heat_map
from featurelens.plotting.page import WIDTH, figure_of, text_or
from featurelens.similarity import LayerSimilarityResult

LEGIBLE = 16  # more layers than this leave no room for values


def layer_similarity(
    result: LayerSimilarityResult, *, title: str | None = None, ax: Axes | None = None
) -> Figure:
    """Draw the similarity of every layer with every layer; the first layers are at the lower left.

    Values are written into the cells of up to 16 layers.

    Parameters
    ----------
    result
        From `compare`.
    title
        The heading; by default the measure and the number of images.
    ax
        Draw here instead of on a new figure.

    Raises
    ------
    TypeError
        If `result` is not a `LayerSimilarityResult`.

    Examples
    --------
    >>> import torch
    >>> import featurelens as fl
    >>> model = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU())
    >>> result = fl.compare(model, loader=torch.rand(16, 1, 8, 8), layers=["0", "1"])
    >>> layer_similarity(result).axes[0].get_title(loc="left")
    'Debiased linear CKA, 16 images'
    """
    expected = "a LayerSimilarityResult, which fl.compare returns"
    check_type(result, LayerSimilarityResult, argument="result", expected=expected)
    values = to_floats(result.values)
    rows, columns = values.shape
    name = result.measure[:1].upper() + result.measure[1:]
    same = result.layers == result.other_layers and bool((values == values.T).all())  # one network
    words: dict[str, Any] = {
        "xlabel": "layer" if same else "layer of the other network",
        "ylabel": "layer",
        "title": text_or(title, f"{name}, {result.n:,} images"),
    }
    size = (_inches(columns, CELL[0], 2.6), _inches(rows, CELL[1], 1.8))
    colours = colour_map("viridis"), Normalize(0, 1)
    picture = heat_map(ax, values, colours, size=size, aspect="auto", **words)
    picture.axes.invert_yaxis()
    if max(rows, columns) <= LEGIBLE:
        for (row, column), value in np.ndenumerate(values):
            colour = text_colour(picture.to_rgba(np.asarray(value)))
            picture.axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=7, color=colour)
    add_bar(picture)
    name_rows(picture.axes, list(result.layers))
    name_channels(picture.axes, list(result.other_layers))
    return figure_of(picture.axes)


def _inches(number: int, each: float, rest: float) -> float:
    return min(max(each * number + rest, 3.6), WIDTH)
