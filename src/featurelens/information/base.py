"""The abstract estimator: the one place where input is checked and a measured number becomes a result."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, final

from featurelens._checks import check_choice, check_whole, describe
from featurelens._random import Seed, make_generator
from featurelens.information._resampling import (
    BLOCKS,
    Statistic,
    block_standard_error,
    permutation_p_value,
    shuffled_values,
    t_quantile,
)
from featurelens.information._variables import ArrayLike, Variable, label_entropy, make_pair
from featurelens.information.result import NATS_PER_UNIT, SATURATION, MutualInformationResult, Units

if TYPE_CHECKING:
    import torch

Null = Literal["permutation"]


@final
@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What an estimator found on one pair of variables, in nats; an error of its own has so many `degrees`."""

    value: float
    ceiling: float | None = None
    notes: tuple[str, ...] = ()
    standard_error: float | None = None
    degrees: int = BLOCKS - 1
    noise_model: str | None = None
    bracket: tuple[float, float] | None = None


class MutualInformation(ABC):
    """An estimator of the mutual information between two variables.

    Estimators are small frozen records of their settings; all of them are used alike:
    ``KSGMutualInformation(k=5).estimate(x, y)``.
    """

    _accepts_constants = False

    @final
    def estimate(
        self,
        x: ArrayLike,
        y: ArrayLike,
        *,
        units: Units = "nats",
        confidence: float | None = None,
        null: Null | None = None,
        permutations: int = 100,
        seed: Seed = None,
    ) -> MutualInformationResult:
        """Estimate the mutual information between `x` and `y`.

        Parameters
        ----------
        x, y : torch.Tensor or numpy.ndarray
            ``(N,)`` or ``(N, D)``, paired by row, on any device. Floating-point values are samples of a
            continuous (or mixed) variable. Integers and booleans are labels; several columns of them make one
            joint label.
        units : {"nats", "bits"}
            Unit of every value in the result.
        confidence : float, optional
            Level, such as 0.95, of a confidence interval for the sampling scatter; costs about four estimates.
        null : {"permutation"}, optional
            Also estimate with the pairing broken, `permutations` times, for a mean under independence and a
            p-value.
        permutations : int
            Number of broken pairings; the smallest p-value is ``1 / (1 + permutations)``.
        seed : int, torch.Generator or None
            The same seed gives the same result; None draws fresh entropy. The global state is left alone.

        Returns
        -------
        MutualInformationResult

        Raises
        ------
        TypeError
            If a side is neither a tensor nor an array of real numbers, the estimator cannot use labels, or an
            option is of another type.
        ValueError
            If lengths differ, a side is empty, constant or not finite, there are too few samples, or an option is
            not one of the above.

        Warns
        -----
        UserWarning
            If the estimate is above 0.6 of a ceiling that the truth need not keep to, where it says more about
            the number of samples than about the data.
        """
        result = self._estimated(x, y, units, confidence, null, permutations, seed)
        if result.saturated:
            warnings.warn(f"{self.method} {saturation(result)}", UserWarning, stacklevel=2)
        return result

    def _estimated(
        self,
        x: ArrayLike,
        y: ArrayLike,
        units: Units,
        confidence: float | None,
        null: Null | None,
        permutations: int,
        seed: Seed,
    ) -> MutualInformationResult:
        """Return what :meth:`estimate` returns, without its warning."""
        check_estimate(units, confidence, null, permutations)
        first, second = make_pair(x, y, allow_constant=self._accepts_constants)
        self._check_pair(first, second, null=null)
        generator = make_generator(seed)
        shuffled = None
        if null is None:
            measured = self._measure(first, second, generator)
        else:
            measured, shuffled = self._measure_with_null(first, second, permutations, generator)
        error = None
        if confidence is not None:
            error = self._standard_error(first, second, measured, generator)
        return self._result(first, second, measured, error, confidence, shuffled).to(units)

    @abstractmethod
    def _measure(self, x: Variable, y: Variable, generator: torch.Generator) -> Measurement:
        """Return the estimate in nats. Must accept subsamples, in which a side may happen to be constant."""

    def _measure_with_null(
        self, x: Variable, y: Variable, permutations: int, generator: torch.Generator
    ) -> tuple[Measurement, torch.Tensor]:
        """Return the estimate, and the values ``(permutations,)`` of broken pairings; may share their work."""
        measured = self._measure(x, y, generator)
        return measured, shuffled_values(self._value(generator), x, y, permutations, generator)

    def _standard_error(
        self, x: Variable, y: Variable, measured: Measurement, generator: torch.Generator
    ) -> float:
        """Return the standard error of the measured value: its own, or from disjoint parts of the data."""
        if measured.standard_error is not None:
            return measured.standard_error
        return block_standard_error(self._value(generator), x, y, generator)

    def _value(self, generator: torch.Generator) -> Statistic:
        return lambda x, y: self._measure(x, y, generator).value

    def _check_pair(self, x: Variable, y: Variable, *, null: Null | None) -> None:  # noqa: B027
        """Raise a ValueError or TypeError if this estimator cannot answer for such variables."""

    def _result(
        self,
        x: Variable,
        y: Variable,
        measured: Measurement,
        error: float | None,
        confidence: float | None,
        shuffled: torch.Tensor | None,
    ) -> MutualInformationResult:
        interval = None
        if error is not None and confidence is not None:
            half = t_quantile(confidence, measured.degrees) * error
            interval = (measured.value - half, measured.value + half)
        return MutualInformationResult(
            value=measured.value,
            method=self.method,
            n=len(x),
            dim_x=x.dim,
            dim_y=y.dim,
            standard_error=error,
            interval=interval,
            null_mean=None if shuffled is None else float(shuffled.mean()),
            p_value=None if shuffled is None else permutation_p_value(measured.value, shuffled),
            ceiling=measured.ceiling,
            label_entropy=label_entropy(x, y),
            noise_model=measured.noise_model,
            bracket=measured.bracket,
            notes=(*x.notes, *y.notes, *measured.notes),
        )

    @property
    def method(self) -> str:
        """The estimator and its settings in short, as ``"KSG(k=5, variant=1, marginals='normal-score')"``."""
        return repr(self).replace("MutualInformation", "", 1)


def check_estimate(units: str, confidence: object, null: object, permutations: object) -> None:
    """Raise unless these are options of :meth:`MutualInformation.estimate`."""
    check_choice(units, NATS_PER_UNIT, argument="units")
    check_choice(null, (None, "permutation"), argument="null")
    check_whole(permutations, argument="permutations", least=1)
    check_confidence(confidence)


def check_confidence(confidence: object) -> None:
    """Raise unless `confidence` is None or a level between 0 and 1."""
    if confidence is None:
        return
    if isinstance(confidence, bool) or not isinstance(confidence, float):
        raise TypeError(f"confidence must be a level such as 0.95, or None; got {describe(confidence)}")
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence must lie between 0 and 1, such as 0.95; got {confidence!r}")


def saturation(result: MutualInformationResult) -> str:
    """Say that a result is limited by its samples, in the same words for the same estimator and samples."""
    return (
        f"is above {SATURATION} of the ceiling with n = {result.n} ({result.ceiling:.3g} {result.units}): "
        "read it as a lower bound"
    )
