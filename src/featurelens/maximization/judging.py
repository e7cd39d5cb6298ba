"""One pass over the user's data, for the verdict."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from featurelens._checks import describe
from featurelens._structure import first_tensor
from featurelens.maximization.comparison import RealImageComparison, Strongest
from featurelens.maximization.objective import Objective
from featurelens.maximization.plan import Layers, Plan, selectors_of
from featurelens.maximization.preparation import Preparation
from featurelens.maximization.terms import Diversity
from featurelens.recording import ActivationRecorder

if TYPE_CHECKING:
    from featurelens.maximization.result import MaximizationResult

BATCH = 64


def judge(
    result: MaximizationResult,
    model: nn.Module,
    preparation: Preparation,
    loader: torch.Tensor | Iterable[Any],
    *,
    top: int,
    progress: bool,
) -> RealImageComparison:
    """Hold `result` against the images that `loader` yields."""
    from tqdm import tqdm

    objectives = [_alone(objective) for objective in result.objectives]
    layers = Layers(model, selectors_of(result.objectives))
    recorder = ActivationRecorder(model, layers.names)
    first = next((p for p in model.parameters() if p.is_floating_point()), torch.zeros(()))
    plan = Plan(layers, objectives, first.device)
    batches = torch.split(loader, BATCH) if isinstance(loader, torch.Tensor) else loader
    strongest = Strongest(len(objectives), top)
    show = None if progress else True
    with torch.no_grad(), ExitStack() as stack:
        forward = stack.enter_context(recorder.held())

        def look(prepare: Callable[[torch.Tensor], torch.Tensor], images: torch.Tensor) -> Any:
            return forward(prepare(images.to(first.device)).to(first.dtype))

        scores = []
        for start in range(0, len(objectives), BATCH):
            images = result.images[start : start + BATCH]
            part = Plan(layers, objectives[start : start + BATCH], first.device)
            activations = look(preparation.for_model, images)
            scores.append(part.diagonal(activations, images.to(first.device)).cpu())
        if (calls := layers.only_calls(activations)) is not None:
            forward = stack.enter_context(ActivationRecorder(model, calls, stop_early=True).held())
        for batch in tqdm(batches, desc="judging", unit="batch", disable=show):
            images = _images_of(batch, result.images)
            _check_real(images, strongest, preparation)
            activations = look(preparation.real_for_model, images)
            shown = preparation.real_for_view(images)
            values = plan.matrix(activations, shown.to(first.device)).cpu()
            _check_values(values, result.objectives, strongest.n)
            strongest.add(values, shown)
    if not strongest.n:
        raise ValueError(f"the loader gave no images; got {describe(loader)}")
    return RealImageComparison(
        objectives=result.objectives,
        images=result.images,
        scores=torch.cat(scores),
        data_maximum=strongest.scores[:, 0],
        data_minimum=strongest.minimum,
        top_indices=strongest.indices,
        top_scores=strongest.scores,
        top_images=strongest.gathered(),
        n=strongest.n,
    )


def _alone(objective: Objective) -> Objective:
    """Return the part of `objective` that a single image can be judged by."""
    return Objective(tuple((w, term) for w, term in objective.terms if not isinstance(term, Diversity)))


def _check_real(images: torch.Tensor, strongest: Strongest, preparation: Preparation) -> None:
    """Raise an error unless real images are finite, of one size, and in the range that is expected."""
    broken = ~images.flatten(1).isfinite().all(1)
    if bool(broken.any()):
        place = strongest.n + int(broken.nonzero()[0])
        raise ValueError(f"the loader must give finite images; image {place} has NaN or infinite values")
    before = next(iter(strongest.images.values()), images[0])
    if before.shape != images.shape[1:]:
        raise ValueError(
            f"the loader must give images of one size; got {tuple(before.shape)} and then, from image "
            f"{strongest.n}, {tuple(images.shape[1:])}"
        )
    preparation.check_real(images)


def _check_values(values: torch.Tensor, objectives: Sequence[Objective], seen: int) -> None:
    """Raise an error that names objective and image if one of the values ``(N, B)`` is NaN."""
    broken = values.isnan()
    if bool(broken.any()):
        row, place = broken.nonzero()[0].tolist()
        raise ValueError(f"objective {objectives[row]} is NaN for image {seen + place} of the loader")


def _images_of(batch: Any, like: torch.Tensor) -> torch.Tensor:
    images = first_tensor(batch)
    if images is None or images.ndim != 4 or images.shape[1] != like.shape[1] or 0 in images.shape:
        raise ValueError(
            f"the loader must give images (N, {like.shape[1]}, H, W); "
            f"got {describe(batch if images is None else images)}"
        )
    if not images.is_floating_point():
        raise TypeError(f"the loader must give floating-point images; got {describe(images)}")
    return images.detach().cpu()
