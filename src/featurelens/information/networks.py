"""Small fully connected networks, initialized from a given generator and trained with early stopping."""

from __future__ import annotations

import itertools
import math
from contextlib import contextmanager
from typing import TYPE_CHECKING, final

import torch
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence


@final
class Network:
    """Linear layers with an activation between them.

    ``nn.Linear`` draws its weights from the global random state; these come from `generator`.
    """

    def __init__(
        self,
        widths: Sequence[int],
        generator: torch.Generator,
        device: torch.device,
        activation: Callable[[torch.Tensor], torch.Tensor] = functional.relu,
    ) -> None:
        self.activation = activation
        self.parameters: list[torch.Tensor] = []
        for fan_in, fan_out in itertools.pairwise(widths):
            weight = torch.randn(fan_out, fan_in, generator=generator, dtype=torch.float32) * math.sqrt(
                2.0 / fan_in
            )
            self.parameters += [
                weight.to(device).requires_grad_(),
                torch.zeros(fan_out, device=device).requires_grad_(),
            ]

    def __call__(self, inputs: torch.Tensor) -> torch.Tensor:
        for i in range(0, len(self.parameters), 2):
            inputs = functional.linear(inputs, self.parameters[i], self.parameters[i + 1])
            if i + 2 < len(self.parameters):
                inputs = self.activation(inputs)
        return inputs


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one thread of the CPU: threads wait for each other longer than so small a network computes.

    On a busy machine they make a step a hundred times as slow.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


CHECK_EVERY = 50  # steps
PATIENCE = 10  # checks without progress that end the training


def train(
    networks: Iterable[Network],
    loss: Callable[[torch.Tensor], torch.Tensor],
    training: torch.Tensor,
    validation: torch.Tensor,
    generator: torch.Generator,
    *,
    steps: int,
    batch: int,
    learning_rate: float,
    weight_decay: float = 0.0,
) -> None:
    """Minimize ``loss(rows)`` with AdamW over batches of the training rows; keep the weights that validated best."""
    parameters = [parameter for network in networks for parameter in network.parameters]
    optimizer = torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=weight_decay)
    best, best_loss, stale = [parameter.detach().clone() for parameter in parameters], math.inf, 0
    batches = _batches(training, batch, generator)
    with one_thread(), torch.enable_grad():
        for step in range(1, steps + 1):
            optimizer.zero_grad()
            loss(next(batches)).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            if step % CHECK_EVERY:
                continue
            with torch.no_grad():
                current = float(loss(validation))
            stale = 0 if current < best_loss else stale + 1
            if current < best_loss:
                best, best_loss = [parameter.detach().clone() for parameter in parameters], current
            if stale >= PATIENCE:
                break
    with torch.no_grad():
        for parameter, value in zip(parameters, best, strict=True):
            parameter.copy_(value)


def _batches(rows: torch.Tensor, size: int, generator: torch.Generator) -> Iterator[torch.Tensor]:
    size = min(size, len(rows))
    while True:
        order = rows[torch.randperm(len(rows), generator=generator).to(rows.device)]
        yield from (order[i : i + size] for i in range(0, len(order) - size + 1, size))
