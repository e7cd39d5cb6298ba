"""What a sweep found: the output for every variant of a layer."""

from __future__ import annotations

import os
import pickle
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, Self, final

import torch

from featurelens._checks import check_choice, check_path, check_whole, count

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Result:
    """Saves and loads; everything in it is a tensor, a number, text, or a tuple of these."""

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write everything to one file, `path`, that `load` and ``torch.load(path, weights_only=True)`` read.

        Raises
        ------
        TypeError
            If `path` is not a path.
        """
        check_path(path)
        content: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        torch.save({"kind": type(self).__name__, **content}, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read what `save` wrote to `path`; nothing but tensors and plain values is ever unpickled.

        Raises
        ------
        TypeError
            If `path` is not a path.
        ValueError
            If `save` did not write the file.
        """
        check_path(path)
        try:
            content = torch.load(path, weights_only=True)
            if content.pop("kind") != cls.__name__:
                raise TypeError
            return cls(**content)
        except (pickle.UnpicklingError, KeyError, TypeError, AttributeError, RuntimeError) as error:
            raise ValueError(f"{os.fspath(path)} was not written by {cls.__name__}.save") from error


@final
@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class AblationResult(Result):
    """The output for every channel kept alone, or dropped; made by `ChannelAblator.sweep`.

    Attributes
    ----------
    outputs : torch.Tensor
        `(channels, N, ...)`, the chosen output for each variant.
    baseline : torch.Tensor
        `(N, ...)`, the same with nothing ablated: the full reconstruction, or the model's plain output.
    images : torch.Tensor
        `(N, ...)`, what the model was given.
    channels : tuple of int
        Which channel each variant is about.
    layer, mode, fill : str
        What was ablated, and how; `fill` is "tensor" where one was given.
    notes : tuple of str
        What to know of how it was computed.

    Examples
    --------
    >>> images = torch.zeros(2, 1, 4, 4)
    >>> result = AblationResult(
    ...     outputs=torch.ones(3, 2, 1, 4, 4), baseline=images, images=images, channels=(0, 1, 2), layer="conv1",
    ...     mode="keep", fill="zero")
    >>> result
    AblationResult(3 channels of conv1 kept alone, 2 images, outputs (3, 2, 1, 4, 4))
    >>> result.error.shape
    torch.Size([3, 2])
    """

    outputs: torch.Tensor
    baseline: torch.Tensor
    images: torch.Tensor
    channels: tuple[int, ...]
    layer: str
    mode: str
    fill: str
    notes: tuple[str, ...] = ()

    @property
    def reconstructions(self) -> torch.Tensor | None:
        """`(channels, N, C, H, W)` where the outputs have the images' own shape, else None."""
        return self.outputs if self.images.ndim == 4 and self.baseline.shape == self.images.shape else None

    @property
    def error(self) -> torch.Tensor | None:
        """`(channels, N)`, mean squared difference from the original images; None if the output is no image."""
        return None if self.reconstructions is None else _mean_square(self.outputs - self.images, 2)

    @property
    def baseline_error(self) -> torch.Tensor | None:
        """`(N,)`, mean squared difference of the full reconstruction from the original; None as for `error`."""
        return None if self.reconstructions is None else _mean_square(self.baseline - self.images, 1)

    @property
    def change(self) -> torch.Tensor:
        """`(channels, N)`, mean squared difference from `baseline`: what the ablation changed."""
        return _mean_square(self.outputs.double() - self.baseline.double(), 2).to(self.outputs.dtype)

    def plot(
        self, *, image: int = 0, limit: int = 64, title: str | None = None, ax: Axes | None = None
    ) -> Figure:
        """Draw the original, the full reconstruction and every channel's: see `plotting.reconstructions`.

        Where the outputs are no images, draw how much each channel changes them: see `plotting.ablation_change`.
        """
        from featurelens import plotting

        if self.reconstructions is None:
            return plotting.ablation_change(self, limit=limit, title=title, ax=ax)
        return plotting.reconstructions(self, image=image, limit=limit, title=title, ax=ax)

    def __repr__(self) -> str:
        done = "kept alone" if self.mode == "keep" else "dropped one by one"
        return (
            f"{type(self).__name__}({count(len(self.channels), 'channel')} of {self.layer or 'the model'} {done}, "
            f"{count(len(self.images), 'image')}, outputs {tuple(self.outputs.shape)})"
        )


def _mean_square(difference: torch.Tensor, first: int) -> torch.Tensor:
    return difference.square().flatten(first).mean(first) if difference.ndim > first else difference.square()


@final
@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class ImportanceResult(Result):
    """What the task loses with each channel; made by `ChannelAblator.importance`.

    Attributes
    ----------
    importance : torch.Tensor
        `(channels,)`: accuracy lost, loss gained, or score of your own lost. Positive means that the channel is
        needed; the unit is that of the metric, accuracies being fractions of 1.
    standard_error : torch.Tensor
        `(channels,)`, of `importance` over the images, each compared with itself.
    per_class : torch.Tensor or None
        `(channels, classes)`, the drop among the images of each class (NaN: no image); None without class labels.
    baseline : float
        The metric with nothing ablated.
    baseline_per_class : torch.Tensor or None
        `(classes,)`.
    counts : torch.Tensor or None
        `(classes,)`, images of each class.
    channels : tuple of int
        Which channel each drop is of.
    n : int
        Number of images.
    layer, metric, mode, fill, notes
        How it was computed.

    Examples
    --------
    >>> result = ImportanceResult(
    ...     importance=torch.tensor([0.0, 0.3, 0.1]), standard_error=torch.zeros(3), baseline=0.9, channels=(0, 1, 2),
    ...     n=100, layer="conv1", metric="accuracy", mode="drop", fill="zero")
    >>> result
    ImportanceResult(3 channels of conv1, accuracy 0.9000, most lost 0.3000 without channel 1, n=100)
    >>> result.top(2), result.order("least")
    ([1, 2], [0, 2, 1])
    """

    importance: torch.Tensor
    standard_error: torch.Tensor
    baseline: float
    channels: tuple[int, ...]
    n: int
    layer: str
    metric: str
    mode: str
    fill: str
    per_class: torch.Tensor | None = None
    baseline_per_class: torch.Tensor | None = None
    counts: torch.Tensor | None = None
    notes: tuple[str, ...] = ()

    def order(self, first: Literal["least", "most"] = "least") -> list[int]:
        """Return the channels, the least or the most important one `first`; equal ones stay in their order.

        Raises
        ------
        ValueError
            If `first` is neither "least" nor "most".
        """
        check_choice(first, ("least", "most"), argument="first")
        ranks = self.importance.argsort(descending=first == "most", stable=True).tolist()
        return [self.channels[rank] for rank in ranks]

    def top(self, k: int) -> list[int]:
        """Return the `k` most important channels, most important first; all of them if there are fewer.

        Raises
        ------
        TypeError, ValueError
            If `k` is not a whole number from 0.
        """
        return self.order("most")[: check_whole(k, argument="k", least=0)]

    def plot(self, *, limit: int = 32, title: str | None = None, ax: Axes | None = None) -> Figure:
        """Draw a bar for each of the most important channels; see `plotting.importance`."""
        from featurelens import plotting

        return plotting.importance(self, limit=limit, title=title, ax=ax)

    def plot_classes(
        self,
        *,
        classes: Sequence[object] | None = None,
        limit: int = 32,
        title: str | None = None,
        ax: Axes | None = None,
    ) -> Figure:
        """Draw what each class loses with each channel; see `plotting.class_importance`."""
        from featurelens import plotting

        return plotting.class_importance(self, classes=classes, limit=limit, title=title, ax=ax)

    def __repr__(self) -> str:
        most = int(self.importance.argmax())
        done = "without" if self.mode == "drop" else "with only"
        lost = "gained" if self.metric == "loss" else "lost"
        return (
            f"{type(self).__name__}({count(len(self.channels), 'channel')} of {self.layer}, {self.metric} "
            f"{self.baseline:.4f}, most {lost} {float(self.importance[most]):.4f} {done} channel {self.channels[most]}, "
            f"n={self.n})"
        )


@final
@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class AblationCurve(Result):
    """How well the model does with more and more channels removed; made by `ChannelAblator.curve`.

    Attributes
    ----------
    values : torch.Tensor
        `(len(order) + 1,)`, the metric with the first 0, 1, 2, ... channels of `order` ablated.
    order : tuple of int
        The channels, as they were removed.
    per_class : torch.Tensor or None
        `(len(order) + 1, classes)`; None without class labels.
    total : int
        How many channels the layer has.
    n : int
        Number of images.
    layer, metric, fill, notes
        How it was computed.

    Examples
    --------
    >>> curve = AblationCurve(
    ...     values=torch.tensor([0.9, 0.8, 0.3]), order=(2, 0), total=3, n=100, layer="conv1", metric="accuracy",
    ...     fill="zero")
    >>> curve
    AblationCurve(2 of 3 channels of conv1, accuracy 0.9000 to 0.3000, n=100)
    """

    values: torch.Tensor
    order: tuple[int, ...]
    total: int
    n: int
    layer: str
    metric: str
    fill: str
    per_class: torch.Tensor | None = None
    notes: tuple[str, ...] = ()

    def plot(self, *, title: str | None = None, ax: Axes | None = None) -> Figure:
        """Draw the metric against the number of channels removed; see `plotting.ablation_curves`."""
        from featurelens import plotting

        return plotting.ablation_curves({"": self}, title=title, ax=ax)

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({len(self.order)} of {count(self.total, 'channel')} of {self.layer}, {self.metric} "
            f"{float(self.values[0]):.4f} to {float(self.values[-1]):.4f}, n={self.n})"
        )
