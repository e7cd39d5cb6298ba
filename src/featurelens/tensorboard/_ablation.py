"""Ablation: what channels rebuild, what they are worth, what is left without them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from featurelens._checks import check_type
from featurelens.tensorboard._run import join

if TYPE_CHECKING:
    from featurelens.ablation import AblationCurve, AblationResult, ImportanceResult
    from featurelens.tensorboard._run import Run


def write_reconstructions(run: Run, epoch: int, result: AblationResult, image: int) -> None:
    """Draw what every channel makes of one image, and write the mean errors over all images."""
    from featurelens import plotting
    from featurelens.ablation import AblationResult

    check_type(result, AblationResult, argument="result", expected="an AblationResult")
    run.figures(epoch, {join("reconstructions", result.layer): plotting.reconstructions(result, image=image)})
    if result.error is not None and result.baseline_error is not None:
        means = {"all channels": result.baseline_error.mean(), "one channel": result.error.mean()}
        group = join("reconstruction error", result.layer)
        run.scalars(epoch, {f"{group}/{name}": float(value) for name, value in means.items()})


def write_importance(
    run: Run, epoch: int, result: ImportanceResult, classes: Sequence[object] | None
) -> None:
    """Draw what the task loses without each channel, overall and by class, and write mean and largest loss."""
    from featurelens import plotting
    from featurelens.ablation import ImportanceResult

    check_type(result, ImportanceResult, argument="result", expected="an ImportanceResult")
    figures = {join("importance", result.layer): plotting.importance(result)}
    if result.per_class is not None:
        by_class = plotting.class_importance(result, classes=classes)
        figures[join("importance by class", result.layer)] = by_class
    run.figures(epoch, figures)
    group = join(f"importance in {result.metric}", result.layer)
    values = {"mean": result.importance.mean(), "largest": result.importance.max()}
    run.scalars(epoch, {f"{group}/{name}": float(value) for name, value in values.items()})


def write_curves(run: Run, epoch: int, curves: AblationCurve | Mapping[str, AblationCurve]) -> None:
    """Draw how well the model does with more and more channels removed, and write it over their number."""
    from featurelens import plotting
    from featurelens.ablation import AblationCurve

    check_type(
        curves, (AblationCurve, Mapping), argument="curves", expected="an AblationCurve or a mapping to these"
    )
    run.figures(epoch, {"channels removed": plotting.ablation_curves(curves)})
    named = {curves.layer: curves} if isinstance(curves, AblationCurve) else curves
    for name, curve in named.items():
        for removed, value in enumerate(curve.values.tolist()):
            run.scalars(removed, {f"{join('channels removed', name)}, epoch {epoch}": value})
