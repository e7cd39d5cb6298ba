"""A linear probe of every layer: what of the labels can be read off it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch

from featurelens._random import make_generator, permutation
from featurelens.information.chunks import shown
from featurelens.information.estimator import Null, Options
from featurelens.information.layers import naming
from featurelens.information.linear_probe_result import LinearProbeResult
from featurelens.information.probe import ProbeMutualInformation, gains, predict_held_out
from featurelens.information.probe_set import record_with
from featurelens.information.resampling import permutation_p_value
from featurelens.information.variables import ArrayLike, Variable, as_variable, entropy

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from torch import nn

    from featurelens._random import Seed
    from featurelens.layers import Selector
    from featurelens.recording.reductions import Reduction

PERMUTATIONS = 5
"""Enough for the mean of the null: every one fits all probes anew."""


def linear_probe(
    model: nn.Module,
    layers: Selector | Iterable[Selector],
    loader: ArrayLike | Iterable[Any],
    labels: ArrayLike | None = None,
    *,
    reduce: Reduction | Mapping[Selector, Reduction] = "mean",
    folds: int = 5,
    null: Null | None = "permutation",
    permutations: int = PERMUTATIONS,
    progress: bool = True,
    seed: Seed = 0,
) -> LinearProbeResult:
    """Fit a linear probe to the labels at every layer, and tell how well it predicts images it has not seen.

    The data are read once. The probe is that of `ProbeMutualInformation`: logistic regression whose penalty is chosen on
    a part of the images that fit it. Every part of the images is predicted by a probe fitted to the others.

    Parameters
    ----------
    model, layers, reduce
        As for `ActivationRecorder`. By default feature maps are reduced to their means; with thousands of numbers per
        layer a probe takes minutes.
    loader
        As for `ActivationRecorder.record`; one tensor or array of images `(N, C, H, W)` needs `labels`.
    labels
        ``(N,)`` integers; by default those in the batches.
    folds
        Number of parts, at least 2.
    null, permutations
        "permutation" also fits probes to shuffled labels, `permutations` times, each half as long as the probe itself.
    progress, seed
        As for `layer_information`.

    Raises
    ------
    TypeError, ValueError, LookupError
        If an argument is not one of the above, there are fewer than 50 images, one label or as many as images, or a
        layer is not finite.

    Examples
    --------
    >>> model, images = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU()), torch.rand(80, 1, 8, 8)
    >>> images[::2] += 1
    >>> linear_probe(model, "relu_1", images, torch.arange(80) % 2, permutations=1).accuracy > 0.9
    tensor([True])
    """
    options = Options(null=null, permutations=permutations, seed=seed)
    probe, against = ProbeMutualInformation(folds=folds), "labels" if labels is None else labels
    where = {"caller": "linear_probe", "argument": "labels"}
    rows, values = record_with(model, layers, loader, against, reduce, progress, **where)
    codes = as_variable(values, "labels")
    columns = {name: _checked(probe, name, each, codes) for name, each in rows.items()}
    bar = shown(columns.items(), "probing", "layer", progress)
    return _joined({name: _probed(each, codes, folds, options) for name, each in bar}, columns, codes, folds)


def _joined(
    found: dict[str, dict[str, float]], columns: dict[str, torch.Tensor], codes: Variable, folds: int
) -> LinearProbeResult:
    fields = next(iter(found.values()))
    return LinearProbeResult(
        layers=tuple(found),
        columns=tuple(each.shape[1] for each in columns.values()),
        majority=float(codes.values.bincount().max()) / len(codes),
        label_entropy=entropy(codes.values),
        n=len(codes),
        folds=folds,
        **{
            field: torch.tensor([each[field] for each in found.values()], dtype=torch.float64)
            for field in fields
        },
    )


def _checked(probe: ProbeMutualInformation, name: str, rows: torch.Tensor, codes: Variable) -> torch.Tensor:
    """Return the columns of one layer ``(N, D)`` float64, or raise an error that names it."""
    with naming(f"layer {name!r}"):
        columns = as_variable(rows.cpu(), "activations", allow_constant=True)
        probe._check_pair(columns, codes, null=None)
    return columns.values


def _probed(columns: torch.Tensor, labels: Variable, folds: int, options: Options) -> dict[str, float]:
    """Return all that is known of one layer, by the names of the result's fields."""
    codes, generator, n = labels.values.cpu(), make_generator(options.seed), len(labels)
    hits, terms = _predictions(columns, codes, folds, generator)
    found = {"accuracy": hits, "nats": terms}
    values = {name: float(each.mean()) for name, each in found.items()}
    errors = {f"{name}_error": float(each.std()) / math.sqrt(n) for name, each in found.items()}
    if options.null is None:
        return values | errors
    orders = [permutation(n, generator, codes.device) for _ in range(options.permutations)]
    shuffled = [_predictions(columns, codes[order], folds, generator) for order in orders]
    null_hits, null_terms = (torch.stack(each).mean(1) for each in zip(*shuffled, strict=True))
    nulls = {"null_accuracy": float(null_hits.mean()), "null_nats": float(null_terms.mean())}
    return values | errors | nulls | {"p_value": permutation_p_value(values["nats"], null_terms)}


def _predictions(
    columns: torch.Tensor, codes: torch.Tensor, folds: int, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return, for every image ``(N,)``, whether its label is predicted, and its gain over the labels' shares in nats."""
    log_chances = predict_held_out(columns, codes, folds, generator)
    return (log_chances.argmax(1) == codes).double(), gains(log_chances, codes)
