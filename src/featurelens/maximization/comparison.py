"""Optimized images compared with real ones: how each objective ranks the user's own images."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, final

import numpy as np
import torch

from featurelens._checks import count, describe
from featurelens._hooks import visiting
from featurelens.maximization.batches import tensors_in
from featurelens.maximization.evaluation import Evaluation, Layers
from featurelens.maximization.files import read, write
from featurelens.maximization.layouts import LAYOUTS
from featurelens.maximization.objectives import Objective
from featurelens.maximization.plain_images import plain_images
from featurelens.maximization.terms import Diversity
from featurelens.recording.inputs import as_loader

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from featurelens.maximization.result import MaximizationResult

BATCH = 64


@final
@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class RealImageComparison:
    """Scores of optimized and real images for each objective; made by `MaximizationResult.compare`.

    Diversity terms, which compare images with each other, are left out of all values here.

    Attributes
    ----------
    objectives : tuple of Objective
        The N objectives.
    images : torch.Tensor
        `(N, C, H, W)` in [0, 1]: the optimized images.
    scores : torch.Tensor
        ``(N,)``: score of each optimized image.
    data_maximum, data_minimum : torch.Tensor
        ``(N,)``: largest and smallest value of each objective over the real images.
    top_indices, top_scores : torch.Tensor
        ``(N, K)``: indices of the strongest real images in the data, and their values, strongest first.
    top_images : torch.Tensor
        ``(N, K, C, H, W)`` in [0, 1]: these images, at their own size.
    plain_scores : torch.Tensor
        ``(N,)``: largest value of each objective over plain images: single colours, waves, and the mean of the data.
    plain_images : torch.Tensor
        `(N, C, H, W)`: the plain image that reaches it.
    n : int
        Number of real images.
    """

    objectives: tuple[Objective, ...]
    images: torch.Tensor
    scores: torch.Tensor
    data_maximum: torch.Tensor
    data_minimum: torch.Tensor
    top_indices: torch.Tensor
    top_scores: torch.Tensor
    top_images: torch.Tensor
    plain_scores: torch.Tensor
    plain_images: torch.Tensor
    n: int

    @property
    def ratio(self) -> torch.Tensor:
        """``(N,)``: score divided by data maximum; NaN where one of them is not positive."""
        positive = (self.scores > 0) & (self.data_maximum > 0)
        return torch.where(positive, self.scores / self.data_maximum, torch.nan)

    @property
    def dead(self) -> torch.Tensor:
        """``(N,)`` bool: all real images (at least two) give the same value, up to rounding, and the optimized no more."""
        largest = torch.maximum(self.data_maximum.abs(), self.data_minimum.abs())
        slack = 8 * torch.finfo(largest.dtype).eps * largest  # a few roundings
        same = self.data_maximum - self.data_minimum <= slack
        return self.judged & same & (self.scores <= self.data_maximum + slack) & (self.n >= 2)

    @property
    def judged(self) -> torch.Tensor:
        """``(N,)`` bool: the objective has terms besides diversity, which a single image has none of."""
        terms = [[term for _, term in objective.terms] for objective in self.objectives]
        return torch.tensor([not all(isinstance(term, Diversity) for term in each) for each in terms])

    @property
    def stronger(self) -> torch.Tensor:
        """``(N,)`` bool: the optimized image scores above every real one."""
        return self.judged & ~self.dead & (self.scores > self.data_maximum)

    @property
    def weaker(self) -> torch.Tensor:
        """``(N,)`` bool: some real image scores above the optimized one."""
        return self.judged & ~self.dead & (self.scores < self.data_maximum)

    @property
    def plainer(self) -> torch.Tensor:
        """``(N,)`` bool: some plain image scores clearly (5 %) above the optimized one, whose details thus mean little."""
        clearly = self.plain_scores - self.scores > 0.05 * self.scores.abs()
        return self.judged & ~self.dead & ~self.weaker & clearly

    @property
    def uniform(self) -> torch.Tensor:
        """``(N,)`` bool: the optimized image is a single colour at 256 levels."""
        pixels = self.images.flatten(2)
        return (pixels.amax(2) - pixels.amin(2) < 1 / 255).all(1)

    @property
    def judgements(self) -> tuple[str, ...]:
        """One sentence for each objective."""
        words = ["as strong as the strongest"] * len(self)
        for which, judgement in (
            (~self.judged, "not judged: diversity is between images"),
            (self.dead, "dead: neither real nor optimized images change it"),
            (self.stronger, "stronger than any real image"),
            (self.weaker, "weaker than real images: do not trust the picture"),
        ):
            for row in which.nonzero().flatten().tolist():
                words[row] = judgement
        for row in self.plainer.nonzero().flatten().tolist():
            words[row] += "; a plain image scores higher: do not trust the details"
        for row in self.uniform.nonzero().flatten().tolist():
            words[row] += "; the optimized image is a single colour"
        return tuple(words)

    def __len__(self) -> int:
        return len(self.objectives)

    def __repr__(self) -> str:
        return f"RealImageComparison({self._summary()})"

    def __str__(self) -> str:
        rows = [("objective", "optimized", "real", "plain", "ratio", "strongest images", "judgement")]
        values = (self.scores, self.data_maximum, self.plain_scores, self.ratio, self.top_indices[:, :3])
        columns = (self.objectives, *(value.tolist() for value in values), self.judgements)
        for objective, *numbers, ratio, top, judgement in zip(*columns, strict=True):
            share = "-" if math.isnan(ratio) else f"{ratio:.2f}"
            strongest = ", ".join(map(str, top))
            rows.append((str(objective), *(f"{value:.3g}" for value in numbers), share, strongest, judgement))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        sides = "<>>>><<"
        lines = [
            "  ".join(f"{cell:{side}{width}}" for cell, side, width in zip(row, sides, widths, strict=True))
            for row in rows
        ]
        return "\n".join([*map(str.rstrip, lines), self._summary()])

    def _summary(self) -> str:
        parts = [f"{count(len(self), 'objective')} against {count(self.n, 'real image')}"]
        for number, words in (
            (int(self.stronger.sum()), "stronger than any of them"),
            (int(self.weaker.sum()), "weaker"),
            (int(self.dead.sum()), "dead"),
            (int(self.plainer.sum()), "below a plain image"),
        ):
            if number:
                parts.append(f"{number} {words}")
        return "; ".join(parts)

    def plot(
        self, *, limit: int = 16, shown: int = 5, title: str | None = None, ax: Axes | None = None
    ) -> Figure:
        """Draw each optimized image beside the strongest real ones; see `plotting.comparison`."""
        from featurelens import plotting

        return plotting.comparison(self, limit=limit, shown=shown, title=title, ax=ax)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write everything to one file, `path`, that `load` and ``torch.load(path, weights_only=True)`` read.

        Raises
        ------
        TypeError
            If `path` is not a path.
        """
        write(path, self)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read what `save` wrote to `path`; only tensors and plain values are ever unpickled.

        Raises
        ------
        TypeError, ValueError
            If `path` is not a path, or `save` did not write the file.
        """
        return cls(**read(path, cls))


def compare(
    result: MaximizationResult, loader: torch.Tensor | Iterable[Any], *, top: int, progress: bool
) -> RealImageComparison:
    """Evaluate the objectives of `result` on its own images and on those that `loader` yields."""
    if result.model is None:
        raise ValueError(
            "the result was loaded without its model: MaximizationResult.load(folder, model=model)"
        )
    # One image alone has no diversity.
    objectives = [
        Objective(tuple((w, term) for w, term in objective.terms if not isinstance(term, Diversity)))
        for objective in result.objectives
    ]
    layers = Layers(result.model, [layer for objective in result.objectives for layer in objective.layers])
    evaluation, strongest = Evaluation(layers, objectives), _Strongest(len(objectives), top)
    prepare, channels = result.preprocessing.for_model, result.images.shape[1]
    batches = as_loader(loader)
    if isinstance(loader, torch.Tensor | np.ndarray) and loader.ndim:
        batches = torch.split(batches[0], BATCH)
    scores, size, shape = [], 1, LAYOUTS[result.images.ndim]
    with visiting(result.model):
        for images in tensors_in(batches, "image", shape, title="comparing", progress=progress):
            _check(images, shape.replace("C", str(channels)), channels)
            size = max(size, min(len(images), BATCH))  # some models take one image at a time
            shown = result.preprocessing.for_view(images)
            outputs = layers.outputs(prepare(images.to(layers.device), real=True))
            values = evaluation.matrix(outputs, shown.to(layers.device)).cpu()
            if bool(values.isnan().any()):
                row, place = values.isnan().nonzero()[0].tolist()
                place += strongest.n
                raise ValueError(f"objective {result.objectives[row]} is NaN for image {place} of the loader")
            strongest.add(values, shown)
        plain = plain_images(tuple(result.images.shape[1:]), strongest.mean(result.images.shape[1:]))
        parts = (part.to(layers.device) for part in torch.split(plain, size))
        plain_values = torch.cat(
            [evaluation.matrix(layers.outputs(prepare(part)), part).cpu() for part in parts], dim=1
        )
        for start in range(0, len(objectives), size):
            images = result.images[start : start + size].to(layers.device)
            part = Evaluation(layers, objectives[start : start + size])
            scores.append(part.diagonal(layers.outputs(prepare(images)), images).cpu())
    top_images = [torch.stack([strongest.images[i] for i in row]) for row in strongest.indices.tolist()]
    return RealImageComparison(
        objectives=result.objectives,
        images=result.images,
        scores=torch.cat(scores),
        data_maximum=strongest.scores[:, 0],
        data_minimum=strongest.minimum,
        top_indices=strongest.indices,
        top_scores=strongest.scores,
        top_images=torch.stack(top_images),
        plain_scores=plain_values.amax(1),
        plain_images=plain[plain_values.argmax(1)],
        n=strongest.n,
    )


def _check(images: torch.Tensor, shape: str, channels: int) -> None:
    if images.shape[1] != channels:
        raise ValueError(f"the loader must yield images {shape}; got {describe(images)}")
    if not images.is_floating_point():
        raise TypeError(f"the loader must yield floating-point images; got {describe(images)}")


@final
class _Strongest:
    """The strongest images so far for each objective, in the memory of these images alone."""

    def __init__(self, objectives: int, top: int) -> None:
        self.top, self.n = top, 0
        self.scores = torch.empty(objectives, 0)
        self.indices = torch.empty(objectives, 0, dtype=torch.long)
        self.images: dict[int, torch.Tensor] = {}
        self.minimum = torch.full((objectives,), torch.inf)
        self._sum: torch.Tensor | None = None  # of all images

    def mean(self, shape: torch.Size) -> torch.Tensor | None:
        """Return the mean image, if the images have this shape ``(C, H, W)``."""
        if self._sum is None or self._sum.shape != shape:
            return None
        return (self._sum / self.n).float().clamp(0, 1)

    def add(self, values: torch.Tensor, images: torch.Tensor) -> None:
        """Take in the values ``(objectives, B)`` of a batch of images."""
        self.minimum = torch.minimum(self.minimum, values.amin(1))
        indices = torch.arange(self.n, self.n + len(images)).expand(len(values), -1)
        scores, indices = torch.cat([self.scores, values], 1), torch.cat([self.indices, indices], 1)
        # A stable sort: of equal images the first stays first, however the data are batched.
        order = scores.argsort(dim=1, descending=True, stable=True)[:, : self.top]
        self.scores, self.indices = scores.gather(1, order), indices.gather(1, order)
        referenced = set(self.indices.flatten().tolist())
        self.images = {index: image for index, image in self.images.items() if index in referenced}
        for index in referenced - self.images.keys():
            self.images[index] = images[index - self.n].clone()
        self.n += len(images)
        total = images.double().sum(0)
        self._sum = total if self._sum is None else self._sum + total
