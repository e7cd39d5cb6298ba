"""Colours that mean the same in every picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.colors import to_rgb

if TYPE_CHECKING:
    from matplotlib.colors import Colormap

    from featurelens.plotting._arrays import Floats

INK = "#1f2328"
QUIET = "#6a737d"
PALE = "#d8dce1"
NOT_FINITE = "#ff00a8"  # in none of the colour maps, so that a NaN is never taken for a value
SERIES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")  # Okabe-Ito

NOT_FINITE_NOTE = "pink: NaN or infinite"


def colour_map(name: str) -> Colormap:
    """Return a colour map that paints NaN and infinite values in a colour of their own."""
    return mpl.colormaps[name].with_extremes(bad=NOT_FINITE)


def value_map(values: Floats) -> Colormap:
    """Return RdBu_r for values of both signs and viridis for values that are never negative."""
    return colour_map("RdBu_r" if is_signed(values) else "viridis")


def is_signed(values: Floats) -> bool:
    """Say whether any finite value is negative."""
    return bool((values[np.isfinite(values)] < 0).any())


def limits(values: Floats, *, signed: bool) -> tuple[float, float]:
    """Return the values at the two ends of the colour scale: symmetric around zero for signed values."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return (-1.0, 1.0) if signed else (0.0, 1.0)
    if signed:
        reach = float(np.abs(finite).max()) or 1.0
        return -reach, reach
    low, high = float(finite.min()), float(finite.max())
    return (low, high) if low < high else (low, low + 1.0)


def paint_not_finite(picture: Floats) -> Floats:
    """Return an ``(..., 3)`` picture in [0, 1] whose pixels with NaN or infinite values are painted over."""
    broken = ~np.isfinite(picture).all(axis=-1)
    painted = np.where(np.isfinite(picture), picture, 0.0).clip(0, 1)
    painted[broken] = to_rgb(NOT_FINITE)
    return painted


def text_colour(background: Any) -> str:
    """Return ink or white, whichever can be read on a colour."""
    red, green, blue = background[:3]
    return INK if 0.299 * red + 0.587 * green + 0.114 * blue > 0.5 else "white"
