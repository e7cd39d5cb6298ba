"""Adam for one tensor: torch's own takes seconds on first use, as it imports the compiler."""

from __future__ import annotations

from typing import final

import torch


@final
class Adam:
    """Steps of one size whatever the gradient's scale (Kingma and Ba, "Adam", ICLR 2015)."""

    def __init__(self, parameters: torch.Tensor, lr: float) -> None:
        self.parameters, self.lr, self.steps = parameters, lr, 0
        self.mean, self.square = torch.zeros_like(parameters), torch.zeros_like(parameters)

    @torch.no_grad()
    def step(self, first: float = 0.9, second: float = 0.999) -> None:
        """Move the parameters against their gradient; `first` and `second` are the decay rates of its moments."""
        gradient = self.parameters.grad
        assert gradient is not None
        self.steps += 1
        self.mean.lerp_(gradient, 1 - first)
        self.square.mul_(second).addcmul_(gradient, gradient, value=1 - second)
        scale = (self.square / (1 - second**self.steps)).sqrt_().add_(1e-8)
        self.parameters.addcdiv_(self.mean, scale, value=-self.lr / (1 - first**self.steps))
