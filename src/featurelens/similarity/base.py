"""What all measures of similarity have in common: checked input, the null of random pairings, and the interval."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, final

import numpy as np
import torch

from featurelens._checks import check_choice, check_number, check_whole, describe, to_tensor
from featurelens._random import Seed, make_generator, permutation
from featurelens.similarity.results import SimilarityResult

ArrayLike = torch.Tensor | np.ndarray[Any, Any]
Null = Literal["permutation"]

GROUPS = 20
"""Parts of the images that are left out in turn for an interval."""

FEWEST = 4
"""Images that the unbiased sums need."""


@final
@dataclass(frozen=True)
class Pair:
    """Two representations of the same images, as a measure takes them: with one row for each image, or also a column."""

    x: torch.Tensor
    y: torch.Tensor
    square: bool

    def select(self, rows_x: torch.Tensor, rows_y: torch.Tensor) -> Pair:
        """Return the pair of other rows, and of the same columns if there is one for each image."""
        x, y = self.x[rows_x], self.y[rows_y]
        return Pair(x[:, rows_x], y[:, rows_y], True) if self.square else Pair(x, y, False)


class Measure(ABC):
    """A similarity, or a distance, of two representations."""

    closer: ClassVar[int] = 1
    """1 if larger values mean more similar, -1 for a distance."""

    undefined: ClassVar[str]
    """When there is no value, in words."""

    @property
    @abstractmethod
    def title(self) -> str:
        """The measure with its settings, in words."""

    @abstractmethod
    def prepare(self, x: torch.Tensor, y: torch.Tensor) -> Pair:
        """Return what is needed of representations ``(N, D)`` and ``(N, D')``, float64."""

    @abstractmethod
    def value(self, pair: Pair) -> float:
        """Return the similarity; NaN if it is not defined."""

    def for_pairings(self, pair: Pair) -> tuple[Measure, Pair]:
        """Return a measure and a pair that give the same values for all pairings, and do less for each."""
        return self, pair

    @final
    def between(
        self,
        x: ArrayLike,
        y: ArrayLike,
        *,
        null: Null | None,
        permutations: int,
        confidence: float | None,
        seed: Seed,
    ) -> SimilarityResult:
        """Return the similarity of two representations, checked, with its null and interval."""
        check_choice(null, (None, "permutation"), argument="null")
        permutations = check_whole(permutations, argument="permutations", least=1)
        if confidence is not None:
            expected = "a number between 0 and 1, or None"
            confidence = check_number(confidence, argument="confidence", expected=expected)
            if not 0 < confidence < 1:
                raise ValueError(f"confidence must be {expected}; got {confidence!r}")
        generator = make_generator(seed)
        first, second = checked(x, "x"), checked(y, "y")
        if len(first) != len(second):
            raise ValueError(
                f"x and y must have one row for each image; got {len(first)} and {len(second)} rows"
            )
        pair = self.prepare(first, second.to(first.device))
        value, n = self.value(pair), len(first)
        if math.isnan(value):
            raise ValueError(f"x and y have no {self.title}: {self.undefined}")
        error, interval = self._interval(pair, value, n, confidence)
        null_mean, p_value = None, None
        if null is not None:
            same = torch.arange(n, device=first.device)
            orders = (permutation(n, generator, first.device) for _ in range(permutations))
            measure, fixed = self.for_pairings(pair)
            values = torch.tensor([measure.value(fixed.select(same, order)) for order in orders])
            hits = int((self.closer * values >= self.closer * value).sum())
            null_mean, p_value = float(values.mean()), (1 + hits) / (1 + permutations)
        return SimilarityResult(
            value=value,
            measure=self.title,
            n=n,
            dim_x=first.shape[1],
            dim_y=second.shape[1],
            standard_error=error,
            interval=interval,
            null_mean=null_mean,
            p_value=p_value,
        )

    def _interval(
        self, pair: Pair, value: float, n: int, confidence: float | None
    ) -> tuple[float | None, tuple[float, float] | None]:
        """Return the standard error and an interval from leaving out a twentieth of the images at a time (a jackknife)."""
        if confidence is None:
            return None, None
        groups = min(GROUPS, n // 2)
        if n - -(-n // groups) < FEWEST:
            raise ValueError(
                f"confidence needs at least {FEWEST + 2} images; got {n}: use more, or confidence=None"
            )
        group = torch.arange(n, device=pair.x.device) % groups
        kept = ((group != left_out).nonzero()[:, 0] for left_out in range(groups))
        values = torch.tensor([self.value(pair.select(rows, rows)) for rows in kept], dtype=torch.float64)
        if bool(values.isnan().any()):
            raise ValueError(
                f"confidence leaves out some images at a time, and then {self.undefined}: use more images, or "
                "confidence=None"
            )
        error = math.sqrt((groups - 1) / groups * float((values - values.mean()).square().sum()))
        from scipy.special import stdtrit  # scipy costs more to import than torch saves

        reach = float(stdtrit(groups - 1, 0.5 + confidence / 2)) * error
        return error, (value - reach, value + reach)


def checked(values: ArrayLike, name: str) -> torch.Tensor:
    """Return one representation as ``(N, D)`` float64, or raise an error.

    It is scaled by a power of two, so that powers of its values neither vanish nor overflow: no measure depends on that.
    """
    given = to_tensor(values, name)
    if given.ndim < 2 or len(given) < FEWEST or 0 in given.shape:
        raise ValueError(
            f"{name} must be (N, D, ...), at least {FEWEST} images with a row of values each; got {describe(values)}"
        )
    rows = given.reshape(len(given), -1).double()
    if not bool(rows.isfinite().all()):
        raise ValueError(f"{name} must be finite; got NaN or infinite values")
    if bool((rows == rows[0]).all()):
        raise ValueError(f"{name} must differ between images; all {len(rows)} rows are the same")
    exponent = math.frexp(float(rows.abs().max()))[1]
    return torch.ldexp(rows, torch.tensor(min(-exponent, 1000), device=rows.device))
