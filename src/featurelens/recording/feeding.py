"""From what a loader yields to what the model takes."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import nn

from featurelens._checks import check_flag, describe
from featurelens._structure import map_tensors, tensors

_LABEL_KEYS = ("label", "labels", "target", "targets", "y")
_INPUT_KEYS = ("image", "images", "input", "inputs", "x", "pixel_values")


def arguments(
    batch: Any, model: nn.Module, inputs: Callable[[Any], Any] | None = None
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the model's positional and keyword arguments in a batch.

    A tensor is the input; of a tuple or list it is the first item, the rest being labels; of a dict the items
    that forward takes by name, or else the one under a usual name such as "image". `inputs` overrules all that:
    it returns the input, a tuple of positional arguments, or a dict of keyword arguments.
    """
    if inputs is not None:
        chosen = inputs(batch)
        if isinstance(chosen, Mapping):
            return (), dict(chosen)
        return (tuple(chosen), {}) if isinstance(chosen, tuple) else ((chosen,), {})
    if isinstance(batch, Mapping):
        return _from_mapping(batch, model)
    if isinstance(batch, list | tuple):
        if not batch:
            raise ValueError("the loader gave an empty batch: ()")
        return (batch[0],), {}
    return (batch,), {}


def _from_mapping(batch: Mapping[str, Any], model: nn.Module) -> tuple[tuple[Any, ...], dict[str, Any]]:
    parameters = inspect.signature(model.forward).parameters
    taken = [name for name in parameters if name in batch]
    if taken:
        if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values()):
            return (), dict(batch)
        return (), {name: batch[name] for name in taken}
    usual = [key for key in _INPUT_KEYS if key in batch]
    if len(usual) != 1:
        raise ValueError(
            f"which item of the batch {describe(batch)} is the input? forward takes "
            f"{', '.join(parameters)}; say inputs=lambda batch: batch[...]"
        )
    return (batch[usual[0]],), {}


def labels_of(batch: Any, labels: Callable[[Any], Any] | None = None) -> Any:
    """Return the labels in a batch: its second item, or that of a dict under a usual name; None if there are none."""
    if labels is not None:
        return labels(batch)
    if isinstance(batch, Mapping):
        return next((batch[key] for key in _LABEL_KEYS if key in batch), None)
    return batch[1] if isinstance(batch, list | tuple) and len(batch) > 1 else None


def to_model(value: Any, model: nn.Module) -> Any:
    """Return `value` with its tensors on the model's device."""
    device = next((parameter.device for parameter in model.parameters()), None)
    return (
        value if device is None else map_tensors(lambda tensor: tensor.to(device, non_blocking=True), value)
    )


def warn_if_not_finite(value: Any) -> None:
    """Warn about NaN and infinite values among a model's inputs: recording them is right, but seldom meant."""
    for tensor in tensors(value):
        # The sum is finite if every value is; reading once is all that the usual case costs.
        if not _can_be_checked(tensor) or torch.isfinite(tensor.sum()):
            continue
        nan, infinite = int(torch.isnan(tensor).sum()), int(torch.isinf(tensor).sum())
        if nan or infinite:
            warnings.warn(
                f"the batch, a {describe(tensor)}, holds {nan} NaN and {infinite} infinite values; "
                "they are recorded as the layers return them",
                UserWarning,
                stacklevel=5,
            )


def _can_be_checked(tensor: torch.Tensor) -> bool:
    # not on the meta device, not sparse, and no 8-bit type, which knows no arithmetic
    return (
        tensor.is_floating_point()
        and tensor.element_size() > 1
        and tensor.layout == torch.strided
        and not (tensor.is_meta or tensor.is_nested)
    )


def check_loader(
    loader: object,
    *,
    inputs: object = None,
    labels: object = None,
    progress: object = True,
    caller: str = "record",
) -> None:
    """Raise a TypeError unless `loader` can be run over batch by batch, and `inputs` and `labels` be taken of these."""
    for function, argument in ((inputs, "inputs"), (labels, "labels")):
        if function is not None and not callable(function):
            raise TypeError(f"{argument} must be a function of a batch; got {describe(function)}")
    check_flag(progress, argument="progress")
    if isinstance(loader, torch.Tensor):
        raise TypeError(
            f"{caller} takes a loader of batches; got a {describe(loader)}: "
            + ("call recorder(images) instead" if caller == "record" else "give [images]")
        )
    if isinstance(loader, torch.utils.data.Dataset):
        raise TypeError(
            f"{caller} takes a loader of batches; got the data set {type(loader).__name__}: "
            "wrap it in torch.utils.data.DataLoader"
        )
    if not isinstance(loader, Iterable) or isinstance(loader, str | nn.Module):
        raise TypeError(f"{caller} takes a loader of batches; got {describe(loader)}")
