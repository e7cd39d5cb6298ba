"""KSG: closed forms, a slow replica, labels, point masses, and messages."""

import math
import re

import numpy as np
import pytest
import torch
from scipy.special import digamma

from featurelens.information import KSGMutualInformation
from featurelens.information.neighbors import _count_within, _counts_by_blocks, neighbor_counts
from featurelens.information.variables import make_pair

RAW = KSGMutualInformation(k=4, marginals="raw")


def normal_pair(n, rho=0.75, seed=0, dim=1):
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(2, n, dim, generator=generator, dtype=torch.float64)
    return z[0], rho * z[0] + math.sqrt(1 - rho**2) * z[1]


def slow_ksg(x, y, k, variant):
    """The formulas of the paper, sample by sample, in float64."""
    x, y = (np.asarray(side, dtype=np.float64).reshape(len(side), -1) for side in (x, y))
    total = 0.0
    for i in range(len(x)):
        dx, dy = np.abs(x - x[i]).max(axis=1), np.abs(y - y[i]).max(axis=1)
        joint = np.maximum(dx, dy)
        joint[i] = np.inf
        nearest = np.argsort(joint)[:k]
        others = np.arange(len(x)) != i
        if variant == 1:
            radius = joint[nearest[-1]]
            total += digamma((dx[others] < radius).sum() + 1) + digamma((dy[others] < radius).sum() + 1)
        else:
            total += digamma((dx[others] <= dx[nearest].max()).sum())
            total += digamma((dy[others] <= dy[nearest].max()).sum())
    start = digamma(k) - (1 / k if variant == 2 else 0)
    return start + digamma(len(x)) - total / len(x)


def slow_ross(x, labels, k):
    """Ross (2014), sample by sample."""
    terms = []
    for i in range(len(x)):
        distance = np.abs(x - x[i])
        distance[i] = np.inf
        own = np.sort(distance[labels == labels[i]])
        within = (distance <= own[k - 1]).sum()
        terms.append(digamma((labels == labels[i]).sum()) + digamma(within))
    return digamma(len(x)) + digamma(k) - np.mean(terms)


@pytest.mark.parametrize("variant", [1, 2])
@pytest.mark.parametrize("dims", [(1, 1), (2, 1), (3, 3), (4, 5)])
def test_equals_the_slow_formula(variant, dims):
    generator = torch.Generator().manual_seed(1)
    x, y = (torch.randn(150, dim, generator=generator, dtype=torch.float64) for dim in dims)
    y[:, 0] += x[:, 0]
    estimator = KSGMutualInformation(k=4, variant=variant, marginals="raw")
    assert estimator.estimate(x, y).value == pytest.approx(slow_ksg(x, y, 4, variant), abs=1e-10)


@pytest.mark.parametrize("closed", [False, True])
@pytest.mark.parametrize("columns", [1, 2, 5])
@pytest.mark.parametrize("ties", [False, True])
def test_counts_in_boxes_are_those_of_all_pairs(closed, columns, ties, monkeypatch):
    monkeypatch.setattr("featurelens.information.neighbors.CACHED_ELEMENTS", 2000)
    rng = np.random.default_rng(0)
    points = rng.normal(size=(500, columns)) * 10.0 ** rng.normal(size=(500, 1))
    radius = rng.exponential(size=500)
    if ties:
        points, radius = points.round(), radius.round()
    apart = np.abs(points[:, None] - points).max(axis=2)
    within = apart <= radius[:, None] if closed else apart < radius[:, None]
    expected = np.maximum(within.sum(axis=1) - 1, 0)
    assert np.array_equal(_count_within(points, radius, closed=closed), expected)


def test_sparse_labels_warn_and_lone_labels_are_refused():
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randint(256, (2, 5000), generator=generator)
    with pytest.warns(
        UserWarning, match="has 65536 cells for 5000 samples.*pass quantities as floating-point"
    ):
        assert abs(KSGMutualInformation().estimate(x, y).value) < 0.05
    values = torch.randn(2000, generator=generator)
    with pytest.raises(
        ValueError, match="x holds integers, which are labels, and every label occurs once: pass"
    ):
        KSGMutualInformation().estimate(torch.arange(2000), values)
    rare = torch.randint(4000, (2000,), generator=generator)
    with pytest.warns(UserWarning, match="left out 12.. of 2000 samples, each alone in its label"):
        KSGMutualInformation().estimate(rare, values)


def test_a_label_knows_no_more_than_its_entropy():
    label = torch.arange(66) % 2
    assert KSGMutualInformation().estimate(label, label).value == pytest.approx(math.log(2), abs=1e-12)


def test_labels_equal_ross():
    x, y = normal_pair(300, dim=1)
    labels = (y[:, 0] > 0.3).int() + (y[:, 0] > -0.5).int()
    expected = slow_ross(x[:, 0].numpy(), labels.numpy(), 4)
    assert RAW.estimate(x, labels).value == pytest.approx(expected, abs=1e-10)
    assert RAW.estimate(labels, x).value == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize(
    ("rule", "kind"),
    [
        ("joint", "continuous"),
        ("axes", "continuous"),
        ("closed", "continuous"),
        ("joint", "labels"),
        ("closed", "labels"),
    ],
)
def test_trees_and_blocks_count_the_same(rule, kind, monkeypatch):
    monkeypatch.setattr("featurelens.information.neighbors.CHUNK_ELEMENTS", 5000)
    x, y = normal_pair(400)
    pair = make_pair(x, (3 * y[:, 0]).round().int() if kind == "labels" else y)
    tree, blocks = neighbor_counts(*pair, 5, rule), _counts_by_blocks(*pair, 5, rule)
    for field in ("x", "y", "rank", "touching"):
        assert torch.equal(getattr(tree, field), getattr(blocks, field)), field
    if rule == "closed":
        assert torch.equal(tree.joint, blocks.joint)


@pytest.mark.parametrize(("rho", "seed"), [(0.0, 0), (0.5, 1), (0.75, 2), (0.9, 3)])
def test_bivariate_normal(rho, seed):
    x, y = normal_pair(4000, rho, seed)
    assert KSGMutualInformation().estimate(x, y).value == pytest.approx(-0.5 * math.log(1 - rho**2), abs=0.05)


@pytest.mark.parametrize(("e", "truth"), [(0.1, 1.7094), (0.75, 0.3333)])
def test_additive_uniform(e, truth):
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(5000, generator=generator)
    y = x + e * (2 * torch.rand(5000, generator=generator) - 1)
    assert KSGMutualInformation().estimate(x, y).value == pytest.approx(truth, abs=0.06)


@pytest.mark.parametrize("as_float", [False, True])
def test_mixed_labels_and_uniform(as_float):
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 5, (4000,), generator=generator)
    y = x + 2 * torch.rand(4000, generator=generator)
    result = KSGMutualInformation().estimate(x.float() if as_float else x, y)
    assert result.value == pytest.approx(math.log(5) - 0.8 * math.log(2), abs=0.03)
    assert ("x has 5 different values: used as labels" in result.notes) == as_float


@pytest.mark.parametrize("marginals", ["normal-score", "raw"])
def test_rectified_normal_has_the_information_of_its_mixture(marginals):
    # 0.281: both zero with the orthant probability, one zero, or both positive, integrated numerically.
    x, y = normal_pair(10_000)
    result = KSGMutualInformation(marginals=marginals).estimate(x.relu(), y.relu(), seed=0)
    assert result.value == pytest.approx(0.281, abs=0.03)
    assert re.search(r"\d\d% of x are repeated values \(most often 0, \d\d%\)", " ".join(result.notes))


def test_eight_bit_values_do_not_pass_for_information():
    x, y = normal_pair(2000, rho=0.0)
    result = KSGMutualInformation().estimate((16 * x).round(), (16 * y).round(), seed=0)
    assert abs(result.value) < 0.03


def test_labels_on_both_sides_are_counted():
    x = torch.arange(1000) % 4
    result = KSGMutualInformation().estimate(x, x)
    assert result.value == pytest.approx(math.log(4), abs=0.01)
    assert "labels on both sides" in result.notes[0]


def test_a_variable_and_itself_reach_the_ceiling():
    x, _ = normal_pair(500)
    with pytest.warns(UserWarning, match=r"^KSG.* is above 0\.6 of the ceiling"):
        result = KSGMutualInformation(k=3).estimate(x, x)
    assert result.value == pytest.approx(result.ceiling, abs=1e-12)
    assert result.ceiling == pytest.approx(digamma(500) - digamma(3))
    assert result.saturated


def test_negative_estimates_stay_negative():
    values = [KSGMutualInformation().estimate(*normal_pair(300, 0.0, seed)).value for seed in range(20)]
    assert min(values) < 0 < max(values)


def test_identical_samples_are_counted_and_said():
    x, y = normal_pair(400)
    x[:3], y[:3] = x[0].clone(), y[0].clone()
    result = KSGMutualInformation(k=1, marginals="raw").estimate(x, y)
    assert math.isfinite(result.value)
    assert any("identical twins" in note for note in result.notes)


def test_lonely_labels_are_left_out_and_said():
    x, y = normal_pair(200)
    labels = (y[:, 0] > 0).int()
    labels[7] = 9
    result = KSGMutualInformation().estimate(x, labels)
    assert "1 samples, each alone in its label, were left out" in result.notes


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"k": 0}, ValueError, "k must be at least 1; got 0"),
        ({"k": 2.0}, TypeError, "k must be a whole number; got 2.0"),
        ({"k": True}, TypeError, "k must be a whole number; got True"),
        ({"variant": 3}, ValueError, "variant must be one of 1, 2; got 3"),
        ({"marginals": "rank"}, ValueError, "marginals must be one of 'normal-score', 'raw'; got 'rank'"),
    ],
)
def test_constructor_says_what_is_wrong(settings, error, message):
    with pytest.raises(error) as caught:
        KSGMutualInformation(**settings)
    assert str(caught.value) == message


def test_too_few_samples():
    with pytest.raises(
        ValueError, match="k must be smaller than the number of samples; got k = 5 for 5 samples"
    ):
        KSGMutualInformation(k=5).estimate(torch.rand(5), torch.rand(5))
