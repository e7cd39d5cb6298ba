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

from featurelens.information import (
    BinnedMutualInformation,
    CorrectedKSGMutualInformation,
    KSGMutualInformation,
    LatentMutualInformation,
    NeuralMutualInformation,
    NoisyChannelMutualInformation,
    ProbeMutualInformation,
    RenyiMutualInformation,
    channel_information,
)
from featurelens.information.chance import Chance, ChanceTable
from featurelens.information.counts import (
    information_from_counts,
    information_of_gaussians,
    information_of_joint_counts,
)
from featurelens.information.discretization import uniform_codes
from featurelens.information.estimator import Measurement, MutualInformation
from featurelens.information.learned_codes import OTHER_WEIGHTS, Code
from featurelens.information.neighbors import neighbor_counts
from featurelens.information.networks import CHECK_EVERY, PATIENCE, Network, train
from featurelens.information.probe import _features, _path
from featurelens.information.resampling import block_scatter, permutation_p_value, shuffled_values
from featurelens.information.variables import Variable, with_full_precision
from featurelens.statistics import JointCountsResult


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

    found = block_scatter(statistic, x, x, torch.Generator().manual_seed(0))
    blocks = min(10, n // 25)
    assert [len(part) for part in seen] == [n // blocks] * (4 * blocks)
    turns = [seen[i : i + blocks] for i in range(0, len(seen), blocks)]
    assert all(len(torch.cat(turn).unique()) == n // blocks * blocks for turn in turns)
    variance = np.mean([np.var([float(part.mean()) for part in turn], ddof=1) for turn in turns])
    assert found.error == pytest.approx(math.sqrt(variance * (n // blocks) / n))
    assert found.of_parts == pytest.approx(np.mean([float(part.mean()) for part in seen]))
    assert found.part_size == n // blocks
    assert found.degrees == blocks - 1


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


@settings(deadline=None, max_examples=15)
@given(
    labels=st.lists(st.integers(0, 50), min_size=2, max_size=4).filter(
        lambda labels: sum(map(bool, labels)) > 1
    ),
    seed=st.integers(0, 99),
)
def test_information_of_gaussians_is_the_integral(labels, seed):
    mean, spread = 2 * normal(1, len(labels), seed=seed), 0.5 + normal(1, len(labels), seed=seed + 1).abs()
    share = np.array(labels) / sum(labels)
    x = np.linspace(-30, 30, 200_001)[:, None]
    densities = scipy.stats.norm(mean.numpy(), spread.numpy()).pdf(x)
    mixture = (densities * share).sum(axis=1, keepdims=True)
    terms = np.where(
        densities > 0, densities * np.log(np.maximum(densities, 1e-300) / np.maximum(mixture, 1e-300)), 0
    )
    expected = (terms.sum(axis=0) * (x[1] - x[0]) * share).sum()
    result = information_of_gaussians(torch.tensor(labels), mean, spread.square(), units="nats")
    assert result.values.tolist() == pytest.approx([expected], abs=2e-3)
    assert result.label_entropy == pytest.approx(scipy.stats.entropy(labels))
    assert result.n == sum(labels)
    present = sum(map(bool, labels))
    assert result.notes == (
        f"labels in random order would give about {(present - 1) / sum(labels):.2g} nats",
    )


@settings(deadline=None, max_examples=20)
@given(
    bins=st.integers(2, 6),
    correction=st.sampled_from(["permutation", "miller-madow", "none"]),
    seed=st.integers(0, 99),
)
def test_a_table_of_counts_is_as_informative_as_its_samples(bins, correction, seed):
    generator = torch.Generator().manual_seed(seed)
    cells, labels = torch.randint(0, 9, (60, 2), generator=generator), torch.arange(60) % 3
    counts = torch.zeros(2, 9, 3, dtype=torch.int64)
    for channel in range(2):
        counts[channel].index_put_((cells[:, channel], labels), torch.tensor(1), accumulate=True)
    options = {"bins": bins, "correction": correction}
    found, expected = (
        information_from_counts(counts, **options),
        channel_information(cells.float(), labels, **options),
    )
    assert found.values.tolist() == pytest.approx(expected.values.tolist(), abs=1e-9)
    assert (found.n, found.ceiling) == (expected.n, expected.ceiling)


def test_a_network_is_its_layers_and_training_keeps_the_best():
    network = Network((400, 300, 2), torch.Generator().manual_seed(0), torch.device("cpu"), torch.tanh)
    first, zeros, second, _ = network.parameters
    assert float(first.detach().std()) == pytest.approx(math.sqrt(2 / 400), rel=0.02)
    assert float(second.detach().std()) == pytest.approx(math.sqrt(2 / 300), rel=0.1)
    assert not zeros.any()
    x = torch.rand(5, 400)
    assert torch.allclose(network(x).detach(), torch.tanh(x @ first.T) @ second.T, atol=1e-5)

    calls, validation = [], torch.tensor([3])

    def loss(rows):
        calls.append(rows.tolist())
        good = len(calls) < 120  # the second check, after 100 steps, is the best
        value = zeros.mean() * 0
        return (
            value + (1 / len(calls) if good else 2.0)
            if torch.equal(rows, validation)
            else value + zeros.sum()
        )

    generator = torch.Generator().manual_seed(0)
    train(
        [network], loss, torch.arange(10, 17), validation, generator, steps=5000, batch=3, learning_rate=1e-3
    )
    batches = [rows for rows in calls if rows != [3]]
    assert calls.count([3]) == 2 + PATIENCE
    assert len(batches) == CHECK_EVERY * (2 + PATIENCE)
    assert {len(rows) for rows in batches} == {3}
    assert all(len({*one, *two}) == 6 for one, two in zip(batches[::2], batches[1::2], strict=True))
    assert float(zeros.detach().mean()) == pytest.approx(-0.1, rel=0.05)  # 100 steps of 0.001


def test_a_code_begins_as_its_linear_map():
    start = normal(9, 2).float()
    code = Code(start, 5, torch.Generator().manual_seed(0))
    values = normal(7, 9, seed=1).float()
    assert torch.equal(code(values), values @ code.linear)
    assert torch.equal(code.linear[:, :2], start)
    others, bound = code.linear[:, 2:].detach(), OTHER_WEIGHTS / 3
    assert others.abs().max() <= bound
    assert others.min() < -bound / 2 < bound / 2 < others.max()


def test_the_method_of_a_table_of_counts_is_named():
    moments = {name: torch.ones(1, 2) for name in ("start", "width", "mean", "variance")}
    joint = JointCountsResult(torch.ones(1, 4, 2).long(), **moments, not_finite=torch.zeros(1).long())
    with pytest.raises(ValueError, match="method must be one of 'binned', 'gaussian'; got 'other'"):
        information_of_joint_counts(joint, method="other", bins="auto", units="nats")


@pytest.mark.parametrize(
    ("estimator", "setting", "least"),
    [
        (BinnedMutualInformation, "bins", 2),
        (CorrectedKSGMutualInformation, "k", 1),
        (CorrectedKSGMutualInformation, "surrogates", 1),
        (KSGMutualInformation, "k", 1),
        (LatentMutualInformation, "k", 1),
        (RenyiMutualInformation, "max_samples", 2),
        (NeuralMutualInformation, "batch", 2),
        (NeuralMutualInformation, "hidden", 1),
        (NeuralMutualInformation, "rotations", 1),
        (NeuralMutualInformation, "steps", 1),
        (NoisyChannelMutualInformation, "samples", 1),
        (LatentMutualInformation, "dim", 1),
        (LatentMutualInformation, "steps", 1),
        (ProbeMutualInformation, "folds", 2),
    ],
)
def test_settings_begin_at_their_least(estimator, setting, least):
    assert getattr(estimator(**{setting: least}), setting) == least
    with pytest.raises(ValueError, match=f"{setting} must be at least {least}; got {least - 1}"):
        estimator(**{setting: least - 1})


@settings(deadline=None, max_examples=100)
@given(low=st.floats(-50, 50), exponent=st.floats(-14, 3), bins=st.integers(2, 60))
def test_equal_bins_have_numpy_s_edges_and_what_is_on_an_edge_opens_the_next(low, exponent, bins):
    row = np.linspace(low, low + 10**exponent, bins + 1)
    row = np.concatenate([row, row[:-1] + np.diff(row) / 3])
    edges = np.histogramdd(row[:, None], bins)[1][0]
    expected = np.minimum(np.searchsorted(edges, row, side="right") - 1, bins - 1)
    assert uniform_codes(torch.from_numpy(row), bins).tolist() == expected.tolist()


@pytest.mark.parametrize("rule", ["joint", "axes", "closed"])
def test_neighbours_are_counted_in_whole_numbers(rule):
    x, y = (Variable(normal(20, 1, seed=seed), discrete=False, dim=1, name="x") for seed in range(2))
    counts = neighbor_counts(x, y, 3, rule)
    assert (counts.x.dtype, counts.y.dtype, counts.rank.dtype) == (torch.int64,) * 3
    assert (counts.joint is None) == (rule != "closed")
    assert set(counts.rank.tolist()) == {3}


@pytest.mark.parametrize(("n", "quantile"), [(100, 3.1824), (260, 2.2622)])
def test_an_interval_has_as_many_degrees_of_freedom_as_parts_less_one(n, quantile):
    x = normal(n, 1)
    result = KSGMutualInformation().estimate(x, x + normal(n, 1, seed=1), confidence=0.95)
    half = (result.interval[1] - result.interval[0]) / 2
    assert half / result.standard_error == pytest.approx(quantile, abs=1e-4)
