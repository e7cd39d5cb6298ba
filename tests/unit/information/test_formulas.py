"""Small formulas against their slow replicas."""

import itertools
import math
from dataclasses import dataclass
from typing import final

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from featurelens.information import NeuralMutualInformation
from featurelens.information.chance import Chance, ChanceTable
from featurelens.information.estimator import Measurement, MutualInformation
from featurelens.information.probe import _features, _path
from featurelens.information.resampling import block_standard_error, permutation_p_value, shuffled_values
from featurelens.information.variables import Variable, with_full_precision


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("levels", [2, 3, 5])
@pytest.mark.parametrize("chance", [0.0, 0.5, 0.9])
def test_features_shrink_with_the_f_ratio_that_chance_exceeds(levels, chance):
    labels = torch.arange(60) % levels
    columns = 3 * normal(60, 6) + torch.arange(6) * labels[:, None] + 7
    rows = torch.arange(40)
    features = _features(columns, labels, rows, chance)
    for column, found in zip(columns.T, features.T, strict=True):
        seen = column[rows].numpy()
        expected = (column.numpy() - seen.mean()) / seen.std()
        if chance:
            groups = [seen[labels[rows].numpy() == label] for label in range(levels)]
            ratio = scipy.stats.f_oneway(*groups).statistic
            usual = scipy.stats.f.ppf(chance, levels - 1, 40 - levels)
            expected = expected * math.sqrt(1 - usual / max(ratio, usual))
        assert found.numpy() == pytest.approx(expected, abs=1e-9)


def test_a_probe_without_weights_predicts_the_shares_of_labels():
    labels = torch.tensor([0, 0, 0, 1, 1, 2])
    path = _path(normal(6, 2), labels, 4, (math.inf, 0.1))
    _, probe = next(path)
    shares = torch.tensor([3.5, 2.5, 1.5, 0.5], dtype=torch.float64) / 8
    assert torch.allclose(probe(normal(9, 2, seed=1)), shares.log().expand(9, 4))
    penalty, probe = next(path)
    chances = probe(1e6 * normal(9, 2, seed=1)).exp()
    assert penalty == 0.1
    assert torch.allclose(chances.sum(dim=1), torch.ones(9, dtype=torch.float64))
    assert (chances >= shares / 7 - 1e-12).all()  # a seventh part of doubt, after six samples


@pytest.mark.parametrize("penalty", [0.01, 0.3])
def test_a_probe_is_where_its_loss_has_no_slope(penalty):
    features, labels = normal(50, 3), torch.arange(50) % 3
    _, probe = next(_path(features, labels, 3, (penalty,)))
    weights = probe.weights.clone().requires_grad_()
    loss = torch.nn.functional.cross_entropy(features @ weights[:-1] + weights[-1], labels)
    (loss + penalty / 2 * weights[:-1].square().sum()).backward()
    assert weights.grad.abs().max() < 1e-4


@pytest.mark.parametrize(
    ("dtype", "kept"),
    [
        (torch.uint8, torch.float32),
        (torch.int64, torch.float32),
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
)
def test_values_are_computed_with_in_single_precision_at_least(dtype, kept):
    assert with_full_precision(torch.ones(3, dtype=dtype)).dtype is kept


margins = st.lists(st.integers(0, 9), min_size=1, max_size=4)


@settings(deadline=None, max_examples=40)
@given(first=margins, second=margins)
def test_a_chance_table_is_the_hypergeometric_mean(first, second):
    n = max(sum(first), sum(second), 2)
    first, second = [*first, n - sum(first)], [*second, n - sum(second)]
    information = cells = 0.0
    for a, b in itertools.product(first, second):
        for c in range(1, min(a, b) + 1):
            chance = scipy.stats.hypergeom(n, a, b).pmf(c)
            information += chance * c / n * math.log(n * c / (a * b))
            cells += chance * (2 if c == 1 else 1)
    rows, columns = (sum(count > 0 for count in side) for side in (first, second))
    freedom = max(cells - rows - columns + 1, 0.5 * (rows - 1) * (columns - 1), 0.5)
    sides = torch.tensor([first]), torch.tensor([second])
    found = ChanceTable(*sides, n).of(*sides)
    assert [float(part) for part in found] == pytest.approx([information, cells, freedom])
    each = ChanceTable(*sides, n).of(*(side[None] for side in sides))
    assert [part.item() for part in each] == pytest.approx([information, cells, freedom])


def test_chance_is_taken_off_by_the_cells_that_were_seen():
    chance = Chance(*(torch.tensor([value], dtype=torch.float64) for value in (0.2, 10.0, 4.0)))
    seen = torch.tensor([10.0, 12.0, 8.0, 2.0])
    assert chance.taken_off(torch.ones(4), seen).tolist() == pytest.approx([0.8, 0.7, 0.9, 1.0])


@final
@dataclass(frozen=True, kw_only=True)
class Fixed(MutualInformation):
    """Measures the mean of x times the last y, so that every argument shows."""

    standard_error: float | None = None
    degrees: int = 4

    def _measure(self, x, y, generator):
        return Measurement(
            value=float(x.values.mean() * y.values[-1].double().mean()),
            standard_error=self.standard_error,
            degrees=self.degrees,
            ceiling=9.0,
            notes=("a note",),
            caution="is of no use",
            bracket=(1.0, 2.0),
        )


def test_a_result_holds_what_was_measured():
    x, y = torch.arange(60.0) / 10, torch.cat([torch.zeros(59), torch.ones(1)])
    with pytest.warns(UserWarning, match="is of no use"):
        result = Fixed(standard_error=0.5).estimate(x, y, confidence=0.9, null="permutation", permutations=40)
    assert result.value == pytest.approx(2.95)
    assert result.interval == pytest.approx(scipy.stats.t.interval(0.9, 4, 2.95, 0.5))
    assert (result.n, result.dim_x, result.dim_y, result.standard_error) == (60, 1, 1, 0.5)
    assert (result.ceiling, result.bracket) == (9.0, (1.0, 2.0))
    assert result.notes[-2:] == ("a note", "is of no use")
    assert result.null_mean == pytest.approx(2.95 * round(result.null_mean / 2.95 * 40) / 40)
    assert result.null_mean < 1.0
    assert result.p_value == pytest.approx((1 + 40 * result.null_mean / 2.95) / 41)


@pytest.mark.parametrize("n", [50, 74, 75, 260, 1003])
def test_a_standard_error_is_that_of_disjoint_parts(n):
    x = Variable(normal(n, 1), discrete=False, dim=1, name="x")
    seen = []

    def statistic(x, y):
        assert torch.equal(x.values, y.values)
        seen.append(x.values.flatten())
        return float(x.values.mean())

    error = block_standard_error(statistic, x, x, torch.Generator().manual_seed(0))
    blocks = min(10, n // 25)
    assert [len(part) for part in seen] == [n // blocks] * (4 * blocks)
    turns = [seen[i : i + blocks] for i in range(0, len(seen), blocks)]
    assert all(len(torch.cat(turn).unique()) == n // blocks * blocks for turn in turns)
    variance = np.mean([np.var([float(part.mean()) for part in turn], ddof=1) for turn in turns])
    assert error == pytest.approx(math.sqrt(variance * (n // blocks) / n))


def test_a_null_is_of_y_in_random_order():
    x = Variable(normal(30, 1), discrete=False, dim=1, name="x")
    seen = []

    def statistic(one, other):
        assert torch.equal(one.values, x.values)
        seen.append(other.values.flatten())
        return float(len(seen))

    assert shuffled_values(statistic, x, x, 5, torch.Generator().manual_seed(0)).tolist() == [1, 2, 3, 4, 5]
    assert all(torch.equal(order.sort().values, x.values.flatten().sort().values) for order in seen)
    assert len({tuple(order.tolist()) for order in seen}) == 5
    assert permutation_p_value(0.2, torch.tensor([0.1, 0.2, 0.3])) == 0.75


def test_ties_of_a_variable():
    values = torch.tensor([[0.0, 1], [0, 2], [0, 3], [7, 3], [8, 4]], dtype=torch.float64)
    side = Variable(values, discrete=False, dim=2, name="x")
    assert side.tied_share() == pytest.approx(0.6)
    assert side.heaviest_value() == (0.0, pytest.approx(0.6))
    assert side.tie_note() == "60% of x are repeated values (most often 0, 60%)"
    for repeated, n, repeats in ((1, 199, True), (1, 200, False), (0, 9, False)):
        distinct = torch.cat([torch.arange(n - repeated), torch.arange(repeated)]).double()[:, None]
        assert Variable(distinct, discrete=False, dim=1, name="x").repeats() == repeats, n
    for different, few in ((5, True), (6, False)):
        side = Variable((torch.arange(100) % different).double()[:, None], discrete=False, dim=1, name="x")
        assert side.few_values() == few
    labels = Variable(torch.arange(6) % 3, discrete=True, dim=1, name="y")
    assert (labels.levels, labels.repeats(), len(labels)) == (3, False, 6)


def test_the_folds_of_a_critic_are_averaged(monkeypatch):
    readings = iter([(1.0, torch.tensor([1.0, 2.0, 3.0])), (2.0, torch.tensor([11.0, 12.0, 16.0]))])
    asked = []

    def read(self, x, y, parts, generator):
        asked.append([part.tolist() for part in parts])
        return next(readings)

    monkeypatch.setattr(NeuralMutualInformation, "_read", read)
    x, y = normal(2, 100)
    result = NeuralMutualInformation(rotations=2).estimate(x, y, confidence=0.9)
    scatter = np.array([-1, 0, 1, -2, -1, 3.0])
    error = scatter.std(ddof=1) / math.sqrt(6)
    assert result.value == 1.5
    assert result.interval == pytest.approx(scipy.stats.t.interval(0.9, 5, 1.5, error))
    assert asked[1] == asked[0][1:] + asked[0][:1]
    assert sorted(itertools.chain(*asked[0])) == list(range(100))
