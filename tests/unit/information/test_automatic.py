"""The default estimator: what it chooses, that the choice needs no value, and its null."""

import math

import numpy as np
import pytest
import torch

from featurelens.information import (
    AutomaticMutualInformation,
    CorrectedKSGMutualInformation,
    KSGMutualInformation,
    LatentMutualInformation,
    ProbeMutualInformation,
    automatic,
    learned_codes,
    mutual_information,
)
from featurelens.information.elliptical import fit_copula
from featurelens.information.learned_codes import distance_to_normal, gaussian_information, learned_folds
from featurelens.information.ranks import uniform_scores
from featurelens.information.variables import make_pair


@pytest.fixture(autouse=True)
def less_learning(monkeypatch):
    monkeypatch.setitem(automatic.PLANS, "default", automatic.PLANS["default"]._replace(folds=2, steps=200))


AUTO = AutomaticMutualInformation()


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def bent(n, seed=0):
    """The first column of y is |x1| + noise, and no copula sees it."""
    x, y = normal(2, n, 3, seed=seed)
    y[:, 0] = x[:, 0].abs() + 0.2 * y[:, 0]
    return x, y


BENT_TRUTH = 1.077  # entropy of |x1| + noise less that of the noise, by integration


def test_it_is_the_default():
    x, y = normal(2, 500)
    result = mutual_information(x, x + y)
    assert result.method == "Automatic(effort='default')"
    assert result.value == AUTO.estimate(x, x + y).value


def test_labels_are_counted_or_compared():
    x = torch.arange(400) % 4
    result = AUTO.estimate(x, x // 2)
    assert result.value == pytest.approx(math.log(2), abs=1e-9)
    assert result.notes[0] == "the table of counts"
    values = x + 0.1 * normal(400)
    result = AUTO.estimate(x, values)
    assert result.value == KSGMutualInformation().estimate(x, values).value
    assert result.notes[0] == "nearest neighbours: labels and 3 columns or fewer"


def test_labels_and_many_columns_are_told_by_what_predicts_them():
    labels = torch.arange(600) % 3
    columns = normal(600, 20)
    columns[:, 0] += 2 * labels
    result = AUTO.estimate(columns, labels)
    assert result.value == pytest.approx(ProbeMutualInformation().estimate(columns, labels).value, abs=0.03)
    assert result.notes[0].startswith("a linear probe, a lower bound: held-out labels: ")
    ring = normal(600, 4)
    ring *= (1 + 4 * labels[:, None]) / ring.norm(dim=1, keepdim=True)  # no linear map separates shells
    result = AUTO.estimate(ring, labels)
    assert result.value == KSGMutualInformation().estimate(ring, labels).value
    assert result.notes[0].startswith("nearest neighbours: held-out labels: ")


@pytest.mark.parametrize(
    ("n", "columns", "effort", "why"),
    [
        (400, 1, "default", "3 columns or fewer"),
        (400, 2, "fast", "effort='fast'"),
        (200, 2, "default", "fewer than 300 samples"),
    ],
)
def test_neighbours_where_nothing_can_or_need_be_learned(n, columns, effort, why):
    x, y = normal(2, n, columns)
    result = AutomaticMutualInformation(effort=effort).estimate(x, x + y, seed=3)
    assert result.notes[0] == f"corrected nearest neighbours: {why}"
    surrogates = 2 if effort == "fast" else 8
    expected = CorrectedKSGMutualInformation(surrogates=surrogates).estimate(x, x + y, seed=3)
    assert result.value == expected.value


def test_elliptical_dependence_keeps_its_columns():
    x, y = normal(2, 600, 3)
    result = AUTO.estimate(x, x + y)
    assert result.value == pytest.approx(1.5 * math.log(2), abs=0.15)
    assert result.notes[0].startswith("corrected nearest neighbours: held-out samples: ")


def test_bent_dependence_is_learned():
    x, y = bent(1500)
    result = AUTO.estimate(x, y, confidence=0.95)
    assert result.notes[0].startswith(
        "corrected nearest neighbours on learned codes, a lower bound: held-out"
    )
    assert 0.7 < result.value < BENT_TRUTH + 0.1
    assert CorrectedKSGMutualInformation().estimate(x, y).value < 0.6
    assert result.interval[0] < result.value < result.interval[1]
    latent = LatentMutualInformation(reduce="learned", steps=400).estimate(x, y)
    assert 0.7 < latent.value < BENT_TRUTH + 0.1
    assert LatentMutualInformation().estimate(x, y).value < 0.3


def test_repeated_columns_do_not_matter():
    x, y = normal(2, 600, 3)
    twice = torch.cat([x, 2 * x + 1], dim=1)
    result = AUTO.estimate(twice, x + y)
    assert result.value == pytest.approx(1.5 * math.log(2), abs=0.15)
    assert "nan" not in result.notes[0]


def test_independent_columns_have_no_information():
    values = []
    for seed in range(3):
        result = AUTO.estimate(*normal(2, 600, 4, seed=seed), seed=seed)
        values.append(result.value)
    assert abs(np.mean(values)) < 0.05


def test_many_independent_columns_scatter_little():
    fast = AutomaticMutualInformation(effort="fast")
    values = [fast.estimate(*normal(2, 1000, 25, seed=seed), seed=seed).value for seed in range(4)]
    assert np.abs(values).max() < 0.05  # with five neighbours the standard deviation is about 0.03


def test_sides_can_be_exchanged_and_seeds_repeat():
    x, y = bent(400)
    assert AUTO.estimate(x, y, seed=1).value == AUTO.estimate(x, y, seed=1).value
    plain = x, x + y
    there, back = AUTO.estimate(*plain, seed=1).value, AUTO.estimate(*plain[::-1], seed=1).value
    assert there == pytest.approx(back, abs=1e-9)


def test_the_null_permutes_within_what_was_held_out():
    result = AUTO.estimate(*bent(600), null="permutation", permutations=9)
    assert result.p_value == pytest.approx(0.1)
    assert abs(result.null_mean) < 0.1


def test_codes_are_learned_on_other_samples():
    x, y = make_pair(*bent(600))
    folds = [*learned_folds(x, y, width=2, folds=3, steps=50, generator=torch.Generator().manual_seed(0))]
    assert torch.equal(torch.cat([fold.rows for fold in folds]).sort().values, torch.arange(600))
    changed = y.with_values(y.values.clone())
    changed.values[folds[0].rows] = changed.values[folds[0].rows].flip(0)  # ranks stay as they are
    again = [
        *learned_folds(x, changed, width=2, folds=3, steps=50, generator=torch.Generator().manual_seed(0))
    ]
    assert torch.equal(again[0].x.values, folds[0].x.values)
    assert torch.equal(again[0].y.values.flip(0), folds[0].y.values)
    assert not torch.equal(again[1].x.values, folds[1].x.values)


def test_a_fifth_of_the_samples_decides_when_to_stop_and_none_of_it_is_learned_from(monkeypatch):
    x, y = (side.float() for side in bent(603))
    used = {}

    def noting(name, place):
        original = getattr(learned_codes, name)

        def noted(*args):
            used[name] = {tuple(row) for row in args[place].tolist()}
            return original(*args)

        monkeypatch.setattr(learned_codes, name, noted)

    noting("canonical_maps", 0)
    noting("_held_out_score", 2)
    learned_codes.learn_codes(x, y, 2, 60, torch.Generator().manual_seed(0))
    learned, held = used.values()
    assert len(held) == 120
    assert held | learned == {tuple(row) for row in x.tolist()}
    assert not held & learned


def test_evidence_is_the_log_density_ratio():
    covariance = torch.tensor([[1.0, 0.6], [0.6, 1.0]], dtype=torch.float64)
    z = normal(4000, 2) @ torch.linalg.cholesky(covariance).T
    for family in ("gaussian", "student"):
        copula = fit_copula(uniform_scores(z), 1, family)
        ratio = copula.log_ratio(uniform_scores(z))
        assert float(ratio.mean()) == pytest.approx(copula.log_likelihood, abs=0.005)
        assert float(ratio.mean()) == pytest.approx(-0.5 * math.log(0.64), abs=0.03)


def test_distance_to_normal_is_its_cumulants():
    codes = normal(20_000, 3)
    assert float(distance_to_normal(codes)) < 0.02
    skewed = codes.clone()
    skewed[:, 0] = skewed[:, 0].exp()
    assert float(distance_to_normal(skewed)) > 1
    one = skewed[:, :1]
    white = (one - one.mean()) / one.std(correction=0)
    expected = float(white.pow(3).mean() ** 2 / 12 + (white.pow(4).mean() - 3) ** 2 / 48)
    assert float(distance_to_normal(one)) == pytest.approx(expected, rel=1e-2)
    doubled = torch.cat([codes[:, :1], codes[:, :1] ** 2], dim=1)
    assert float(distance_to_normal(doubled)) > 0.5


def test_gaussian_information_is_that_of_the_correlation():
    x, y = normal(2, 50_000, 1)
    assert float(gaussian_information(x, x + y)) == pytest.approx(0.5 * math.log(2), abs=0.02)


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="effort must be one of 'fast', 'default', 'thorough'; got 'high'"):
        AutomaticMutualInformation(effort="high")
    with pytest.raises(
        TypeError, match="reduce='learned' needs continuous sides; got integer labels: use Probe"
    ):
        LatentMutualInformation(reduce="learned").estimate(torch.arange(200) % 2, torch.rand(200))
