"""What a run gives: images, scores, and how they came about."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import torch
from torch import nn

from featurelens._checks import check_flag, check_type, check_whole, count
from featurelens.maximization.comparison import RealImageComparison
from featurelens.maximization.judging import judge
from featurelens.maximization.objective import Objective
from featurelens.maximization.preparation import Preparation

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@final
@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class MaximizationResult:
    """One image for each objective.

    Attributes
    ----------
    images : torch.Tensor
        `(N, C, H, W)` in [0, 1].
    scores : torch.Tensor
        ``(N,)``: each objective on its own image, untransformed.
    history : torch.Tensor
        ``(steps, N)``: each objective in each step, on the transformed images.
    objectives : tuple of Objective
        What the images were optimized for.
    model : torch.nn.Module
        The user's model itself, which `verdict` asks again.

    Examples
    --------
    >>> import featurelens as fl
    >>> model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU())
    >>> result = fl.ActivationMaximizer(model, fl.FourierImage((1, 8, 8)), steps=8).run("conv_1")
    >>> result.images.shape, result.scores.shape, result.history.shape
    (torch.Size([4, 1, 8, 8]), torch.Size([4]), torch.Size([8, 4]))
    """

    images: torch.Tensor
    scores: torch.Tensor
    history: torch.Tensor
    objectives: tuple[Objective, ...]
    model: nn.Module
    preparation: Preparation = field(default_factory=Preparation)

    def __len__(self) -> int:
        return len(self.objectives)

    def __repr__(self) -> str:
        shape = "x".join(map(str, self.images.shape[1:]))
        return (
            f"MaximizationResult({count(len(self), 'image')} of {shape}, {count(len(self.history), 'step')})"
        )

    def compare(
        self, loader: torch.Tensor | Iterable[Any], *, top: int = 8, progress: bool = True
    ) -> RealImageComparison:
        """Hold the images against real ones: which of these are strongest, and are they stronger.

        Parameters
        ----------
        loader
            Images `(N, C, H, W)`, or a loader of batches of them (tuples and dicts count by their first tensor): in
            [0, 1] if the maximizer was given `preprocess`, and else what the model takes. One pass is made.
        top
            How many of the strongest images to keep for each objective.
        progress
            Show a progress bar, if standard error is a terminal.

        Raises
        ------
        TypeError, ValueError
            If an argument is not one of the above, or the loader gives no images, or such as do not fit.
        RuntimeError
            If the model fails on them.
        """
        top = check_whole(top, argument="top", least=1)
        check_flag(progress, argument="progress")
        check_type(loader, Iterable, argument="loader", expected="images (N, C, H, W) or a loader of them")
        return judge(self, self.model, self.preparation, loader, top=top, progress=progress)

    def plot(
        self,
        *,
        limit: int = 64,
        columns: int | None = None,
        title: str | None = None,
        ax: Axes | None = None,
    ) -> Figure:
        """Draw the images in a grid, each under its objective and score; see `plotting.maximization`."""
        from featurelens import plotting

        return plotting.maximization(self, limit=limit, columns=columns, title=title, ax=ax)

    def plot_history(self, *, title: str | None = None, ax: Axes | None = None) -> Figure:
        """Draw the objectives over the steps; see `plotting.maximization_history`."""
        from featurelens import plotting

        return plotting.maximization_history(self, title=title, ax=ax)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write ``000_conv3-7.png``, ... and ``result.pt`` with all tensors into `folder`, which is made if need be.

        A minus is written as in ``001_minus-conv3-7.png``.

        ``torch.load(folder / "result.pt", weights_only=True)`` gives images, scores, history, and the objectives as
        text.

        Raises
        ------
        TypeError
            If `folder` is not a path.
        """
        from featurelens.plotting import write_images

        check_type(folder, (str, os.PathLike), argument="folder", expected="a path")
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        digits = max(3, len(str(len(self) - 1)))
        names = [
            f"{row:0{digits}}_{_in_file_name(objective)}.png" for row, objective in enumerate(self.objectives)
        ]
        write_images(self.images, [folder / name for name in names])
        content = {"images": self.images, "scores": self.scores, "history": self.history}
        torch.save({**content, "objectives": [str(o) for o in self.objectives]}, folder / "result.pt")


def _in_file_name(objective: Objective) -> str:
    """Return an objective in letters, digits, dots and dashes; a minus, which is no dash, in words."""
    text = re.sub(r"(?<![A-Za-z0-9._])-", "minus ", str(objective))
    return re.sub(r"[^A-Za-z0-9._]+", "-", text).strip("-")[:60]
