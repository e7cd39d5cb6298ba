"""Colours that mean the same in every picture."""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.colors import Colormap, to_rgb

from featurelens.plotting.arrays import Floats, finite_range

INK = "#1f2328"
QUIET = "#6a737d"
PALE = "#d8dce1"
NOT_FINITE = "#ff00a8"  # in no colour map, so that NaN never looks like a value
NAMES = ("blue", "red", "green", "pink", "orange", "light blue", "black")  # of these:
SERIES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")  # Okabe-Ito

NOT_FINITE_NOTE = "pink: NaN or infinite"


def colour_map(name: str) -> Colormap:
    """Return a colour map that paints NaN and infinite values in a colour of their own."""
    return mpl.colormaps[name].with_extremes(bad=NOT_FINITE)


def is_signed(values: Floats) -> bool:
    """Say whether any finite value is negative."""
    return finite_range(values)[0] < 0


def scale_words(*, signed: bool) -> tuple[str, ...]:
    """Return what stands beside a colour bar if every picture has a scale of its own."""
    return ("-max", "0", "max") if signed else ("min", "max")


def limits(values: Floats, *, signed: bool) -> tuple[float, float]:
    """Return the values at the two ends of the colour scale: symmetric around zero for signed values."""
    low, high = finite_range(values)
    if signed:
        reach = max(abs(low), abs(high)) or 1.0
        return -reach, reach
    return (low, high) if low < high else (low, low + 1.0)


def paint_not_finite(picture: Floats) -> Floats:
    """Return an ``(..., 3)`` picture in [0, 1] whose pixels with NaN or infinite values are painted over."""
    broken = ~np.isfinite(picture).all(axis=-1)
    painted = np.where(np.isfinite(picture), picture, 0.0).clip(0, 1)
    painted[broken] = to_rgb(NOT_FINITE)
    return painted


def line_colours(number: int) -> list[Any]:
    """Return a colour for each of `number` lines: the usual series, or from dark to bright if it is too short."""
    if number <= len(SERIES):
        return list(SERIES[:number])
    return list(mpl.colormaps["viridis"](np.linspace(0, 0.9, number)))


def text_colour(background: Any) -> str:
    """Return ink or white, whichever can be read on a colour."""
    red, green, blue = background[:3]
    return INK if 0.299 * red + 0.587 * green + 0.114 * blue > 0.5 else "white"
