"""The Hilbert-Schmidt independence criterion of two representations: what CKA is a ratio of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch


@final
@dataclass(frozen=True)
class Sums:
    """What linear HSIC needs of features x `(N, D)` and y `(N, D')`: sums over the images, whatever their number.

    With ``a = |x|^2`` and ``b = |y|^2`` of an image they are the sums of x, y, a, b, ``x y'``, ``b x``, ``a y`` and
    ``a b``.
    """

    x: torch.Tensor
    y: torch.Tensor
    a: torch.Tensor
    b: torch.Tensor
    products: torch.Tensor
    bx: torch.Tensor
    ay: torch.Tensor
    ab: torch.Tensor

    def unbiased(self, n: int) -> torch.Tensor:
        """Return the unbiased estimate from `n` images."""
        trace = self.products.square().sum() - self.ab
        middle = self.x @ self.products @ self.y - self.x @ self.bx - self.ay @ self.y + self.ab
        return _unbiased(n, trace, self.x.square().sum() - self.a, self.y.square().sum() - self.b, middle)


def from_kernels(k: torch.Tensor, l: torch.Tensor) -> torch.Tensor:
    """Return the unbiased estimate from kernel matrices ``(N, N)`` (Song et al., JMLR 2012); their diagonals are ignored."""
    diagonal = (k.diagonal() * l.diagonal()).sum()
    rows_k, rows_l = k.sum(1) - k.diagonal(), l.sum(1) - l.diagonal()
    return _unbiased(len(k), (k * l).sum() - diagonal, rows_k.sum(), rows_l.sum(), rows_k @ rows_l)


def from_features(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return the same for linear kernels from features ``(N, D)`` and ``(N, D')``, without matrices ``(N, N)``."""
    a, b = x.square().sum(1), y.square().sum(1)
    return Sums(x.sum(0), y.sum(0), a.sum(), b.sum(), x.T @ y, b @ x, a @ y, a @ b).unbiased(len(x))


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
