"""Normal scores: each column replaced by the normal quantiles of its ranks, which does not change information."""

from __future__ import annotations

import torch


def uniform_scores(values: torch.Tensor) -> torch.Tensor:
    """Return mid-ranks of every column of `values` ``(N, D)``, scaled into (0, 1) as ``(rank - 1/2) / N``.

    Equal values keep equal scores.

    >>> uniform_scores(torch.tensor([[3.0], [1.0], [1.0], [7.0]])).T
    tensor([[0.6250, 0.2500, 0.2500, 0.8750]], dtype=torch.float64)
    """
    rows = values.T.contiguous()
    ordered, order = rows.sort(dim=-1)
    n = rows.shape[-1]
    if bool((ordered[:, 1:] == ordered[:, :-1]).any()):
        low = torch.searchsorted(ordered, rows)
        high = torch.searchsorted(ordered, rows, right=True)
        return ((low + high).double() / (2 * n)).T.contiguous()
    return _scores_of_order(order, n)


def spread_scores(values: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Return ranks as :func:`uniform_scores` does, with equal values in a random order.

    This is the distributional transform (Rüschendorf 2009, "On the distributional transform, Sklar's theorem,
    and the empirical copula process"): a point mass is spread over the ranks that it occupies. The new rank still
    determines the value, and the random order is independent of the other side, so the information is exactly that of
    the original values, without repeated values.
    """
    rows = values.T.contiguous()
    n = rows.shape[-1]
    shuffle = torch.rand(rows.shape, generator=generator, dtype=torch.float32).argsort(dim=-1).to(rows.device)
    order = shuffle.gather(-1, rows.gather(-1, shuffle).argsort(dim=-1, stable=True))
    return _scores_of_order(order, n)


def _scores_of_order(order: torch.Tensor, n: int) -> torch.Tensor:
    scores = (torch.arange(n, dtype=torch.float64, device=order.device) + 0.5) / n
    placed = torch.empty(order.shape, dtype=torch.float64, device=order.device)
    return placed.scatter_(-1, order, scores.expand(order.shape)).T.contiguous()


def normal_scores(values: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
    """Return standard normal quantiles of the ranks, ``(N, D)``; with a `generator`, equal values are spread."""
    scores = uniform_scores(values) if generator is None else spread_scores(values, generator)
    quantiles: torch.Tensor = torch.special.ndtri(scores)
    return quantiles
