"""`Objective`: a weighted sum of terms."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

from featurelens.layers import Selector
from featurelens.maximization.terms import LayerTerm, Term


@final
@dataclass(frozen=True)
class Objective:
    """A weighted sum of terms; made by `channel` and similar functions, combined with ``+``, ``-`` and ``*``.

    Examples
    --------
    >>> from featurelens import objectives
    >>> objectives.channel("conv3", 7) - 0.5 * objectives.channel("conv1", 1)
    Objective(conv3:7 - 0.5 conv1:1)
    """

    terms: tuple[tuple[float, Term], ...]

    @property
    def layers(self) -> list[Selector]:
        """The layers that it uses, as they were selected."""
        return [term.layer for _, term in self.terms if isinstance(term, LayerTerm)]

    def __add__(self, other: object) -> Objective:
        return Objective(self.terms + other.terms) if isinstance(other, Objective) else NotImplemented

    def __radd__(self, other: object) -> Objective:
        return self if other == 0 else NotImplemented  # so that sum([...]) works

    def __neg__(self) -> Objective:
        return self * -1.0

    def __sub__(self, other: object) -> Objective:
        return self + -other if isinstance(other, Objective) else NotImplemented

    def __mul__(self, factor: float) -> Objective:
        if isinstance(factor, bool) or not isinstance(factor, float | int):
            return NotImplemented
        if not math.isfinite(factor):
            raise ValueError(f"an objective can only be multiplied by a finite number; got {factor}")
        return Objective(tuple((weight * float(factor), term) for weight, term in self.terms))

    __rmul__ = __mul__

    def __truediv__(self, divisor: float) -> Objective:
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
