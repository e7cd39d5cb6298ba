"""The intrinsic dimension of a representation, from the distances to the two nearest neighbours."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import torch

from featurelens._checks import check_number, count
from featurelens._saving import SavedResult
from featurelens.similarity.base import FEWEST, ArrayLike, checked

DISTANCES = 2**24
"""At a time: 128 MiB."""


@final
@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class IntrinsicDimensionResult(SavedResult):
    """The intrinsic dimension of a representation; made by `intrinsic_dimension`.

    Attributes
    ----------
    value : float
        The dimension.
    interval : tuple of float
        ``(low, high)``: confidence interval for sampling variation; somewhat too narrow, as neighbours share distances.
    confidence : float
        Its confidence.
    n, columns : int
        Number of different images, and of values for each.
    duplicates : int
        Images left out as copies: those whose values another image has, too, are counted once.

    Examples
    --------
    >>> print(IntrinsicDimensionResult(value=2.1, interval=(1.9, 2.3), confidence=0.95, n=500, columns=64, duplicates=3))
    2.10 dimensions (95 % interval 1.90 to 2.30), from 500 images of 64 values; 3 duplicates left out
    """

    value: float
    interval: tuple[float, float]
    confidence: float
    n: int
    columns: int
    duplicates: int

    def __float__(self) -> float:
        return self.value

    def __str__(self) -> str:
        low, high = self.interval
        text = f"{self.value:.2f} dimensions ({100 * self.confidence:g} % interval {low:.2f} to {high:.2f})"
        text = f"{text}, from {self.n} images of {count(self.columns, 'value')}"
        return f"{text}; {count(self.duplicates, 'duplicate')} left out" if self.duplicates else text

    def __repr__(self) -> str:
        return f"IntrinsicDimensionResult({self.value:.2f}, n={self.n})"


def intrinsic_dimension(
    x: ArrayLike, *, discard: float = 0.1, confidence: float = 0.95
) -> IntrinsicDimensionResult:
    """Estimate on how many dimensions a representation lies, curved or not, by TwoNN.

    On a manifold of d dimensions, the ratio of an image's distances to its second and first neighbour has the density
    ``d r^(-d - 1)``, whatever the local density of images (Facco et al. 2017, "Estimating the intrinsic dimension of
    datasets by a minimal neighborhood information"). The estimate is the unbiased maximum likelihood of d when the
    largest ratios are only known to be large, the interval that of the gamma distribution. Above about 10 dimensions
    the estimate is too low, as thousands of images lie too far apart.

    Parameters
    ----------
    x
        ``(N, D)`` or more axes, at least 4 images: activations recorded for N images, or the ``values`` of
        `statistics.Sample`. Time grows with N squared: a few thousand suffice.
    discard
        Share of the largest ratios that count as large only, at least 0 and below 1.
    confidence
        Confidence of the interval.

    Raises
    ------
    TypeError, ValueError
        If `x` is not finite, has fewer than 4 different rows, or an option is not one of the above.

    Examples
    --------
    >>> angles = 6.28 * torch.rand(1000, generator=torch.Generator().manual_seed(0))
    >>> circle = torch.stack([angles.cos(), angles.sin()], dim=1) @ torch.eye(2, 50)
    >>> round(intrinsic_dimension(circle).value, 1)
    1.0
    """
    discard = check_number(discard, argument="discard")
    if not 0 <= discard < 1:
        raise ValueError(f"discard must be at least 0 and below 1; got {discard!r}")
    confidence = check_number(confidence, argument="confidence", expected="a number between 0 and 1")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be a number between 0 and 1; got {confidence!r}")
    return _two_nn(checked(x, "x"), discard, confidence)


def _two_nn(rows: torch.Tensor, discard: float, confidence: float) -> IntrinsicDimensionResult:
    different = torch.unique(rows, dim=0)  # images with a copy would lie at a point without extension
    n = len(different)
    if n < FEWEST:
        raise ValueError(
            f"x must have at least {FEWEST} different rows; got {len(rows)} rows, {n} of them different"
        )
    first, second = _neighbour_distances(different)
    ratios = (second / first).log().sort().values
    kept = max(2, int(n * (1 - discard)))
    if not 0 < float(ratios[kept - 1]) < math.inf:
        raise ValueError(
            f"x must have neighbours at different distances; got {n} different rows, mostly at the same"
        )
    total = float(ratios[:kept].sum() + (n - kept) * ratios[kept - 1])
    from scipy.special import gammaincinv  # scipy costs more to import than torch saves

    tails = (1 - confidence) / 2, (1 + confidence) / 2
    low, high = (float(gammaincinv(kept, tail)) / total for tail in tails)
    return IntrinsicDimensionResult(
        value=(kept - 1) / total,
        interval=(low, high),
        confidence=confidence,
        n=n,
        columns=rows.shape[1],
        duplicates=len(rows) - n,
    )


def _neighbour_distances(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the distances ``(N,)`` of each row to its nearest and second nearest other row."""
    rows = rows - rows.mean(0)
    squares = rows.square().sum(1)
    found = []
    for part in torch.split(torch.arange(len(rows), device=rows.device), max(1, DISTANCES // len(rows))):
        distances = squares[part, None] + squares - 2 * rows[part] @ rows.T
        distances[torch.arange(len(part)), part] = torch.inf
        nearest = distances.topk(2, dim=1, largest=False).indices
        # The neighbours are known now; their distances are summed anew, because near ones lose digits above.
        found.append(torch.stack([(rows[part] - rows[nearest[:, k]]).norm(dim=1) for k in (0, 1)]))
    exact = torch.cat(found, dim=1).sort(dim=0).values
    return exact[0], exact[1]
