"""What a run gives: images, scores, and how they came about."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, final

import torch

from featurelens._checks import count
from featurelens.maximization.objectives import Objective

if TYPE_CHECKING:
    from featurelens.maximization.maximizer import ActivationMaximizer


@final
@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class MaximizationResult:
    """One image for each objective.

    Attributes
    ----------
    images : torch.Tensor
        `(N, C, H, W)` in [0, 1].
    scores : torch.Tensor
        ``(N,)``: each objective on its own image, untransformed.
    history : torch.Tensor
        ``(steps, N)``: each objective in each step, on the transformed images.
    objectives : tuple of Objective
        What the images were optimized for.
    """

    images: torch.Tensor
    scores: torch.Tensor
    history: torch.Tensor
    objectives: tuple[Objective, ...]
    maximizer: ActivationMaximizer | None = field(default=None)

    def __len__(self) -> int:
        return len(self.objectives)

    def __repr__(self) -> str:
        shape = "x".join(map(str, self.images.shape[1:]))
        return (
            f"MaximizationResult({count(len(self), 'image')} of {shape}, {count(len(self.history), 'step')})"
        )
