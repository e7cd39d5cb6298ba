"""Objectives as values: weighted sums of terms that touch no model."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import final

from featurelens.maximization.terms import Term


@final
@dataclass(frozen=True)
class Objective:
    """A weighted sum of terms; made by `channel` and its siblings, combined with ``+``, ``-`` and ``*``.

    Examples
    --------
    >>> from featurelens import objectives
    >>> objectives.channel("conv3", 7) - 0.5 * objectives.channel("conv1", 1)
    Objective(conv3:7 - 0.5 conv1:1)
    """

    terms: tuple[tuple[float, Term], ...]

    def __add__(self, other: Objective) -> Objective:
        if not isinstance(other, Objective):
            return NotImplemented
        return Objective(self.terms + other.terms)

    def __radd__(self, other: object) -> Objective:
        return self if other == 0 else NotImplemented  # so that sum([...]) works

    def __neg__(self) -> Objective:
        return self * -1.0

    def __sub__(self, other: Objective) -> Objective:
        if not isinstance(other, Objective):
            return NotImplemented
        return self + -other

    def __mul__(self, factor: float) -> Objective:
        if isinstance(factor, bool) or not isinstance(factor, float | int):
            return NotImplemented
        if not math.isfinite(factor):
            raise ValueError(f"an objective is multiplied by a finite number; got {factor}")
        return Objective(tuple((weight * float(factor), term) for weight, term in self.terms))

    __rmul__ = __mul__

    def __truediv__(self, divisor: float) -> Objective:
        if isinstance(divisor, bool) or not isinstance(divisor, float | int):
            return NotImplemented
        return self * (1 / divisor)

    def __str__(self) -> str:
        text = ""
        for weight, term in self.terms:
            amount = "" if abs(weight) == 1 else f"{abs(weight):g} "
            sign = ("-" if weight < 0 else "") if not text else (" - " if weight < 0 else " + ")
            text += f"{sign}{amount}{term}"
        return text

    def __repr__(self) -> str:
        return f"Objective({self})"


_NUMBERED = re.compile(r"(.*):(-?\d+)", re.DOTALL)


def numbered(text: str) -> tuple[str, int] | None:
    """Split ``"layer:7"`` into layer and channel; None if it does not end in a number.

    >>> numbered("features.3:12")
    ('features.3', 12)
    """
    parts = _NUMBERED.fullmatch(text)
    return (parts[1], int(parts[2])) if parts else None


def single(term: Term) -> Objective:
    """Return the objective that is `term` alone."""
    return Objective(((1.0, term),))
