"""The Hilbert-Schmidt independence criterion of two representations: what CKA is a ratio of."""

from __future__ import annotations

import torch


def from_kernels(k: torch.Tensor, l: torch.Tensor) -> torch.Tensor:
    """Return the unbiased estimate from kernel matrices ``(N, N)`` (Song et al., JMLR 2012); their diagonals are ignored."""
    diagonal = (k.diagonal() * l.diagonal()).sum()
    rows_k, rows_l = k.sum(1) - k.diagonal(), l.sum(1) - l.diagonal()
    return _unbiased(len(k), (k * l).sum() - diagonal, rows_k.sum(), rows_l.sum(), rows_k @ rows_l)


def from_features(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return the same for linear kernels from features ``(N, D)`` and ``(N, D')``, without matrices ``(N, N)``."""
    a, b = x.square().sum(1), y.square().sum(1)
    sum_x, sum_y, products = x.sum(0), y.sum(0), x.T @ y
    both = (a * b).sum()
    trace = products.square().sum() - both
    middle = sum_x @ products @ sum_y - sum_x @ (b @ x) - (a @ y) @ sum_y + both
    return _unbiased(len(x), trace, sum_x.square().sum() - a.sum(), sum_y.square().sum() - b.sum(), middle)


def biased_from_kernels(k: torch.Tensor, l: torch.Tensor) -> torch.Tensor:
    """Return the biased estimate ``tr(K H L H)``, up to a factor that CKA cancels."""
    centred = k - k.mean(0) - k.mean(1, keepdim=True) + k.mean()
    return (centred * l).sum()


def biased_from_features(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return the same for linear kernels."""
    return ((x - x.mean(0)).T @ (y - y.mean(0))).square().sum()


def _unbiased(
    n: int, trace: torch.Tensor, total_k: torch.Tensor, total_l: torch.Tensor, middle: torch.Tensor
) -> torch.Tensor:
    return (trace + total_k * total_l / ((n - 1) * (n - 2)) - 2 / (n - 2) * middle) / (n * (n - 3))
