"""The two variables of an estimate: samples as a float64 matrix, or labels as integer codes."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Self, final

import numpy as np
import torch

from featurelens._checks import describe, to_tensor

ArrayLike = torch.Tensor | np.ndarray[Any, Any]

MOSTLY_DISTINCT = 0.01
"""Rounding to float32 repeats up to this share of a continuous variable's values."""


@final
@dataclass(frozen=True)
class Variable:
    """One side: `values` ``(N, D)`` float64, or ``(N,)`` codes 0, 1, ... when `discrete`.

    `dim` is the number of columns that the user passed; `notes` lists the changes made to them.
    """

    values: torch.Tensor
    discrete: bool
    dim: int
    name: str
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.values)

    @property
    def device(self) -> torch.device:
        return self.values.device

    @property
    def levels(self) -> int:
        """The number of labels of a discrete side."""
        return int(self.values.max()) + 1

    def take(self, index: torch.Tensor) -> Self:
        """Return the samples at `index`, in that order."""
        return self.with_values(self.values[index])

    def with_values(self, values: torch.Tensor) -> Self:
        """Return the same side with transformed `values`."""
        return dataclasses.replace(self, values=values)

    def repeats(self) -> bool:
        """Return whether a continuous side has enough repeated values to be a mixture with point masses."""
        return not self.discrete and self.tied_share() > MOSTLY_DISTINCT

    def few_values(self) -> bool:
        """Return whether a continuous side has at most ``sqrt(N) / 2`` different values, each of which recurs."""
        return self.repeats() and 4 * len(torch.unique(self.values, dim=0)) ** 2 <= len(self)

    def tied_share(self) -> float:
        """Return the largest share, over columns, of samples whose value occurs more than once."""
        ordered = self.values.sort(dim=0).values
        same = ordered[1:] == ordered[:-1]
        edge = torch.zeros_like(same[:1])
        tied = torch.cat([same, edge]) | torch.cat([edge, same])
        return float(tied.double().mean(dim=0).max())

    def heaviest_value(self) -> tuple[float, float]:
        """Return the commonest single value over all columns and the share of samples that have it."""
        best = (0.0, 0.0)
        for column in self.values.unbind(dim=1):
            value, counts = torch.unique(column, return_counts=True)
            share = float(counts.max()) / len(column)
            if share > best[1]:
                best = (float(value[counts.argmax()]), share)
        return best

    def tie_note(self) -> str:
        """Say how much of this side is repeated values, for the notes of a result."""
        value, share = self.heaviest_value()
        return (
            f"{self.tied_share():.0%} of {self.name} are repeated values (most often {value:g}, {share:.0%})"
        )


def make_pair(x: ArrayLike, y: ArrayLike, *, allow_constant: bool = False) -> tuple[Variable, Variable]:
    """Check both sides and bring them to one device.

    Raises
    ------
    TypeError
        If a side is neither a tensor nor an array, or is complex.
    ValueError
        If the lengths differ, a side is empty or constant, has more than two dimensions, or holds NaN or
        infinity.
    """
    first, second = (_as_matrix(side, name) for side, name in ((x, "x"), (y, "y")))
    if len(first) != len(second):
        raise ValueError(
            f"x and y must have the same number of samples; got {len(first)} (x {tuple(first.shape)}) "
            f"and {len(second)} (y {tuple(second.shape)})"
        )
    # An array is moved to the device of the tensor it is paired with; of two tensors, y is moved to x.
    home = second.device if isinstance(x, np.ndarray) else first.device
    if home.type == "mps":
        home = torch.device("cpu")  # there is no float64 on this device
    return (
        as_variable(first.to(home), "x", allow_constant=allow_constant),
        as_variable(second.to(home), "y", allow_constant=allow_constant),
    )


def in_fixed_order(x: Variable, y: Variable) -> tuple[Variable, Variable]:
    """Return both sides in an order that depends on their ranks alone, so that an estimate is symmetric."""
    if x.discrete or y.discrete:
        return x, y

    def key(side: Variable) -> tuple[int, list[list[int]]]:
        ranks = [(side.values < row).sum(dim=0).tolist() for row in side.values[:8]]
        return side.values.shape[1], ranks

    return (x, y) if key(x) <= key(y) else (y, x)


def with_full_precision(values: torch.Tensor) -> torch.Tensor:
    """Return float32 for integers and half precision, other floating-point types as they are."""
    half = values.dtype in {torch.float16, torch.bfloat16}
    return values.float() if half or not values.is_floating_point() else values


def _as_matrix(data: object, name: str) -> torch.Tensor:
    data = to_tensor(data, name)
    if data.ndim not in {1, 2}:
        raise ValueError(f"{name} must have shape (N,) or (N, D); got {describe(data)}")
    if 0 in data.shape:
        raise ValueError(
            f"{name} is empty: expected at least one sample and one column; got {describe(data)}"
        )
    return data


def as_variable(data: torch.Tensor, name: str, *, allow_constant: bool = False) -> Variable:
    """Return samples or labels ``(N,)`` or ``(N, D)`` as one side, or raise a ValueError."""
    if len(data) < 2:
        raise ValueError(f"{name} must have at least 2 samples; got {describe(data)}")
    columns = data.reshape(len(data), -1)
    dim = columns.shape[1]
    if not data.is_floating_point():
        codes = label_codes(columns)
        if not allow_constant and not bool(codes.any()):
            raise ValueError(
                f"{name} is constant (one label, {columns[0].tolist()}): it cannot share information"
            )
        return Variable(codes, True, dim, name)
    values = columns.double()
    finite = torch.isfinite(values)
    if not bool(finite.all()):
        bad = int((~finite).sum())
        raise ValueError(f"{name} must be finite; got {bad} NaN or infinite of {values.numel()} values")
    varies = (values != values[:1]).any(dim=0)
    if allow_constant or bool(varies.all()):
        return Variable(values, False, dim, name)
    if not bool(varies.any()):
        raise ValueError(
            f"{name} is constant (every sample is {values[0].tolist()}): it cannot share information"
        )
    left_out = dim - int(varies.sum())
    note = f"{left_out} of {dim} columns of {name} are constant and were left out"
    return Variable(values[:, varies], False, dim, name, (note,))


def label_codes(columns: torch.Tensor) -> torch.Tensor:
    """Return codes 0, 1, ... ``(N,)`` for the distinct rows of `columns` ``(N, D)``.

    >>> label_codes(torch.tensor([[7, 1], [3, 1], [7, 1]]))
    tensor([1, 0, 1])
    """
    # Sorting numbers is much faster than sorting rows.
    rows, dim = (columns[:, 0], None) if columns.shape[1] == 1 else (columns, 0)
    codes: torch.Tensor = torch.unique(rows, dim=dim, return_inverse=True)[1]
    return codes


def entropy(codes: torch.Tensor) -> float:
    """Return the entropy in nats of the empirical distribution of codes ``(N,)``.

    >>> round(entropy(torch.tensor([0, 1, 0, 1])), 4)
    0.6931
    """
    shares = codes.bincount().double() / len(codes)
    return float(-torch.xlogy(shares, shares).sum()) + 0.0  # of a constant: 0, not -0


def label_entropy(x: Variable, y: Variable) -> float | None:
    """Return the smaller entropy in nats of the sides that hold labels, None if neither does.

    Labels that occur less than twice on average are left out: their entropy only reflects the number of samples.
    """
    recurring = [side for side in (x, y) if side.discrete and 2 * side.levels <= len(side)]
    return min((entropy(side.values) for side in recurring), default=None)
