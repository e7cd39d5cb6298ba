"""From a batch of a loader to the model's arguments and their number of rows."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence

from featurelens._batches import Given
from featurelens._checks import check_flag, check_whole, describe, to_tensor
from featurelens._hooks import named_modules
from featurelens._structure import tensors

Inputs = Callable[[Any], Any] | None
Rows = Callable[[Any], int] | None

_LABEL_KEYS = ("label", "labels", "target", "targets", "y")
_INPUT_KEYS = ("image", "images", "img", "input", "inputs", "x", "data", "pixel_values")
_WHOLE_BATCHES = {"batch", "data", "sample", "samples", "features"}  # arguments that may be the dict itself


def given_by(batch: Any, model: nn.Module, inputs: Inputs = None, rows: Rows = None) -> Given:
    """Return the model's arguments in a batch, and the number of its rows.

    Raises
    ------
    ValueError, TypeError
        If either is unclear; the message says what to pass.
    """
    args, kwargs = arguments(batch, model, inputs)
    if rows is None:
        return Given(args, kwargs, _counted_rows(model, args, kwargs))
    return Given(args, kwargs, check_whole(rows(batch), argument="the return value of rows", least=0))


def arguments(batch: Any, model: nn.Module, inputs: Inputs = None) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the model's positional and keyword arguments in a batch.

    A tuple or list is the input and labels, unless it is a list of inputs; the items of a dict go to the arguments
    of forward of the same name; anything else is the input. `inputs` replaces these rules: it returns the input, a
    tuple of positional arguments, or a dict of keyword arguments.
    """
    if inputs is not None:
        chosen = inputs(batch)
        if isinstance(chosen, Mapping):
            return (), dict(chosen)
        return (tuple(chosen), {}) if type(chosen) is tuple else ((chosen,), {})
    if isinstance(batch, tuple) and hasattr(batch, "_asdict") and not isinstance(batch, PackedSequence):
        batch = batch._asdict()
    if isinstance(batch, Mapping):
        return _from_mapping(batch, model)
    if type(batch) not in (list, tuple):
        return (batch,), {}
    if not batch:
        raise ValueError(f"the loader yielded an empty batch: {batch!r}")
    samples = all(isinstance(item, Mapping) and item.keys() == batch[0].keys() for item in batch)
    if isinstance(batch[0], str) or (len(batch) > 1 and samples):  # texts, or a dict for each row
        return (batch,), {}
    if _may_be_inputs(batch):
        raise _unclear(batch, model)
    if isinstance(batch[0], Mapping):
        return _from_mapping(batch[0], model)
    return (batch[0],), {}


def _may_be_inputs(batch: list[Any] | tuple[Any, ...]) -> bool:
    """Whether all items of a batch may be inputs, and not the first one alone, with labels behind it."""
    first, kind = batch[0], type(batch[0])
    if len(batch) == 1:
        return isinstance(first, Mapping)
    if any(type(item) is not kind for item in batch):
        return False
    if isinstance(first, torch.Tensor | np.ndarray):  # images and targets, or signals of one kind
        if any(item.ndim != first.ndim for item in batch):
            return False
        rows = {len(item) if item.ndim else 0 for item in batch}
        same = all(item.shape == first.shape for item in batch)
        return len(rows) > 1 or first.ndim == 3 or (same and first.ndim < 3)
    if kind in (list, tuple) and first:  # columns, or samples
        if isinstance(first[0], torch.Tensor):
            return False
        return bool(batch[1]) and type(first[0]) is type(batch[1][0])
    return True


def _from_mapping(batch: Mapping[Any, Any], model: nn.Module) -> tuple[tuple[Any, ...], dict[str, Any]]:
    parameters = inspect.signature(model.forward).parameters.values()
    kinds = {parameter.kind for parameter in parameters}
    named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    takes_any = inspect.Parameter.VAR_KEYWORD in kinds and all(isinstance(key, str) for key in batch)
    if takes_any and (not named or any(parameter.name in batch for parameter in named)):
        return (), dict(batch)
    taken = {parameter.name: batch[parameter.name] for parameter in named if parameter.name in batch}
    missing = [p.name for p in named if p.default is p.empty and p.name not in taken]
    if taken and not missing:
        return (), taken
    usual = [key for key in _INPUT_KEYS if key in batch and key not in taken]
    whole = len(named) == 1 and named[0].name in _WHOLE_BATCHES
    if len(usual) != 1 or len(missing) > 1 or whole:
        raise _unclear(batch, model)
    return (batch[usual[0]],), taken


def _unclear(batch: Any, model: nn.Module) -> ValueError:
    example = (
        "batch[...]" if isinstance(batch, Mapping) else "batch[0], or lambda batch: (batch,) for all of it"
    )
    return ValueError(
        f"which item of the batch {describe(batch)} is the input? forward takes "
        f"{', '.join(inspect.signature(model.forward).parameters)}; pass inputs=lambda batch: {example}"
    )


def _counted_rows(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int | None:
    """Return the number of rows of the first argument that has rows; None if none has."""
    for value in (*args, *kwargs.values()):
        if isinstance(value, PackedSequence):
            return int(value.batch_sizes[0])
        if isinstance(value, torch.Tensor | np.ndarray) and value.ndim:
            layers = named_modules(model).items() if value.ndim < 4 else ()
            layer = next((name for name, module in layers if is_time_first(module)), None)
            if layer is not None:
                raise ValueError(
                    f"axis 0 of the input {describe(value)} may be time, as layer {layer!r} has batch_first=False: "
                    "pass rows=lambda batch: <number of rows>"
                )
            return _length(value)
        if isinstance(value, Mapping):
            inner = {tensor.size(0) for tensor in tensors(value) if tensor.ndim}
            if len(inner) == 1:
                return inner.pop()
        if type(value) in (list, tuple) and value:
            return _rows_of_list(value)
    return None


def _length(value: torch.Tensor | np.ndarray) -> int:
    return value.size(0) if isinstance(value, torch.Tensor) else len(value)  # nested tensors have no len()


def _rows_of_list(values: list[Any] | tuple[Any, ...]) -> int:
    """Return how many rows a list holds: its length if it has an item for each, such as images of several sizes."""
    if any(isinstance(value, torch.Tensor) for value in values):
        images = all(isinstance(v, torch.Tensor) and v.ndim == 3 and v.shape[0] in (1, 3, 4) for v in values)
        sizes = {len(v) for v in values if isinstance(v, torch.Tensor) and v.ndim > 3}
        if not images and len(sizes) != 1:
            raise ValueError(
                f"how many rows has the input {describe(values)}? pass rows=lambda batch: <number of rows>"
            )
        return len(values) if images else sizes.pop()
    return len(values)


def is_time_first(module: nn.Module) -> bool:
    """Return whether a module takes and returns sequences `(L, N, D)`."""
    is_transformer = type(module).__name__.startswith("Transformer")
    of_sequences = is_transformer or isinstance(module, nn.RNNBase | nn.MultiheadAttention)
    return of_sequences and getattr(module, "batch_first", True) is False


def labels_of(batch: Any, labels: Callable[[Any], Any] | None = None) -> Any:
    """Return the labels in a batch: its second item, or that of a dict under a usual name; None if there are none.

    Arrays and lists of whole numbers become tensors.
    """
    found: Any = None
    if labels is not None:
        found = labels(batch)
    elif isinstance(batch, Mapping):
        found = next((batch[key] for key in _LABEL_KEYS if key in batch), None)
    elif isinstance(batch, list | tuple) and len(batch) > 1:
        found = batch[1]
    if isinstance(found, list | tuple) and found and all(isinstance(label, int) for label in found):
        return torch.tensor(found)
    numbers = isinstance(found, np.ndarray) and found.dtype.kind in "biuf"
    return to_tensor(found, "labels") if numbers else found


def as_loader(loader: Any) -> Any:
    """Return a loader as it is; one batch (a tensor, an array, a dict, images and their labels) in a list."""
    if isinstance(loader, torch.Tensor | np.ndarray):
        return [_as_tensor(loader, "loader")]
    pair = type(loader) in (list, tuple) and len(loader) == 2
    if pair and all(isinstance(item, torch.Tensor | np.ndarray) for item in loader):
        images, labels = loader
        if images.ndim > labels.ndim == 1 and len(labels) == _length(images):
            return [(_as_tensor(images, "images"), _as_tensor(labels, "labels"))]
    return [loader] if isinstance(loader, Mapping) else loader


def _as_tensor(given: torch.Tensor | np.ndarray, argument: str) -> torch.Tensor:
    return to_tensor(given, argument) if isinstance(given, np.ndarray) else given


def checked_loader(loader: Any, *, progress: object, caller: str, **functions: object) -> Iterable[Any]:
    """Return an iterable of batches; see `as_loader` for what counts as one batch.

    Raises
    ------
    TypeError
        If `loader` is neither, or one of `functions` cannot be called.
    """
    for argument, function in functions.items():
        if function is not None and not callable(function):
            raise TypeError(f"{argument} must be a function of a batch; got {describe(function)}")
    check_flag(progress, argument="progress")
    loader = as_loader(loader)
    if isinstance(loader, torch.utils.data.Dataset):
        raise TypeError(
            f"{caller} takes a loader of batches; got the data set {type(loader).__name__}: "
            "wrap it in torch.utils.data.DataLoader"
        )
    if not isinstance(loader, Iterable) or isinstance(loader, str | nn.Module):
        raise TypeError(f"{caller} takes a loader of batches; got {describe(loader)}")
    batches: Iterable[Any] = loader
    return batches
