"""Gradients for units that are off: as long as an image is in the dark, its ReLUs let those through that help.

A ReLU whose inputs are all negative has no gradient, so an image that starts there stays there. As in lucid, an
image to which a whole ReLU passes no gradient at all gets the gradient of its input instead, where that would
raise it. The model is not touched: calls of ReLU are caught on their way, in whatever form they are written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, final

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode


@final
class Rescue:
    """Which of `n` images are being rescued: all in the first `steps`, then those that have been silent ever since.

    Each image leaves on its own, so that what becomes of it does not depend on what it is batched with.
    """

    def __init__(self, n: int, steps: int, device: torch.device) -> None:
        self.left, self.on = steps, steps > 0
        self.rows = torch.ones(n, dtype=torch.bool, device=device)

    @contextmanager
    def step(self) -> Iterator[None]:
        """Rescue inside the block, which is one step."""
        if not self.on:
            yield
            return
        with RedirectedReLU(self.rows) as relus:
            yield
        self.left -= 1
        if self.left <= 0:
            self.rows = self.rows & relus.silent
            self.on = bool(self.rows.any())


@final
class RedirectedReLU(TorchFunctionMode):
    """Inside this block every ReLU has redirected gradients: `nn.ReLU`, functions and methods, in place or not.

    With `rows`, ``(N,)`` bool, those images alone; `silent` says for which of them a ReLU passed no gradient.
    """

    def __init__(self, rows: torch.Tensor | None = None) -> None:
        super().__init__()
        self.rows = rows
        self.silent = torch.zeros_like(rows) if rows is not None else torch.zeros(())

    def note(self, silent: torch.Tensor) -> None:
        """Take in which images a ReLU was silent for; one whose first axis is not that of the images counts for all."""
        if self.rows is not None:
            fits = silent.shape == self.rows.shape
            self.silent = self.silent | (silent if fits else silent.any())

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in _PLAIN or func in _IN_PLACE:
            values = args[0] if args else kwargs["input"]
            in_place = func in _IN_PLACE or kwargs.get("inplace") or (func is F.relu and args[1:2] == (True,))
            if isinstance(values, torch.Tensor) and values.is_floating_point():
                rectified: torch.Tensor = _Redirected.apply(values, self)
                return values.copy_(rectified) if in_place else rectified
        return func(*args, **kwargs)


_PLAIN = {F.relu, torch.relu, torch.Tensor.relu}
_IN_PLACE = {F.relu_, torch.relu_, torch.Tensor.relu_}


class _Redirected(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: torch.Tensor, relus: RedirectedReLU) -> torch.Tensor:
        rectified = values.clamp(min=0)
        ctx.save_for_backward(rectified)
        ctx.relus = relus
        return rectified

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        (rectified,) = ctx.saved_tensors
        relus: RedirectedReLU = ctx.relus
        return redirect(gradient, rectified > 0, rows=relus.rows, note=relus.note), None


def redirect(
    gradient: torch.Tensor,
    active: torch.Tensor,
    *,
    rows: torch.Tensor | None = None,
    note: Callable[[torch.Tensor], None] | None = None,
) -> torch.Tensor:
    """Return the gradient of a loss with respect to the input of a ReLU, given that of its output, `(N, ...)`.

    Images (those in `rows`, if given) that would get no gradient at all get that part of it that makes inactive
    inputs larger; `note` is told which of them there are.
    """
    passed = gradient * active
    beside_batch = tuple(range(1, gradient.ndim))
    largest = (
        torch.linalg.vector_norm(passed, torch.inf, beside_batch, keepdim=True) if beside_batch else passed
    )
    silent = largest == 0
    if rows is not None and len(rows) == len(silent):
        silent = silent & rows.view(-1, *(1 for _ in beside_batch))
    if not bool(silent.any()):
        return passed
    helping = gradient.clamp(max=0)
    if note is not None:
        note((silent & (helping < 0)).flatten(1).any(1) if beside_batch else silent & (helping < 0))
    return torch.where(silent, helping, passed)
