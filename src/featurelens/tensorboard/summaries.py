"""What TensorBoard shows of each type of result."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import nn

from featurelens import plotting
from featurelens._checks import check_number, check_type, describe
from featurelens._hooks import named_modules, unwrap
from featurelens.ablation import AblationCurve, AblationResult, ImportanceResult
from featurelens.information import (
    ChannelInformationResult,
    MutualInformationResult,
    SpatialMutualInformationResult,
)
from featurelens.maximization import MaximizationResult
from featurelens.plotting.arrays import Array, check_array
from featurelens.plotting.estimates import interval_of
from featurelens.plotting.page import figure_of
from featurelens.plotting.pictures import as_pictures
from featurelens.similarity import LayerSimilarityResult
from featurelens.tensorboard.run import Charts, Run, check_tag, join

Information: TypeAlias = MutualInformationResult | SpatialMutualInformationResult | ChannelInformationResult


def write_result(run: Run, epoch: int, result: object, options: Mapping[str, Any]) -> None:
    """Write a result as its type asks for, with those of the options that this type has."""
    write = _writer_of(result)
    try:
        inspect.signature(write).bind(run, epoch, result, **options)
    except TypeError as error:
        raise TypeError(f"result is {describe(result)}: {error}") from None
    write(run, epoch, result, **options)


def _writer_of(result: object) -> Callable[..., None]:
    for kind, write in RESULTS:
        if isinstance(result, kind):
            return write
    if not isinstance(result, Mapping):
        if hasattr(result, "plot"):
            raise TypeError(
                f"result is {describe(result)}, of which a figure can be added: add(epoch, result.plot(), tag=...)"
            )
        raise TypeError(
            "result must be a result of featurelens, a mapping from names to results, a model, a figure or an image; "
            f"got {describe(result)}"
        )
    for kind, write in NAMED_RESULTS:
        if result and all(isinstance(value, kind) for value in result.values()):
            return write
    raise TypeError(
        "a mapping passed as result must hold feature maps (N, C, H, W), results of estimators, or ablation curves; "
        f"got {describe(result)}"
    )


def write_training(run: Run, epoch: int, values: Mapping[str, Any]) -> None:
    """Write ``{"loss": {"train": 0.4, "test": 0.5}, "learning rate": 0.1}``, all of it or nothing."""
    expected = "a mapping from names to numbers, or to parts of them"
    check_type(values, Mapping, argument="values", expected=expected)
    points: dict[str, float] = {}
    charts: Charts = {}
    for name, value in values.items():
        group = check_tag(name, argument="a name in values")
        parts = {group: value}
        if isinstance(value, Mapping):
            argument = f"a name in values[{name!r}]"
            parts = {f"{group}/{check_tag(part, argument=argument)}": each for part, each in value.items()}
            charts[group] = list(parts)
        for tag, each in parts.items():
            if tag in points:
                raise ValueError(f"two of the values are named {tag!r}")
            points[tag] = check_number(each, argument=f"the value of {tag!r}")
    run.scalars(epoch, points)
    run.chart("training", charts)


def _write_information(
    run: Run, epoch: int, results: Information | Mapping[str, Information], *, tag: str = "information"
) -> None:
    """Write the information of each layer under ``TAG in UNITS/LAYER``, with a chart for each and one for all."""
    check_tag(tag)
    charts: dict[str, Charts] = {}
    for layer, result in results.items() if isinstance(results, Mapping) else [("", results)]:
        group = f"{tag} in {result.units}"
        points = {join(group, layer, part): value for part, value in _parts(result).items()}
        run.scalars(epoch, points)
        shown = charts.setdefault(group, {"all layers": []})
        shown["all layers"].append(next(iter(points)))
        shown[layer or "model"] = list(points)
        if isinstance(result, ChannelInformationResult):
            title = f"{tag} of {layer or 'the model'}, epoch {epoch}"
            run.figures(epoch, {join(group, layer): plotting.channel_bars(result, title=title)})
    for group, shown in charts.items():
        run.chart(group, shown)


def _parts(result: Information) -> dict[str, Any]:
    """Return the numbers of a result by name, the main one first."""
    parts: dict[str, Any]
    if isinstance(result, ChannelInformationResult):
        null = None if result.null_mean is None else result.null_mean.mean()
        parts = {"mean": result.values.mean(), "best": result.values.max(), "null": null}
    else:
        low, high = interval_of(result) or (None, None)
        parts = {"value": result.value, "null": result.null_mean, "low": low, "high": high}
    return {name: value for name, value in parts.items() if value is not None}


def _write_maximization(
    run: Run, epoch: int, result: MaximizationResult, *, tag: str = "maximization"
) -> None:
    """Draw the optimized images, and write the mean of their scores."""
    run.figures(epoch, {check_tag(tag): plotting.maximization(result)})
    run.scalars(epoch, {f"{tag}/mean score": result.scores.mean()})


def _write_reconstructions(run: Run, epoch: int, result: AblationResult, *, image: int = 0) -> None:
    """Draw the reconstruction of one image from each channel, and write the mean errors over all images."""
    run.figures(epoch, {join("reconstructions", result.layer): plotting.reconstructions(result, image=image)})
    group = join("reconstruction error", result.layer)
    for name, error in (("all channels", result.baseline_error), ("one channel", result.error)):
        if error is not None:
            run.scalars(epoch, {f"{group}/{name}": error.mean()})


def _write_importance(
    run: Run, epoch: int, result: ImportanceResult, *, classes: Sequence[object] | None = None
) -> None:
    """Draw what the task loses without each channel, overall and by class, and write mean and largest loss."""
    figures = {join("importance", result.layer): plotting.importance(result)}
    if result.per_class is not None:
        by_class = plotting.class_importance(result, classes=classes)
        figures[join("importance by class", result.layer)] = by_class
    run.figures(epoch, figures)
    group = join(f"importance in {result.metric}", result.layer)
    values = {"mean": result.importance.mean(), "largest": result.importance.max()}
    run.scalars(epoch, {f"{group}/{name}": value for name, value in values.items()})


def _write_curves(run: Run, epoch: int, curves: AblationCurve | Mapping[str, AblationCurve]) -> None:
    """Draw the metric against the number of channels removed, and write it over that number."""
    run.figures(epoch, {"channels removed": plotting.ablation_curves(curves)})
    named = {curves.layer: curves} if isinstance(curves, AblationCurve) else curves
    for name, curve in named.items():
        for removed, value in enumerate(curve.values):
            run.scalars(removed, {f"{join('channels removed', name)}, epoch {epoch}": value})


def _write_similarity(
    run: Run, epoch: int, result: LayerSimilarityResult, *, tag: str = "similarity"
) -> None:
    """Draw the heat map of the layers."""
    run.figures(epoch, {check_tag(tag): plotting.layer_similarity(result)})


def _write_feature_maps(
    run: Run, epoch: int, activations: Mapping[str, torch.Tensor], *, image: int = 0
) -> None:
    """Draw every layer's maps of one image; nothing is written unless all can be drawn."""
    figures = {}
    for layer, maps in activations.items():
        if maps.ndim != 4:
            raise ValueError(
                f"feature maps are (N, C, H, W), but layer {layer!r} returned {describe(maps)}: "
                "record other layers for this picture"
            )
        title = f"Feature maps of {layer or 'the model'}, epoch {epoch}"
        figures[join("feature maps", layer)] = plotting.feature_maps(maps, image=image, title=title)
    run.figures(epoch, figures)


def _write_filters(run: Run, epoch: int, model: nn.Module) -> None:
    """Draw the filters of every 2-d convolution."""
    figures = {
        join("filters", name): plotting.filters(
            module, title=f"Filters of {name or 'the layer'}, epoch {epoch}"
        )
        for name, module in named_modules(unwrap(model)).items()
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d)
    }
    if not figures:
        raise ValueError(f"{type(model).__name__} has no 2-d convolution whose filters could be drawn")
    run.figures(epoch, figures)


def _write_figure(run: Run, epoch: int, figure: Figure | Axes, *, tag: str) -> None:
    """Write a figure, or the one that an Axes lies on."""
    run.figures(epoch, {check_tag(tag): figure_of(figure) if isinstance(figure, Axes) else figure})


def _write_image(run: Run, epoch: int, image: Array, *, tag: str) -> None:
    """Write one image ``(C, H, W)`` pixel by pixel."""
    check_array(image, {3: "(C, H, W)"}, argument="image")
    run.pixels(epoch, check_tag(tag), as_pictures(image[None]).rgb()[0])


RESULTS: tuple[tuple[Any, Callable[..., None]], ...] = (
    (Information, _write_information),
    (MaximizationResult, _write_maximization),
    (AblationResult, _write_reconstructions),
    (ImportanceResult, _write_importance),
    (AblationCurve, _write_curves),
    (LayerSimilarityResult, _write_similarity),
    (nn.Module, _write_filters),
    (Figure | Axes, _write_figure),
    (torch.Tensor | np.ndarray, _write_image),
)
NAMED_RESULTS: tuple[tuple[Any, Callable[..., None]], ...] = (
    (Information, _write_information),
    (AblationCurve, _write_curves),
    (torch.Tensor, _write_feature_maps),
)
