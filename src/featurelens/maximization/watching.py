"""Which functions a model calls in one forward pass, with which tensors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, final

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

Function = Callable[..., Any]


@final
@dataclass(frozen=True, eq=False)
class Call:
    """One call of a torch function."""

    function: Function
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    result: Any
    node: Any  # of the autograd graph, as it was right after the call
    saves_apart: bool


@final
class Watched(TorchFunctionMode):
    """Keeps every call inside the block, with its tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Call] = []
        self.inside = False
        self._beneath = Beneath(self)

    def __enter__(self) -> Self:
        self._beneath.__enter__()  # type: ignore[no-untyped-call]
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)  # type: ignore[no-untyped-call]
        self._beneath.__exit__(kind, error, trace)  # type: ignore[no-untyped-call]

    def __torch_function__(self, func: Function, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        self.inside = True
        try:
            result = func(*args, **kwargs)
        finally:
            self.inside = False
        node = result.grad_fn if isinstance(result, torch.Tensor) else None
        self.calls.append(Call(func, args, kwargs, result, node, saves_apart()))
        return result


@final
class Beneath(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Shows operations to `watched` that no torch function is called for: those of scripted code."""

    def __init__(self, watched: Watched) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.watched = watched

    def __torch_dispatch__(self, func: Function, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if not self.watched.inside:
            self.watched.calls.append(Call(func, args, kwargs, None, None, saves_apart()))
        return func(*args, **kwargs)


def saves_apart() -> bool:
    """Return whether hooks get what autograd saves: a checkpoint computes it again later, when nothing is fused."""
    top = getattr(torch._C._autograd, "_top_saved_tensors_default_hooks", None)
    return top is None or top(False) is not None
