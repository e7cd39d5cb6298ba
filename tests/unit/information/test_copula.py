"""Copulas, and KSG corrected by them."""

import math
import warnings

import numpy as np
import pytest
import torch
from scipy import stats

from featurelens.information import (
    CopulaMutualInformation,
    CorrectedKSGMutualInformation,
    KSGMutualInformation,
)
from featurelens.information.elliptical import fit_copula, student_entropy, wishart_bias
from featurelens.information.ranks import normal_scores, spread_scores, uniform_scores


def gaussian(n, covariance, seed):
    factor = torch.linalg.cholesky(covariance)
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, len(covariance), generator=generator, dtype=torch.float64) @ factor.T


def dense(d):
    return 0.5 * (torch.eye(2 * d, dtype=torch.float64) + 1)


def dense_truth(d):
    return 0.5 * math.log((1 + (d - 1) / 2) ** 2 / (0.5 * (1 + (2 * d - 1) / 2)))


def student(n, d, nu, seed):
    """Whole nu: a normal vector over the root of a mean of nu squares."""
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(n, 2 * d, generator=generator, dtype=torch.float64)
    chi = torch.randn(n, nu, generator=generator, dtype=torch.float64).square().mean(dim=1, keepdim=True)
    return z / chi.sqrt()


@pytest.mark.parametrize(("d", "n", "tolerance"), [(1, 4000, 0.03), (5, 4000, 0.05), (25, 1000, 0.1)])
def test_dense_gaussian(d, n, tolerance):
    values = [
        CopulaMutualInformation().estimate(z[:, :d], z[:, d:]).value
        for z in (gaussian(n, dense(d), s) for s in range(2))
    ]
    assert sum(values) / 2 == pytest.approx(dense_truth(d), abs=tolerance)


def test_bias_of_many_columns_is_taken_off():
    """Independent data in 20 + 20 columns: the determinant alone says 0.5 nats."""
    values = [
        CopulaMutualInformation(family="gaussian").estimate(z[:, :20], z[:, 20:]).value
        for z in (gaussian(400, torch.eye(40, dtype=torch.float64), s) for s in range(8))
    ]
    assert abs(sum(values) / 8) < 0.03
    assert wishart_bias(20, 400) * 2 - wishart_bias(40, 400) > 0.4


@pytest.mark.parametrize(
    ("d", "nu", "truth"), [(1, 1, 0.2242), (2, 1, 0.4319), (2, 2, 0.1931), (3, 2, 0.2909), (5, 3, 0.2985)]
)
def test_student(d, nu, truth):
    assert 2 * student_entropy(d, nu) - student_entropy(2 * d, nu) == pytest.approx(truth, abs=5e-5)
    z = student(5000, d, nu, d)
    result = CopulaMutualInformation().estimate(z[:, :d], z[:, d:])
    assert result.value == pytest.approx(truth, abs=0.04)
    assert "Student copula" in result.notes[-1]


def test_family_is_chosen_by_likelihood():
    assert CopulaMutualInformation().estimate(*gaussian(2000, dense(2), 0).split(2, dim=1)).notes == (
        "Gaussian copula",
    )


@pytest.mark.parametrize("estimator", [CopulaMutualInformation(), CorrectedKSGMutualInformation()])
def test_margins_do_not_matter(estimator):
    z = gaussian(300, dense(2), 0)
    x, y = z[:, :2], z[:, 2:]
    plain = estimator.estimate(x, y, seed=0).value
    assert estimator.estimate(x.exp(), y.asinh() * 7 + 3, seed=0).value == pytest.approx(plain, abs=1e-9)


def rectified(share, n, columns, seed):
    """Independent columns of which that share is zero."""
    z = torch.randn(2, n, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    threshold = torch.special.ndtri(torch.tensor(share, dtype=torch.float64))
    return (z - threshold).relu()


@pytest.mark.parametrize("estimator", [CopulaMutualInformation(), CorrectedKSGMutualInformation()])
@pytest.mark.parametrize("share", [0.5, 0.9, 0.97])
@pytest.mark.parametrize("columns", [1, 2])
def test_zeros_of_a_relu_are_no_dependence(estimator, share, columns):
    values = [estimator.estimate(*rectified(share, 2000, columns, s), seed=s).value for s in range(4)]
    assert abs(sum(values) / 4) < 0.015


@pytest.mark.parametrize(("d", "n"), [(5, 1000), (20, 1000), (50, 1000)])
def test_corrected_ksg_has_no_bias_of_covariances(d, n):
    """A covariance fitted to independent columns adds d^2 / 2n nats: 1.2 for 50 + 50 and 1000 samples."""
    values = [
        CorrectedKSGMutualInformation()
        .estimate(*gaussian(n, torch.eye(2 * d, dtype=torch.float64), s).split(d, dim=1), seed=s)
        .value
        for s in range(4)
    ]
    assert abs(sum(values) / 4) < 0.05


def test_a_copula_is_freed_of_its_bias():
    covariance = torch.eye(20, dtype=torch.float64)
    covariance[0, 10] = covariance[10, 0] = 0.8
    fitted = [fit_copula(uniform_scores(gaussian(500, covariance, s)), 10, "gaussian") for s in range(5)]
    freed = [copula.without_bias(500) for copula in fitted]
    truth = -0.5 * math.log(0.36)
    assert sum(copula.information() for copula in fitted) / 5 > truth + 0.06
    assert sum(copula.information() for copula in freed) / 5 == pytest.approx(truth, abs=0.04)
    for before, after in zip(fitted, freed, strict=True):
        assert after.information() == pytest.approx(before.information() - before.bias(500), abs=1e-9)
        assert torch.equal(after.correlation[:10, :10], before.correlation[:10, :10])
        assert torch.linalg.eigvalsh(after.correlation)[0] > 0


@pytest.mark.parametrize("noise", [1e-2, 1e-3, 3e-4, 1e-4])
@pytest.mark.parametrize("estimator", [CopulaMutualInformation(), CorrectedKSGMutualInformation()])
def test_nearly_deterministic_pairs_stay_below_the_truth(estimator, noise):
    z = torch.randn(2, 2000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    truth = 0.5 * math.log1p(noise**-2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        result = estimator.estimate(z[0], z[0] + noise * z[1])
    assert 4.0 < result.value < truth
    assert result.ceiling is None or result.value <= result.ceiling
    assert "ranks of 2000 samples hardly resolve so close a dependence: a lower bound" in result.notes


def test_ten_samples_have_no_heavy_tails():
    values = []
    for seed in range(200):
        z = torch.randn(2, 10, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        values.append(CopulaMutualInformation().estimate(z[0], 0.75 * z[0] + 0.66 * z[1]).value)
    assert max(values) < 3.0


@pytest.mark.parametrize("estimator", [CopulaMutualInformation(), CorrectedKSGMutualInformation()])
@pytest.mark.parametrize("ties", [False, True])
def test_sides_can_be_exchanged(estimator, ties):
    x, y = rectified(0.6, 300, 2, 0) if ties else gaussian(300, dense(2), 0).split(2, dim=1)
    there, back = estimator.estimate(x, y, seed=3).value, estimator.estimate(y, x, seed=3).value
    assert there == pytest.approx(back, abs=1e-12)


def test_a_table_is_not_corrected_like_a_continuous_pair():
    z = gaussian(2000, dense(1), 0).mul(2).round()
    x, y = z[:, :1], z[:, 1:]
    with_labels = KSGMutualInformation().estimate(x.long(), y.long())
    assert CorrectedKSGMutualInformation().estimate(x, y).value == pytest.approx(with_labels.value)


def test_drawn_samples_have_the_copula_they_come_from():
    z = student(2000, 2, 2, 0)
    fitted = fit_copula(uniform_scores(z), 2, "student")
    again = fit_copula(uniform_scores(fitted.draw(4000, torch.Generator().manual_seed(0))), 2, "student")
    assert again.nu == pytest.approx(fitted.nu, rel=0.2)
    assert torch.allclose(again.correlation, fitted.correlation, atol=0.08)
    assert again.information() == pytest.approx(fitted.information(), abs=0.05)
    samples = fitted.draw(20000, torch.Generator().manual_seed(1))
    quartile = stats.t.ppf(0.75, fitted.nu)  # of its margins
    assert samples.quantile(0.75, dim=0).tolist() == pytest.approx([quartile] * samples.shape[1], rel=0.06)


def test_redundant_columns_are_left_out_and_said():
    z = gaussian(500, dense(2), 0)
    x = torch.cat([z[:, :2], 3 * z[:, :1] + 1], dim=1)
    result = CopulaMutualInformation(family="gaussian").estimate(x, z[:, 2:])
    assert result.value == pytest.approx(
        CopulaMutualInformation(family="gaussian").estimate(z[:, :2], z[:, 2:]).value
    )
    assert result.notes[0] == "1 columns of x are determined by the other columns and were left out"


def test_one_side_determines_the_other():
    x = torch.randn(200, generator=torch.Generator().manual_seed(0))
    assert CopulaMutualInformation().estimate(x, x.exp()).value == math.inf
    with pytest.warns(UserWarning, match="ceiling"):
        result = CorrectedKSGMutualInformation().estimate(x, x.exp())
    assert result.value == pytest.approx(result.ceiling)
    assert "KSG without correction" in result.notes[-1]


@pytest.mark.parametrize("d", [2, 5])
def test_corrected_ksg_is_closer_than_ksg(d):
    covariance = torch.eye(2 * d, dtype=torch.float64)
    for i in range(2):
        covariance[i, d + i] = covariance[d + i, i] = 0.8
    z = gaussian(1000, covariance, 1)
    plain = KSGMutualInformation().estimate(z[:, :d], z[:, d:]).value
    corrected = CorrectedKSGMutualInformation().estimate(z[:, :d], z[:, d:], seed=0)
    assert corrected.value == pytest.approx(1.0217, abs=0.1)
    assert abs(corrected.value - 1.0217) < abs(plain - 1.0217) + 0.03
    assert corrected.notes[-1].startswith(
        f"plain KSG gives {plain:.4f} nats; its error on the fitted copula is -"
    )


def test_scores_are_ranks():
    values = torch.tensor([[3.0, 5.0], [1.0, 5.0], [2.0, -1.0], [9.0, 5.0]])
    assert uniform_scores(values).T.tolist() == [[0.625, 0.125, 0.375, 0.875], [0.625, 0.625, 0.125, 0.625]]
    spread = spread_scores(values, torch.Generator().manual_seed(0))
    assert spread[:, 0].tolist() == [0.625, 0.125, 0.375, 0.875]
    assert sorted(spread[:, 1].tolist()) == [0.125, 0.375, 0.625, 0.875]
    assert spread[2, 1] == 0.125
    assert torch.allclose(torch.special.ndtr(normal_scores(values)), uniform_scores(values))


@pytest.mark.parametrize("estimator", [CopulaMutualInformation(), CorrectedKSGMutualInformation()])
def test_bad_input_is_named(estimator):
    name = type(estimator).__name__
    with pytest.raises(
        TypeError, match=f"{name} needs continuous variables; got integer labels for y: use KSGMutual"
    ):
        estimator.estimate(torch.rand(9), torch.arange(9))
    with pytest.raises(ValueError, match="a copula of 8 columns needs at least 10 samples; got 9"):
        estimator.estimate(torch.rand(9, 4), torch.rand(9, 4))
    with pytest.raises(
        ValueError, match="family must be one of 'auto', 'gaussian', 'student'; got 'clayton'"
    ):
        CopulaMutualInformation(family="clayton")
    with pytest.raises(ValueError, match="surrogates must be at least 1; got 0"):
        CorrectedKSGMutualInformation(surrogates=0)
    with pytest.raises(TypeError, match="surrogates must be a whole number; got int64 NumPy array"):
        CorrectedKSGMutualInformation(surrogates=np.array([1, 2]))


@pytest.mark.parametrize(("dim", "n"), [(1, 4), (3, 8), (5, 40)])
def test_covariances_of_few_samples_are_too_small_by_the_known_bias(dim, n):
    drawn = torch.randn(20000, n, dim, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    centred = drawn - drawn.mean(1, keepdim=True)
    halves = (centred.mT @ centred / (n - 1)).logdet() / 2
    assert wishart_bias(dim, n) == pytest.approx(
        halves.mean().item(), abs=5 * halves.std().item() / 20000**0.5
    )


def test_corrected_ksg_says_where_the_copula_does_not_hold():
    n = 2000
    x, noise = torch.rand(2, n, generator=torch.Generator().manual_seed(0)).double() - 0.5
    normal = torch.randn(2, n, generator=torch.Generator().manual_seed(1)).double()
    uniform, elliptical = (
        CorrectedKSGMutualInformation(surrogates=1).estimate(a, a + b) for a, b in ((x, noise), normal)
    )
    assert any("above the fitted copula" in note and "no interval covers" in note for note in uniform.notes)
    assert not any("the fitted copula:" in note for note in elliptical.notes)
