"""Information of layers and of channels: scalars over epochs, and bars for channels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeAlias

from featurelens._checks import check_type
from featurelens.information import (
    ChannelInformationResult,
    MutualInformationResult,
    SpatialMutualInformationResult,
)
from featurelens.tensorboard._run import check_tag, join

if TYPE_CHECKING:
    from featurelens.tensorboard._run import Charts, Run

Information: TypeAlias = MutualInformationResult | SpatialMutualInformationResult | ChannelInformationResult
EVERY = "all layers"  # the chart over the main curve of each layer


def write_information(run: Run, epoch: int, results: Mapping[str, Information], tag: str) -> None:
    """Write what is known of each layer under ``TAG in UNITS/LAYER``, with a chart for each and one for all."""
    check_tag(tag)
    check_type(results, Mapping, argument="results", expected="a mapping from layers to results")
    for layer, result in results.items():
        _check_result(result, f"results[{layer!r}]")
    charts: dict[str, Charts] = {}
    for layer, result in results.items():
        group = f"{tag} in {result.units}"
        points = {join(group, layer, part): value for part, value in _parts(result).items()}
        run.scalars(epoch, points)
        shown = charts.setdefault(group, {EVERY: []})
        shown[EVERY].append(next(iter(points)))
        shown[layer or "model"] = list(points)
        if isinstance(result, ChannelInformationResult):
            title = f"{tag} of {layer or 'the model'}, epoch {epoch}"
            run.figures(epoch, {join(group, layer): result.plot(title=title)})
    for group, shown in charts.items():
        run.chart(group, shown)


def _check_result(result: object, argument: str) -> None:
    from featurelens.plotting._estimates import Estimate

    check_type(
        result, (Estimate, ChannelInformationResult), argument=argument, expected="a result of an estimator"
    )


def _parts(result: Information) -> dict[str, float]:
    """Return the numbers of a result by name, the main one first."""
    if isinstance(result, ChannelInformationResult):
        null = None if result.null_mean is None else float(result.null_mean.mean())
        parts = {"mean": float(result.values.mean()), "best": float(result.values.max()), "null": null}
    else:
        from featurelens.plotting._estimates import interval_of

        low, high = interval_of(result) or (None, None)
        parts = {"value": result.value, "null": result.null_mean, "low": low, "high": high}
    return {name: value for name, value in parts.items() if value is not None}
