"""Labels of classes, and sums of the images of each class."""

from __future__ import annotations

import torch

from featurelens._checks import check_type, describe
from featurelens.statistics.exact_sums import ExactSum


def check_classes(labels: torch.Tensor | None, classes: int, *, user: object) -> None:
    """Raise unless `labels` are ``(N,)`` whole numbers from 0 to `classes` - 1; `user` is the statistic, for the message."""
    check_type(labels, torch.Tensor, argument="labels", expected="a tensor (N,) of integers")
    assert labels is not None
    if labels.is_floating_point() or labels.is_complex():
        raise TypeError(f"labels must be integers; got {describe(labels)}")
    if labels.ndim != 1 or not len(labels):
        raise ValueError(f"labels must have shape (N,), one for each row; got {describe(labels)}")
    low, high = labels.long().aminmax()  # int64, as torch knows little of unsigned integers
    if low < 0 or high >= classes:
        wrong = int(low if low < 0 else high)
        raise ValueError(f"labels must be 0 ... {classes - 1} for {user}; got {wrong}")


def sum_by_class(rows: torch.Tensor, column: torch.Tensor, classes: int) -> torch.Tensor:
    """Return the sums ``(C, K)`` of rows ``(C, N)`` over the images of each class; `column` ``(N,)`` is their class.

    >>> sum_by_class(torch.tensor([[1, 2, 3]]), torch.tensor([0, 1, 0]), 2).tolist()
    [[4, 2]]
    """
    return torch.zeros(len(rows), classes, dtype=rows.dtype).index_add_(1, column, rows)


def among(classes: torch.Tensor, here: torch.Tensor, summed: ExactSum) -> ExactSum:
    """Return exact sums ``(L, C, k)`` of the classes `here` as those of all `classes`."""
    limbs, lowest = summed
    spread = limbs.new_zeros(*limbs.shape[:2], len(classes))
    spread[:, :, torch.searchsorted(classes, here)] = limbs
    return spread, lowest
