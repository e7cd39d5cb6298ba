"""The result of a run: images, scores, and how they developed."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self, final

import torch
from torch import nn

from featurelens._checks import check_module, check_path, check_whole, count
from featurelens._hooks import unwrap
from featurelens._html import paragraph, table
from featurelens.maximization.comparing import compare
from featurelens.maximization.comparison import RealImageComparison
from featurelens.maximization.files import read, write
from featurelens.maximization.objective import Objective
from featurelens.maximization.preprocessing import Preprocessing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LISTED = 10
"""Scores that a notebook shows."""


@final
@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class MaximizationResult:
    """One image for each objective.

    Attributes
    ----------
    images : torch.Tensor
        `(N, C, H, W)` in [0, 1]; ``(N, C, L)`` if the model takes signals, ``(N, C, D, H, W)`` if it takes volumes.
    scores : torch.Tensor
        ``(N,)``: the objective of each image, without transforms.
    history : torch.Tensor
        ``(steps, N)``: the objective of each transformed image at each step.
    objectives : tuple of Objective
        The objective of each image.
    frames : torch.Tensor or None
        ``(N, F, C, H, W)``: each image every `record_every` steps, the starting image first and the result last.
    model : torch.nn.Module or None
        The model itself, for `compare`; None if the result was loaded without one.

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
    model: nn.Module | None
    frames: torch.Tensor | None = None
    preprocessing: Preprocessing = field(default_factory=Preprocessing)

    def __len__(self) -> int:
        return len(self.objectives)

    def __repr__(self) -> str:
        return f"MaximizationResult({self._size})"

    def __str__(self) -> str:
        scores = f"{float(self.scores.min()):.3g} to {float(self.scores.max()):.3g}"
        return f"{self._size}; scores from {scores}"

    def _repr_html_(self) -> str:
        first = zip(self.objectives[:LISTED], self.scores.tolist(), strict=False)
        return paragraph(self) + table(
            [("objective", "score"), *((what, f"{score:.4g}") for what, score in first)]
        )

    @property
    def _size(self) -> str:
        shape = "x".join(map(str, self.images.shape[1:]))
        return f"{count(len(self), 'image')} of {shape}, {count(len(self.history), 'step')}"

    def compare(
        self,
        loader: torch.Tensor | Iterable[Any],
        *,
        top: int = 8,
        seeds: Sequence[MaximizationResult] = (),
        network: nn.Module | None = None,
        progress: bool = True,
    ) -> RealImageComparison:
        """Compare each optimized image with real ones: its score, and the path by which it reaches it.

        Parameters
        ----------
        loader
            Images `(N, C, H, W)`, or a loader of batches of them (the first tensor of a tuple or dict is used): in
            [0, 1] if the maximizer has a `preprocess`, otherwise as the model takes them. It is read once.
        top
            How many of the strongest real images to keep for each objective.
        seeds
            Results for the same objectives from maximizers with other seeds, for `PathSimilarity.agreement`.
        network
            A second network that takes the same images, for `RealImageComparison.transfer`.
        progress
            Show a progress bar; without a terminal, write a line every ten seconds.

        Raises
        ------
        TypeError, ValueError
            If an argument is not one of the above, the loader yields no images or unsuitable ones, or the result was
            loaded without its model.
        RuntimeError
            If the model fails on them.
        """
        top = check_whole(top, argument="top", least=1)
        return compare(self, loader, top=top, seeds=seeds, network=network, progress=progress)

    def plot(
        self, *, limit: int = 64, columns: int | None = None, title: str | None = None, ax: Axes | None = None
    ) -> Figure:
        """Draw the images in a grid, each under its objective and score; see `plotting.maximization`."""
        from featurelens import plotting

        return plotting.maximization(self, limit=limit, columns=columns, title=title, ax=ax)

    def plot_history(self, *, title: str | None = None, ax: Axes | None = None) -> Figure:
        """Draw the objectives over the steps; see `plotting.maximization_history`."""
        from featurelens import plotting

        return plotting.maximization_history(self, title=title, ax=ax)

    def plot_frames(
        self, *, limit: int = 8, shown: int = 8, title: str | None = None, ax: Axes | None = None
    ) -> Figure:
        """Draw how images developed, one in each row; see `plotting.frames`."""
        from featurelens import plotting

        return plotting.frames(self, limit=limit, shown=shown, title=title, ax=ax)

    def animate(self, path: str | os.PathLike[str], *, limit: int = 16, rate: int = 12) -> None:
        """Write the frames as an animated GIF, the images beside each other: signals as charts, volumes as slices.

        Parameters
        ----------
        path
            The file, such as ``"run.gif"``.
        limit
            How many images to show at most.
        rate
            Frames in a second.

        Raises
        ------
        TypeError, ValueError
            If an argument is not one of the above, or the run kept no frames.
        """
        from featurelens.plotting import write_animation

        write_animation(self, path, limit=limit, rate=rate)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write ``000_conv3-7.png``, ... and ``result.pt`` for `load` into `folder`, creating it if needed.

        A minus sign is spelled out, as in ``001_minus-conv3-7.png``. ``torch.load(folder / "result.pt",
        weights_only=True)`` returns images, scores, history, and the objectives as text. The PNG files show images pixel by
        pixel, volumes as four slices, and signals as line charts. The model, `preprocess` and the functions of
        `objectives.custom` are not saved.

        Raises
        ------
        TypeError
            If `folder` is not a path.
        """
        from featurelens.plotting import write_images

        folder = check_path(folder, argument="folder", expected="a path")
        folder.mkdir(parents=True, exist_ok=True)
        digits = max(3, len(str(len(self) - 1)))
        names = [f"{row:0{digits}}_{_in_file_name(o)}.png" for row, o in enumerate(self.objectives)]
        write_images(self.images, [folder / name for name in names])
        used = self.preprocessing
        given = used.function is not None
        write(folder / "result.pt", self, low=used.low, high=used.high, preprocess=given)

    @classmethod
    def load(
        cls,
        folder: str | os.PathLike[str],
        *,
        model: nn.Module | None = None,
        preprocess: Callable[[torch.Tensor], torch.Tensor] | None = None,
    ) -> Self:
        """Read what `save` wrote into `folder`; pass `model`, and the maximizer's `preprocess`, to use `compare`.

        Raises
        ------
        TypeError, ValueError
            If `folder` is not a path, `save` did not write there, or `model` is passed and `preprocess` is missing or
            superfluous.
        """
        folder = check_path(folder, argument="folder", expected="a path")
        content = read(folder / "result.pt", cls)
        model = None if model is None else unwrap(check_module(model))
        used, low, high = (content.pop(name) for name in ("preprocess", "low", "high"))
        if model is not None and used is (preprocess is None):
            hint = "with preprocess: pass the same" if used else "without preprocess: leave it out"
            raise ValueError(f"the images were optimized {hint}")
        return cls(**content, model=model, preprocessing=Preprocessing(preprocess, low, high))


def _in_file_name(objective: Objective) -> str:
    """Return an objective in letters, digits, dots and dashes; a minus, which is no dash, in words."""
    text = re.sub(r"(?<![A-Za-z0-9._])-", "minus ", str(objective))
    return re.sub(r"[^A-Za-z0-9._]+", "-", text).strip("-")[:60]
