"""How a result is compared with real images: one pass over them, then what their strongest have in common with it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from featurelens._checks import check_module, check_type, describe
from featurelens._hooks import unwrap, visiting
from featurelens.maximization import trust
from featurelens.maximization.batches import BATCH, in_batches, tensors_in
from featurelens.maximization.comparison import RealImageComparison
from featurelens.maximization.evaluation import Evaluation, Layers
from featurelens.maximization.layouts import LAYOUTS
from featurelens.maximization.objective import Objective
from featurelens.maximization.paths import Paths
from featurelens.maximization.plain_images import plain_images
from featurelens.maximization.real_images import RealImages
from featurelens.maximization.terms import Diversity

if TYPE_CHECKING:
    from featurelens.maximization.result import MaximizationResult

PATHS = 8
"""How many of the strongest, and of the random images, have their paths looked at: means are all that is shown."""


def compare(
    result: MaximizationResult,
    loader: torch.Tensor | Iterable[Any],
    *,
    top: int,
    seeds: Sequence[MaximizationResult],
    network: nn.Module | None,
    progress: bool,
) -> RealImageComparison:
    """Compare the images of `result` with those that `loader` yields; see `MaximizationResult.compare`."""
    model = _checked(result, seeds, network)
    # One image alone has no diversity.
    objectives = [
        Objective(tuple((w, term) for w, term in objective.terms if not isinstance(term, Diversity)))
        for objective in result.objectives
    ]
    layers = Layers(model, [layer for objective in result.objectives for layer in objective.layers])
    evaluation, prepare = Evaluation(layers, objectives), result.preprocessing.for_model
    with visiting(model):
        real, size = _read(result, loader, evaluation, RealImages(len(objectives), top), progress)
        plain = plain_images(tuple(result.images.shape[1:]), real.mean(result.images.shape[1:]))
        parts = (part.to(layers.device) for part in torch.split(plain, size))
        plain_values = torch.cat(
            [evaluation.matrix(layers.outputs(prepare(part)), part).cpu() for part in parts], dim=1
        )
        scores = []
        for start in range(0, len(objectives), size):
            images = result.images[start : start + size].to(layers.device)
            part = Evaluation(layers, objectives[start : start + size])
            scores.append(part.diagonal(layers.outputs(prepare(images)), images).cpu())
    others = [each.images for each in seeds]
    paths = Paths(layers, prepare, size)
    strongest = real.strongest
    distance, usual = _frechet(model, result, real, size)
    return RealImageComparison(
        objectives=result.objectives,
        images=result.images,
        scores=torch.cat(scores),
        data_maximum=real.scores[:, 0],
        data_minimum=real.minimum,
        top_indices=real.indices,
        top_scores=real.scores,
        top_images=strongest,
        plain_scores=plain_values.amax(1),
        plain_images=plain[plain_values.argmax(1)],
        path=paths.similarity(objectives, result.images, strongest[:, :PATHS], real.random[:PATHS], others),
        transfer=None
        if network is None
        else _transfer(unwrap(network), result, strongest, real.random, size),
        frechet_distance=distance,
        frechet_random=usual,
        n=real.n,
    )


def _checked(
    result: MaximizationResult, seeds: Sequence[MaximizationResult], network: nn.Module | None
) -> nn.Module:
    """Return the model of `result`, after all arguments were checked."""
    if result.model is None:
        raise ValueError(
            "the result was loaded without its model: MaximizationResult.load(folder, model=model)"
        )
    if network is not None:
        check_module(network, argument="network")
    check_type(seeds, Sequence, argument="seeds", expected="a list of results for the same objectives")
    wanted = [str(objective) for objective in result.objectives]
    for each in seeds:
        check_type(each, type(result), argument="seeds", expected="a list of results for the same objectives")
        same = [str(objective) for objective in each.objectives] == wanted
        if not same or each.images.shape != result.images.shape:
            raise ValueError(f"seeds must be results for the same objectives; got {each!r} beside {result!r}")
    return result.model


def _read(
    result: MaximizationResult,
    loader: torch.Tensor | Iterable[Any],
    evaluation: Evaluation,
    real: RealImages,
    progress: bool,
) -> tuple[RealImages, int]:
    """Read all real images; return what is kept of them, and how many the model takes at a time."""
    layers, channels, size = evaluation.layers, result.images.shape[1], 1
    shape = LAYOUTS[result.images.ndim]
    for images in tensors_in(in_batches(loader), "image", shape, title="comparing", progress=progress):
        _check(images, shape, channels)
        size = max(size, min(len(images), BATCH))  # some models take one image at a time
        shown = result.preprocessing.for_view(images)
        outputs = layers.outputs(result.preprocessing.for_model(images.to(layers.device), real=True))
        values = evaluation.matrix(outputs, shown.to(layers.device)).cpu()
        if bool(values.isnan().any()):
            row, place = values.isnan().nonzero()[0].tolist()
            place += real.n
            raise ValueError(f"objective {result.objectives[row]} is NaN for image {place} of the loader")
        real.add(values, shown)
    return real, size


def _check(images: torch.Tensor, shape: str, channels: int) -> None:
    if images.shape[1] != channels:
        expected = shape.replace("C", str(channels))
        raise ValueError(f"the loader must yield images {expected}; got {describe(images)}")
    if not images.is_floating_point():
        raise TypeError(f"the loader must yield floating-point images; got {describe(images)}")


def _transfer(
    network: nn.Module, result: MaximizationResult, strongest: torch.Tensor, random: torch.Tensor, size: int
) -> torch.Tensor:
    prepare = result.preprocessing.for_model
    each = (result.images, strongest.flatten(0, 1), random)
    ours, best, usual = (trust.features(network, images, prepare, size) for images in each)
    return trust.transfer(ours, best.view(len(ours), -1, best.shape[1]), usual)


def _frechet(
    model: nn.Module, result: MaximizationResult, real: RealImages, size: int
) -> tuple[float, float]:
    """Return the distances of the pictures, and of random images, to the strongest real ones in the model's output."""
    prepare = result.preprocessing.for_model
    each = (result.images, real.random, real.strongest_of_any)
    try:
        ours, usual, best = (trust.features(model, images, prepare, size) for images in each)
    except (ValueError, RuntimeError):
        # The layers may take images that the whole model does not, or its output may have no distribution.
        return torch.nan, torch.nan
    return trust.frechet_distance(ours, best), trust.frechet_distance(usual, best)
