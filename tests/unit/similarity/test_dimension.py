"""Intrinsic dimension against a slow replica and known manifolds; nearest channels of two layers against numpy."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import featurelens as fl
from featurelens.similarity import dimension, intrinsic_dimension, nearest_channels

EXPECTED = {0.0: 2.958682569023678, 0.1: 2.8858365811378754, 0.3: 2.8881287979419996}


def uniform(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def two_nn(rows, discard):
    """Ratios one by one, then the maximum of the likelihood when the largest are only known to be large."""
    logs = []
    for i in range(len(rows)):
        first, second = sorted(math.dist(rows[i], rows[j]) for j in range(len(rows)) if j != i)[:2]
        logs.append(math.log(second / first))
    logs.sort()
    kept = int(len(logs) * (1 - discard))
    return (kept - 1) / (sum(logs[:kept]) + (len(logs) - kept) * logs[kept - 1])


@settings(max_examples=25, deadline=None)
@given(
    st.integers(8, 40),
    st.integers(1, 30),
    st.sampled_from([0.0, 0.1, 0.5]),
    st.integers(0, 3),
    st.integers(0, 10**6),
)
def test_two_nn_equals_a_slow_replica(n, d, discard, copies, seed):
    rows = 100 + uniform(n, d, seed=seed)
    found = intrinsic_dimension(torch.cat([rows, rows[:copies]]), discard=discard)
    assert found.value == pytest.approx(two_nn(rows.tolist(), discard), rel=1e-6)
    assert found.duplicates == copies
    assert found.n == n


def test_two_nn_equals_scikit_dimension():
    """TwoNN(discard_fraction=discard, method="mle") of scikit-dimension 0.5, on points that anyone can make again."""
    angle = torch.arange(300, dtype=torch.float64)
    rows = torch.stack([(angle * s).sin() for s in (1.0, 1.7, 2.9)], dim=1)
    for discard, expected in EXPECTED.items():
        assert intrinsic_dimension(rows, discard=discard).value == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("d", [1, 2, 4])
def test_a_curved_manifold_has_its_dimension_wherever_it_lies(d):
    flat = uniform(1500, d)
    curved = torch.cat([(2 * flat).sin(), (3 * flat).cos(), flat.square()], dim=1)
    turned = curved @ torch.linalg.qr(uniform(3 * d, 3 * d, seed=1) - 0.5).Q
    found = intrinsic_dimension(curved)
    assert found.value == pytest.approx(d, rel=0.12)
    assert found.interval[0] < found.value < found.interval[1]
    moved = intrinsic_dimension(7 - 1000 * turned)
    assert moved.value == pytest.approx(found.value, rel=1e-6)


def test_chunks_change_nothing(monkeypatch):
    rows = uniform(200, 3)
    whole = intrinsic_dimension(rows)
    monkeypatch.setattr(dimension, "DISTANCES", 1000)
    assert intrinsic_dimension(rows).value == pytest.approx(whole.value, rel=1e-12)


def test_intervals_cover_the_truth_as_far_as_ratios_are_independent():
    hits = 0
    for seed in range(100):
        low, high = intrinsic_dimension(uniform(400, 1, seed=seed)).interval
        hits += low <= 1 <= high
    assert hits > 75


def test_a_result_says_everything(tmp_path):
    found = intrinsic_dimension(torch.cat([uniform(50, 3), uniform(50, 3)[:1]]), confidence=0.9)
    low, high = found.interval
    assert str(found) == (
        f"{float(found):.2f} dimensions (90 % interval {low:.2f} to {high:.2f}), from 50 images of 3 values; 1 duplicate "
        "left out"
    )
    assert repr(found) == f"IntrinsicDimensionResult({found.value:.2f}, n=50)"
    found.save(tmp_path / "dimension.pt")
    assert vars(fl.similarity.IntrinsicDimensionResult.load(tmp_path / "dimension.pt")) == vars(found)


@pytest.mark.parametrize(
    ("x", "options", "message"),
    [
        (uniform(3, 2), {}, "x must be .* at least 4 images"),
        (torch.ones(9, 2), {}, "x must differ between images; all 9 rows are the same"),
        (torch.full((9, 2), math.nan), {}, "x must be finite"),
        (torch.eye(2).repeat(4, 1), {}, "at least 4 different rows; got 8 rows, 2 of them different"),
        (torch.eye(9), {}, "neighbours at different distances; got 9 different rows"),
        (uniform(9, 2), {"discard": 1.0}, "discard must be at least 0 and below 1; got 1.0"),
        (uniform(9, 2), {"confidence": 1}, "confidence must be a number between 0 and 1; got 1"),
    ],
)
def test_what_has_no_dimension_is_refused(x, options, message):
    with pytest.raises(ValueError, match=message):
        intrinsic_dimension(x, **options)


@settings(max_examples=25, deadline=None)
@given(st.integers(4, 30), st.integers(1, 5), st.integers(1, 6), st.integers(0, 10**6))
def test_nearest_channels_equal_numpy(n, c, d, seed):
    x, y = uniform(n, c, seed=seed), uniform(n, d, 2, 2, seed=seed + 1)
    found = nearest_channels(x, y, k=3)
    correlation = np.corrcoef(x.numpy().T, y.mean((2, 3)).numpy().T)[:c, c:]
    order = np.argsort(-correlation, axis=1)[:, :3]
    np.testing.assert_allclose(
        found.correlation.numpy(), np.take_along_axis(correlation, order, 1), atol=1e-9
    )
    np.testing.assert_allclose(
        np.take_along_axis(correlation, found.channels.numpy(), 1), found.correlation.numpy(), atol=1e-9
    )


def test_constant_channels_are_near_nothing():
    x, y = uniform(20, 2), torch.cat([uniform(20, 1), torch.ones(20, 1)], dim=1)
    x[:, 1] = 3.0
    found = nearest_channels(x, y)
    assert found.channels.tolist() == [[0, -1], [-1, -1]]
    assert found.correlation.isnan().tolist() == [[False, True], [True, True]]
    with pytest.raises(ValueError, match="one row for each image; got 20 and 19 rows"):
        nearest_channels(x, y[:19])


@pytest.mark.parametrize("scale", [1e-200, 1e-9, 1e9, 1e200])
def test_dimension_and_neighbours_do_not_depend_on_the_scale(scale):
    x = uniform(60, 3).double()
    assert intrinsic_dimension(scale * x).value == pytest.approx(intrinsic_dimension(x).value)
    columns = scale * x * torch.tensor([1e-100, 1.0, 1e100], dtype=torch.float64)
    assert nearest_channels(columns, x, k=1).correlation.flatten() == pytest.approx([1, 1, 1])
