"""Gaussian and Student copulas: fitted, measured and drawn from."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Literal, Self, final

import torch

from featurelens._random import normal

Family = Literal["auto", "gaussian", "student"]

LEAST_NU, MOST_NU = 0.3, 200.0
EM_STEPS = 12
SEARCH_STEPS = 14


@final
@dataclass(frozen=True, kw_only=True)
class EllipticalCopula:
    """A copula of ``dim_x + dim_y`` columns: correlations of the elliptical law behind it, and its tail weight.

    `nu` is the degrees of freedom of the Student law, None for the Gaussian; `log_likelihood` is per sample,
    in nats.
    """

    correlation: torch.Tensor
    dim_x: int
    nu: float | None
    log_likelihood: float

    @property
    def dim_y(self) -> int:
        return len(self.correlation) - self.dim_x

    def information(self) -> float:
        """Return the mutual information in nats between the first `dim_x` columns and the rest, exactly.

        ``1/2 log(|R_x| |R_y| / |R|)``, and for the Student law also ``h(d_x) + h(d_y) - h(d_x + d_y)`` of
        :func:`student_entropy`: margins are irrelevant, so this is the information of the law itself.
        """
        d = self.dim_x
        log_det = [
            float(torch.linalg.slogdet(block)[1])
            for block in (self.correlation[:d, :d], self.correlation[d:, d:], self.correlation)
        ]
        value = 0.5 * (log_det[0] + log_det[1] - log_det[2])
        if self.nu is None:
            return value
        tails = [student_entropy(dim, self.nu) for dim in (d, self.dim_y, d + self.dim_y)]
        return value + tails[0] + tails[1] - tails[2]

    def bias(self, n: int) -> float:
        """Return by how much the information is too high on average in nats, if fitted to `n` samples."""
        whole = len(self.correlation)
        return wishart_bias(self.dim_x, n) + wishart_bias(self.dim_y, n) - wishart_bias(whole, n)

    def closest_pair(self) -> float:
        """Return the Gaussian information in nats of the two most dependent linear combinations, one of each side."""
        largest = self._canonical()[1].amax().clamp_max(1 - 1e-15)
        return -0.5 * math.log1p(-(float(largest) ** 2))

    def without_bias(self, n: int) -> Self:
        """Return the copula with lower canonical correlations, so that fitting it to `n` samples added no information.

        All squared correlations are lowered by the same amount, as chance raises them, but not below 0.
        """
        left, correlations, right = self._canonical()
        squared = correlations.clamp_max(1 - 1e-12).square()

        def information(shares: torch.Tensor) -> float:
            return -0.5 * float(torch.log1p(-shares).sum())

        goal = max(0.0, information(squared) - self.bias(n))
        low, high = 0.0, float(squared.amax())
        for _ in range(60):
            middle = (low + high) / 2
            if information((squared - middle).clamp_min(0)) > goal:
                low = middle
            else:
                high = middle
        lowered = (squared - high).clamp_min(0).sqrt()
        d, correlation = self.dim_x, self.correlation.clone()
        correlation[:d, d:] = left @ (lowered[:, None] * right)
        correlation[d:, :d] = correlation[:d, d:].T
        return dataclasses.replace(self, correlation=correlation)

    def _canonical(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return L ``(d_x, r)``, r canonical correlations and R ``(r, d_y)``: the sides' correlations are L diag R."""
        d = self.dim_x
        factor_x, factor_y = (
            torch.linalg.cholesky(block) for block in (self.correlation[:d, :d], self.correlation[d:, d:])
        )
        half = torch.linalg.solve_triangular(factor_x, self.correlation[:d, d:], upper=False)
        white = torch.linalg.solve_triangular(factor_y, half.T, upper=False).T
        left, correlations, right = torch.linalg.svd(white, full_matrices=False)
        return factor_x @ left, correlations, right @ factor_y.T

    def log_ratio(self, uniform: torch.Tensor) -> torch.Tensor:
        """Return the log density ratio in nats, joint over product of the sides, of scores ``(N, D)`` in (0, 1)."""
        d, nu = self.dim_x, self.nu
        samples = torch.special.ndtri(uniform) if nu is None else student_quantiles(uniform, nu)

        def log_density(block: slice) -> torch.Tensor:
            correlation, part = self.correlation[block, block], samples[:, block]
            dim, lengths = len(correlation), _squared_lengths(part, correlation)
            log_det = -0.5 * torch.linalg.slogdet(correlation)[1]
            if nu is None:
                gaussian: torch.Tensor = log_det - 0.5 * lengths
                return gaussian
            constant = math.lgamma((nu + dim) / 2) - math.lgamma(nu / 2) - dim / 2 * math.log(nu * math.pi)
            density: torch.Tensor = log_det + constant - (nu + dim) / 2 * torch.log1p(lengths / nu)
            return density

        # The densities of single columns cancel; the Gaussian's constants do too.
        joint = log_density(slice(None))
        return joint - log_density(slice(d)) - log_density(slice(d, None))

    def draw(self, n: int, generator: torch.Generator) -> torch.Tensor:
        """Return `n` samples ``(n, D)`` of the elliptical law (its margins are Student, not uniform)."""
        from scipy.special import gammaincinv  # scipy costs more to import than torch saves

        factor = torch.linalg.cholesky(self.correlation)
        samples: torch.Tensor = normal((n, len(factor)), generator, factor.device) @ factor.T
        if self.nu is None:
            return samples
        # chi-squared is a gamma variable, and torch draws gamma without a generator: invert its distribution
        # instead.
        uniform = torch.rand(n, 1, generator=generator, dtype=torch.float64)
        chi_squared = 2.0 * torch.from_numpy(gammaincinv(self.nu / 2, uniform.numpy()))
        spread = (chi_squared / self.nu).sqrt().to(factor.device)
        heavy: torch.Tensor = samples / spread
        return heavy


def student_entropy(dim: int, nu: float) -> float:
    """Return the differential entropy in nats of the `dim`-variate Student law with identity dispersion.

    ``lnG(nu/2) - lnG((nu+k)/2) + (k/2) ln(nu pi) + ((nu+k)/2) [psi((nu+k)/2) - psi(nu/2)]`` with k the
    dimension (Guerrero-Cusumano 1996).

    >>> round(2 * student_entropy(1, 1.0) - student_entropy(2, 1.0), 4)
    0.2242
    """
    psi = [float(torch.digamma(torch.tensor(a / 2, dtype=torch.float64))) for a in (nu + dim, nu)]
    return (
        math.lgamma(nu / 2)
        - math.lgamma((nu + dim) / 2)
        + dim / 2 * math.log(nu * math.pi)
        + (nu + dim) / 2 * (psi[0] - psi[1])
    )


def wishart_bias(dim: int, n: int) -> float:
    """Return by how much half the log determinant of a sample covariance is too low on average, as a negative number.

    ``b(d) = d/2 log(2/(n-1)) + 1/2 sum_{i<=d} psi((n-i)/2)`` for n Gaussian samples (Goodman 1963).
    """
    halves = (n - torch.arange(1, dim + 1, dtype=torch.float64)) / 2
    return dim / 2 * math.log(2 / (n - 1)) + 0.5 * float(torch.digamma(halves).sum())


def fit_copula(uniform: torch.Tensor, dim_x: int, family: Family) -> EllipticalCopula:
    """Fit a copula to uniform scores ``(N, D)``, the family by likelihood if ``"auto"``.

    Correlations are those of normal scores for the Gaussian; for the Student copula correlations and degrees
    of freedom maximize the likelihood. The extra parameter must be worth ``log(N) / 2`` nats (Schwarz 1978).
    """
    gaussian = _gaussian_fit(uniform, dim_x)
    if family == "gaussian":
        return gaussian
    student = _student_fit(uniform, dim_x, gaussian.correlation)
    n = len(uniform)
    if family == "student" or n * (student.log_likelihood - gaussian.log_likelihood) > 0.5 * math.log(n):
        return student
    return gaussian


def _gaussian_fit(uniform: torch.Tensor, dim_x: int) -> EllipticalCopula:
    correlation = correlation_of(torch.special.ndtri(uniform))
    # With these correlations the quadratic form of the density averages to that of independence, and cancels.
    log_likelihood = -0.5 * float(torch.linalg.slogdet(correlation)[1])
    return EllipticalCopula(correlation=correlation, dim_x=dim_x, nu=None, log_likelihood=log_likelihood)


def correlation_of(samples: torch.Tensor) -> torch.Tensor:
    """Return the correlation matrix ``(D, D)`` of samples ``(N, D)``."""
    centred = samples - samples.mean(dim=0)
    unit = centred / centred.norm(dim=0)
    correlation: torch.Tensor = unit.T @ unit
    return correlation


def _student_fit(uniform: torch.Tensor, dim_x: int, start: torch.Tensor) -> EllipticalCopula:
    """Maximize the profile likelihood over log nu by golden sections; it has one peak."""
    ratio = (math.sqrt(5) - 1) / 2
    low, high = math.log(LEAST_NU), math.log(MOST_NU)
    fits: dict[float, EllipticalCopula] = {}

    def fit(log_nu: float) -> float:
        if log_nu not in fits:
            nearest = min(fits, key=lambda other: abs(other - log_nu), default=None)
            warm = start if nearest is None else fits[nearest].correlation
            fits[log_nu] = _student_at(uniform, dim_x, math.exp(log_nu), warm)
        return fits[log_nu].log_likelihood

    left, right = high - ratio * (high - low), low + ratio * (high - low)
    for _ in range(SEARCH_STEPS):
        if fit(left) > fit(right):
            high, right = right, left
            left = high - ratio * (high - low)
        else:
            low, left = left, right
            right = low + ratio * (high - low)
    return max(fits.values(), key=lambda copula: copula.log_likelihood)


def _student_at(uniform: torch.Tensor, dim_x: int, nu: float, start: torch.Tensor) -> EllipticalCopula:
    """Fit the correlations at fixed nu by expectation-maximization (Liu & Rubin 1995)."""
    samples = student_quantiles(uniform, nu)
    n, dim = samples.shape
    correlation = start
    for _ in range(EM_STEPS):
        weights = (nu + dim) / (nu + _squared_lengths(samples, correlation))
        dispersion = (samples * weights[:, None]).T @ samples / n
        scale = dispersion.diagonal().sqrt()
        updated = dispersion / (scale[:, None] * scale)
        moved = float((updated - correlation).abs().max())
        correlation = updated
        if moved < 1e-4:
            break
    joint = -(nu + dim) / 2 * torch.log1p(_squared_lengths(samples, correlation) / nu)
    margins = -(nu + 1) / 2 * torch.log1p(samples**2 / nu)
    constant = math.lgamma((nu + dim) / 2) + (dim - 1) * math.lgamma(nu / 2) - dim * math.lgamma((nu + 1) / 2)
    log_likelihood = (
        constant
        - 0.5 * float(torch.linalg.slogdet(correlation)[1])
        + float(joint.mean() - margins.sum(dim=1).mean())
    )
    return EllipticalCopula(correlation=correlation, dim_x=dim_x, nu=nu, log_likelihood=log_likelihood)


def _squared_lengths(samples: torch.Tensor, correlation: torch.Tensor) -> torch.Tensor:
    factor = torch.linalg.cholesky(correlation)
    squared: torch.Tensor = torch.linalg.solve_triangular(factor, samples.T, upper=False).square().sum(dim=0)
    return squared


def student_quantiles(uniform: torch.Tensor, nu: float) -> torch.Tensor:
    """Return the quantiles of Student's t with `nu` degrees of freedom at probabilities of any shape."""
    from scipy.special import stdtrit  # scipy costs more to import than torch saves

    # All columns share the same N ranks, so each quantile is computed once.
    levels, place = torch.unique(uniform, return_inverse=True)
    return torch.as_tensor(stdtrit(nu, levels.cpu().numpy()), dtype=torch.float64).to(uniform.device)[place]
