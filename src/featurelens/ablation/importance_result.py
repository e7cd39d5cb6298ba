"""Results of scoring variants over a data set: the importance of channels, and the curve as they are removed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, final

import torch

from featurelens._checks import check_choice, check_number, check_whole, count
from featurelens._html import paragraph, table
from featurelens._saving import SavedResult
from featurelens.ablation.paired import false_discovery_rates

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


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
    p_value : torch.Tensor or None
        `(channels,)`, of a paired test of each channel against no effect: McNemar's exact test if every image's score is
        0 or 1, such as the accuracy, else the paired t-test. Not corrected for the number of channels; `q_value` is.
    per_class : torch.Tensor or None
        `(channels, classes)`, the importance for each class (NaN for a class without images); None without class
        labels.
    per_class_standard_error : torch.Tensor or None
        `(channels, classes)`, standard error of `per_class` over the images of the class; NaN for fewer than two images.
    baseline : float
        The metric with nothing ablated.
    baseline_per_class : torch.Tensor or None
        `(classes,)`, the baseline for each class; None without class labels.
    counts : torch.Tensor or None
        `(classes,)`, number of images of each class.
    channels : tuple of int or str
        The channel of each value.
    noun : str
        What `channels` are: "channel", "group" or "head".
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
    channels: tuple[int | str, ...]
    n: int
    layer: str
    metric: str
    mode: str
    fill: str
    noun: str = "channel"
    p_value: torch.Tensor | None = None
    per_class: torch.Tensor | None = None
    per_class_standard_error: torch.Tensor | None = None
    baseline_per_class: torch.Tensor | None = None
    counts: torch.Tensor | None = None
    notes: tuple[str, ...] = ()

    def order(self, first: Literal["least", "most"] = "least") -> list[int | str]:
        """Return the channels ordered by importance, "least" or "most" `first`; equal ones keep their order.

        Raises
        ------
        ValueError
            If `first` is neither "least" nor "most".
        """
        check_choice(first, ("least", "most"), argument="first")
        ranks = self.importance.argsort(descending=first == "most", stable=True).tolist()
        return [self.channels[rank] for rank in ranks]

    def top(self, k: int) -> list[int | str]:
        """Return the `k` most important channels, most important first; all of them if there are fewer.

        Raises
        ------
        TypeError, ValueError
            If `k` is not a whole number of at least 0.
        """
        return self.order("most")[: check_whole(k, argument="k", least=0)]

    @property
    def q_value(self) -> torch.Tensor | None:
        """`(channels,)`, the smallest false discovery rate at which a channel counts as significant; None without p-values.

        It corrects the p-values for the number of channels (Benjamini & Hochberg 1995, "Controlling the False Discovery
        Rate").
        """
        return None if self.p_value is None else false_discovery_rates(self.p_value)

    def significant(self, rate: float = 0.05) -> list[int | str]:
        """Return the channels whose removal has an effect, of either sign, most important first.

        At most a share `rate` of them is expected to be there by chance.

        Raises
        ------
        TypeError, ValueError
            If `rate` is not a number above 0 and below 1, or the result has no p-values.
        """
        rate = check_number(rate, argument="rate", expected="a number above 0 and below 1")
        if not 0 < rate < 1:
            raise ValueError(f"rate must be a number above 0 and below 1; got {rate:g}")
        if self.q_value is None:
            raise ValueError("the result has no p-values")
        found = {
            channel for channel, q in zip(self.channels, self.q_value.tolist(), strict=True) if q <= rate
        }
        return [channel for channel in self.order("most") if channel in found]

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
        found = [f"{self._summary(5)}, over {count(self.n, 'image')}"]
        if self.p_value is not None:
            found.append(
                f"{count(len(self.significant()), self.noun)} significant at a false discovery rate of 5 %"
            )
        return "; ".join([*found, *self.notes])

    def _summary(self, k: int) -> str:
        values = dict(zip(self.channels, self.importance.tolist(), strict=True))
        listed = ", ".join(f"{values[channel]:.4f} ({channel})" for channel in self.top(k))
        lost = f"{'added' if self.metric == 'loss' else 'lost'} {'without' if self.mode == 'drop' else 'with only'}"
        channels = count(len(self.channels), self.noun)
        return f"{channels} of {self.layer}, {self.metric} {self.baseline:.4f}, most {lost} a {self.noun}: {listed}"

    def _repr_html_(self) -> str:
        ranks = [self.channels.index(channel) for channel in self.top(10)]
        head, columns = [self.noun, self.metric], [list(self.channels), self.importance.tolist()]
        head, columns = [*head, "standard error"], [*columns, self.standard_error.tolist()]
        if self.q_value is not None:
            head, columns = [*head, "q"], [*columns, self.q_value.tolist()]
        rows: list[list[object]] = [[*head]]
        for rank in ranks:
            channel, *values = (column[rank] for column in columns)
            rows.append([channel, *(f"{value:.2g}" for value in values)])
        return paragraph(self) + table(rows)


@final
@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class AblationCurve(SavedResult):
    """The metric as more and more channels are removed; made by `ChannelAblator.curve`.

    Attributes
    ----------
    values : torch.Tensor
        `(len(order) + 1,)`, the metric with the first 0, 1, 2, ... channels of `order` ablated.
    order : tuple of int or str
        The channels in the order of their removal.
    noun : str
        What they are: "channel", "group" or "head".
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
    order: tuple[int | str, ...]
    total: int
    n: int
    layer: str
    metric: str
    fill: str
    noun: str = "channel"
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
        channels = f"{len(self.order)} of {count(self.total, self.noun)} of {self.layer}"
        return f"{channels}, {self.metric} {first:.4f} to {last:.4f}"
