"""Sums of float64 numbers without any rounding, so that no order of adding them can show.

A float64 is an integer times a power of two, so every sum of them is a whole number of the smallest power. It is kept
in limbs of 32 bits in int64, only as many as the numbers reach over. Integers add exactly, in any order:

>>> terms = [exact(torch.tensor([number], dtype=torch.float64)) for number in (1e100, 1.0, -1e100)]
>>> high, low = total(added(added(terms[0], terms[1]), terms[2]))
>>> high.item(), low.item()
(1.0, 0.0)
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

ExactSum = tuple[torch.Tensor, int]
"""Limbs ``(L, ...)`` int64, lowest first, and the number of the lowest; limb l counts ``2^(32 l - 1152)``.

One addition puts less than 2^34 into a limb, so that 2^29 of them fit before one could overflow.
"""

ORIGIN = 1152  # below the smallest float64, and a multiple of 32
MASK = 2**32 - 1
TOO_LARGE = "values are so large that their sums or squares overflow float64"
SPLITTER = 2.0**27 + 1  # Dekker's, for halves of 26 bits

Integers = NDArray[np.int64]


def exact(*terms: torch.Tensor) -> ExactSum:
    """Return the exact sum of float64 tensors of one shape.

    Raises
    ------
    ValueError
        If a number is not finite.
    """
    result = _limbs(terms[0])
    for term in terms[1:]:
        result = added(result, _limbs(term))
    return result


def added(one: ExactSum, other: ExactSum) -> ExactSum:
    """Return the sum of two exact sums of one shape."""
    if not len(one[0]) or not len(other[0]):
        return one if len(one[0]) else other
    lowest = min(one[1], other[1])
    highest = max(limbs_lowest + len(limbs) for limbs, limbs_lowest in (one, other))
    limbs = one[0].new_zeros(highest - lowest, *one[0].shape[1:])
    for part, start in (one, other):
        limbs[start - lowest : start - lowest + len(part)] += part
    return limbs, lowest


def total(summed: ExactSum) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the sum rounded to two float64 tensors, the second being what the first leaves over."""
    limbs, lowest = summed[0].numpy(), summed[1]
    digits, carry = _carried(limbs)
    negative = carry < 0
    if negative.any():
        digits, carry = _carried(np.where(negative, -limbs, limbs))
    with np.errstate(over="ignore", invalid="ignore"):
        high = np.ldexp(carry.astype(float), 32 * (lowest + len(limbs)) - ORIGIN)
        low = np.zeros_like(high)
        for number in range(len(limbs) - 1, -1, -1):
            high, rest = two_sum(
                high, np.ldexp(digits[number].astype(float), 32 * (lowest + number) - ORIGIN)
            )
            low = low + rest
        high, low = two_sum(high, low)
    sign = np.where(negative, -1.0, 1.0)
    return torch.from_numpy(sign * high), torch.from_numpy(sign * low)


def two_sum(a: Any, b: Any) -> tuple[Any, Any]:
    """Return ``a + b`` rounded, and exactly what that rounding lost (Knuth)."""
    rounded = a + b
    back = rounded - a
    return rounded, (a - (rounded - back)) + (b - back)


def two_product(a: Any, b: Any) -> tuple[Any, Any]:
    """Return ``a * b`` rounded, and exactly what that rounding lost (Dekker)."""
    product = a * b
    (a1, a2), (b1, b2) = _halves(a), _halves(b)
    return product, a2 * b2 - (((product - a1 * b1) - a2 * b1) - a1 * b2)


def divided(high: Any, low: Any, by: Any) -> tuple[Any, Any]:
    """Return the quotient of ``high + low`` and a float64, as two float64 again."""
    first = high / by
    product, rest = two_product(first, by)
    return first, ((high - product) - rest + low) / by


def raw_products(
    about_mean: torch.Tensor, one: torch.Tensor, other: torch.Tensor, count: torch.Tensor
) -> ExactSum:
    """Return a batch's sum of products x y, from that of ``(x - mean x) (y - mean y)`` and the sums of x and y.

    The means' part ``S_x S_y / n`` is carried in twice the digits: where a channel's mean is large beside its scatter,
    the scatter is the difference of two nearly equal numbers.
    """
    return exact(about_mean, *divided(*two_product(one, other), count.clamp_min(1).double()))


def central_products(products: ExactSum, one: ExactSum, other: ExactSum, count: torch.Tensor) -> torch.Tensor:
    """Return the sum of ``(x - mean x) (y - mean y)`` over everything, from the sums of x y, of x and of y.

    Raises
    ------
    ValueError
        If a product of the sums is beyond float64.
    """
    (high_one, low_one), (high_other, low_other) = total(one), total(other)
    high, low = two_product(high_one, high_other)
    low = low + (high_one * low_other + low_one * high_other)
    means, rest = divided(high, low, count.clamp_min(1).double())
    high, low = total(products)
    difference, lost = two_sum(high, -means)
    scatter: torch.Tensor = difference + (lost + (low - rest))
    if not bool(torch.isfinite(scatter).all()):
        raise ValueError(TOO_LARGE)
    return scatter


def _halves(a: Any) -> tuple[Any, Any]:
    big = SPLITTER * a
    high = big - (big - a)
    return high, a - high


def _limbs(values: torch.Tensor) -> ExactSum:
    numbers = values.detach().cpu().double().numpy()
    flat = numbers.reshape(-1)
    if not np.isfinite(flat).all():
        raise ValueError(TOO_LARGE)
    fraction, exponent = np.frexp(flat)
    whole = np.abs(np.ldexp(fraction, 53)).astype(np.int64)
    occupied = whole > 0
    if not occupied.any():
        return torch.zeros(0, *numbers.shape, dtype=torch.int64), 0
    place = exponent.astype(np.int64) - 53 + ORIGIN
    limb, shift = place >> 5, place & 31
    first, last = int(limb[occupied].min()), int(limb[occupied].max()) + 2
    low, high = (whole & MASK) << shift, (whole >> 32) << shift
    sign, columns = np.sign(flat).astype(np.int64), np.arange(len(flat))
    row = np.where(occupied, limb, first) - first
    limbs = np.zeros((last - first + 1, len(flat)), dtype=np.int64)
    for step, piece in enumerate((low & MASK, (low >> 32) + (high & MASK), high >> 32)):
        limbs[row + step, columns] = sign * piece
    return torch.from_numpy(limbs.reshape(-1, *numbers.shape)), first


def _carried(limbs: Integers) -> tuple[Integers, Integers]:
    """Return digits in 0 ... 2^32 - 1 ``(L, ...)``, and what is carried beyond the highest."""
    digits, carry = np.empty_like(limbs), np.zeros(limbs.shape[1:], dtype=np.int64)
    for number, limb in enumerate(limbs):
        carried = carry + limb
        digits[number], carry = carried & MASK, carried >> 32
    return digits, carry
