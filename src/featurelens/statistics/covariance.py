"""Covariance and correlation between the channels of a layer."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

import torch

from featurelens._checks import count
from featurelens._html import Shown
from featurelens.statistics.base import State, Statistic, check_same_channels, combined
from featurelens.statistics.channel_blocks import with_float64
from featurelens.statistics.exact_sums import added, central_products, exact, raw_products, total
from featurelens.statistics.nearest import NearestChannels, nearest

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@final
@dataclass(frozen=True, repr=False, eq=False)
class CovarianceResult(Shown):
    """Covariance between the channels of a layer.

    Attributes
    ----------
    count : int
        Number of observations: image positions at which every channel was finite.
    mean : torch.Tensor
        ``(C,)`` float64.
    covariance : torch.Tensor
        ``(C, C)`` float64, with divisor `count`.
    not_finite : int
        Observations left out because a channel was NaN or infinite.
    layer : str or None
        The layer, if measured by `ActivationRecorder.stream`.
    """

    count: int
    mean: torch.Tensor
    covariance: torch.Tensor
    not_finite: int
    layer: str | None = None

    @property
    def correlation(self) -> torch.Tensor:
        """Pearson correlation ``(C, C)``, NaN for a constant channel."""
        scale = self.covariance.diagonal().sqrt()
        correlation = self.covariance / scale[:, None] / scale
        return correlation.clamp(-1, 1)

    @property
    def eigenvalues(self) -> torch.Tensor:
        """Variances along the principal components ``(C,)``, largest first."""
        found: torch.Tensor = torch.linalg.eigvalsh(self.covariance).flip(0)
        return found.clamp_min(0.0)  # below 0 by rounding only

    @property
    def effective_rank(self) -> float:
        """Over how many components the variance spreads, ``exp(H(p))`` for the eigenvalues' shares p; NaN if all are 0.

        Between 1 (one component has it all) and C (all have the same), in the sense of Roy & Vetterli (2007), "The
        effective rank". Fewer observations than C give at most their number.
        """
        shares = self.eigenvalues / self.eigenvalues.sum()
        return float(torch.special.entr(shares).sum().exp())

    @property
    def participation_ratio(self) -> float:
        """The same by ``(sum l)^2 / sum l^2`` of the eigenvalues l, where large components weigh more; NaN if all are 0."""
        return float(self.eigenvalues.sum().square() / self.eigenvalues.square().sum())

    def nearest(self, k: int = 5) -> NearestChannels:
        """Return, for every channel, the `k` others that correlate most with it.

        Raises
        ------
        TypeError, ValueError
            If `k` is not a whole number of at least 1.
        """
        return nearest(self.correlation.fill_diagonal_(torch.nan), k)

    def plot(self, *, title: str | None = None, ax: Axes | None = None) -> Figure:
        """Draw the correlations; see `plotting.channel_correlations`."""
        from featurelens import plotting

        return plotting.channel_correlations(self, title=title, ax=ax)

    def __str__(self) -> str:
        text = f"Covariance of {count(len(self.mean), 'channel')} over {count(self.count, 'observation')}"
        between = self.correlation.triu(1).abs().nan_to_num()
        first, second = divmod(int(between.argmax()), len(between))
        if first == second:
            return text
        return f"{text}; channels {first} and {second} correlate most, with {self.correlation[first, second]:.3f}"

    def __repr__(self) -> str:
        rest = f", {self.not_finite} left out" if self.not_finite else ""
        return f"{type(self).__name__}({count(len(self.mean), 'channel')}, {self.count} observations{rest})"


@final
@dataclass(eq=False)
class Covariance(Statistic):
    """Mean and covariance of the channels; each position of each image is one observation.

    For the covariance of the means over positions, record with ``reduce="mean"``. Observations in which a channel is
    NaN or infinite are left out and counted. Sums are exact as in `Moments`, and kept for one half of the matrix: about
    24 C^2 bytes.

    Examples
    --------
    >>> covariance = Covariance()
    >>> covariance.update(torch.tensor([[1.0, 2.0], [3.0, 6.0]]))
    >>> covariance.compute().covariance.tolist()
    [[1.0, 2.0], [2.0, 4.0]]
    """

    def measure(self, values: torch.Tensor, first_row: int, labels: torch.Tensor | None) -> State:
        rows = with_float64(values).transpose(0, 1).to(torch.float64, memory_format=torch.contiguous_format)
        rows = rows.reshape(len(rows), -1)
        observations = rows.shape[1]
        sums = rows.sum(1)
        if not bool(torch.isfinite(sums).all()):
            rows = rows[:, torch.isfinite(rows).all(0)]
            sums = rows.sum(1)
        finite = torch.tensor(rows.shape[1])
        nothing = rows.new_full((len(rows),), torch.inf)
        low, high = torch.aminmax(rows, dim=1) if finite else (nothing, -nothing)
        centred = rows - (sums / finite.clamp_min(1))[:, None]
        scatter = (centred @ centred.T).cpu()
        sums = sums.cpu()
        one, other = torch.triu_indices(len(sums), len(sums))
        return {
            "count": int(finite),
            "not_finite": observations - int(finite),
            "min": low.cpu(),
            "max": high.cpu(),
            "sum": exact(sums),
            "products": raw_products(scatter[one, other], sums[one], sums[other], finite),
        }

    def combine(self, one: State, other: State) -> State:
        check_same_channels(len(one["min"]), len(other["min"]))
        rules = {"count": operator.add, "not_finite": operator.add, "sum": added, "products": added}
        return combined(one, other, **rules, min=torch.minimum, max=torch.maximum)

    def summarize(self, state: State) -> CovarianceResult:
        channels, observations = len(state["min"]), torch.tensor(state["count"])
        one, other = torch.triu_indices(channels, channels)
        limbs, lowest = state["sum"]
        sums = (limbs[:, one], lowest), (limbs[:, other], lowest)
        scatter = central_products(state["products"], *sums, observations) / observations
        covariance = torch.zeros(channels, channels, dtype=torch.float64)
        covariance[one, other] = scatter
        covariance[other, one] = scatter
        covariance.diagonal().clamp_min_(0.0)
        # The mean of equal numbers is rounded, so that batches seem to differ.
        constant = state["min"] == state["max"]
        covariance.masked_fill_(constant | constant[:, None], 0.0)
        mean = total(state["sum"])[0] / observations
        return CovarianceResult(state["count"], mean, covariance, state["not_finite"])
