"""From a model to the information in its layers, in one call."""

from __future__ import annotations

import dataclasses
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, final, overload

import numpy as np
import torch

from featurelens._checks import check_choice, check_type, count, describe
from featurelens._random import make_generator
from featurelens.information._chunks import row_slices
from featurelens.information._variables import label_codes, to_tensor
from featurelens.information.base import MutualInformation, check_estimate, saturation
from featurelens.information.channels import ChannelInformationResult, channel_information
from featurelens.information.noisy_channel import NoisyChannelMutualInformation
from featurelens.recording import ActivationRecorder

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from torch import nn

    from featurelens._random import Seed
    from featurelens.information._variables import ArrayLike
    from featurelens.information.base import Null
    from featurelens.information.result import MutualInformationResult, Units
    from featurelens.layers import Selector
    from featurelens.recording.reductions import Reduction

BATCH = 256
PERMUTATIONS = 10
"""Enough for the mean of the null, which is what a layer is read against."""
SIGMA = 1.0
"""Noise of the default estimator, a multiple of the activations' own standard deviation."""


@overload
def layer_information(
    model: nn.Module,
    layers: Selector | Iterable[Selector],
    images: ArrayLike,
    against: ArrayLike | Literal["inputs"],
    *,
    per: Literal["layer"] = ...,
    estimator: MutualInformation | None = ...,
    reduce: Reduction | Mapping[Selector, Reduction] = ...,
    units: Units = ...,
    confidence: float | None = ...,
    null: Null | Literal["default"] | None = ...,
    permutations: int = ...,
    seed: Seed = ...,
) -> dict[str, MutualInformationResult]: ...
@overload
def layer_information(
    model: nn.Module,
    layers: Selector | Iterable[Selector],
    images: ArrayLike,
    against: ArrayLike | Literal["inputs"],
    *,
    per: Literal["channel"],
    estimator: MutualInformation | None = ...,
    reduce: Reduction | Mapping[Selector, Reduction] = ...,
    units: Units = ...,
    confidence: float | None = ...,
    null: Null | Literal["default"] | None = ...,
    permutations: int = ...,
    seed: Seed = ...,
) -> dict[str, ChannelInformationResult]: ...
def layer_information(
    model: nn.Module,
    layers: Selector | Iterable[Selector],
    images: ArrayLike,
    against: ArrayLike | Literal["inputs"],
    *,
    per: Literal["layer", "channel"] = "layer",
    estimator: MutualInformation | None = None,
    reduce: Reduction | Mapping[Selector, Reduction] = "mean",
    units: Units = "nats",
    confidence: float | None = None,
    null: Null | Literal["default"] | None = "default",
    permutations: int = PERMUTATIONS,
    seed: Seed = 0,
) -> dict[str, MutualInformationResult] | dict[str, ChannelInformationResult]:
    """Estimate what each layer, or each of its channels, knows of the labels or of the inputs.

    Parameters
    ----------
    model
        Any module; it runs in eval mode and comes back as it was.
    layers
        Selectors as for `ActivationRecorder`.
    images
        The probe set, a tensor or array `(N, C, H, W)`, on any device.
    against
        Labels `(N,)` of an integer type, or "inputs" for the images themselves.
    per
        "layer" takes a layer's channels together, "channel" each on its own.
    estimator
        By default `NoisyChannelMutualInformation(sigma=1.0, relative=True)`: the information through noise as
        large as the layer's own standard deviation, which is finite for deterministic layers and does not
        change with their scale. Per channel against labels, the default is `channel_information`.
    reduce
        What of a feature map is measured, as for `ActivationRecorder`: by default its mean, one number for each
        channel. Whole maps have so many dimensions that on any probe set the answer is log N.
    units, confidence
        As in `MutualInformation.estimate`; intervals are for `per="layer"`.
    null, permutations
        As in `MutualInformation.estimate`: also measure with the labels in `permutations` random orders. With many
        channels and few images most of what a layer shows is there too, so read `excess`. By default
        "permutation" against labels, and None against inputs: where all are different, every order gives the
        same.
    seed
        For noise and orders; the same seed gives the same result.

    Returns
    -------
    dict
        Layer name to `MutualInformationResult`, or to `ChannelInformationResult` per channel.

    Raises
    ------
    TypeError, ValueError, LookupError
        If a layer, the labels or an option are wrong, or their lengths differ; what an estimator refuses is said
        with the layer's name, x being the labels or inputs and y the layer.

    Examples
    --------
    >>> model = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU())
    >>> images = torch.rand(64, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    >>> labels = (images.mean((1, 2, 3)) > 0.5).long()
    >>> information = layer_information(model, "conv_1", images, labels)
    >>> information["0"].dim_y, information["0"].excess < information["0"].value < information["0"].ceiling
    (4, True)
    """
    check_choice(per, ("layer", "channel"), argument="per")
    images = check_images(images)
    labels = None
    if isinstance(against, str):
        check_choice(against, ("inputs",), argument="against")
    else:
        labels = check_labels(against, images, argument="against", or_else='"inputs" or ')
    if null == "default":
        null = None if labels is None else "permutation"
    options = Options(units, confidence, null, permutations, seed)
    options.check()
    if estimator is not None:
        check_estimator(estimator)
    if per == "channel" and confidence is not None:
        raise ValueError(f"confidence is for per='layer'; got {confidence!r} with per='channel'")
    rows = layer_rows(model, layers, images, reduce)
    if per == "channel" and estimator is None and labels is not None:
        return {name: _all_channels(name, values, labels, options) for name, values in rows.items()}
    estimator = estimator or default_estimator()
    given = given_inputs(estimator, images) if labels is None else Given(labels, 1)
    if per == "channel":
        return {name: _each_channel(estimator, name, values, given, options) for name, values in rows.items()}
    return {name: estimate_layer(estimator, name, given, values, options) for name, values in rows.items()}


@final
@dataclass(frozen=True)
class Given:
    """What layers are measured against: labels, or inputs of `dim` numbers each."""

    values: torch.Tensor
    dim: int


@final
@dataclass(frozen=True)
class Options:
    """How a layer's information is to be reported; see `MutualInformation.estimate`."""

    units: Units
    confidence: float | None
    null: Null | None
    permutations: int
    seed: Seed

    def check(self) -> None:
        """Raise if one of them makes no sense, before the model runs."""
        check_estimate(self.units, self.confidence, self.null, self.permutations)
        make_generator(self.seed)


def estimate_layer(
    estimator: MutualInformation, name: str, given: Given, values: torch.Tensor, options: Options
) -> MutualInformationResult:
    """Return the estimate for the rows of one layer; what goes wrong is said with its name."""
    with _naming(f"layer {name!r}"):
        result = estimator._estimated(given.values.to(values.device), values, **vars(options))
    if result.saturated:
        # The same words every epoch, so that Python's own filter says it once.
        warnings.warn(f"layer {name!r} {saturation(result)}", UserWarning, stacklevel=3)
    return dataclasses.replace(result, dim_x=given.dim)


def given_inputs(estimator: MutualInformation, images: torch.Tensor) -> Given:
    """Return the images as rows, or by number where the estimator only asks which of them are the same."""
    rows = images.flatten(1)
    codes = isinstance(estimator, NoisyChannelMutualInformation)
    return Given(label_codes(rows) if codes else rows, rows.shape[1])


def check_estimator(estimator: object) -> None:
    """Raise unless this is an estimator."""
    check_type(estimator, MutualInformation, argument="estimator", expected="a MutualInformation estimator")


def default_estimator() -> NoisyChannelMutualInformation:
    """Return the estimator for deterministic layers: finite, and the same whatever the layer's scale."""
    return NoisyChannelMutualInformation(sigma=SIGMA, relative=True)


def layer_rows(
    model: nn.Module,
    layers: Selector | Iterable[Selector],
    images: torch.Tensor,
    reduce: Reduction | Mapping[Selector, Reduction],
) -> dict[str, torch.Tensor]:
    """Record the layers once over all images; return `(N, D)` float rows for each."""
    recorded = ActivationRecorder(model, layers, reduce=reduce).record(
        (images[rows] for rows in row_slices(len(images), 1, BATCH)), progress=False
    )
    rows = {}
    for name, values in recorded.items():
        if not isinstance(values, torch.Tensor):
            raise TypeError(
                f"layer {name!r} returns {describe(values)}: choose a tensor of it with reduce={{{name!r}: function}}"
            )
        rows[name] = values.reshape(len(values), -1).float()
    return rows


def check_images(images: object) -> torch.Tensor:
    """Return a batch of images as a tensor, or raise."""
    if isinstance(images, np.ndarray):
        images = to_tensor(images, "images")
    if not isinstance(images, torch.Tensor) or images.ndim < 2 or len(images) < 2:
        raise ValueError(f"images must be a tensor (N, C, H, W) of at least 2 images; got {describe(images)}")
    return images


def check_labels(labels: object, images: torch.Tensor, *, argument: str, or_else: str = "") -> torch.Tensor:
    """Return one label for each image as a tensor, or raise."""
    if isinstance(labels, np.ndarray):
        labels = to_tensor(labels, argument)
    if not isinstance(labels, torch.Tensor) or labels.is_floating_point() or labels.ndim != 1:
        raise TypeError(
            f"{argument} must be {or_else}an integer tensor of labels (N,); got {describe(labels)}"
        )
    if len(labels) != len(images):
        raise ValueError(
            f"{argument} must label each image: got {len(labels)} labels for {len(images)} images"
        )
    return labels


def _all_channels(
    name: str, rows: torch.Tensor, labels: torch.Tensor, options: Options
) -> ChannelInformationResult:
    with _naming(f"layer {name!r}"):
        return channel_information(
            rows,
            labels,
            null=options.null,
            permutations=options.permutations,
            units=options.units,
            seed=options.seed,
        )


def _each_channel(
    estimator: MutualInformation, name: str, rows: torch.Tensor, given: Given, options: Options
) -> ChannelInformationResult:
    """Return an estimate for every channel; one that never changes knows nothing, whatever the estimator."""
    against = given.values.to(rows.device)
    varying = (rows != rows[:1]).any(dim=0).nonzero()[:, 0].tolist()
    values, null_mean = (torch.zeros(rows.shape[1], dtype=torch.float64) for _ in range(2))
    p_values = torch.ones_like(values)
    notes: list[str] = []
    first: MutualInformationResult | None = None
    for channel in varying:
        with _naming(f"layer {name!r}, channel {channel}"):
            result = estimator._estimated(against, rows[:, channel], **vars(options))
        first = first or result
        values[channel] = result.value
        if result.null_mean is not None and result.p_value is not None:
            null_mean[channel], p_values[channel] = result.null_mean, result.p_value
        notes.extend(result.notes)
    constant = rows.shape[1] - len(varying)
    if constant:
        notes.append(f"{count(constant, 'channel')} never changed")
    return ChannelInformationResult(
        values=values,
        method=estimator.method,
        n=len(rows),
        units=options.units,
        null_mean=None if options.null is None else null_mean,
        p_values=None if options.null is None else p_values,
        label_entropy=None if first is None else first.label_entropy,
        ceiling=None if first is None else first.ceiling,
        notes=tuple(dict.fromkeys(notes)),
    )


@contextmanager
def _naming(what: str) -> Iterator[None]:
    """Put the layer's name before what an estimator says is wrong."""
    try:
        yield
    except (TypeError, ValueError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{what}: {error}") from error
