"""What an estimate of mutual information says: the value, how sure it is, and how far it can be trusted."""

from __future__ import annotations

import dataclasses
import html
import math
from dataclasses import dataclass
from typing import Any, Literal, Self, TypeVar, final

from featurelens._checks import check_choice, count

Units = Literal["nats", "bits"]

Result = TypeVar("Result")

NATS_PER_UNIT = {"nats": 1.0, "bits": math.log(2.0)}
MEASURED = ("value", "standard_error", "interval", "null_mean", "ceiling", "label_entropy", "bracket")
SATURATION = 0.6
"""Above this share of its ceiling an estimate is more ceiling than estimate."""


@final
@dataclass(frozen=True, kw_only=True)
class MutualInformationResult:
    """One estimate of the mutual information between two variables.

    Attributes
    ----------
    value : float
        The estimate, in `units`. Estimates of small values scatter around the truth, so it may be negative.
    units : {"nats", "bits"}
        Unit of every information value here.
    method : str
        The estimator with its settings, as ``"KSG(k=5, variant=1, marginals='normal-score')"``.
    n : int
        Number of samples.
    dim_x, dim_y : int
        Number of columns of either side, as given.
    standard_error : float or None
        Standard deviation of the estimate over samples of this size; None if no interval was asked for.
    interval : tuple of float or None
        ``(low, high)`` for the sampling scatter. It knows nothing of the estimator's bias.
    null_mean : float or None
        Mean estimate after the pairing was broken: what the estimator calls nothing.
    p_value : float or None
        Share of broken pairings that reach `value`, the true one counted: ``(1 + hits) / (1 +
        permutations)``.
    ceiling : float or None
        The largest value that this estimator can return on so many samples; None if there is no such limit.
    label_entropy : float or None
        Entropy of the labels, where a side holds labels that recur: the truth is no larger.
    noise_model : str or None
        The noise that makes the information of a deterministic layer finite; None if none was assumed.
    bracket : tuple of float or None
        Lower and upper bound that hold without sampling, where the method has them.
    notes : tuple of str
        What a careful reader should know: point masses, repeated samples, columns left out, ...

    Examples
    --------
    >>> result = MutualInformationResult(value=0.5, method="KSG(k=5)", n=1000, dim_x=1, dim_y=2, ceiling=5.4)
    >>> print(result)
    0.5000 nats by KSG(k=5), from 1000 samples of 1 + 2 columns; ceiling 5.4 nats
    >>> result
    MutualInformationResult(0.5000 nats, KSG(k=5), n=1000)
    >>> round(result.to("bits").value, 4)
    0.7213
    """

    value: float
    method: str
    n: int
    dim_x: int
    dim_y: int
    units: Units = "nats"
    standard_error: float | None = None
    interval: tuple[float, float] | None = None
    null_mean: float | None = None
    p_value: float | None = None
    ceiling: float | None = None
    label_entropy: float | None = None
    noise_model: str | None = None
    bracket: tuple[float, float] | None = None
    notes: tuple[str, ...] = ()

    @property
    def saturated(self) -> bool:
        """Whether the estimate is above 0.6 of its ceiling, and so better read as a lower bound.

        A ceiling at the entropy of the labels is none of the estimator's making: the truth keeps to it too.
        """
        if not self.ceiling or (self.label_entropy is not None and self.ceiling >= self.label_entropy):
            return False
        return self.value > SATURATION * self.ceiling

    @property
    def excess(self) -> float | None:
        """What is left of the value once the null is taken off, None without a null."""
        return None if self.null_mean is None else self.value - self.null_mean

    def to(self, units: Units) -> Self:
        """Return the same result in ``"nats"`` or ``"bits"``."""
        return rescaled(self, units, MEASURED)

    def __float__(self) -> float:
        return self.value

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.value:.4f} {self.units}, {self.method}, n={self.n})"

    def __str__(self) -> str:
        sure = describe_certainty(
            self.standard_error, self.interval, self.excess, self.null_mean, self.p_value
        )
        parts = [
            (
                f"{self.value:.4f} {self.units}{sure} by {self.method}, from {count(self.n, 'sample')} of "
                f"{self.dim_x} + {self.dim_y} columns"
            )
        ]
        if self.noise_model is not None:
            parts.append(f"noise: {self.noise_model}")
        if self.bracket is not None:
            parts.append(f"bounds {self.bracket[0]:.4f} to {self.bracket[1]:.4f}")
        if self.ceiling is not None:
            parts.append(f"ceiling {self.ceiling:.3g} {self.units}")
        return "; ".join([*parts, *self.notes])

    def _repr_html_(self) -> str:
        head, _, tail = str(self).partition(" by ")
        return f"<p><b>{html.escape(head)}</b> by {html.escape(tail)}</p>"


def describe_certainty(
    standard_error: float | None,
    interval: tuple[float, float] | None,
    excess: float | None,
    null_mean: float | None,
    p_value: float | None,
) -> str:
    """Return the bracket that follows a value in a sentence, or nothing if nothing is known.

    >>> describe_certainty(0.01, (0.4, 0.44), 0.418, 0.002, 0.0099)
    ' (interval 0.4000 to 0.4400; 0.4180 above the null of 0.0020, p = 0.0099)'
    """
    parts = []
    if interval is not None:
        parts.append(f"interval {interval[0]:.4f} to {interval[1]:.4f}")
    elif standard_error is not None:
        parts.append(f"standard error {standard_error:.2g}")
    if null_mean is not None and excess is not None:
        side = "above" if excess >= 0 else "below"
        sure = "" if p_value is None else f", p = {p_value:.2g}"
        parts.append(f"{abs(excess):.4f} {side} the null of {null_mean:.4f}{sure}")
    return f" ({'; '.join(parts)})" if parts else ""


def rescaled(result: Result, units: Units, names: tuple[str, ...]) -> Result:
    """Return a result with the fields in `names` (numbers, pairs of them, tensors, or None) in other units."""
    check_choice(units, NATS_PER_UNIT, argument="units")
    measured: Any = result
    factor = NATS_PER_UNIT[measured.units] / NATS_PER_UNIT[units]
    values = {name: _scaled(getattr(measured, name), factor) for name in names}
    replaced: Result = dataclasses.replace(measured, units=units, **values)
    return replaced


def _scaled(value: Any, factor: float) -> Any:
    if isinstance(value, tuple):
        return tuple(part * factor for part in value)
    return None if value is None else value * factor
