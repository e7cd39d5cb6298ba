"""Is the picture to be believed? Each optimized image against the strongest of the user's own images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, final

import torch

from featurelens._checks import count
from featurelens.maximization.objective import Objective
from featurelens.maximization.terms import Diversity

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DEAD = "dead: no real image and no optimized one changes it"
STRONGER = "stronger than any real image"
WEAKER = "weaker than real images: do not trust the picture"
EQUAL = "as strong as the strongest"
UNIFORM = "; the optimized image is a single colour"
UNJUDGED = "not judged: diversity is between images"

FEW_ROUNDINGS = 8
"""Values that differ by this many machine epsilons of the largest are the same."""


@final
@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class RealImageComparison:
    """Each objective on its optimized image and on real images; made by `MaximizationResult.compare`.

    Diversity, which is a matter between images, is left out of all values here.

    Attributes
    ----------
    objectives : tuple of Objective
        What was optimized, N of them.
    images : torch.Tensor
        `(N, C, H, W)` in [0, 1]: the optimized images.
    scores : torch.Tensor
        ``(N,)``: each objective on its optimized image.
    data_maximum, data_minimum : torch.Tensor
        ``(N,)``: each objective over the real images.
    top_indices, top_scores : torch.Tensor
        ``(N, K)``: the strongest real images by their place in the data, and their values, strongest first.
    top_images : torch.Tensor
        ``(N, K, C, H, W)`` in [0, 1]: these images, in their own size.
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
    n: int

    @property
    def ratio(self) -> torch.Tensor:
        """``(N,)``: score over data maximum; NaN where one of them is not positive."""
        positive = (self.scores > 0) & (self.data_maximum > 0)
        return torch.where(positive, self.scores / self.data_maximum, torch.nan)

    @property
    def dead(self) -> torch.Tensor:
        """``(N,)`` bool: at least two real images all give the same value, up to rounding, and the optimized none above."""
        largest = torch.maximum(self.data_maximum.abs(), self.data_minimum.abs())
        slack = FEW_ROUNDINGS * torch.finfo(largest.dtype).eps * largest
        same = self.data_maximum - self.data_minimum <= slack
        return self.judged & same & (self.scores <= self.data_maximum + slack) & (self.n >= 2)

    @property
    def judged(self) -> torch.Tensor:
        """``(N,)`` bool: the objective asks for more than diversity, of which one image has none."""
        terms = [[term for _, term in objective.terms] for objective in self.objectives]
        return torch.tensor([not all(isinstance(term, Diversity) for term in each) for each in terms])

    @property
    def stronger(self) -> torch.Tensor:
        """``(N,)`` bool: the optimized image is above every real one."""
        return self.judged & ~self.dead & (self.scores > self.data_maximum)

    @property
    def weaker(self) -> torch.Tensor:
        """``(N,)`` bool: some real image is above the optimized one."""
        return self.judged & ~self.dead & (self.scores < self.data_maximum)

    @property
    def uniform(self) -> torch.Tensor:
        """``(N,)`` bool: the optimized image has one colour all over, as far as 256 levels can tell."""
        pixels = self.images.flatten(2)
        return (pixels.amax(2) - pixels.amin(2) < 1 / 255).all(1)

    @property
    def judgements(self) -> tuple[str, ...]:
        """One sentence for each objective."""
        words = [EQUAL] * len(self)
        for which, judgement in (
            (~self.judged, UNJUDGED),
            (self.dead, DEAD),
            (self.stronger, STRONGER),
            (self.weaker, WEAKER),
        ):
            for row in which.nonzero().flatten().tolist():
                words[row] = judgement
        for row in self.uniform.nonzero().flatten().tolist():
            words[row] += UNIFORM
        return tuple(words)

    def __len__(self) -> int:
        return len(self.objectives)

    def __repr__(self) -> str:
        return f"RealImageComparison({self._summary()})"

    def __str__(self) -> str:
        head = ("objective", "optimized", "real maximum", "ratio", "strongest images", "verdict")
        rows = [head]
        for k, (objective, judgement) in enumerate(zip(self.objectives, self.judgements, strict=True)):
            ratio = float(self.ratio[k])
            rows.append(
                (
                    str(objective),
                    f"{float(self.scores[k]):.3g}",
                    f"{float(self.data_maximum[k]):.3g}",
                    "-" if ratio != ratio else f"{ratio:.2f}",  # noqa: PLR0124
                    ", ".join(map(str, self.top_indices[k, :3].tolist())),
                    judgement,
                )
            )
        widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
        lines = [
            "  ".join(
                text.rjust(width) if 1 <= column <= 3 else text.ljust(width)
                for column, (text, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in rows
        ]
        return "\n".join([*lines, self._summary()])

    def _summary(self) -> str:
        parts = [f"{count(len(self), 'objective')} against {count(self.n, 'real image')}"]
        for number, words in (
            (int(self.stronger.sum()), "stronger than any of them"),
            (int(self.weaker.sum()), "weaker"),
            (int(self.dead.sum()), "dead"),
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


class Strongest:
    """The strongest images so far for each objective, in the memory of these images alone."""

    def __init__(self, objectives: int, top: int) -> None:
        self.top, self.n = top, 0
        self.scores = torch.empty(objectives, 0)
        self.indices = torch.empty(objectives, 0, dtype=torch.long)
        self.images: dict[int, torch.Tensor] = {}
        self.minimum = torch.full((objectives,), torch.inf)

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

    def gathered(self) -> torch.Tensor:
        """Return the images ``(objectives, K, C, H, W)``."""
        return torch.stack([torch.stack([self.images[i] for i in row]) for row in self.indices.tolist()])
