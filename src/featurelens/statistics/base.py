"""The abstract statistic: how to measure a batch, combine two measurements and summarize them."""

from __future__ import annotations

import copy
import dataclasses
import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, Self, final

import torch

from featurelens._checks import check_dense, check_type, check_whole, describe

State = dict[str, Any]
"""What was measured: tensors, numbers, and plain tuples, lists and dicts of them."""


class Statistic(ABC):
    """A statistic of a layer's output that is gathered batch by batch, and merges from any parts of a data set.

    A statistic holds its settings and what it has measured so far. ``update`` adds a batch, ``merge`` adds the
    measurements of another statistic with the same settings, ``compute`` returns the result.
    `ActivationRecorder.stream` uses the statistics it is given as templates: every layer gets fresh ones.

    To write your own, define a dataclass of its settings with three methods without side effects: `measure` for one
    batch, `combine` for two measurements, and `summarize`. The result of `combine` must not depend on order or
    grouping: integer counts are safe, float64 sums depend on their order. If it uses labels, set ``needs_labels:
    ClassVar[bool] = True``; if it holds a value for each image of the data set, in its order, ``needs_order``.

    Examples
    --------
    >>> from dataclasses import dataclass
    >>> @dataclass(eq=False)
    ... class Sparsity(Statistic):
    ...     below: float
    ...
    ...     def measure(self, values, first_row, labels):
    ...         values = values.transpose(0, 1).flatten(1)
    ...         return {"small": (values.abs() <= self.below).sum(1), "all": values.shape[1]}
    ...
    ...     def combine(self, one, other):
    ...         return {name: one[name] + other[name] for name in one}
    ...
    ...     def summarize(self, state):
    ...         return state["small"] / state["all"]
    >>> sparsity = Sparsity(below=0.1)
    >>> sparsity.update(torch.tensor([[0.0, 1.0], [2.0, 3.0]]))
    >>> sparsity.compute()
    tensor([0.5000, 0.0000])
    """

    needs_labels: ClassVar[bool] = False
    needs_order: ClassVar[bool] = False
    state: State | None = None
    rows: int = 0

    @staticmethod
    def view(values: torch.Tensor) -> Any:
        """Return what `measure` is given of a batch's `values` ``(N, C, ...)``: by default the values themselves.

        Statistics of a layer that have the same function as their view share what it returns.
        """
        return values

    @abstractmethod
    def measure(self, values: Any, first_row: int, labels: torch.Tensor | None) -> State:
        """Return the statistic of one batch `values` ``(N, C, ...)``, axis 1 being the channel, or of its `view`.

        `values` belong to the model: do not change or keep them. `first_row` is the number of rows of the data set
        before this batch; `labels` are the batch's labels, if any.
        """

    @abstractmethod
    def combine(self, one: State, other: State) -> State:
        """Return the statistic of two parts of the data, `one` and `other`, together.

        The memory of `one` may be reused.

        Raises
        ------
        ValueError
            If they cannot belong to the same data, for example because their numbers of channels differ.
        """

    @abstractmethod
    def summarize(self, state: State) -> Any:
        """Return the result for everything in `state`."""

    def check_labels(self, labels: torch.Tensor | None) -> None:
        """Raise unless the `labels` `(N,)` of a batch can be used; called before the batch is run.

        Raises
        ------
        ValueError
            If labels are needed and there are none.
        """
        if self.needs_labels and labels is None:
            raise ValueError(f"{self} needs labels")

    @final
    def update(
        self, values: torch.Tensor, *, first_row: int | None = None, labels: torch.Tensor | None = None
    ) -> None:
        """Add the `values` ``(N, C, ...)`` and `labels` `(N,)` of one batch, which begins at `first_row`.

        By default its rows follow those seen so far.

        Raises
        ------
        TypeError
            If `values` are not a dense tensor of real numbers, `labels` not a tensor, or `first_row` not a whole number.
        ValueError
            If `values` are not ``(N, C, ...)``, have another number of channels than before, `first_row` is below 0,
            or the labels do not fit.
        """
        self.check_labels(labels)
        check_values(values)
        if first_row is not None:
            first_row = check_whole(first_row, argument="first_row", least=0, most=2**62)
        if labels is not None:
            check_type(labels, torch.Tensor, argument="labels", expected="a tensor (N,)")
            check_dense(labels, argument="labels")
            if labels.ndim == 0 or len(labels) != len(values):
                raise ValueError(
                    f"labels must have one label for each of {len(values)} rows; got {describe(labels)}"
                )
        with torch.no_grad():
            part = self.measure(self.view(values), self.rows if first_row is None else first_row, labels)
        self.absorb(part, len(values))

    @final
    def merge(self, other: Statistic) -> None:
        """Add the measurements of another statistic with the same settings.

        Raises
        ------
        TypeError, ValueError
            If `other` is not a statistic, or another one, or has other settings.
        """
        check_type(other, Statistic, argument="other", expected="a statistic")
        if type(other) is not type(self) or not _same(settings(other), settings(self)):
            raise ValueError(f"other must be a statistic with the same settings as {self}; got {other}")
        if other.state is not None:
            self.absorb(copy.deepcopy(other.state) if self.state is None else other.state, other.rows)

    @final
    def absorb(self, part: State, rows: int) -> None:
        """Add `part`, the state of `rows` rows measured elsewhere."""
        self.state = part if self.state is None else self.combine(self.state, part)
        self.rows += rows

    @final
    def compute(self) -> Any:
        """Return the result for everything seen so far.

        Raises
        ------
        ValueError
            If nothing was seen yet.
        """
        if self.state is None:
            raise ValueError(f"{self} has seen no batch yet")
        # A copy: later batches must not change a result, nor a result the state.
        return self.summarize(copy.deepcopy(self.state))

    @final
    def fresh(self) -> Self:
        """Return a statistic with the same settings that has seen no data."""
        other = copy.copy(self)
        other.state, other.rows = None, 0
        return other


def settings(statistic: Statistic) -> dict[str, Any]:
    """Return the fields of a statistic that is a dataclass."""
    record: Any = statistic
    if not dataclasses.is_dataclass(record):
        return {}
    return {field.name: getattr(record, field.name) for field in dataclasses.fields(record)}


def _same(one: Any, other: Any) -> bool:
    """Return whether two settings are equal; those of a user's statistics may be, or contain, tensors."""
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if type(one) is not type(other):
        return bool(one == other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other)


def name_of(kind: type[Statistic]) -> str:
    """Return the name of a statistic's results: ``"joint_counts"`` for `JointCounts`."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).lower()


def kinds(parent: type[Statistic] = Statistic) -> dict[str, type[Statistic]]:
    """Return every statistic that has been defined, also by users, by the name of its class."""
    found: dict[str, type[Statistic]] = {}
    for kind in parent.__subclasses__():
        found |= {kind.__name__: kind, **kinds(kind)}
    return found


def check_values(values: object) -> None:
    """Raise unless statistics can be measured on `values`."""
    check_type(values, torch.Tensor, argument="values", expected="a tensor (N, C) or (N, C, ...)")
    assert isinstance(values, torch.Tensor)
    if values.is_complex():
        raise TypeError(f"values must be real; got {describe(values)}")
    check_dense(values, argument="values")
    if values.ndim < 2 or 0 in values.shape:
        raise ValueError(
            f"values must have shape (N, C) or (N, C, ...) with no empty dimension; got {describe(values)}"
        )


def check_same_channels(one: int, other: int) -> None:
    """Raise unless two parts have the same number of channels."""
    if one != other:
        raise ValueError(f"parts must have the same number of channels; got {one} and then {other}")


def combined(one: State, other: State, **rules: Callable[[Any, Any], Any]) -> State:
    """Combine two states entry by entry, each by its own rule."""
    return {name: rule(one[name], other[name]) for name, rule in rules.items()}
