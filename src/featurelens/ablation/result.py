"""What ablation found: the outputs of a sweep, the importance of channels, and the curve as they are removed."""

from __future__ import annotations

import html
import os
import pickle
from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, Self, final

import torch

from featurelens._checks import check_choice, check_path, check_whole, count

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Result(ABC):
    """A result that saves and loads; its fields are tensors, numbers, texts, or tuples of these."""

    notes: tuple[str, ...] = ()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write everything to the file `path`, which `load` and ``torch.load(path, weights_only=True)`` read.

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
        """Read what `save` wrote to `path`; only tensors and plain values are unpickled.

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

    @abstractmethod
    def _sentence(self) -> tuple[str, str]:
        """Return the finding and its details."""

    def __str__(self) -> str:
        return "; ".join([": ".join(self._sentence()), *self.notes])

    def _repr_html_(self) -> str:
        finding, details = map(html.escape, self._sentence())
        notes = "".join(f"<br>{html.escape(note)}" for note in self.notes)
        return f"<p><b>{finding}</b>: {details}{notes}</p>"


@final
@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class AblationResult(Result):
    """The output with every channel dropped, or kept alone; made by `ChannelAblator.sweep`.

    Attributes
    ----------
    outputs : torch.Tensor
        `(channels, N, ...)`, the selected output for each variant.
    baseline : torch.Tensor
        `(N, ...)`, the same with nothing ablated: the full reconstruction, or the model's plain output.
    images : torch.Tensor
        `(N, ...)`, the model's input.
    channels : tuple of int
        The channel that each variant drops or keeps.
    layer, mode, fill : str
        What was ablated, and how; `fill` is "tensor" if one was given.
    notes : tuple of str
        What to know about the computation.

    Examples
    --------
    >>> images = torch.zeros(2, 1, 4, 4)
    >>> result = AblationResult(
    ...     outputs=torch.ones(3, 2, 1, 4, 4), baseline=images, images=images, channels=(0, 1, 2), layer="conv1",
    ...     mode="keep", fill="zero")
    >>> result
    AblationResult(3 channels of conv1 kept alone, 2 images, outputs (3, 2, 1, 4, 4))
    >>> print(result)
    3 channels of conv1 kept alone: the outputs of 2 images change by 1 on average (mean square), most for channel 0 (1)
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

    @property
    def reconstructions(self) -> torch.Tensor | None:
        """`(channels, N, C, H, W)` if the outputs have the shape of the images, else None."""
        return self.outputs if self.images.ndim == 4 and self.baseline.shape == self.images.shape else None

    @property
    def error(self) -> torch.Tensor | None:
        """`(channels, N)`, mean squared difference from the original images; None if the outputs are not images."""
        return None if self.reconstructions is None else _mean_square(self.outputs - self.images, 2)

    @property
    def baseline_error(self) -> torch.Tensor | None:
        """`(N,)`, mean squared difference of the full reconstruction from the original; None as for `error`."""
        return None if self.reconstructions is None else _mean_square(self.baseline - self.images, 1)

    @property
    def change(self) -> torch.Tensor:
        """`(channels, N)`, mean squared difference from `baseline`: the effect of the ablation."""
        return _mean_square(self.outputs.double() - self.baseline.double(), 2).to(self.outputs.dtype)

    def plot(
        self, *, image: int = 0, limit: int = 64, title: str | None = None, ax: Axes | None = None
    ) -> Figure:
        """Draw the original, the full reconstruction and every channel's: see `plotting.reconstructions`.

        If the outputs are not images, draw how much each channel changes them: see `plotting.ablation_change`.
        """
        from featurelens import plotting

        if self.reconstructions is None:
            return plotting.ablation_change(self, limit=limit, title=title, ax=ax)
        return plotting.reconstructions(self, image=image, limit=limit, title=title, ax=ax)

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self._finding()}, {count(len(self.images), 'image')}, "
            f"outputs {tuple(self.outputs.shape)})"
        )

    def _finding(self) -> str:
        done = "kept alone" if self.mode == "keep" else "dropped one by one"
        return f"{count(len(self.channels), 'channel')} of {self.layer or 'the model'} {done}"

    def _sentence(self) -> tuple[str, str]:
        change = self.change.double().flatten(1).mean(1)
        most = int(change.argmax())
        return self._finding(), (
            f"the outputs of {count(len(self.images), 'image')} change by {float(change.mean()):.3g} on average "
            f"(mean square), most for channel {self.channels[most]} ({float(change[most]):.3g})"
        )


def _mean_square(difference: torch.Tensor, first: int) -> torch.Tensor:
    return difference.square().flatten(first).mean(first) if difference.ndim > first else difference.square()


@final
@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class ImportanceResult(Result):
    """How much the task loses without each channel; made by `ChannelAblator.importance`.

    Attributes
    ----------
    importance : torch.Tensor
        `(channels,)`: the decrease of accuracy or of your own score, or the increase of loss. Positive means that
        the channel is needed; the unit is that of the metric (accuracy: a fraction of 1).
    standard_error : torch.Tensor
        `(channels,)`, of `importance` over the images, each compared with itself.
    per_class : torch.Tensor or None
        `(channels, classes)`, the importance for each class (NaN: no image of it); None without class labels.
    baseline : float
        The metric with nothing ablated.
    baseline_per_class : torch.Tensor or None
        `(classes,)`.
    counts : torch.Tensor or None
        `(classes,)`, number of images of each class.
    channels : tuple of int
        The channel that each value is about.
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
    >>> print(result)
    3 channels of conv1: accuracy 0.9000 with all of them, most lost without 1 (0.3), 2 (0.1), 0 (0), over 100 images
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

    def order(self, first: Literal["least", "most"] = "least") -> list[int]:
        """Return the channels, the least or the most important `first`; equally important ones keep their order.

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
        """Draw what each class loses without each channel; see `plotting.class_importance`."""
        from featurelens import plotting

        return plotting.class_importance(self, classes=classes, limit=limit, title=title, ax=ax)

    def __repr__(self) -> str:
        first = self.top(1)[0]
        value = float(self.importance[self.channels.index(first)])
        return (
            f"{type(self).__name__}({count(len(self.channels), 'channel')} of {self.layer}, {self.metric} "
            f"{self.baseline:.4f}, most {self._lost()} {value:.4f} {self._without()} channel {first}, n={self.n})"
        )

    def _lost(self) -> str:
        return "gained" if self.metric == "loss" else "lost"

    def _without(self) -> str:
        return "without" if self.mode == "drop" else "with only"

    def _sentence(self) -> tuple[str, str]:
        values = dict(zip(self.channels, self.importance.tolist(), strict=True))
        listed = ", ".join(f"{channel} ({values[channel]:.3g})" for channel in self.top(5))
        return f"{count(len(self.channels), 'channel')} of {self.layer}", (
            f"{self.metric} {self.baseline:.4f} with all of them, most {self._lost()} {self._without()} {listed}, "
            f"over {count(self.n, 'image')}"
        )


@final
@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class AblationCurve(Result):
    """The metric as more and more channels are removed; made by `ChannelAblator.curve`.

    Attributes
    ----------
    values : torch.Tensor
        `(len(order) + 1,)`, the metric with the first 0, 1, 2, ... channels of `order` ablated.
    order : tuple of int
        The channels in the order of their removal.
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
    >>> print(curve)
    2 of 3 channels of conv1 removed: accuracy goes from 0.9000 to 0.3000, over 100 images
    """

    values: torch.Tensor
    order: tuple[int, ...]
    total: int
    n: int
    layer: str
    metric: str
    fill: str
    per_class: torch.Tensor | None = None

    def plot(self, *, title: str | None = None, ax: Axes | None = None) -> Figure:
        """Draw the metric against the number of channels removed; see `plotting.ablation_curves`."""
        from featurelens import plotting

        return plotting.ablation_curves({"": self}, title=title, ax=ax)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._removed()}, {self.metric} {self._span()}, n={self.n})"

    def _removed(self) -> str:
        return f"{len(self.order)} of {count(self.total, 'channel')} of {self.layer}"

    def _span(self) -> str:
        return f"{float(self.values[0]):.4f} to {float(self.values[-1]):.4f}"

    def _sentence(self) -> tuple[str, str]:
        details = f"{self.metric} goes from {self._span()}, over {count(self.n, 'image')}"
        return f"{self._removed()} removed", details
