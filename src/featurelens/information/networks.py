"""Small fully connected networks, initialised from a generator of our own and trained with early stopping."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

import torch
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence


@final
class Network:
    """Linear layers with ReLU between them.

    ``nn.Linear`` draws its weights from the global random state; these come from the generator that is given.
    """

    def __init__(self, widths: Sequence[int], generator: torch.Generator, device: torch.device) -> None:
        self.parameters: list[torch.Tensor] = []
        for fan_in, fan_out in itertools.pairwise(widths):
            weight = torch.randn(fan_out, fan_in, generator=generator) * math.sqrt(2.0 / fan_in)
            self.parameters += [
                weight.to(device).requires_grad_(),
                torch.zeros(fan_out, device=device).requires_grad_(),
            ]

    def __call__(self, inputs: torch.Tensor) -> torch.Tensor:
        for i in range(0, len(self.parameters), 2):
            inputs = functional.linear(inputs, self.parameters[i], self.parameters[i + 1])
            if i + 2 < len(self.parameters):
                inputs = functional.relu(inputs)
        return inputs


@final
@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How to train: AdamW steps at most, samples per step, and how many checks without progress end it."""

    steps: int
    batch: int
    learning_rate: float
    weight_decay: float = 0.0
    check_every: int = 50
    patience: int = 10


def train(
    networks: Iterable[Network],
    loss: Callable[[torch.Tensor], torch.Tensor],
    validation_loss: Callable[[], float],
    training_rows: torch.Tensor,
    schedule: Schedule,
    generator: torch.Generator,
) -> None:
    """Minimize ``loss(rows)`` over batches of the training rows, and end with the weights that validated best."""
    parameters = [parameter for network in networks for parameter in network.parameters]
    optimizer = torch.optim.AdamW(parameters, lr=schedule.learning_rate, weight_decay=schedule.weight_decay)
    best, best_loss, stale = [parameter.detach().clone() for parameter in parameters], math.inf, 0
    batches = _batches(training_rows, schedule.batch, generator)
    with torch.enable_grad():
        for step in range(1, schedule.steps + 1):
            optimizer.zero_grad()
            loss(next(batches)).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            if step % schedule.check_every:
                continue
            current = validation_loss()
            stale = 0 if current < best_loss else stale + 1
            if current < best_loss:
                best, best_loss = [parameter.detach().clone() for parameter in parameters], current
            if stale >= schedule.patience:
                break
    with torch.no_grad():
        for parameter, value in zip(parameters, best, strict=True):
            parameter.copy_(value)


def _batches(rows: torch.Tensor, size: int, generator: torch.Generator) -> Iterator[torch.Tensor]:
    size = min(size, len(rows))
    while True:
        order = rows[torch.randperm(len(rows), generator=generator).to(rows.device)]
        yield from (order[i : i + size] for i in range(0, len(order) - size + 1, size))
