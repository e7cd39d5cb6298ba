"""Gradients for inactive units: images to which a ReLU passes no gradient get those that would activate its inputs.

A ReLU whose inputs are all negative has no gradient, so an image that starts there would never improve. As in lucid,
an image to which a whole ReLU passes no gradient at all gets the gradient of its output instead, where that would
raise its input. The model is not touched: calls of ReLU are intercepted, in whatever form they are written.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode


@final
class RedirectedReLU(TorchFunctionMode):
    """Inside this block every ReLU has redirected gradients: `nn.ReLU`, functions and methods, in place or not.

    `rows`, ``(N,)`` bool, are the images concerned: all of them the first `steps` times that the block is entered, and
    then those that got no gradient from some ReLU every time since. Each image leaves on its own, so that its
    optimization does not depend on what it is batched with; `on` says whether any is left.
    """

    def __init__(self, rows: torch.Tensor, steps: int) -> None:
        super().__init__()
        self.rows, self.steps, self.on = rows, steps, steps > 0
        self.silent = torch.zeros_like(rows)

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        self.steps -= 1
        if self.steps <= 0:
            self.rows = self.rows & self.silent
            self.on = bool(self.rows.any())
        self.silent = torch.zeros_like(self.rows)

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
        redirected, silent = redirect(gradient, rectified > 0, relus.rows)
        if silent is not None:
            # An output whose first axis is not that of the images counts for all of them.
            relus.silent = relus.silent | (silent if silent.shape == relus.rows.shape else silent.any())
        return redirected, None


def redirect(
    gradient: torch.Tensor, active: torch.Tensor, rows: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return the gradient of a loss with respect to the input of a ReLU, given that of its output, `(N, ...)`.

    An image, if it is one of `rows` ``(N,)``, that would get no gradient at all gets the part of it that raises inactive
    inputs. Also returns for which images there is such a part, ``(N,)`` bool, or None if every image had a gradient.
    """
    passed = gradient * active
    beside_batch = tuple(range(1, gradient.ndim))
    largest = (
        torch.linalg.vector_norm(passed, torch.inf, beside_batch, keepdim=True) if beside_batch else passed
    )
    silent = largest == 0
    if len(rows) == len(silent):
        silent = silent & rows.view(-1, *(1 for _ in beside_batch))
    if not bool(silent.any()):
        return passed, None
    helping = gradient.clamp(max=0)
    helped = silent & (helping < 0)
    return torch.where(silent, helping, passed), helped.flatten(1).any(1) if beside_batch else helped
