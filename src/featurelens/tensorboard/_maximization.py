"""Activation maximization: what objectives want to see."""

from __future__ import annotations

from typing import TYPE_CHECKING

from featurelens.tensorboard._run import check_tag

if TYPE_CHECKING:
    from featurelens.maximization import MaximizationResult
    from featurelens.tensorboard._run import Run


def write_maximization(run: Run, epoch: int, result: MaximizationResult, tag: str) -> None:
    """Draw the optimized images, and write the mean of their scores."""
    from featurelens import plotting

    run.figures(epoch, {check_tag(tag): plotting.maximization(result)})
    run.scalars(epoch, {f"{tag}/mean score": float(result.scores.mean())})
