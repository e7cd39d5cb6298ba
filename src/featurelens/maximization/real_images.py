"""One pass over real images: the strongest for each objective, a few at random, and their mean."""

from __future__ import annotations

from typing import final

import numpy as np
import torch

RANDOM = 64
"""How many images are drawn at random."""


@final
class RealImages:
    """What is kept of the real images, in the memory of the images kept."""

    def __init__(self, objectives: int, top: int) -> None:
        self.top, self.n = top, 0
        self.scores = torch.empty(objectives, 0, dtype=torch.float32)
        self.indices = torch.empty(objectives, 0, dtype=torch.long)
        self.minimum = torch.full((objectives,), torch.inf, dtype=torch.float32)
        self._kept: dict[int, torch.Tensor] = {}
        self._sum: torch.Tensor | None = None  # of all images
        self._generator = np.random.default_rng(0)  # torch's gives other numbers for other sizes of batches
        self._lots, self._drawn = np.empty(0), torch.empty(0)  # each image draws a lot; the lowest win

    @property
    def random(self) -> torch.Tensor:
        """Images ``(R, C, H, W)`` drawn at random, the same whatever the batches."""
        return self._drawn

    @property
    def strongest(self) -> torch.Tensor:
        """The strongest images ``(objectives, K, C, H, W)``, strongest first."""
        return torch.stack([torch.stack([self._kept[i] for i in row]) for row in self.indices.tolist()])

    @property
    def strongest_of_any(self) -> torch.Tensor:
        """The images ``(S, C, H, W)`` that are among the strongest for any objective, each once."""
        return torch.stack(list(self._kept.values()))

    def mean(self, shape: torch.Size) -> torch.Tensor | None:
        """Return the mean image, if the images have this shape ``(C, H, W)``."""
        if self._sum is None or self._sum.shape != shape:
            return None
        return (self._sum / self.n).float().clamp(0, 1)

    def add(self, values: torch.Tensor, images: torch.Tensor) -> None:
        """Take in the values ``(objectives, B)`` of a batch of images."""
        self.minimum = torch.minimum(self.minimum, values.amin(1))
        indices = torch.arange(self.n, self.n + len(images)).expand(len(values), -1)
        scores, indices = torch.cat([self.scores, values], 1), torch.cat([self.indices, indices], 1)
        # A stable sort: of equal images the first stays first, however the data are batched.
        order = scores.argsort(dim=1, descending=True, stable=True)[:, : self.top]
        self.scores, self.indices = scores.gather(1, order), indices.gather(1, order)
        referenced = set(self.indices.flatten().tolist())
        self._kept = {index: image for index, image in self._kept.items() if index in referenced}
        for index in referenced - self._kept.keys():
            self._kept[index] = images[index - self.n].clone()
        self._draw(images)
        self.n += len(images)
        total = images.double().sum(0)
        self._sum = total if self._sum is None else self._sum + total

    def _draw(self, images: torch.Tensor) -> None:
        lots = np.concatenate([self._lots, self._generator.random(len(images))])
        drawn = torch.cat([self._drawn, images]) if self.n else images
        winners = lots.argsort()[:RANDOM]
        self._lots, self._drawn = lots[winners], drawn[torch.from_numpy(winners)]
