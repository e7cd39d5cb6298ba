"""The graph of operations that an input goes through."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from featurelens._checks import check_module, describe, first_line
from featurelens._hooks import on_device_of, unwrap, visiting
from featurelens._structure import tensors
from featurelens.tensorboard.run import Run


def write_graph(run: Run, model: nn.Module, sample: torch.Tensor | tuple[torch.Tensor, ...]) -> None:
    """Trace the model by ``torch.jit.trace``, the one way that TensorBoard has, and write what was found."""
    inner = unwrap(check_module(model))
    if not tensors(sample):
        raise TypeError(f"sample must be a tensor (N, ...) or a tuple of tensors; got {describe(sample)}")
    # torch prints why it failed and that no graph was saved; the error says both.
    quiet = contextlib.redirect_stdout(io.StringIO())
    with quiet, _silent_tracing(), visiting(inner):
        inner.register_forward_hook(_only_tensors)
        try:
            run.events.add_graph(inner, on_device_of(inner, sample), use_strict_trace=False)
        except Exception as error:
            name, given = type(inner).__name__, describe(sample)
            raise RuntimeError(
                f"no graph of {name} could be traced with the sample {given}: {first_line(error)}"
            ) from error


def _only_tensors(module: nn.Module, inputs: Any, output: Any) -> Any:
    """Let a model be traced that returns what a trace cannot: dataclasses, or dicts of different things."""
    return output if isinstance(output, torch.Tensor) else tuple(tensors(output))


@contextlib.contextmanager
def _silent_tracing() -> Iterator[None]:
    """Keep back what torch says of tracing in general, and of values that a trace makes constant."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"`torch\.jit\.")  # deprecated; there is no other way
        warnings.filterwarnings("ignore", message=r"The \.grad attribute of a Tensor that is not a leaf")
        warnings.filterwarnings("ignore", category=torch.jit._trace.TracerWarning)
        yield
