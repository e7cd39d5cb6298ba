"""Counts: entropies, corrections, bins, and messages."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.special import digamma
from sklearn.metrics import mutual_info_score
from sklearn.metrics.cluster import contingency_matrix, expected_mutual_information

from featurelens.information import BinnedMutualInformation
from featurelens.information.chance import ChanceTable, cells_seen
from featurelens.information.discretization import quantile_codes, uniform_codes
from featurelens.information.entropy import CORRECTIONS, count_weights, information_from_codes

PLUG_IN = BinnedMutualInformation(correction="none")


def labels(n, seed, levels=5):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(0, levels, (n,), generator=generator)
    return x, (x + torch.randint(0, 3, (n,), generator=generator)) % levels


def slow_entropy(counts, correction):
    n = sum(counts)
    if correction == "grassberger":

        def g(c):
            return digamma(c) + (-1) ** c / 2 * (digamma((c + 1) / 2) - digamma(c / 2))

        return math.log(n) - sum(c * g(c) for c in counts) / n
    plug_in = -sum(c / n * math.log(c / n) for c in counts)
    return plug_in + ((len(counts) - 1) / (2 * n) if correction == "miller-madow" else 0)


@pytest.mark.parametrize("correction", ["none", "miller-madow", "grassberger"])
def test_equals_three_slow_entropies(correction):
    x, y = labels(211, 0)
    joint = np.unique(np.stack([x, y]), axis=1, return_counts=True)[1].tolist()
    first, second = (np.unique(side, return_counts=True)[1].tolist() for side in (x, y))
    expected = (
        slow_entropy(first, correction) + slow_entropy(second, correction) - slow_entropy(joint, correction)
    )
    assert BinnedMutualInformation(correction=correction).estimate(x, y).value == pytest.approx(
        expected, abs=1e-12
    )


def test_plug_in_equals_sklearn():
    x, y = labels(500, 1)
    assert PLUG_IN.estimate(x, y).value == pytest.approx(mutual_info_score(x, y), abs=1e-12)
    sparse = x * 10_000_019, y * 1_000_003
    assert PLUG_IN.estimate(*sparse).value == pytest.approx(mutual_info_score(x, y), abs=1e-12)


def test_sparse_and_dense_tables_agree():
    x, y = labels(100, 2)
    for correction in CORRECTIONS:
        dense = information_from_codes(x, y, levels_x=5, levels_y=5, correction=correction).value
        sparse = information_from_codes(x, y, levels_x=5, levels_y=10**6, correction=correction).value
        assert dense == pytest.approx(sparse, abs=1e-12)


def test_correction_removes_bias():
    """16 x 16 bins of independent data: the plug-in value is all bias."""
    corrected, plug_in = [], []
    for seed in range(10):
        x, y = torch.randn(2, 1024, generator=torch.Generator().manual_seed(seed))
        corrected.append(BinnedMutualInformation(bins=16).estimate(x, y).value)
        plug_in.append(BinnedMutualInformation(bins=16, correction="none").estimate(x, y).value)
    assert np.mean(plug_in) == pytest.approx(225 / 2048, abs=0.02)
    assert abs(np.mean(corrected)) < 0.02


def test_chance_is_the_mean_over_all_pairings():
    """Seven samples have 5040 orders: the exact means, by listing them."""
    x, y = torch.tensor([0, 0, 0, 1, 1, 2, 2]), torch.tensor([0, 0, 0, 0, 1, 1, 2])
    orders = list(itertools.permutations(range(7)))
    information = [mutual_info_score(x, y[list(order)]) for order in orders]
    cells = [int(cells_seen((3 * x + y[list(order)]).bincount())) for order in orders]
    margins = x.bincount()[None], y.bincount()[None]
    chance = ChanceTable(*margins, 7).of(*margins)
    assert float(chance.information) == pytest.approx(np.mean(information), abs=1e-12)
    assert float(chance.cells) == pytest.approx(np.mean(cells), abs=1e-12)


def test_chance_of_large_tables_is_that_of_sklearn():
    generator = torch.Generator().manual_seed(0)
    for n, levels in ((500, 7), (5000, 3), (20_000, 40)):
        x, y = torch.randint(levels, (2, n), generator=generator) ** 2 // 3
        margins = x.bincount()[None], y.bincount()[None]
        expected = expected_mutual_information(contingency_matrix(x, y, sparse=True), n)
        chance = ChanceTable(*margins, n).of(*margins)
        assert float(chance.information) == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize(("n", "levels", "bins"), [(200, 2, 20), (201, 2, 20), (300, 3, 20), (220, 10, 20), (60, 5, 4), (1001, 7, 33)])  # fmt: skip
def test_independent_data_average_zero_whatever_the_counts(n, levels, bins):
    """Bins of equal count have fixed margins, whose parity misled the correction for random counts."""
    generator = torch.Generator().manual_seed(1)
    y = torch.arange(n) % levels
    values = [
        BinnedMutualInformation(bins=bins).estimate(torch.rand(n, generator=generator), y).value
        for _ in range(400)
    ]
    assert abs(np.mean(values)) < 4 * np.std(values) / 20 < 0.015


def test_a_label_knows_itself_and_no_more():
    for n in (20, 66, 1000):
        x = torch.arange(n) % 2
        assert BinnedMutualInformation().estimate(x, x).value == pytest.approx(math.log(2), abs=1e-12)


@pytest.mark.parametrize("levels", [3, 8])
def test_intervals_cover_the_information_of_the_cells(levels):
    rng = np.random.default_rng(0)
    table = rng.dirichlet(np.ones(levels**2)).reshape(levels, levels)
    truth = float((table * np.log(table / (table.sum(1, keepdims=True) * table.sum(0)))).sum())
    hits = 0
    for _ in range(100):
        x, y = np.divmod(rng.choice(levels**2, size=800, p=table.ravel()), levels)
        low, high = BinnedMutualInformation().estimate(x, y, confidence=0.95).interval
        hits += low <= truth <= high
    assert 89 <= hits <= 100


def test_empty_cells_weigh_nothing():
    for correction in CORRECTIONS:
        assert count_weights(10, correction)[0] == 0


def test_uniform_codes_are_those_of_numpy():
    rng = np.random.default_rng(0)
    rows = np.concatenate([rng.normal(size=(20, 300)), rng.integers(0, 6, (20, 300)) / 5, np.ones((1, 300))])
    for bins in (2, 5, 10, 255):
        codes = uniform_codes(torch.from_numpy(rows), bins).numpy()
        for row, code in zip(rows, codes, strict=True):
            expected = np.histogram2d(row, row, bins)[0].diagonal()
            assert np.array_equal(np.bincount(code, minlength=bins), expected) or np.ptp(row) == 0


def test_quantile_codes_follow_mid_ranks():
    generator = torch.Generator().manual_seed(0)
    rows = torch.stack(
        [torch.randn(97, generator=generator), torch.randn(97, generator=generator).relu().mul(4).round()]
    )
    for bins in (2, 7, 16):
        for row, code in zip(rows, quantile_codes(rows, bins), strict=True):
            middle = (row[:, None] > row).sum(dim=1) + ((row[:, None] == row).sum(dim=1)) / 2
            expected = (bins * middle.double() / len(row)).floor().clamp(max=bins - 1)
            assert torch.equal(code.double(), expected)


def test_rectified_zeros_get_a_bin_of_their_own():
    x = torch.randn(1000, generator=torch.Generator().manual_seed(0)).relu()
    codes = quantile_codes(x, 16)
    zero = codes[x == 0].unique()
    assert len(zero) == 1
    assert not (codes[x > 0] == zero).any()
    result = BinnedMutualInformation().estimate(x, torch.rand(1000))
    assert any(note.endswith("of x equal 0: a point mass") for note in result.notes)


def test_several_columns_make_one_joint_code():
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 2, (400, 3), generator=generator)
    joint = x @ torch.tensor([4, 2, 1])
    assert PLUG_IN.estimate(x, joint).value == pytest.approx(PLUG_IN.estimate(joint, joint).value)
    continuous = torch.randn(400, 3, generator=generator)
    with pytest.warns(UserWarning, match="above 0.6 of the ceiling"):
        assert BinnedMutualInformation(bins=2).estimate(continuous, continuous).value > 1.9


def test_auto_bins_and_ceiling():
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, 2000, generator=generator)
    assert BinnedMutualInformation().estimate(x, y).ceiling == pytest.approx(math.log(20))
    label = (y > 0).int()
    assert BinnedMutualInformation().estimate(x, label).ceiling == pytest.approx(math.log(64))


@pytest.mark.parametrize("correction", CORRECTIONS)
def test_too_many_cells_are_said(correction):
    x, y = torch.randn(2, 100, generator=torch.Generator().manual_seed(0))
    with pytest.warns(
        UserWarning, match="has 256 cells for 100 samples, and pairs at random would show 41% of"
    ):
        result = BinnedMutualInformation(bins=16, correction=correction).estimate(x, y)
    assert result.notes[-1].startswith("has 256 cells for 100 samples")


def test_many_columns_and_bins_show_nothing_and_say_so():
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(1000) % 10
    for columns in (8, 50):
        with pytest.warns(UserWarning, match="cells for 1000 samples"):
            result = BinnedMutualInformation(bins=2).estimate(
                torch.randn(1000, columns, generator=generator), labels
            )
        assert abs(result.value) < 0.1
        assert result.value <= result.label_entropy
    with pytest.warns(UserWarning, match="cells for 2000 samples"):
        result = BinnedMutualInformation(bins=1000).estimate(*torch.rand(2, 2000, generator=generator))
    assert abs(result.value) < 0.05


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"bins": 1}, ValueError, "bins must be at least 2; got 1"),
        ({"bins": "many"}, TypeError, "bins must be a whole number; got 'many'"),
        ({"strategy": "kmeans"}, ValueError, "strategy must be one of 'quantile', 'uniform'; got 'kmeans'"),
        (
            {"correction": "mm"},
            ValueError,
            "correction must be one of 'permutation', 'miller-madow', 'grassberger', 'none'; got 'mm'",
        ),
    ],
)
def test_constructor_says_what_is_wrong(settings, error, message):
    with pytest.raises(error) as caught:
        BinnedMutualInformation(**settings)
    assert str(caught.value) == message
