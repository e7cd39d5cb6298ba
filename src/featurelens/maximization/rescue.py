"""Gradients for units that are off: while the first steps run, a ReLU that passes none lets those through that help.

A ReLU whose inputs are all negative has no gradient, so an image that starts there stays there. As in lucid, an
image to which a whole ReLU passes no gradient at all gets the gradient of its input instead, where that would
raise it. The model is not touched: calls of ReLU are caught on their way, in whatever form they are written.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode


@final
class RedirectedReLU(TorchFunctionMode):
    """Inside this block every ReLU has redirected gradients: `nn.ReLU`, functions and methods, in place or not."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in _PLAIN or func in _IN_PLACE:
            values = args[0] if args else kwargs["input"]
            in_place = func in _IN_PLACE or kwargs.get("inplace") or (func is F.relu and args[1:2] == (True,))
            if isinstance(values, torch.Tensor) and values.is_floating_point():
                rectified: torch.Tensor = _Redirected.apply(values)
                return values.copy_(rectified) if in_place else rectified
        return func(*args, **kwargs)


_PLAIN = {F.relu, torch.relu, torch.Tensor.relu}
_IN_PLACE = {F.relu_, torch.relu_, torch.Tensor.relu_}


class _Redirected(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: torch.Tensor) -> torch.Tensor:
        rectified = values.clamp(min=0)
        ctx.save_for_backward(rectified)
        return rectified

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        (rectified,) = ctx.saved_tensors
        return redirect(gradient, rectified > 0)


def redirect(gradient: torch.Tensor, active: torch.Tensor) -> torch.Tensor:
    """Return the gradient of a loss with respect to the input of a ReLU, given that of its output, `(N, ...)`.

    Images that would get no gradient at all get that part of it that makes inactive inputs larger.
    """
    passed = gradient * active
    beside_batch = tuple(range(1, gradient.ndim))
    largest = (
        torch.linalg.vector_norm(passed, torch.inf, beside_batch, keepdim=True) if beside_batch else passed
    )
    silent = largest == 0
    return torch.where(silent, gradient.clamp(max=0), passed) if bool(silent.any()) else passed
