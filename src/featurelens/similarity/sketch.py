"""Random projections of a wide layer: each column sums every 509th value, with random signs.

No matrix of the layer's width is stored, only two signs for each value. The mean over the signs of the product of two
projected images is the product of the images (Charikar, Chen and Farach-Colton, "Finding frequent items in data streams",
2002). A product of two such products is biased if both use the same signs, and unbiased if their signs are independent:
so every wide layer is projected twice.
"""

from __future__ import annotations

from typing import final

import torch

from featurelens._random import Seed, make_generator

WIDEST = 1024
"""Values of a layer for an image, beyond which it is projected."""

COLUMNS = 509
"""Columns of a projection: a prime, so that no position, channel or token has columns of its own."""

CHUNK = 32 * COLUMNS  # values of an image at a time
IMAGES, DEVICE_IMAGES = 8, 4096  # at a time: copies stay in a core's cache


@final
class Sketch:
    """Turns a layer's output into features; all layers share the signs, so that equal layers have equal features.

    >>> sketch = Sketch(seed=0)
    >>> tuple(sketch(torch.rand(2, 3, 4)).shape), tuple(sketch(torch.rand(2, 64, 32, 32)).shape)
    ((2, 1, 12), (2, 2, 509))
    """

    def __init__(self, seed: Seed) -> None:
        self._generator = make_generator(seed)
        self._signs = torch.empty(0, 2)

    def __call__(self, values: torch.Tensor) -> torch.Tensor:
        """Return `values` ``(N, ...)`` as float64: all of them ``(N, 1, D)``, or two projections ``(N, 2, 509)``."""
        rows = values.flatten(1)
        if rows.shape[1] <= WIDEST:
            return rows.double()[:, None]
        rows = rows if rows.is_floating_point() else rows.float()
        signs = self._signs_of(rows)
        step = IMAGES if rows.device.type == "cpu" else DEVICE_IMAGES
        parts = [_projected(rows[i : i + step], signs) for i in range(0, len(rows), step)]
        return torch.cat(parts)

    def _signs_of(self, rows: torch.Tensor) -> torch.Tensor:
        """Return two signs for each column, ``(2, D)``: the first ones of a sequence that is drawn as far as needed."""
        missing = rows.shape[1] - len(self._signs)
        if missing > 0:
            drawn = torch.randint(0, 2, (missing, 2), generator=self._generator) * 2.0 - 1
            self._signs = torch.cat([self._signs.cpu(), drawn])
        self._signs = self._signs.to(rows.device)
        return self._signs[: rows.shape[1]].T.to(rows.dtype).contiguous()


def _projected(rows: torch.Tensor, signs: torch.Tensor) -> torch.Tensor:
    """Return the two projections ``(N, 2, 509)`` of values ``(N, D)`` with signs ``(2, D)``."""
    sums = torch.zeros(len(rows), 2, COLUMNS, dtype=torch.float64, device=rows.device)
    whole = rows.shape[1] - rows.shape[1] % COLUMNS
    for start in range(0, whole, CHUNK):
        chunk = slice(start, min(start + CHUNK, whole))
        for number, sign in enumerate(signs):
            signed = (rows[:, chunk] * sign[chunk]).view(len(rows), -1, COLUMNS)
            sums[:, number] += signed.sum(1, dtype=torch.float64)
    sums[:, :, : rows.shape[1] - whole] += rows[:, None, whole:] * signs[:, whole:]
    return sums
