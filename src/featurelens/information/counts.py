"""Information between channels and the label from tables of counts, where the values themselves were not kept."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import torch

from featurelens._checks import check_choice, check_type, count, describe
from featurelens.information.binned import MOST_BINS, SAMPLES_PER_CELL, check_binning
from featurelens.information.chance import ChanceTable, cells_seen
from featurelens.information.chunks import row_slices
from featurelens.information.entropy import Correction, count_weights, information_from_sums
from featurelens.information.results import NATS_PER_UNIT, ChannelInformationResult, Units
from featurelens.statistics import JointCountsResult

NODES = 64  # of the quadrature
ROUNDING = 16 * torch.finfo(torch.float64).eps  # of a mean, as a share of it
NARROWEST = 1e-12  # variance of a class that never changes, as a share of its channel's
VALUES_AT_A_TIME = 2**22
HEAVY = 0.25


def information_of_joint_counts(
    joint: JointCountsResult, *, method: str, bins: int | Literal["auto"], units: Units
) -> ChannelInformationResult:
    """Return what `ChannelInformationResult.from_counts` returns."""
    check_type(joint, JointCountsResult, argument="counts", expected="a JointCountsResult")
    check_choice(method, ("binned", "gaussian"), argument="method")
    broken = joint.not_finite.nonzero()[:, 0].tolist()
    if broken:
        raise ValueError(
            f"information needs finite values; {count(len(broken), 'channel')} had others, the first {broken[0]}"
        )
    if method == "gaussian":
        return information_of_gaussians(joint.counts[0].sum(0), joint.mean, joint.variance, units=units)
    return information_from_counts(joint.counts, bins=bins, units=units)


def information_from_counts(
    counts: torch.Tensor,
    *,
    bins: int | Literal["auto"] = "auto",
    correction: Correction = "permutation",
    units: Units = "nats",
) -> ChannelInformationResult:
    """Estimate the information between every channel and the label from its table of fine cells and classes.

    Neighbouring cells are joined into bins of equal count, as if `channel_information` were given cells for values.

    Parameters
    ----------
    counts
        ``(C, cells, K)`` integers, cells in the order of their values.
    bins, correction, units
        As in `channel_information`.

    Raises
    ------
    TypeError, ValueError
        If an argument is none of these, channels differ in their number of samples per class, or there is one class.

    Examples
    --------
    >>> result = information_from_counts(1000 * torch.tensor([[[2, 0], [0, 2]], [[1, 1], [1, 1]]]), units="bits")
    >>> [round(abs(value), 1) for value in result.values.tolist()]
    [1.0, 0.0]
    """
    check_choice(units, NATS_PER_UNIT, argument="units")
    bins = check_binning(bins, "quantile", correction)
    if counts.ndim != 3 or counts.is_floating_point():
        raise ValueError(f"counts must be integers (C, cells, K); got {describe(counts)}")
    labels = _labels(counts)
    n, classes = int(labels.sum()), len(labels)
    joined = max(2, min(MOST_BINS, n // (SAMPLES_PER_CELL * classes))) if bins == "auto" else bins
    parts = row_slices(len(counts), counts[0].numel(), VALUES_AT_A_TIME)
    values = torch.cat([_information(counts[part], joined, labels, correction) for part in parts])
    fine = counts.sum(2)
    constant = (fine > 0).sum(1) == 1
    bias = f"about {(joined - 1) * (classes - 1) / (2 * n):.2g} nats"
    notes = [f"too high by {bias}" if correction == "none" else f"a plug-in bias of {bias} was corrected for"]
    notes += _constant_note(constant)
    if heavy := int(((fine.amax(1) > HEAVY * n) & ~constant).sum()):
        notes.append(
            f"{count(heavy, 'channel')} with over {HEAVY:.0%} of the samples in one cell: a point mass, or outliers"
        )
    return ChannelInformationResult(
        values=values.masked_fill(constant, 0.0),
        method=f"counts(bins={joined}, correction={correction!r})",
        n=n,
        label_entropy=_entropy(labels),
        ceiling=math.log(joined),
        notes=tuple(notes),
    ).to(units)


def information_of_gaussians(
    labels: torch.Tensor, mean: torch.Tensor, variance: torch.Tensor, *, units: Units = "nats"
) -> ChannelInformationResult:
    """Return the information between every channel and the label if the channel is normal in each class.

    ``I = sum_k p_k E_k[log N_k(x) - log sum_j p_j N_j(x)]`` by Gauss-Hermite quadrature; at most the entropy of the labels.

    Parameters
    ----------
    labels
        ``(K,)`` samples of each class.
    mean, variance
        ``(C, K)`` in each class; classes without samples are ignored.
    units
        "nats" or "bits".

    Raises
    ------
    ValueError
        If there are samples of only one class.

    Examples
    --------
    >>> result = information_of_gaussians(
    ...     torch.tensor([500, 500]), torch.tensor([[-9.0, 9.0], [1.0, 1.0]]), torch.ones(2, 2), units="bits"
    ... )
    >>> [round(abs(value), 3) for value in result.values.tolist()]
    [1.0, 0.0]
    """
    check_choice(units, NATS_PER_UNIT, argument="units")
    present = _at_least_two(labels)
    share = labels[present].double() / labels.sum()
    mean, variance = mean[:, present].double(), variance[:, present].double()
    overall = (share * (variance + (mean - (share * mean).sum(1, keepdim=True)) ** 2)).sum(1)
    # Sums of means and shares are rounded: a difference of that size counts as none.
    constant = overall <= (ROUNDING * mean.abs().amax(1)).square()
    spread = torch.maximum(variance, NARROWEST * overall[:, None]).masked_fill(constant[:, None], 1.0).sqrt()
    values = torch.cat(
        [
            _mixture(share, mean[part], spread[part])
            for part in row_slices(len(mean), NODES * len(share) ** 2, VALUES_AT_A_TIME)
        ]
    ).masked_fill(constant, 0.0)
    n, classes = int(labels.sum()), int(present.sum())
    notes = [
        f"labels in random order would give about {(classes - 1) / n:.2g} nats",
        *_constant_note(constant),
    ]
    return ChannelInformationResult(
        values=values,
        method="gaussian classes",
        n=n,
        label_entropy=_entropy(labels[present]),
        notes=tuple(notes),
    ).to(units)


def _constant_note(constant: torch.Tensor) -> list[str]:
    number = int(constant.sum())
    return [f"{count(number, 'channel')} never changed"] if number else []


def _labels(counts: torch.Tensor) -> torch.Tensor:
    """Return the samples of each class that occurs, the same for every channel."""
    labels = counts.sum(1)
    if not bool((labels == labels[0]).all()):
        raise ValueError("every channel must have been counted on the same samples; their classes differ")
    return labels[0][_at_least_two(labels[0])]


def _at_least_two(labels: torch.Tensor) -> torch.Tensor:
    present = labels > 0
    if int(present.sum()) < 2:
        raise ValueError(
            f"information needs labels of two classes or more; got {labels.tolist()} samples in each"
        )
    return present


def _information(
    counts: torch.Tensor, bins: int, labels: torch.Tensor, correction: Correction
) -> torch.Tensor:
    """Return the information ``(C,)`` in nats of cells joined into bins of equal count."""
    n = int(labels.sum())
    weights = count_weights(n, correction)
    after = counts.sum(2).cumsum(1)
    before = after - counts.sum(2)
    # A cell's samples are tied, and share the bin of their mid-rank.
    target = (bins * (before + after) // (2 * n)).clamp(max=bins - 1)
    joint = counts.new_zeros(len(counts), bins, counts.shape[2])
    joint.scatter_add_(1, target[..., None].expand_as(counts), counts)
    sizes = joint.sum(2)
    values = information_from_sums(
        weights[joint].sum((1, 2)),
        weights[sizes].sum(1),
        weights[labels].sum(),
        n=n,
        correction=correction,
    )
    if correction == "permutation":
        chance = ChanceTable(sizes, labels, n).of(sizes, labels[None])
        values = chance.taken_off(values[:, None], cells_seen(joint.flatten(1))[:, None])[:, 0]
    return values


def _mixture(share: torch.Tensor, mean: torch.Tensor, spread: torch.Tensor) -> torch.Tensor:
    nodes, weights = (torch.from_numpy(part) for part in np.polynomial.hermite_e.hermegauss(NODES))
    weights = weights / weights.sum()
    # A drawn class k, a node, and the class j whose density is taken there.
    between = (
        mean[:, :, None, None] - mean[:, None, None, :]
    )  # first: a class may be narrower than its mean rounds
    z = (between + (spread[:, :, None] * nodes)[..., None]) / spread[:, None, None, :]
    log_mixture = torch.logsumexp(share.log() - spread[:, None, None, :].log() - 0.5 * z.square(), dim=3)
    log_own = -spread.log()[:, :, None] - 0.5 * nodes.square()
    values: torch.Tensor = ((log_own - log_mixture) @ weights) @ share
    return values


def _entropy(labels: torch.Tensor) -> float:
    share = labels.double() / labels.sum()
    return float(-torch.xlogy(share, share).sum())
