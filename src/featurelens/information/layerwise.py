"""From a model to the information in its layers, in one call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, overload

import torch

from featurelens._checks import check_choice, check_type, describe
from featurelens.information._chunks import row_slices
from featurelens.information.base import MutualInformation
from featurelens.information.channels import ChannelInformationResult, channel_information
from featurelens.information.noisy_channel import NoisyChannelMutualInformation
from featurelens.recording import ActivationRecorder

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from torch import nn

    from featurelens._random import Seed
    from featurelens.information.result import MutualInformationResult, Units
    from featurelens.layers import Selector
    from featurelens.recording.keeping import Reduction

BATCH = 256
SIGMA = 1.0
"""Noise of the default estimator, a multiple of the activations' own standard deviation."""


@overload
def layer_information(
    model: nn.Module,
    layers: Selector | Iterable[Selector],
    images: torch.Tensor,
    against: torch.Tensor | Literal["inputs"],
    *,
    per: Literal["layer"] = ...,
    estimator: MutualInformation | None = ...,
    reduce: Reduction | Mapping[Selector, Reduction] = ...,
    units: Units = ...,
    interval: float | None = ...,
    seed: Seed = ...,
) -> dict[str, MutualInformationResult]: ...
@overload
def layer_information(
    model: nn.Module,
    layers: Selector | Iterable[Selector],
    images: torch.Tensor,
    against: torch.Tensor | Literal["inputs"],
    *,
    per: Literal["channel"],
    estimator: MutualInformation | None = ...,
    reduce: Reduction | Mapping[Selector, Reduction] = ...,
    units: Units = ...,
    interval: float | None = ...,
    seed: Seed = ...,
) -> dict[str, ChannelInformationResult]: ...
def layer_information(
    model: nn.Module,
    layers: Selector | Iterable[Selector],
    images: torch.Tensor,
    against: torch.Tensor | Literal["inputs"],
    *,
    per: Literal["layer", "channel"] = "layer",
    estimator: MutualInformation | None = None,
    reduce: Reduction | Mapping[Selector, Reduction] = "mean",
    units: Units = "nats",
    interval: float | None = None,
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
        The probe set, `(N, C, H, W)`, on any device.
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
    units, interval
        As in `MutualInformation.estimate`; intervals are for `per="layer"`.
    seed
        For the noise; the same seed gives the same result.

    Returns
    -------
    dict
        Layer name to `MutualInformationResult`, or to `ChannelInformationResult` per channel.

    Raises
    ------
    TypeError, ValueError, LookupError
        If a layer, the labels or an option are wrong, or their lengths differ.

    Examples
    --------
    >>> model = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU())
    >>> images = torch.rand(64, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    >>> labels = (images.mean((1, 2, 3)) > 0.5).long()
    >>> information = layer_information(model, "conv_1", images, labels)
    >>> information["0"].units, information["0"].dim_y
    ('nats', 4)
    """
    check_choice(per, ("layer", "channel"), argument="per")
    check_probe(images, against)
    if estimator is not None:
        check_type(
            estimator, MutualInformation, argument="estimator", expected="a MutualInformation estimator"
        )
    rows = layer_rows(model, layers, images, reduce)
    device = next(iter(rows.values())).device
    given = images.flatten(1).to(device) if isinstance(against, str) else against.to(device)
    if per == "layer":
        estimator = estimator or default_estimator()
        return {
            name: estimator.estimate(given, values, units=units, interval=interval, seed=seed)
            for name, values in rows.items()
        }
    if estimator is None and not isinstance(against, str):
        return {
            name: channel_information(values, given, units=units, seed=seed) for name, values in rows.items()
        }
    estimator = estimator or default_estimator()
    return {name: _each_channel(estimator, values, given, units, seed) for name, values in rows.items()}


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


def check_probe(images: object, against: object) -> None:
    """Raise unless `images` is a batch and `against` says "inputs" or labels each of its images."""
    if not isinstance(images, torch.Tensor) or images.ndim < 2 or len(images) < 2:
        raise ValueError(f"images must be a tensor (N, C, H, W) of at least 2 images; got {describe(images)}")
    if isinstance(against, str):
        check_choice(against, ("inputs",), argument="against")
    elif not isinstance(against, torch.Tensor) or against.is_floating_point() or against.ndim != 1:
        raise TypeError(
            f'against must be "inputs" or an integer tensor of labels (N,); got {describe(against)}'
        )
    elif len(against) != len(images):
        raise ValueError(f"against must label each image: got {len(against)} labels for {len(images)} images")


def _each_channel(
    estimator: MutualInformation, rows: torch.Tensor, given: torch.Tensor, units: Units, seed: Seed
) -> ChannelInformationResult:
    results = [estimator.estimate(given, column, units=units, seed=seed) for column in rows.T]
    first = results[0]
    return ChannelInformationResult(
        values=torch.tensor([result.value for result in results], dtype=torch.float64),
        method=first.method,
        n=first.n,
        units=first.units,
        ceiling=first.ceiling,
        notes=tuple(dict.fromkeys(note for result in results for note in result.notes)),
    )
