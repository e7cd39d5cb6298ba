"""Optimized images compared with real ones: how each objective ranks the user's own images."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self, final

import torch

from featurelens._checks import count
from featurelens._html import paragraph, table
from featurelens.maximization.files import read, write
from featurelens.maximization.objective import Objective
from featurelens.maximization.paths import PathSimilarity
from featurelens.maximization.terms import Diversity

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


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
    path : PathSimilarity
        Through which channels the objectives are reached, in optimized and in real images.
    transfer : torch.Tensor or None
        ``(N,)``: share of 64 random real images that the second network finds less like the strongest real ones than
        the optimized image: 1 if it stands out among them as the strongest do, 0.5 if no more than any image.
    frechet_distance, frechet_random : float
        Fréchet distance of the optimized images to the strongest real ones, as Gaussians in what the model returns, and
        that of 64 random real images; NaN for one image, or where the whole model fails or does not return finite numbers.
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
    path: PathSimilarity
    transfer: torch.Tensor | None = None
    frechet_distance: float
    frechet_random: float
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
    def detours(self) -> torch.Tensor:
        """``(N,)`` bool: the optimized image reaches its objective through other channels than the strongest real ones."""
        return self.judged & ~self.dead & self.path.detours

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
        for row in self.detours.nonzero().flatten().tolist():
            known = words[row].removesuffix(": do not trust the picture")
            words[row] = f"{known}; by another path than real images: do not trust the picture"
        for row in self.uniform.nonzero().flatten().tolist():
            words[row] += "; the optimized image is a single colour"
        return tuple(words)

    def __len__(self) -> int:
        return len(self.objectives)

    def __repr__(self) -> str:
        return f"RealImageComparison({self._summary()})"

    def __str__(self) -> str:
        rows = self._cells()
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        sides = "<>>>><<"
        lines = [
            "  ".join(f"{cell:{side}{width}}" for cell, side, width in zip(row, sides, widths, strict=True))
            for row in rows
        ]
        return "\n".join([*map(str.rstrip, lines), self._summary()])

    def _repr_html_(self) -> str:
        return table(self._cells()) + paragraph(self._summary())

    def _cells(self) -> list[tuple[str, ...]]:
        head = ("objective", "optimized", "real", "plain", "ratio", "strongest images", "judgement")
        rows: list[tuple[str, ...]] = [head]
        values = (self.scores, self.data_maximum, self.plain_scores, self.ratio, self.top_indices[:, :3])
        columns = (self.objectives, *(value.tolist() for value in values), self.judgements)
        for objective, *numbers, ratio, top, judgement in zip(*columns, strict=True):
            share = "-" if math.isnan(ratio) else f"{ratio:.2f}"
            strongest = ", ".join(map(str, top))
            rows.append((str(objective), *(f"{value:.3g}" for value in numbers), share, strongest, judgement))
        return rows

    def _summary(self) -> str:
        parts = [f"{count(len(self), 'objective')} against {count(self.n, 'real image')}"]
        for number, words in (
            (int(self.stronger.sum()), "stronger than any of them"),
            (int(self.weaker.sum()), "weaker"),
            (int(self.dead.sum()), "dead"),
            (int(self.plainer.sum()), "below a plain image"),
            (int(self.detours.sum()), "by another path"),
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

    def plot_paths(self, *, title: str | None = None, ax: Axes | None = None) -> Figure:
        """Draw, layer by layer, how much optimized images have in common with real ones; see `plotting.paths`."""
        from featurelens import plotting

        return plotting.paths(self, title=title, ax=ax)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write everything to one file, `path`, that `load` and ``torch.load(path, weights_only=True)`` read.

        Raises
        ------
        TypeError
            If `path` is not a path.
        """
        write(path, self, path=vars(self.path))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read what `save` wrote to `path`; only tensors and plain values are ever unpickled.

        Raises
        ------
        TypeError, ValueError
            If `path` is not a path, or `save` did not write the file.
        """
        content = read(path, cls)
        return cls(**content | {"path": PathSimilarity(**content["path"])})
