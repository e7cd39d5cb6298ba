"""The similarity of two representations: the value, its uncertainty and its null."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from featurelens._saving import SavedResult


@final
@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class SimilarityResult(SavedResult):
    """The similarity, or distance, of two representations; made by `cka`, `procrustes` and `rsa`.

    Attributes
    ----------
    value : float
        The similarity or distance.
    measure : str
        The measure with its settings, such as ``"debiased linear CKA"``.
    n, dim_x, dim_y : int
        Number of images, and of values that each representation has for an image.
    standard_error : float or None
        Standard deviation of `value` over samples of this size; None without `confidence`.
    interval : tuple of float or None
        ``(low, high)``: confidence interval for sampling variation.
    null_mean : float or None
        Mean over random pairings of the images: the value for representations that have nothing in common.
    p_value : float or None
        Share of pairings that are at least as similar, the true one counted: ``(1 + hits) / (1 + permutations)``.
    notes : tuple of str
        Cautions.

    Examples
    --------
    >>> print(SimilarityResult(value=0.91, measure="debiased linear CKA", n=500, dim_x=64, dim_y=128))
    0.9100 debiased linear CKA, from 500 images of 64 + 128 values
    """

    value: float
    measure: str
    n: int
    dim_x: int
    dim_y: int
    standard_error: float | None = None
    interval: tuple[float, float] | None = None
    null_mean: float | None = None
    p_value: float | None = None
    notes: tuple[str, ...] = ()

    def __float__(self) -> float:
        return self.value

    def __str__(self) -> str:
        certainty = []
        if self.interval is not None:
            certainty.append(f"interval {self.interval[0]:.4f} to {self.interval[1]:.4f}")
        if self.null_mean is not None:
            certainty.append(f"random pairings {self.null_mean:.4f}, p = {self.p_value:.2g}")
        brackets = f" ({'; '.join(certainty)})" if certainty else ""
        size = f"from {self.n} images of {self.dim_x} + {self.dim_y} values"
        return "; ".join([f"{self.value:.4f} {self.measure}{brackets}, {size}", *self.notes])

    def __repr__(self) -> str:
        return f"SimilarityResult({self.value:.4f}, {self.measure}, n={self.n})"
