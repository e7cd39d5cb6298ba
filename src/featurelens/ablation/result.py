"""Results of ablation: the outputs of a sweep, the importance of channels, and the curve as they are removed."""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, final

import torch

from featurelens._checks import check_choice, check_whole, count
from featurelens._saving import SavedResult

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@final
@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class AblationResult(SavedResult):
    """The output with each channel dropped, or with only that channel kept; made by `ChannelAblator.sweep`.

    Attributes
    ----------
    outputs : torch.Tensor
        `(channels, N, ...)`, the selected output for each variant.
    baseline : torch.Tensor
        `(N, ...)`, the output with nothing ablated: the full reconstruction, or the model's plain output.
    images : torch.Tensor
        `(N, ...)`, the model's input.
    channels : tuple of int
        The channel that each variant drops or keeps.
    layer, mode, fill : str
        What was ablated, and how; `fill` is "tensor" if one was given.
    notes : tuple of str
        Remarks on the computation.

    Examples
    --------
    >>> images = torch.zeros(2, 1, 4, 4)
    >>> result = AblationResult(
    ...     outputs=torch.ones(3, 2, 1, 4, 4), baseline=images, images=images, channels=(0, 1, 2), layer="conv1",
    ...     mode="keep", fill="zero")
    >>> result
    AblationResult(3 channels of conv1 kept alone, 2 images, outputs (3, 2, 1, 4, 4))
    >>> print(result)
    each of 3 channels of conv1 alone changes the outputs of 2 images by 1 on average (mean square), channel 0 most (1)
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
        """`(channels, N, C, H, W)` if the outputs have the shape of the images, else None."""
        return self.outputs if self.images.ndim == 4 and self.baseline.shape == self.images.shape else None

    @property
    def error(self) -> torch.Tensor | None:
        """`(channels, N)`, mean squared difference from the original images; None if the outputs are not images."""
        return None if self.reconstructions is None else _mean_square(self.outputs - self.images, 2)

    @property
    def baseline_error(self) -> torch.Tensor | None:
        """`(N,)`, mean squared difference of the full reconstruction from the original; None if `error` is."""
        return None if self.reconstructions is None else _mean_square(self.baseline - self.images, 1)

    @property
    def change(self) -> torch.Tensor:
        """`(channels, N)`, mean squared difference from `baseline`: the effect of the ablation."""
        return _mean_square(self.outputs.double() - self.baseline.double(), 2).to(self.outputs.dtype)

    def plot(
        self, *, image: int = 0, limit: int = 64, title: str | None = None, ax: Axes | None = None
    ) -> Figure:
        """Draw the original, the full reconstruction and that of every channel: see `plotting.reconstructions`.

        If the outputs are not images, draw how much each channel changes them: see `plotting.ablation_change`.
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

    def __str__(self) -> str:
        change = self.change.double().flatten(1).mean(1)
        most = int(change.argmax())
        alone = "alone" if self.mode == "keep" else "removed"
        text = (
            f"each of {count(len(self.channels), 'channel')} of {self.layer or 'the model'} {alone} changes the outputs "
            f"of {count(len(self.images), 'image')} by {float(change.mean()):.3g} on average (mean square), "
            f"channel {self.channels[most]} most ({float(change[most]):.3g})"
        )
        return "; ".join([text, *self.notes])

    def _repr_html_(self) -> str:
        return f"<p>{html.escape(str(self))}</p>"


def _mean_square(difference: torch.Tensor, first: int) -> torch.Tensor:
    return difference.square().flatten(first).mean(first) if difference.ndim > first else difference.square()


@final
@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class ImportanceResult(SavedResult):
    """How much the metric drops without each channel; made by `ChannelAblator.importance`.

    Attributes
    ----------
    importance : torch.Tensor
        `(channels,)`: the decrease of accuracy or of your own score, or the increase of loss. Positive means that
        the channel is needed; the unit is that of the metric (accuracy: a fraction of 1).
    standard_error : torch.Tensor
        `(channels,)`, standard error of `importance` over the images, from paired differences.
    per_class : torch.Tensor or None
        `(channels, classes)`, the importance for each class (NaN for a class without images); None without class
        labels.
    baseline : float
        The metric with nothing ablated.
    baseline_per_class : torch.Tensor or None
        `(classes,)`, the baseline for each class; None without class labels.
    counts : torch.Tensor or None
        `(classes,)`, number of images of each class.
    channels : tuple of int
        The channel of each value.
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
    ImportanceResult(3 channels of conv1, accuracy 0.9000, most lost without a channel: 0.3000 (1), n=100)
    >>> print(result)
    3 channels of conv1, accuracy 0.9000, most lost without a channel: 0.3000 (1), 0.1000 (2), 0.0000 (0), over 100 images
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
        """Return the channels ordered by importance, "least" or "most" `first`; equal ones keep their order.

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
            If `k` is not a whole number of at least 0.
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
        """Draw the importance of each channel for each class; see `plotting.class_importance`."""
        from featurelens import plotting

        return plotting.class_importance(self, classes=classes, limit=limit, title=title, ax=ax)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._summary(1)}, n={self.n})"

    def __str__(self) -> str:
        return "; ".join([f"{self._summary(5)}, over {count(self.n, 'image')}", *self.notes])

    def _summary(self, k: int) -> str:
        values = dict(zip(self.channels, self.importance.tolist(), strict=True))
        listed = ", ".join(f"{values[channel]:.4f} ({channel})" for channel in self.top(k))
        lost = f"{'gained' if self.metric == 'loss' else 'lost'} {'without' if self.mode == 'drop' else 'with only'}"
        channels = count(len(self.channels), "channel")
        return (
            f"{channels} of {self.layer}, {self.metric} {self.baseline:.4f}, most {lost} a channel: {listed}"
        )

    def _repr_html_(self) -> str:
        return f"<p>{html.escape(str(self))}</p>"


@final
@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class AblationCurve(SavedResult):
    """The metric as more and more channels are removed; made by `ChannelAblator.curve`.

    Attributes
    ----------
    values : torch.Tensor
        `(len(order) + 1,)`, the metric with the first 0, 1, 2, ... channels of `order` ablated.
    order : tuple of int
        The channels in the order of their removal.
    per_class : torch.Tensor or None
        `(len(order) + 1, classes)`, the metric for each class; None without class labels.
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
    2 of 3 channels of conv1, accuracy 0.9000 to 0.3000 as they are removed, over 100 images
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
        return f"{type(self).__name__}({self._summary()}, n={self.n})"

    def __str__(self) -> str:
        return "; ".join(
            [f"{self._summary()} as they are removed, over {count(self.n, 'image')}", *self.notes]
        )

    def _summary(self) -> str:
        first, last = float(self.values[0]), float(self.values[-1])
        channels = f"{len(self.order)} of {count(self.total, 'channel')} of {self.layer}"
        return f"{channels}, {self.metric} {first:.4f} to {last:.4f}"

    def _repr_html_(self) -> str:
        return f"<p>{html.escape(str(self))}</p>"
