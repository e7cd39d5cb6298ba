"""Amounts of something unwanted in the image, to be subtracted from what is wanted."""

from __future__ import annotations

from featurelens.maximization.objectives import Objective, single
from featurelens.maximization.terms import Laplacian, SquaredNorm, TotalVariation


def total_variation() -> Objective:
    """Amount of change between neighbouring pixels: the mean absolute difference, in units of the range [0, 1].

    Subtract it: ``channel("conv3", 7) - 0.5 * total_variation()``.

    Examples
    --------
    >>> import featurelens as fl
    >>> fl.channel("conv3", 7) - 0.5 * fl.total_variation()
    Objective(conv3:7 - 0.5 total variation)
    """
    return single(TotalVariation())


def l2() -> Objective:
    """Amount of contrast: the mean squared distance of the pixels from mid-grey, at most 0.25; subtract it.

    Examples
    --------
    >>> import featurelens as fl
    >>> fl.logit(3) - 10 * fl.l2()
    Objective(logit 3 - 10 l2)
    """
    return single(SquaredNorm())


def laplacian() -> Objective:
    """Amount of roughness: the mean square of the discrete Laplacian of the image; subtract it.

    The four neighbours less four times the pixel, edges continued outwards.

    Examples
    --------
    >>> import featurelens as fl
    >>> fl.logit(3) - fl.laplacian()
    Objective(logit 3 - laplacian)
    """
    return single(Laplacian())
