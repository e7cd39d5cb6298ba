"""What must hold of information whatever the data."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import mutual_info_score

from featurelens.information import (
    BinnedMutualInformation,
    CopulaMutualInformation,
    KSGMutualInformation,
    NoisyChannelMutualInformation,
    RenyiMutualInformation,
    channel_information,
    spatial_mutual_information,
)
from featurelens.information.discretization import uniform_codes

seeds = st.integers(0, 2**31 - 1)
pytestmark = pytest.mark.filterwarnings("ignore:.*above 0.6 of the ceiling:UserWarning")
quick = settings(max_examples=20, deadline=None)
SYMMETRIC = [
    BinnedMutualInformation(bins=2),
    KSGMutualInformation(k=3),
    KSGMutualInformation(k=3, variant=2, marginals="raw"),
    CopulaMutualInformation(family="gaussian"),
    RenyiMutualInformation(),
]


def samples(seed, n=120, dim=1):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, dim, generator=generator, dtype=torch.float64)
    return x, torch.rand((), generator=generator) * x + torch.randn(
        n, dim, generator=generator, dtype=torch.float64
    )


@pytest.mark.parametrize("estimator", SYMMETRIC, ids=repr)
@quick
@given(seed=seeds, dim=st.integers(1, 3))
def test_symmetric(estimator, seed, dim):
    x, y = samples(seed, dim=dim)
    assert estimator.estimate(x, y).value == pytest.approx(estimator.estimate(y, x).value, abs=1e-9)


@pytest.mark.parametrize("estimator", SYMMETRIC, ids=repr)
@quick
@given(seed=seeds)
def test_order_of_samples_does_not_matter(estimator, seed):
    x, y = samples(seed)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    assert estimator.estimate(x[order], y[order]).value == pytest.approx(
        estimator.estimate(x, y).value, abs=1e-9
    )


@pytest.mark.parametrize(
    "estimator",
    [BinnedMutualInformation(bins=2), KSGMutualInformation(), CopulaMutualInformation()],
    ids=repr,
)
@quick
@given(seed=seeds, scale=st.floats(1e-3, 1e3), shift=st.floats(-100, 100))
def test_increasing_maps_change_nothing(estimator, seed, scale, shift):
    x, y = samples(seed, dim=2)
    # float64 leaves every distinct value distinct under these
    moved = estimator.estimate(scale * x.asinh() + shift, y * y.abs().sqrt()).value
    assert moved == pytest.approx(estimator.estimate(x, y).value, abs=1e-6)


@pytest.mark.filterwarnings("ignore:.*cells for:UserWarning")
@quick
@given(seed=seeds, levels=st.integers(2, 8), n=st.integers(10, 200))
def test_plug_in_is_between_zero_and_the_entropies(seed, levels, n):
    generator = np.random.default_rng(seed)
    x, y = generator.integers(0, levels, (2, n))
    x[0], y[0], x[1], y[1] = 0, 0, 1, 1
    value = BinnedMutualInformation(correction="none").estimate(x, y).value
    assert value == pytest.approx(mutual_info_score(x, y), abs=1e-10)
    assert -1e-12 <= value <= math.log(levels) + 1e-12
    relabelled = generator.permutation(levels)[x] * 3 - 7
    assert BinnedMutualInformation(correction="none").estimate(relabelled, y).value == pytest.approx(
        value, abs=1e-10
    )


@quick
@given(
    seed=seeds,
    bins=st.integers(2, 300),
    levels=st.one_of(st.none(), st.integers(1, 40)),
    scale=st.floats(1e-6, 1e6),
)
def test_bins_are_those_of_numpy(seed, bins, levels, scale):
    row = np.random.default_rng(seed).normal(size=200) * scale
    if levels is not None:
        row = (row / scale * levels).round() / levels * scale
    edges = np.linspace(row.min(), row.max(), bins + 1)
    expected = np.clip(np.searchsorted(edges, row, side="right") - 1, 0, bins - 1)
    assert np.array_equal(uniform_codes(torch.from_numpy(row), bins).numpy(), expected)


@settings(max_examples=8, deadline=None)
@given(seed=seeds, bins=st.integers(2, 40))
def test_legacy_spatial_is_the_recipe(seed, bins):
    rng = np.random.default_rng(seed)
    images, maps = rng.normal(size=(2, 1, 9, 9)), np.maximum(rng.normal(size=(2, 2, 9, 9)), 0)
    result = spatial_mutual_information(images, maps, bins=bins, legacy=True)
    for channel in range(2):
        expected = np.mean([
            mutual_info_score(*(
                np.digitize(side, np.histogram_bin_edges(side, bins))
                for side in (images[i, 0].ravel(), maps[i, channel].ravel())
            ))
            for i in range(2)
        ])  # fmt: skip
        assert result.per_pair[0, channel].item() == pytest.approx(expected, abs=1e-10)


@quick
@given(seed=seeds)
def test_channels_do_not_know_of_each_other(seed):
    generator = torch.Generator().manual_seed(seed)
    activations = torch.randn(100, 4, generator=generator).relu()
    labels = torch.arange(100) % 3
    together = channel_information(activations, labels).values
    alone = torch.cat([channel_information(activations[:, [c]], labels).values for c in range(4)])
    assert torch.equal(together, alone)


@quick
@given(seed=seeds, sigma=st.floats(0.05, 20))
def test_noisy_channel_stays_within_its_bounds(seed, sigma):
    h, _ = samples(seed, n=80, dim=2)
    result = NoisyChannelMutualInformation(sigma=sigma, samples=8).estimate(
        torch.arange(80), h.float(), seed=seed
    )
    low, high = result.bracket
    slack = 5 * float(result.value) / math.sqrt(80 * 8) + 0.05
    assert low - slack <= result.value <= min(high, result.ceiling) + slack
