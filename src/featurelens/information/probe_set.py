"""The data on which layers are measured: batches for the model, with their labels or inputs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from featurelens._batches import SHUFFLING, sampler_of
from featurelens._checks import check_dense, describe, to_tensor
from featurelens._hooks import check_weights
from featurelens.information.variables import ArrayLike
from featurelens.recording import ActivationRecorder
from featurelens.recording.inputs import arguments, checked_loader, labels_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from torch import nn

    from featurelens.layers import Selector
    from featurelens.recording.reductions import Reduction

BATCH = 256


def as_batches(loader: ArrayLike | Iterable[Any], *, caller: str) -> Iterable[Any]:
    """Return the batches of a loader, or of one tensor or array of images."""
    images = to_tensor(loader, "loader") if isinstance(loader, np.ndarray) else loader
    if not isinstance(images, torch.Tensor):
        return checked_loader(images, progress=False, caller=caller)
    check_dense(images, argument="loader")
    if images.ndim < 2 or len(images) < 2:
        raise ValueError(
            f"loader must be batches or a tensor (N, C, H, W) of at least 2 images; got {describe(images)}"
        )
    return torch.split(images, BATCH)


def record_with(
    model: nn.Module,
    layers: Selector | Iterable[Selector],
    loader: ArrayLike | Iterable[Any],
    against: ArrayLike | str,
    reduce: Reduction | Mapping[Selector, Reduction],
    progress: bool,
    *,
    caller: str = "layer_information",
    argument: str = "against",
) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Return the layers' rows, and the labels or inputs that they are measured against, in one pass.

    Errors call `against` by the name of the caller's `argument`.
    """
    batches, taken = as_batches(loader, caller=caller), []
    labels = None if isinstance(against, str) else check_labels(against, argument=argument, loader=loader)

    def noted() -> Iterator[Any]:
        for batch in batches:
            if labels is None:
                taken.append(labels_in(batch) if against == "labels" else inputs_in(batch, model))
            yield batch

    rows = record_rows(model, layers, noted(), reduce, progress)
    values = joined(taken) if labels is None else labels
    check_lengths(values, len(next(iter(rows.values()))), argument=argument)
    return rows, values


def record_rows(
    model: nn.Module,
    layers: Selector | Iterable[Selector],
    batches: Iterable[Any],
    reduce: Reduction | Mapping[Selector, Reduction],
    progress: bool,
) -> dict[str, torch.Tensor]:
    """Record the layers over all batches; return `(N, D)` float rows for each."""
    recorder = ActivationRecorder(model, layers, reduce=reduce)
    check_weights(recorder.model)
    recorded = recorder.record(batches, progress=progress)
    rows = {}
    for name, values in recorded.items():
        if not isinstance(values, torch.Tensor):
            raise TypeError(
                f"layer {name!r} returns {describe(values)}: choose a tensor with reduce={{{name!r}: function}}"
            )
        rows[name] = values.reshape(len(values), -1).float()
    return rows


def labels_in(batch: Any) -> torch.Tensor:
    """Return the labels ``(N,)`` in a batch, or raise."""
    labels = labels_of(batch)
    if labels is None:
        raise ValueError(
            f"the batch {describe(batch)} has no labels: yield batches (images, labels), or pass labels (N,)"
        )
    return check_labels(labels, argument="the labels of a batch")


def inputs_in(batch: Any, model: nn.Module) -> torch.Tensor:
    """Return a batch's first input tensor as rows ``(N, D)``, or raise a TypeError if there is none."""
    args, kwargs = arguments(batch, model)
    for value in (*args, *kwargs.values()):
        if isinstance(value, torch.Tensor) and value.ndim:
            return value.reshape(len(value), -1)
    raise TypeError(f"against='inputs' needs a tensor in every batch; got {describe(batch)}")


def joined(parts: list[torch.Tensor]) -> torch.Tensor:
    """Join labels, or rows of inputs of one size."""
    if len({part.shape[1:] for part in parts}) > 1:
        raise ValueError("against='inputs' needs inputs of the same size; sizes differ between batches")
    return torch.cat(parts)


def check_labels(labels: object, *, argument: str, loader: object = None) -> torch.Tensor:
    """Return labels as a tensor, or raise; also if `loader` has another length or shuffles."""
    if isinstance(labels, np.ndarray):
        labels = to_tensor(labels, argument)
    if not isinstance(labels, torch.Tensor) or labels.is_floating_point() or labels.ndim != 1:
        raise TypeError(f"{argument} must be an integer tensor (N,); got {describe(labels)}")
    if isinstance(loader, torch.Tensor | np.ndarray):
        check_lengths(labels, len(loader), argument=argument)
    if isinstance(sampler_of(loader), SHUFFLING):
        raise ValueError(  # noqa: TRY004  the type is right, its order is not
            f"{argument} must label the images in the order of the loader, which shuffles: pass shuffle=False, or a loader "
            "whose batches hold the labels"
        )
    return labels


def check_lengths(values: torch.Tensor, images: int, *, argument: str) -> None:
    """Raise a ValueError unless there is one label for each image."""
    if len(values) != images:
        raise ValueError(f"{argument} must label each image: got {len(values)} labels for {images} images")
