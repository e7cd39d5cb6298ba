"""What each channel knows of the label, from tables that were counted elsewhere: the values themselves are gone."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import torch

from featurelens._checks import check_choice, check_whole, count, describe
from featurelens.information.binned import MOST_BINS, SAMPLES_PER_CELL
from featurelens.information.chunks import row_slices
from featurelens.information.entropy import CORRECTIONS, Correction, count_weights, information_from_sums
from featurelens.information.results import NATS_PER_UNIT, ChannelInformationResult, Units

NODES = 64  # of the quadrature
ROUNDING = 16 * torch.finfo(torch.float64).eps  # of a mean, as a share of it
NARROWEST = 1e-12  # variance of a class that never changes, as a share of its channel's
VALUES_AT_A_TIME = 2**22
HEAVY = 0.25


def information_from_counts(
    counts: torch.Tensor,
    *,
    bins: int | Literal["auto"] = "auto",
    correction: Correction = "grassberger",
    units: Units = "nats",
) -> ChannelInformationResult:
    """Estimate the information of every channel with the label from its table of fine cells and classes.

    Neighbouring cells are joined into bins of equal count, by the rule by which `channel_information` cuts values:
    its result is this one if every value is replaced by its cell.

    Parameters
    ----------
    counts : torch.Tensor
        ``(C, cells, K)`` integers, cells in the order of their values.
    bins : int or "auto"
        As in `channel_information`.
    correction : {"grassberger", "miller-madow", "none"}
        As in `BinnedMutualInformation`.
    units : {"nats", "bits"}
        Unit of all values.

    Raises
    ------
    ValueError
        If an argument is none of these, the channels do not have the same number of samples in each class, or
        there is only one class.

    Examples
    --------
    >>> result = information_from_counts(1000 * torch.tensor([[[2, 0], [0, 2]], [[1, 1], [1, 1]]]), units="bits")
    >>> [round(abs(value), 1) for value in result.values.tolist()]
    [1.0, 0.0]
    """
    check_choice(correction, CORRECTIONS, argument="correction")
    check_choice(units, NATS_PER_UNIT, argument="units")
    if counts.ndim != 3 or counts.is_floating_point():
        raise ValueError(f"counts must be integers (C, cells, K); got {describe(counts)}")
    labels = _labels(counts)
    n, classes = int(labels.sum()), len(labels)
    if bins != "auto":
        check_whole(bins, argument="bins", least=2)
    joined = max(2, min(MOST_BINS, n // (SAMPLES_PER_CELL * classes))) if bins == "auto" else bins
    weights = count_weights(n, correction)
    values = torch.cat(
        [
            _information(counts[part], joined, weights, labels, correction)
            for part in row_slices(len(counts), counts[0].numel(), VALUES_AT_A_TIME)
        ]
    )
    fine = counts.sum(2)
    constant = (fine > 0).sum(1) == 1
    heavy = int(((fine.amax(1) > HEAVY * n) & ~constant).sum())
    bias = (joined - 1) * (classes - 1) / (2 * n)
    notes = [f"a plug-in bias of about {bias:.2g} nats was corrected for"]
    if correction == "none":
        notes = [f"too high by about {bias:.2g} nats"]
    if bool(constant.any()):
        notes.append(f"{count(int(constant.sum()), 'channel')} never changed")
    if heavy:
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
    """Return the information of every channel with the label if it is normal in each class.

    ``I = sum_k p_k E_k[log N_k(x) - log sum_j p_j N_j(x)]``, the expectations by Gauss-Hermite quadrature with 64
    nodes; never above the entropy of the labels. Time goes with the square of the number of classes.

    Parameters
    ----------
    labels : torch.Tensor
        ``(K,)`` samples of each class.
    mean, variance : torch.Tensor
        ``(C, K)`` in each class; those of classes without samples are not looked at.
    units : {"nats", "bits"}
        Unit of all values.

    Raises
    ------
    ValueError
        If there are samples of one class only.

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
    # Sums of means and shares round: what differs by no more than that does not differ.
    constant = overall <= (ROUNDING * mean.abs().amax(1)).square()
    spread = torch.maximum(variance, NARROWEST * overall[:, None]).masked_fill(constant[:, None], 1.0).sqrt()
    values = torch.cat(
        [
            _mixture(share, mean[part], spread[part])
            for part in row_slices(len(mean), NODES * len(share) ** 2, VALUES_AT_A_TIME)
        ]
    ).masked_fill(constant, 0.0)
    n, classes = int(labels.sum()), int(present.sum())
    notes = [f"with labels that mean nothing about {(classes - 1) / n:.2g} nats would be found"]
    if bool(constant.any()):
        notes.append(f"{count(int(constant.sum()), 'channel')} never changed")
    return ChannelInformationResult(
        values=values,
        method="gaussian classes",
        n=n,
        label_entropy=_entropy(labels[present]),
        notes=tuple(notes),
    ).to(units)


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
    counts: torch.Tensor, bins: int, weights: torch.Tensor, labels: torch.Tensor, correction: Correction
) -> torch.Tensor:
    """Return the information ``(C,)`` in nats of cells joined into bins of equal count."""
    n = int(labels.sum())
    after = counts.sum(2).cumsum(1)
    before = after - counts.sum(2)
    # A cell's samples are tied, and share the bin of their mid-rank.
    target = (bins * (before + after) // (2 * n)).clamp(max=bins - 1)
    joint = counts.new_zeros(len(counts), bins, counts.shape[2])
    joint.scatter_add_(1, target[..., None].expand_as(counts), counts)
    return information_from_sums(
        weights[joint].sum((1, 2)),
        weights[joint.sum(2)].sum(1),
        weights[labels].sum(),
        n=n,
        correction=correction,
    )


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
