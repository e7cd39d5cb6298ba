"""The channels of one layer that correlate most with those of another."""

from __future__ import annotations

import torch
from torch.nn.functional import normalize

from featurelens.similarity.base import ArrayLike, checked
from featurelens.statistics.nearest import NearestChannels, nearest


def nearest_channels(x: ArrayLike, y: ArrayLike, *, k: int = 5) -> NearestChannels:
    """Return, for every channel of `x`, the `k` channels of `y` with the largest Pearson correlation over the images.

    For channels of one layer over all positions of all images, see `CovarianceResult.nearest`, which needs no recording.

    Parameters
    ----------
    x, y
        ``(N, C)`` and ``(N, C')``: two layers for the same images in the same order, recorded or by `statistics.Sample`;
        of maps ``(N, C, ...)`` the means over positions are compared.
    k
        Number of channels.

    Raises
    ------
    TypeError, ValueError
        If the rows are not paired, fewer than 4, all the same, or not finite, or `k` is not a whole number of at least 1.

    Examples
    --------
    >>> x = torch.rand(100, 3, generator=torch.Generator().manual_seed(0))
    >>> nearest_channels(x, x.flip(1), k=1).channels[:, 0].tolist()
    [2, 1, 0]
    """
    first, second = _channels(x, "x"), _channels(y, "y")
    if len(first) != len(second):
        raise ValueError(f"x and y must have one row for each image; got {len(first)} and {len(second)} rows")
    return nearest(_scaled(first).T @ _scaled(second.to(first.device)), k)


def _channels(values: ArrayLike, name: str) -> torch.Tensor:
    rows = checked(values, name)
    channels = values.shape[1]
    return rows.reshape(len(rows), channels, -1).mean(2)


def _scaled(rows: torch.Tensor) -> torch.Tensor:
    """Return columns of mean 0 and length 1; NaN for constant ones."""
    constant = (rows == rows[0]).all(0)
    centred = rows - rows.mean(0)
    return normalize(centred / centred.abs().amax(0), dim=0, eps=0.0).masked_fill(constant, torch.nan)
