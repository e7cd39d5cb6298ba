"""What networks make of optimized images, beside what they make of real ones."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from featurelens._checks import check_dense, describe
from featurelens._failure import explained
from featurelens._hooks import visiting
from featurelens._structure import first_tensor

Forward = Callable[[torch.Tensor], torch.Tensor]


@torch.no_grad()
def features(network: nn.Module, images: torch.Tensor, prepare: Forward, size: int) -> torch.Tensor:
    """Return what a network returns for images, averaged over positions: ``(N, D)``, in float64."""
    first = next((p for p in network.parameters() if p.is_floating_point()), torch.zeros(()))
    parts = []
    with visiting(network):
        for part in torch.split(images, size):
            given = prepare(part.to(first.device)).to(first.dtype)
            try:
                output = first_tensor(network(given))
            except Exception as error:
                found = explained(error, network, "images", (given,), {})
                raise type(found)(f"network: {found}") from error
            if output is None or output.ndim < 2 or len(output) != len(part):
                raise ValueError(
                    f"network must return a tensor (N, D, ...) for {len(part)} images; got {describe(output)}"
                )
            check_dense(output, argument="what network returns")
            if not bool(output.isfinite().all()):
                raise ValueError("network must return finite values; got NaN or infinite ones")
            parts.append(output.reshape(*output.shape[:2], -1).double().mean(2).cpu())
    return torch.cat(parts)


def transfer(pictures: torch.Tensor, strongest: torch.Tensor, random: torch.Tensor) -> torch.Tensor:
    """Return ``(N,)``: the share of random real images that are less like the strongest real ones than the picture is.

    All are features: pictures ``(N, D)``, strongest ``(N, K, D)``, random ``(R, D)``. Likeness is the cosine after the
    mean and scale of the random images are taken out.
    """
    centre, scale = random.mean(0), random.std(0, correction=0).clamp(min=1e-12)
    ours, best, usual = (
        nn.functional.normalize((each - centre) / scale, dim=-1) for each in (pictures, strongest, random)
    )
    towards = nn.functional.normalize(best.mean(1), dim=1)
    return ((ours * towards).sum(1)[:, None] > (usual @ towards.T).T).double().mean(1).float()


def frechet_distance(first: torch.Tensor, second: torch.Tensor) -> float:
    """Return the Fréchet distance of two sets of features ``(N, D)`` and ``(M, D)``, taken as Gaussians.

    It is the root of ``|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^0.5)`` (Dowson and Landau 1982). The last trace is the sum of
    the singular values of ``A1.T @ A2`` where ``C = A @ A.T``, so no root of a matrix is taken. NaN for sets of one.
    """
    if min(len(first), len(second)) < 2:
        return torch.nan
    means = first.mean(0) - second.mean(0)
    one, two = ((each - each.mean(0)) / (len(each) - 1) ** 0.5 for each in (first, second))
    shared = torch.linalg.svdvals(one @ two.T).sum()
    squared = means.square().sum() + one.square().sum() + two.square().sum() - 2 * shared
    return float(squared.clamp(min=0).sqrt())
