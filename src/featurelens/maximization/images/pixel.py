"""Images whose pixels are optimized one by one."""

from __future__ import annotations

from typing import final

import torch

from featurelens.maximization.images.base import Canvas


@final
class PixelImage(Canvas):
    """An image whose pixels are optimized one by one.

    Parameters
    ----------
    shape
        ``(C, H, W)``, ``(C, L)`` for signals or ``(C, D, H, W)`` for volumes.
    statistics
        Statistics of the user's data, for how their colours are correlated; by default those of natural images for
        three channels.
    sd
        Standard deviation of the noise to start from, in units of the data's own contrast.

    Raises
    ------
    ValueError, TypeError
        If an argument is not one of the above.

    Examples
    --------
    >>> PixelImage((1, 28, 28))
    PixelImage((1, 28, 28))
    """

    def images(self, parameters: torch.Tensor) -> torch.Tensor:
        """Return the images `(N, C, H, W)`."""
        return self._paint(parameters)

    def from_image(self, images: torch.Tensor) -> torch.Tensor:
        """Return the parameters of images `(N, C, H, W)` in [0, 1]: the inverse of `images`."""
        return self._unpaint(images)
