"""Rényi's (not Shannon's) information, from the eigenvalues of Gram matrices."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, final

import torch

from featurelens._checks import check_number, check_type, keep_whole
from featurelens._random import permutation
from featurelens.information.estimator import Measurement, MutualInformation
from featurelens.information.noisy_channel import squared_distances

if TYPE_CHECKING:
    from featurelens.information.variables import Variable


@final
@dataclass(frozen=True, kw_only=True)
class RenyiMutualInformation(MutualInformation):
    """Matrix-based Rényi information ``S(A) + S(B) - S(A o B / tr(A o B))`` (Sánchez Giraldo, Rao & Principe 2015).

    A and B are Gram matrices of a Gaussian kernel (for labels: 1 if equal, else 0), scaled to trace one, and
    ``S(A) = log tr(A^alpha) / (1 - alpha)``. It needs no densities and works in any dimension. But it is *not
    Shannon's* mutual information: it depends on the kernel width and is not invariant under bijections. Compare its
    values only with each other, at the same `sigma` and number of samples.

    Parameters
    ----------
    alpha : float
        Order, positive and not 1.
    sigma : float or "median"
        Width of the kernel; ``"median"`` takes the median distance between samples, per side.
    max_samples : int
        Larger data sets are subsampled at random to this size: a Gram matrix of N samples has N^2 entries.

    Raises
    ------
    TypeError, ValueError
        If an option is not one of the above.

    Examples
    --------
    >>> x = torch.randn(500, generator=torch.Generator().manual_seed(0))
    >>> result = RenyiMutualInformation().estimate(x, x.square())
    >>> result.value > 0, result.notes[0]
    (True, "Rényi's matrix-based information, not Shannon's")
    """

    alpha: float = 1.01
    sigma: float | Literal["median"] = "median"
    max_samples: int = 1000

    def __post_init__(self) -> None:
        check_type(self.alpha, (int, float), argument="alpha", expected="a number")
        if not 0 < check_number(self.alpha, argument="alpha") < math.inf or self.alpha == 1:
            raise ValueError(f"alpha must be positive, finite and not 1; got {self.alpha!r}")
        if not (isinstance(self.sigma, str) and self.sigma == "median"):
            check_type(self.sigma, (int, float), argument="sigma", expected="a number or 'median'")
            if not 0 < check_number(self.sigma, argument="sigma", expected="a number or 'median'") < math.inf:
                raise ValueError(f"sigma must be positive, or 'median'; got {self.sigma!r}")
        keep_whole(self, "max_samples", least=2)

    def _measure(self, x: Variable, y: Variable, generator: torch.Generator) -> Measurement:
        notes = ["Rényi's matrix-based information, not Shannon's"]
        if len(x) > self.max_samples:
            chosen = permutation(len(x), generator, x.device)[: self.max_samples]
            notes.append(f"on {self.max_samples} of {len(x)} samples, drawn at random")
            x, y = x.take(chosen), y.take(chosen)
        gram_x, gram_y = self._gram(x), self._gram(y)
        value = self._entropy(gram_x) + self._entropy(gram_y) - self._entropy(gram_x * gram_y)
        return Measurement(value=value, ceiling=math.log(len(x)), notes=tuple(notes))

    def _gram(self, side: Variable) -> torch.Tensor:
        if side.discrete:
            return (side.values[:, None] == side.values).double()
        centred = side.values - side.values.mean(dim=0)
        largest = float(centred.abs().max()) or 1.0  # its square may not be representable
        squared = squared_distances(centred / largest, centred / largest)
        if self.sigma == "median":
            i, j = torch.triu_indices(len(squared), len(squared), offset=1, device=squared.device)
            scale = float(squared[i, j].median())
            # If more than half of all pairs coincide, the kernel separates equal samples from different ones.
            scale = scale if scale > 0 else float(squared.max()) * 1e-6 or 1.0
        else:
            scale = (float(self.sigma) / largest) ** 2
        return torch.exp(-squared / (2 * scale)).fill_diagonal_(1.0)

    def _entropy(self, gram: torch.Tensor) -> float:
        eigenvalues = torch.linalg.eigvalsh(gram / gram.trace()).clamp_min(0.0)
        return float(eigenvalues.pow(self.alpha).sum().log()) / (1.0 - self.alpha)
