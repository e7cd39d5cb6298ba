"""From a model to the information in its layers, in one call."""

from __future__ import annotations

import dataclasses
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, overload

import torch

from featurelens._checks import check_choice, check_type, count, warn
from featurelens.information.channels import channel_information
from featurelens.information.chunks import shown
from featurelens.information.estimator import MutualInformation, Options, run_estimate
from featurelens.information.layer_result import LayerInformationResult
from featurelens.information.noisy_channel import NoisyChannelMutualInformation
from featurelens.information.probe import ProbeMutualInformation
from featurelens.information.probe_set import record_with
from featurelens.information.results import ChannelInformationResult
from featurelens.information.variables import ArrayLike, label_codes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from torch import nn

    from featurelens._random import Seed
    from featurelens.information.estimator import Null
    from featurelens.information.results import MutualInformationResult, Units
    from featurelens.layers import Selector
    from featurelens.recording.reductions import Reduction

PERMUTATIONS = 10
"""Enough for the mean of the null, with which a layer is compared."""
DEFAULT = NoisyChannelMutualInformation(sigma=1.0, relative=True)
"""For deterministic layers and inputs: finite, and independent of the layer's scale."""
AGAINST_LABELS = ProbeMutualInformation()
"""For layers and labels: finite without noise, and not raised by many channels and few images."""


@overload
def layer_information(
    model: nn.Module,
    layers: Selector | Iterable[Selector],
    loader: ArrayLike | Iterable[Any],
    against: ArrayLike | Literal["labels", "inputs"] = ...,
    *,
    per: Literal["layer"] = ...,
    estimator: MutualInformation | None = ...,
    reduce: Reduction | Mapping[Selector, Reduction] = ...,
    units: Units = ...,
    confidence: float | None = ...,
    null: Null | Literal["default"] | None = ...,
    permutations: int = ...,
    progress: bool = ...,
    seed: Seed = ...,
) -> LayerInformationResult: ...
@overload
def layer_information(
    model: nn.Module,
    layers: Selector | Iterable[Selector],
    loader: ArrayLike | Iterable[Any],
    against: ArrayLike | Literal["labels", "inputs"] = ...,
    *,
    per: Literal["channel"],
    estimator: MutualInformation | None = ...,
    reduce: Reduction | Mapping[Selector, Reduction] = ...,
    units: Units = ...,
    confidence: float | None = ...,
    null: Null | Literal["default"] | None = ...,
    permutations: int = ...,
    progress: bool = ...,
    seed: Seed = ...,
) -> dict[str, ChannelInformationResult]: ...
def layer_information(
    model: nn.Module,
    layers: Selector | Iterable[Selector],
    loader: ArrayLike | Iterable[Any],
    against: ArrayLike | Literal["labels", "inputs"] = "labels",
    *,
    per: Literal["layer", "channel"] = "layer",
    estimator: MutualInformation | None = None,
    reduce: Reduction | Mapping[Selector, Reduction] = "mean",
    units: Units = "nats",
    confidence: float | None = None,
    null: Null | Literal["default"] | None = "default",
    permutations: int = PERMUTATIONS,
    progress: bool = True,
    seed: Seed = 0,
) -> LayerInformationResult | dict[str, ChannelInformationResult]:
    """Estimate the mutual information between each layer, or channel, and the labels or the inputs.

    Parameters
    ----------
    model, layers, reduce
        As for `ActivationRecorder`. By default feature maps are reduced to their means, one number per channel: whole
        maps give log N for any probe set.
    loader
        As for `ActivationRecorder.record`; one tensor or array of images `(N, C, H, W)` needs `against`.
    against
        Labels `(N,)`, "labels" for the labels in the batches, or "inputs" for the inputs.
    per, estimator
        "layer" measures a layer's channels jointly, "channel" each one alone, in a plain dict. By default, against labels
        layers are measured by `ProbeMutualInformation` and channels by `channel_information`; against inputs both by
        `NoisyChannelMutualInformation(sigma=1.0, relative=True)`.
    units, confidence, null, permutations, progress, seed
        As in `MutualInformation.estimate` and `channel_information`. Labels have a null by default: read `excess`.

    Raises
    ------
    TypeError, ValueError, LookupError
        If an argument is not one of the above. Errors of an estimator name the layer, which is its y.

    Examples
    --------
    >>> model, images = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3)), torch.rand(64, 1, 8, 8)
    >>> layer_information(model, "conv_1", images, (images.mean((1, 2, 3)) > 0.5).long())["0"].dim_y
    4
    """
    estimator = _chosen(estimator, per, against, confidence)
    if isinstance(null, str) and null == "default":
        null = _default_null(against)
    options = Options(units=units, confidence=confidence, null=null, permutations=permutations, seed=seed)
    rows, other = record_with(model, layers, loader, against, reduce, progress)
    given = given_as(estimator, other)
    measure: Callable[..., Any] = estimate_layer if per == "layer" else _each_channel
    bar = shown(rows.items(), "measuring", "layer", progress)
    found = {name: measure(estimator, name, given, values, options) for name, values in bar}
    return LayerInformationResult(found) if per == "layer" else found


class Given(NamedTuple):
    """The variable that layers are measured against: labels ``(N,)``, or inputs of `dim` numbers each."""

    values: torch.Tensor
    dim: int


def given_as(estimator: MutualInformation | None, values: torch.Tensor) -> Given:
    """Return labels ``(N,)`` as they are, and inputs ``(N, D)`` as the estimator needs them.

    The noisy channel only asks which inputs are equal, so they are compared once and become labels.
    """
    if values.ndim == 1:
        return Given(values, 1)
    codes = isinstance(estimator, NoisyChannelMutualInformation)
    return Given(label_codes(values) if codes else values, values.shape[1])


def estimate_layer(
    estimator: MutualInformation, name: str, given: Given, activations: torch.Tensor, options: Options
) -> MutualInformationResult:
    """Return the estimate for the rows of one layer; errors name it."""
    with naming(f"layer {name!r}"):
        result, cautions = run_estimate(estimator, given.values.to(activations.device), activations, options)
    for caution in cautions:
        # The same words every epoch, so that Python's own filter shows them once.
        warn(f"layer {name!r} {caution}")
    return dataclasses.replace(result, dim_x=given.dim)


def _each_channel(
    estimator: MutualInformation | None, name: str, given: Given, rows: torch.Tensor, options: Options
) -> ChannelInformationResult:
    """Return the estimates of all channels; 0 for a channel that never changes, whatever the estimator."""
    if estimator is None:
        counted = {field: getattr(options, field) for field in ("null", "permutations", "units", "seed")}
        with naming(f"layer {name!r}"):
            return channel_information(rows, given.values, progress=False, **counted)
    against = given.values.to(rows.device)
    results: dict[int, MutualInformationResult] = {}
    for channel in (rows != rows[:1]).any(dim=0).nonzero()[:, 0].tolist():
        with naming(f"layer {name!r}, channel {channel}"):
            results[channel] = run_estimate(estimator, against, rows[:, channel], options)[0]

    def column(field: str, constant: float) -> torch.Tensor:
        found = [getattr(results[c], field) if c in results else constant for c in range(rows.shape[1])]
        return torch.tensor(found, dtype=torch.float64)

    tested = options.null is not None
    first = next(iter(results.values()), None)
    notes = [note for result in results.values() for note in result.notes]
    if constant := rows.shape[1] - len(results):
        notes.append(f"{count(constant, 'channel')} never changed")
    return ChannelInformationResult(
        values=column("value", 0.0),
        method=estimator.method,
        n=len(rows),
        units=options.units,
        null_mean=column("null_mean", 0.0) if tested else None,
        p_values=column("p_value", 1.0) if tested else None,
        label_entropy=first and first.label_entropy,
        ceiling=first and first.ceiling,
        notes=tuple(dict.fromkeys(notes)),
    )


def _chosen(
    estimator: MutualInformation | None, per: str, against: object, confidence: float | None
) -> MutualInformation | None:
    """Check the choice of an estimator; None stands for `channel_information`."""
    check_choice(per, ("layer", "channel"), argument="per")
    if isinstance(against, str):
        check_choice(against, ("labels", "inputs"), argument="against", further=" or labels (N,)")
    if per == "channel" and confidence is not None:
        raise ValueError(f"confidence is for per='layer'; got {confidence!r} with per='channel'")
    inputs = isinstance(against, str) and against == "inputs"
    if estimator is None and inputs:
        return DEFAULT
    if estimator is None and per == "layer":
        return AGAINST_LABELS
    return estimator if estimator is None else check_estimator(estimator)


def _default_null(against: object) -> Null | None:
    """Return no null against inputs: where all are different, every order of them gives the same value."""
    return None if isinstance(against, str) and against == "inputs" else "permutation"


def check_estimator(estimator: MutualInformation) -> MutualInformation:
    """Return an estimator, or raise a TypeError."""
    check_type(estimator, MutualInformation, argument="estimator", expected="a MutualInformation estimator")
    return estimator


@contextmanager
def naming(what: str) -> Iterator[None]:
    """Put the layer's name before the message of an estimator's error."""
    try:
        yield
    except (TypeError, ValueError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{what}: {error}") from error
