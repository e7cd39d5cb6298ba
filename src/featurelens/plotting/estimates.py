"""Information over epochs: results, or plain numbers, brought into arrays and one unit."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from featurelens._checks import check_type, count, describe
from featurelens.information import MutualInformationResult, SpatialMutualInformationResult
from featurelens.plotting.arrays import Array, Floats, check_array, to_floats

Estimate: TypeAlias = MutualInformationResult | SpatialMutualInformationResult
Read = TypeVar("Read")
OverEpochs: TypeAlias = Sequence[Estimate] | Sequence[float] | Array


@dataclass(frozen=True)
class Estimates:
    """Values ``(epochs,)`` with their nulls and intervals, NaN where there is none."""

    values: Floats
    nulls: Floats
    lows: Floats
    highs: Floats
    units: str | None = None

    def __len__(self) -> int:
        return len(self.values)


def interval_of(estimate: Estimate) -> tuple[float, float] | None:
    """Return the interval around the value; that of a spatial result lies around its excess over the null."""
    if estimate.interval is None or isinstance(estimate, MutualInformationResult):
        return estimate.interval
    null = estimate.null_mean or 0.0
    return estimate.interval[0] + null, estimate.interval[1] + null


def read_estimates(curves: Mapping[str, OverEpochs], *, argument: str) -> dict[str, Estimates]:
    """Return the estimates under each name; results must agree on their units, plain numbers have none."""
    return read_named(curves, _read, "results (or numbers)", argument=argument)


def read_named(
    curves: Mapping[str, Any], read: Callable[[Any, str], Read], values: str, *, argument: str = "curves"
) -> dict[str, Read]:
    """Return what `read` makes of the values under each name."""
    check_type(curves, Mapping, argument=argument, expected=f"a mapping from names to {values} over epochs")
    if not curves:
        raise ValueError(f"{argument} is empty: pass at least one name with its {values} over epochs")
    return {str(name): read(series, f"{argument}[{name!r}]") for name, series in curves.items()}


def common_units(units: Iterable[str | None], *, argument: str) -> str | None:
    """Return the one unit of all estimates, None for plain numbers."""
    found = list(dict.fromkeys(units))
    if len(found) == 1:
        return found[0]
    named = [unit for unit in found if unit is not None]
    if len(named) == len(found):
        raise ValueError(
            f"{argument} mixes {' and '.join(named)}: convert all results to one unit, with "
            f"result.to({named[0]!r})"
        )
    raise ValueError(
        f"{argument} mixes results in {' and '.join(named)} with plain numbers, which have no unit: "
        "use one of them everywhere"
    )


def read_epochs(epochs: Sequence[int] | Array | None, lengths: Mapping[str, int]) -> NDArray[np.int64]:
    """Return the epochs, from 1 unless given; given ones must fit every sequence and grow."""
    if epochs is None:
        return np.arange(1, max(lengths.values()) + 1)
    try:
        numbers = np.array([int(epoch) for epoch in epochs], dtype=np.int64)
    except (TypeError, ValueError):
        raise TypeError(f"epochs must be a sequence of whole numbers; got {describe(epochs)}") from None
    for name, length in lengths.items():
        if length != len(numbers):
            raise ValueError(
                f"{name} must have one value for each of {count(len(numbers), 'epoch')}; got {length}"
            )
    if (np.diff(numbers) <= 0).any():
        raise ValueError(f"epochs must increase; got {numbers.tolist()}")
    return numbers


def _read(values: OverEpochs, argument: str) -> Estimates:
    if isinstance(values, torch.Tensor | np.ndarray):
        return _plain(to_floats(check_array(values, {1: "(epochs,)"}, argument=argument)))
    if not isinstance(values, list | tuple):
        raise TypeError(f"{argument} must be a sequence of results or numbers; got {describe(values)}")
    if not values:
        raise ValueError(f"{argument} is empty: pass at least one epoch")
    results = [value for value in values if isinstance(value, Estimate)]
    if not results:
        try:
            return _plain(np.array([float(value) for value in values]))
        except (TypeError, ValueError):
            raise TypeError(f"{argument} must hold results or numbers; got {describe(values)}") from None
    if len(results) != len(values):
        raise TypeError(f"{argument} must hold results only or numbers only; got {describe(values)}")
    units = common_units((result.units for result in results), argument=argument)
    nulls = [math.nan if result.null_mean is None else result.null_mean for result in results]
    intervals = [interval_of(result) or (math.nan, math.nan) for result in results]
    lows, highs = np.array(intervals, dtype=float).T
    values = np.array([float(result.value) for result in results])
    return Estimates(values, np.array(nulls, dtype=float), lows, highs, units)


def _plain(values: Floats) -> Estimates:
    unknown = np.full(len(values), np.nan)
    return Estimates(values, unknown, unknown, unknown)
