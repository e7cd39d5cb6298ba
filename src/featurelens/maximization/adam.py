"""Adam for one tensor: torch's own takes seconds on first use, as it imports the compiler."""

from __future__ import annotations

from typing import final

import torch


@final
class Adam:
    """Steps of one size whatever the gradient's scale (Kingma and Ba, "Adam", ICLR 2015).

    With `per_image` the second moment is one number for each row: the mean over its squares. Then the numbers of an
    image keep their proportions, and those that hardly matter hardly move. A mean over so many varies little from step
    to step, so it forgets as soon as the first moment does: an image whose pixels reach 0 or 1, where gradients are
    small, is not held there by the large ones of before.
    """

    def __init__(self, parameters: torch.Tensor, lr: float, *, per_image: bool = False) -> None:
        self.parameters, self.lr, self.per_image, self.steps = parameters, lr, per_image, 0
        self.first, self.second = 0.9, 0.9 if per_image else 0.999  # how much the moments keep in each step
        self.mean = torch.zeros_like(parameters)
        self.square = self._squared(self.mean)

    @torch.no_grad()
    def step(self) -> None:
        """Move the parameters against their gradient."""
        gradient = self.parameters.grad
        assert gradient is not None
        self.steps += 1
        self.mean.lerp_(gradient, 1 - self.first)
        self.square.lerp_(self._squared(gradient), 1 - self.second)
        scale = (self.square / (1 - self.second**self.steps)).sqrt_().add_(1e-8).expand_as(self.mean)
        self.parameters.addcdiv_(self.mean, scale, value=-self.lr / (1 - self.first**self.steps))

    def _squared(self, values: torch.Tensor) -> torch.Tensor:
        squares = values.square()
        return squares.mean(tuple(range(1, values.ndim)), keepdim=True) if self.per_image else squares
