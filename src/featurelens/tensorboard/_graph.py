"""The graph of operations that an input goes through."""

from __future__ import annotations

import contextlib
import io
import warnings
from typing import TYPE_CHECKING, Any

import torch

from featurelens._checks import check_module, describe
from featurelens._hooks import unwrap, visiting
from featurelens._structure import tensors

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import nn

    from featurelens.tensorboard._run import Run


def write_graph(run: Run, model: nn.Module, sample: torch.Tensor | tuple[torch.Tensor, ...]) -> None:
    """Trace the model by ``torch.jit.trace``, the one way that TensorBoard has, and write what was found."""
    inner = unwrap(check_module(model))
    # torch prints why it failed and that no graph was saved; the error says both.
    quiet = contextlib.redirect_stdout(io.StringIO())
    with quiet, _silent_tracing(), visiting(inner):
        inner.register_forward_hook(_only_tensors)
        try:
            run.events.add_graph(inner, sample, use_strict_trace=False)
        except Exception as error:
            reason = str(error).strip().partition("\n")[0]
            raise RuntimeError(
                f"no graph of {type(inner).__name__} could be traced with {describe(sample)}: {reason}"
            ) from error


def _only_tensors(module: nn.Module, inputs: Any, output: Any) -> Any:
    """Let a model be traced that returns what a trace cannot: dataclasses, or dicts of different things."""
    return output if isinstance(output, torch.Tensor) else tuple(tensors(output))


@contextlib.contextmanager
def _silent_tracing() -> Iterator[None]:
    """Keep back what torch says of tracing in general, and of values that a trace makes constant."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"`torch\.jit\.")  # deprecated; there is no other way
        warnings.filterwarnings("ignore", category=torch.jit._trace.TracerWarning)
        yield
