"""The abstract estimator: checks the input once, and turns a measurement into a result."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, final

from featurelens._checks import check_choice, describe, keep_whole, warn
from featurelens._random import Seed, make_generator
from featurelens.information.resampling import (
    Scatter,
    Statistic,
    block_scatter,
    permutation_p_value,
    shuffled_values,
    t_quantile,
)
from featurelens.information.results import NATS_PER_UNIT, SATURATION, MutualInformationResult, Units
from featurelens.information.variables import ArrayLike, Variable, label_entropy, make_pair

if TYPE_CHECKING:
    import torch

Null = Literal["permutation"]


@final
@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What an estimator measured on one pair of variables, in nats.

    Attributes
    ----------
    value : float
        The estimate.
    ceiling : float, optional
        The largest value that the estimator can return for these data.
    notes : tuple of str
        What the result is to say about it.
    standard_error : float, optional
        The estimator's own; by default the result's comes from disjoint parts of the data.
    degrees : int
        Degrees of freedom of `standard_error`.
    noise_model : str, optional
        The noise that is added, if the information is that of noisy variables.
    bracket : tuple of float, optional
        A lower and an upper bound of the true value.
    caution : str, optional
        A note that a caller must not miss: it is also a warning.

    Examples
    --------
    >>> Measurement(value=0.5, notes=("assumes normal variables",)).value
    0.5
    """

    value: float
    ceiling: float | None = None
    notes: tuple[str, ...] = ()
    standard_error: float | None = None
    degrees: int = 1
    noise_model: str | None = None
    bracket: tuple[float, float] | None = None
    caution: str | None = None


@final
@dataclass(frozen=True, kw_only=True)
class Options:
    """The options of :meth:`MutualInformation.estimate`, checked."""

    units: Units = "nats"
    confidence: float | None = None
    null: Null | None = None
    permutations: int = 100
    seed: Seed = 0

    def __post_init__(self) -> None:
        check_choice(self.units, NATS_PER_UNIT, argument="units")
        check_choice(self.null, (None, "permutation"), argument="null")
        keep_whole(self, "permutations", least=1)
        check_confidence(self.confidence)
        make_generator(self.seed)


class MutualInformation(ABC):
    """An estimator of the mutual information between two variables.

    Estimators are immutable and hold only their settings. All are used in the same way:
    ``KSGMutualInformation(k=5).estimate(x, y)``.

    To write your own, define a frozen dataclass of its settings with one method, ``_measure(x, y, generator)``. Each side has
    ``values``, float64 `(N, D)`, or codes ``(N,)`` if it is ``discrete``; the method returns a `Measurement`. Units, nulls,
    intervals and the checks of the input come with the class.

    Examples
    --------
    >>> import torch
    >>> @dataclass(frozen=True)
    ... class NormalInformation(MutualInformation):
    ...     def _measure(self, x, y, generator):
    ...         r = torch.corrcoef(torch.cat([x.values, y.values], 1).T)[0, 1]
    ...         return Measurement(value=-0.5 * float((1 - r**2).log()))
    >>> x = torch.arange(100.0)
    >>> print(NormalInformation().estimate(x, x.square()))
    1.3771 nats by NormalInformation(), from 100 samples of 1 + 1 columns
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
        seed: Seed = 0,
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
            Level of a confidence interval for sampling variation, such as 0.95; takes about four times as long. A note
            says where the estimate depends on the number of samples by more than the interval is wide.
        null : {"permutation"}, optional
            Also estimate with `y` in random order, `permutations` times, for the mean under independence and a p-value.
        permutations : int
            Number of random orders; the smallest p-value is ``1 / (1 + permutations)``.
        seed : int, torch.Generator or None
            The same seed gives the same result; None draws a new seed. The global random state is not used.

        Returns
        -------
        MutualInformationResult

        Raises
        ------
        TypeError
            If `x` or `y` is neither a tensor nor an array of real numbers, holds labels that the estimator does not
            accept, or an option is of another type.
        ValueError
            If lengths differ, `x` or `y` is empty, constant or not finite, there are too few samples, or an option is
            not one of the above.

        Warns
        -----
        UserWarning
            If the estimate is above 0.6 of a ceiling that does not limit the true value, or the data do not suit the
            estimator: most of a table's information would be there by chance, or many samples were left out.
        """
        options = Options(units=units, confidence=confidence, null=null, permutations=permutations, seed=seed)
        result, cautions = run_estimate(self, x, y, options)
        for caution in cautions:
            warn(f"{self.method} {caution}")
        return result

    @abstractmethod
    def _measure(self, x: Variable, y: Variable, generator: torch.Generator) -> Measurement:
        """Return the estimate in nats. Must accept subsamples, in which a side may happen to be constant."""

    def _measure_with_null(
        self, x: Variable, y: Variable, permutations: int, generator: torch.Generator
    ) -> tuple[Measurement, torch.Tensor]:
        """Return the estimate and its values ``(permutations,)`` for random orders; may share their work."""
        measured = self._measure(x, y, generator)
        return measured, shuffled_values(self._value(generator), x, y, permutations, generator)

    def _scatter(
        self, x: Variable, y: Variable, measured: Measurement, generator: torch.Generator
    ) -> Scatter:
        """Return the standard error of the measured value: its own, or from disjoint parts of the data."""
        if measured.standard_error is not None:
            return Scatter(measured.standard_error, measured.degrees)
        return block_scatter(self._value(generator), x, y, generator)

    def _value(self, generator: torch.Generator) -> Statistic:
        return lambda x, y: self._measure(x, y, generator).value

    def _check_pair(self, x: Variable, y: Variable, *, null: Null | None) -> None:  # noqa: B027
        """Raise a ValueError or TypeError if this estimator does not accept such variables."""

    @property
    def method(self) -> str:
        """The estimator and its settings in short, such as ``"KSG(k=5, variant=1, marginals='normal-score')"``."""
        return repr(self).replace("MutualInformation", "", 1)


def run_estimate(
    estimator: MutualInformation, x: ArrayLike, y: ArrayLike, options: Options
) -> tuple[MutualInformationResult, list[str]]:
    """Return what :meth:`MutualInformation.estimate` returns, and what it warns of, to follow the estimator's name."""
    first, second = make_pair(x, y, allow_constant=estimator._accepts_constants)
    estimator._check_pair(first, second, null=options.null)
    generator = make_generator(options.seed)
    shuffled, error, interval, drift = None, None, None, []
    if options.null is None:
        measured = estimator._measure(first, second, generator)
    else:
        measured, shuffled = estimator._measure_with_null(first, second, options.permutations, generator)
    if options.confidence is not None:
        scatter = estimator._scatter(first, second, measured, generator)
        error = scatter.error
        half = t_quantile(options.confidence, scatter.degrees) * error
        drift = scatter.drift_note(measured.value, half)
        interval = (measured.value - half, measured.value + half)
    cautions = [] if measured.caution is None else [measured.caution]
    result = MutualInformationResult(
        value=measured.value,
        method=estimator.method,
        n=len(first),
        dim_x=first.dim,
        dim_y=second.dim,
        standard_error=error,
        interval=interval,
        null_mean=None if shuffled is None else float(shuffled.mean()),
        p_value=None if shuffled is None else permutation_p_value(measured.value, shuffled),
        ceiling=measured.ceiling,
        label_entropy=label_entropy(first, second),
        noise_model=measured.noise_model,
        bracket=measured.bracket,
        notes=(*first.notes, *second.notes, *measured.notes, *drift, *cautions),
    ).to(options.units)
    if result.saturated:
        cautions.append(saturation(result))
    return result, cautions


def check_confidence(confidence: object) -> None:
    """Raise unless `confidence` is None or a level between 0 and 1."""
    if confidence is None:
        return
    if isinstance(confidence, bool) or not isinstance(confidence, float):
        raise TypeError(f"confidence must be a level such as 0.95, or None; got {describe(confidence)}")
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence must be between 0 and 1, such as 0.95; got {confidence!r}")


def saturation(result: MutualInformationResult) -> str:
    """Return the words that warn of a result limited by its number of samples, the same for every such result."""
    return (
        f"is above {SATURATION} of the ceiling with n = {result.n} ({result.ceiling:.3g} {result.units}): "
        "read it as a lower bound"
    )
