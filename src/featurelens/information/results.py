"""Estimates of mutual information: the value, its uncertainty, and the limits of the estimator."""

from __future__ import annotations

import dataclasses
import html
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, final

import numpy as np
import torch

from featurelens._checks import check_choice, check_whole, count
from featurelens._saving import SavedResult

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from featurelens.statistics import JointCountsResult

Units = Literal["nats", "bits"]

NATS_PER_UNIT = {"nats": 1.0, "bits": math.log(2.0)}
SATURATION = 0.6
"""An estimate above this share of its ceiling is limited by the number of samples."""


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class InformationResult(SavedResult):
    """What all results have in common; `_measured` names the fields that are in `units`."""

    method: str
    n: int
    units: Units = "nats"
    ceiling: float | None = None
    notes: tuple[str, ...] = ()

    _measured: ClassVar[tuple[str, ...]]

    def to(self, units: Units) -> Self:
        """Return the same result in other `units`, "nats" or "bits"."""
        check_choice(units, NATS_PER_UNIT, argument="units")
        factor = NATS_PER_UNIT[self.units] / NATS_PER_UNIT[units]
        scaled: dict[str, Any] = {}
        for name in self._measured:
            value = getattr(self, name)
            if isinstance(value, tuple):
                scaled[name] = tuple(part * factor for part in value)
            elif value is not None:
                scaled[name] = value * factor
        return dataclasses.replace(self, units=units, **scaled)

    def _repr_html_(self) -> str:
        head, _, tail = str(self).partition(" by ")
        return f"<p><b>{html.escape(head)}</b> by {html.escape(tail)}</p>"


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Estimate(InformationResult):
    """A single value with its uncertainty and its null."""

    value: float
    dim_x: int
    dim_y: int
    standard_error: float | None = None
    interval: tuple[float, float] | None = None
    null_mean: float | None = None
    p_value: float | None = None
    noise_model: str | None = None

    @property
    def excess(self) -> float | None:
        """The value minus the mean of the null; None without a null."""
        return None if self.null_mean is None else self.value - self.null_mean

    def __float__(self) -> float:
        return self.value

    def _value_with(self, *certainty: str) -> str:
        """Return the value for a sentence, followed in brackets by how certain it is."""
        parts = list(certainty)
        if self.null_mean is not None:
            excess = self.value - self.null_mean
            sure = "" if self.p_value is None else f", p = {self.p_value:.2g}"
            parts.append(
                f"{abs(excess):.4f} {'above' if excess >= 0 else 'below'} the null of {self.null_mean:.4f}{sure}"
            )
        return f"{self.value:.4f} {self.units}" + (f" ({'; '.join(parts)})" if parts else "")


@final
@dataclass(frozen=True, kw_only=True, repr=False)
class MutualInformationResult(Estimate):
    """One estimate of the mutual information between two variables.

    Attributes
    ----------
    value : float
        The estimate, in `units`. It may be negative: estimates of small values scatter around the true value.
    units : {"nats", "bits"}
        Unit of every information value here.
    method : str
        The estimator with its settings, such as ``"KSG(k=5, variant=1, marginals='normal-score')"``.
    n, dim_x, dim_y : int
        Number of samples, and number of columns of `x` and `y` as passed.
    standard_error : float or None
        Standard deviation of the estimate over samples of this size; None without `confidence`.
    interval : tuple of float or None
        ``(low, high)``: confidence interval for sampling variation. It does not include the estimator's bias.
    null_mean : float or None
        Mean estimate over permutations of the pairing: the value the estimator gives when there is no dependence.
    p_value : float or None
        Fraction of permutations that reach `value`, counting the true pairing: ``(1 + hits) / (1 + permutations)``.
    ceiling, label_entropy : float or None
        The largest value that the estimator can return for this many samples; the entropy of the labels, if one side
        holds recurring labels: the true value is no larger.
    noise_model : str or None
        The noise that makes the information of a deterministic layer finite; None if none was assumed.
    bracket : tuple of float or None
        Lower and upper bounds that need no sampling, if the method has them.
    notes : tuple of str
        Cautions, such as point masses or omitted columns.

    Examples
    --------
    >>> result = MutualInformationResult(value=0.5, method="KSG(k=5)", n=1000, dim_x=1, dim_y=2, ceiling=5.4)
    >>> print(result)
    0.5000 nats by KSG(k=5), from 1000 samples of 1 + 2 columns; ceiling 5.4 nats
    >>> result
    MutualInformationResult(0.5000 nats, KSG(k=5), n=1000)
    >>> round(result.to("bits").value, 4)
    0.7213
    """

    label_entropy: float | None = None
    bracket: tuple[float, float] | None = None

    _measured = ("value", "standard_error", "interval", "null_mean", "ceiling", "label_entropy", "bracket")

    @property
    def saturated(self) -> bool:
        """Whether the estimate is above 0.6 of its ceiling, and should be read as a lower bound.

        A ceiling at the entropy of the labels does not count, because it also limits the true value.
        """
        if not self.ceiling or (self.label_entropy is not None and self.ceiling >= self.label_entropy):
            return False
        return self.value > SATURATION * self.ceiling

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.value:.4f} {self.units}, {self.method}, n={self.n})"

    def __str__(self) -> str:
        certainty = []
        if self.interval is not None:
            certainty = [f"interval {self.interval[0]:.4f} to {self.interval[1]:.4f}"]
        elif self.standard_error is not None:
            certainty = [f"standard error {self.standard_error:.2g}"]
        samples = f"{count(self.n, 'sample')} of {self.dim_x} + {self.dim_y} columns"
        parts = [f"{self._value_with(*certainty)} by {self.method}, from {samples}"]
        if self.noise_model is not None:
            parts.append(f"noise: {self.noise_model}")
        if self.bracket is not None:
            parts.append(f"bounds {self.bracket[0]:.4f} to {self.bracket[1]:.4f}")
        if self.ceiling is not None:
            parts.append(f"ceiling {self.ceiling:.3g} {self.units}")
        return "; ".join([*parts, *self.notes])


@final
@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class SpatialMutualInformationResult(Estimate):
    """Information between image pixels and activations at the same position, per pair of channels.

    Attributes
    ----------
    value : float
        Mean over images and pairs of channels, in `units`.
    per_pair, per_image : torch.Tensor
        ``(C1, C2)`` float64: mean over images, for each image channel and activation channel; ``(N,)``: mean over pairs.
    null_mean : float or None
        The same mean when every image is paired with the activations of *another* image. Read :attr:`excess`.
    null_per_pair : torch.Tensor or None
        ``(C1, C2)``: the null, per pair.
    p_value : float or None
        Fraction of pairings, including the true one, with a mean of at least `value`.
    standard_error, interval
        For variation over images: of the excess over the null if there is one, otherwise of the value.
    units, method, n, dim_x, dim_y, ceiling, noise_model, notes
        As in :class:`MutualInformationResult`; `n` counts images, `dim_x` and `dim_y` channels.
    """

    per_pair: torch.Tensor
    per_image: torch.Tensor
    null_per_pair: torch.Tensor | None = None

    _measured = (
        *("value", "per_pair", "per_image", "standard_error", "interval"),
        *("null_mean", "null_per_pair", "ceiling"),
    )

    def plot(self, *, limit: int = 64, title: str | None = None, ax: Axes | None = None) -> Figure:
        """Draw a heat map over the pairs of channels; see `plotting.pair_matrix`."""
        from featurelens import plotting

        return plotting.pair_matrix(self, limit=limit, title=title, ax=ax)

    def __repr__(self) -> str:
        null = "" if self.null_mean is None else f", null {self.null_mean:.4f}"
        return (
            f"{type(self).__name__}({self.value:.4f} {self.units}{null}, {self.method}, n={self.n}, "
            f"pairs={self.dim_x}x{self.dim_y})"
        )

    def __str__(self) -> str:
        pairs = f"{count(self.n, 'image')} and {self.dim_x} x {self.dim_y} pairs of channels"
        parts = [f"{self._value_with()} by {self.method}, from {pairs}"]
        if self.interval is not None:
            what = "value" if self.null_mean is None else "excess over the null"
            parts.append(f"{what} between {self.interval[0]:.4f} and {self.interval[1]:.4f}")
        return "; ".join([*parts, *self.notes])


@final
@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class ChannelInformationResult(InformationResult):
    """Mutual information between each channel and the label, made by `channel_information`.

    ``result[c]`` is the `MutualInformationResult` of channel c; ``numpy.asarray(result)`` returns the values.

    Attributes
    ----------
    values : torch.Tensor
        ``(C,)`` float64, in `units`.
    null_mean, p_values : torch.Tensor or None
        ``(C,)`` float64: mean over permutations of the labels, and the fraction of permutations (including the true
        order) that reach the value.
    label_entropy, ceiling : float or None
        Entropy of the labels, and logarithm of the number of bins: upper bounds for every channel.
    units, method, n, notes
        As in :class:`MutualInformationResult`.

    Examples
    --------
    >>> result = ChannelInformationResult(values=torch.tensor([0.1, 0.7]), method="channels()", n=100)
    >>> result
    ChannelInformationResult(2 channels, 0.1000 to 0.7000 nats, channels(), n=100)
    >>> result.top(1)
    [1]
    """

    values: torch.Tensor
    null_mean: torch.Tensor | None = None
    p_values: torch.Tensor | None = None
    label_entropy: float | None = None

    _measured = ("values", "null_mean", "label_entropy", "ceiling")

    @classmethod
    def from_counts(
        cls,
        counts: JointCountsResult,
        *,
        method: Literal["binned", "gaussian"] = "binned",
        bins: int | Literal["auto"] = "auto",
        units: Units = "nats",
    ) -> Self:
        """Estimate the information between every channel and the label from the counts of `JointCounts`.

        Parameters
        ----------
        counts
            For example ``recorder.stream(loader, fl.statistics.JointCounts(classes))["conv1"].joint_counts``.
        method
            "binned" joins the cells into bins of equal count, as `channel_information` would for values rounded to their
            cells; "gaussian" assumes a normal distribution in each class and integrates the mixture.
        bins, units
            As in `channel_information`; `bins` applies to "binned" only.

        Raises
        ------
        TypeError, ValueError
            If an argument is not one of the above, all images are of one class, or a channel was not finite.
        """
        from featurelens.information.counts import information_of_joint_counts

        return information_of_joint_counts(counts, method=method, bins=bins, units=units)

    def top(self, k: int) -> list[int]:
        """Return the `k` most informative channels, best first; all of them if there are fewer.

        Raises
        ------
        TypeError, ValueError
            If `k` is not a whole number of at least 0.
        """
        k = check_whole(k, argument="k", least=0)
        return self.values.argsort(descending=True, stable=True)[:k].tolist()

    def plot(self, *, limit: int = 32, title: str | None = None, ax: Axes | None = None) -> Figure:
        """Draw a bar for each of the most informative channels; see `plotting.channel_bars`."""
        from featurelens import plotting

        return plotting.channel_bars(self, limit=limit, title=title, ax=ax)

    def __len__(self) -> int:
        return len(self.values)

    def __iter__(self) -> Iterator[MutualInformationResult]:
        return (self[channel] for channel in range(len(self)))

    def __getitem__(self, channel: int) -> MutualInformationResult:
        channel = check_whole(channel, argument="channel")
        return MutualInformationResult(
            value=float(self.values[channel]),
            units=self.units,
            method=self.method,
            n=self.n,
            dim_x=1,
            dim_y=1,
            null_mean=None if self.null_mean is None else float(self.null_mean[channel]),
            p_value=None if self.p_values is None else float(self.p_values[channel]),
            ceiling=self.ceiling,
            label_entropy=self.label_entropy,
            notes=self.notes,
        )

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        return np.array(self.values.numpy(), dtype=dtype)

    def __repr__(self) -> str:
        low, high = float(self.values.min()), float(self.values.max())
        return (
            f"{type(self).__name__}({count(len(self), 'channel')}, {low:.4f} to {high:.4f} {self.units}, "
            f"{self.method}, n={self.n})"
        )

    def __str__(self) -> str:
        best = ", ".join(f"{channel}: {float(self.values[channel]):.3f}" for channel in self.top(5))
        text = f"{count(len(self), 'channel')} by {self.method} from {count(self.n, 'sample')}; most informative {best}"
        text += f" {self.units}"
        if self.null_mean is not None:
            text += f", above their nulls by {float((self.values - self.null_mean).mean()):.3f} on average"
        if self.label_entropy is not None:
            text += f"; label entropy {self.label_entropy:.3f} {self.units}"
        return "; ".join([text, *self.notes])
