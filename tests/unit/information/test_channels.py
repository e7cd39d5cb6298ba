"""Channels against labels: the same as one by one, only faster."""

import math

import numpy as np
import pytest
import torch

from featurelens.information import BinnedMutualInformation, MutualInformationResult, channel_information
from featurelens.information.entropy import CORRECTIONS


def data(n=600, channels=7):
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 4, (n,), generator=generator)
    activations = torch.randn(n, channels, generator=generator) + labels[:, None] * torch.linspace(
        0, 1, channels
    )
    activations = activations.relu()
    activations[:, 2] = 1.5
    return activations, labels


@pytest.mark.parametrize("strategy", ["quantile", "uniform"])
@pytest.mark.parametrize("correction", CORRECTIONS)
@pytest.mark.parametrize("bins", ["auto", 8])
def test_equals_one_estimate_per_channel(strategy, correction, bins):
    activations, labels = data()
    settings = {"bins": bins, "strategy": strategy, "correction": correction}
    result = channel_information(activations, labels, **settings)
    for channel in range(7):
        expected = 0.0
        if channel != 2:
            expected = BinnedMutualInformation(**settings).estimate(activations[:, channel], labels).value
        assert result.values[channel].item() == pytest.approx(expected, abs=1e-12)
    assert result.notes == ("1 channel never changed",)


def test_chunks_do_not_show(monkeypatch):
    activations, labels = data()
    whole = channel_information(activations, labels)
    monkeypatch.setattr("featurelens.information.channels.VALUES_AT_A_TIME", 1000)
    assert torch.equal(channel_information(activations, labels).values, whole.values)


def test_independent_channels_average_zero():
    """Two balanced labels and 20 bins of 10: Grassberger's correction is 0.05 nats off."""
    for samples, levels in ((200, 2), (201, 2), (300, 3), (500, 7)):
        generator = torch.Generator().manual_seed(samples)
        activations = torch.randn(samples, 1000, generator=generator)
        for values in (activations, activations.relu()):
            result = channel_information(values, torch.arange(samples) % levels, null=None)
            assert abs(result.values.mean()) < 0.002


def test_null_tells_channels_apart():
    activations, labels = data()
    result = channel_information(activations, labels, null="permutation", permutations=30, seed=0)
    assert result.p_values[6] == pytest.approx(1 / 31)
    assert result.p_values[2] == 1.0
    assert result.null_mean.abs().max() < 0.03
    again = channel_information(activations, labels, null="permutation", permutations=30, seed=0)
    assert torch.equal(result.null_mean, again.null_mean)


def test_behaves_like_an_array():
    activations, labels = data()
    result = channel_information(activations, labels, units="bits")
    assert len(result) == len(list(result)) == 7
    assert np.asarray(result).shape == (7,)
    assert result.top(2) == np.argsort(-np.asarray(result))[:2].tolist()
    assert isinstance(result[3], MutualInformationResult)
    assert result[3].units == "bits"
    assert result.label_entropy == pytest.approx(2.0, abs=0.02)
    assert result.to("nats").values[6].item() == pytest.approx(result.values[6].item() * math.log(2))
    assert str(result).startswith("7 channels by channels(bins=")


@pytest.mark.parametrize("reduce", ["mean", "max"])
def test_maps_are_reduced_first(reduce):
    labels = torch.arange(200) % 2
    maps = torch.randn(200, 3, 4, 4, generator=torch.Generator().manual_seed(0)) + labels[:, None, None, None]
    reduced = maps.mean(dim=(2, 3)) if reduce == "mean" else maps.amax(dim=(2, 3))
    result = channel_information(maps.numpy(), labels.numpy(), reduce=reduce)
    assert torch.allclose(result.values, channel_information(reduced, labels).values)


@pytest.mark.parametrize(
    ("activations", "labels", "error", "message"),
    [
        (torch.rand(5), torch.arange(5), ValueError, "activations must have shape (N, C) or (N, C, ...) with no empty dimension; got float32 tensor (5,)"),
        (torch.rand(5, 2), torch.arange(4), ValueError, "activations and labels must have the same number of samples; got 5 and 4"),
        (torch.rand(5, 2), torch.rand(5), TypeError, "labels must be integers or booleans; got float32 tensor (5,)"),
        (torch.rand(5, 2), torch.arange(5), ValueError, "labels must recur; got 5 different labels for as many samples"),
        (torch.rand(1, 2), torch.arange(1), ValueError, "labels must have at least 2 samples; got int64 tensor (1,)"),
        (torch.rand(5, 2), torch.zeros(5).int(), ValueError, "labels is constant (one label, [0]): it cannot share information"),
        (torch.rand(5, 2), [0, 1, 0, 1, 0], TypeError, "labels must be a torch tensor or a numpy array; got [0, 1, 0, 1, ...]"),
        (torch.full((5, 2), math.inf), torch.arange(5), ValueError, "activations must be finite; got float32 tensor (5, 2) with NaN or infinite values in 2 channels, the first 0"),
        (torch.rand(5, 2), torch.tensor(3), ValueError, "labels must have shape (N,), one for each sample; got int64 tensor ()"),
        (torch.rand(5, 2), torch.zeros(5, 2).int(), ValueError, "labels must have shape (N,), one for each sample; got int32 tensor (5, 2)"),
        (torch.rand(5, 2, dtype=torch.complex64), torch.arange(5), TypeError, "activations must hold real numbers; got complex64 tensor (5, 2)"),
        (np.full((5, 2), "a"), torch.arange(5), TypeError, "activations must hold numbers; got an array of dtype <U1"),
    ],
)  # fmt: skip
def test_bad_input_is_named(activations, labels, error, message):
    with pytest.raises(error) as caught:
        channel_information(activations, labels)
    assert str(caught.value) == message


def test_more_bins_than_samples_are_refused():
    with pytest.raises(ValueError, match="bins must be at most the number of samples, 50; got 1000"):
        channel_information(torch.rand(50, 2), torch.arange(50) % 2, bins=1000)


def test_a_large_table_is_counted_in_parts(monkeypatch):
    activations = torch.randn(200, 9, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(200) % 100
    whole = channel_information(activations, labels, bins=200)
    monkeypatch.setattr("featurelens.information.channels.VALUES_AT_A_TIME", 50_000)
    assert torch.equal(channel_information(activations, labels, bins=200).values, whole.values)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda r: r[1:3], TypeError, "channel must be a whole number; got an object of type slice"),
        (lambda r: r["a"], TypeError, "channel must be a whole number; got 'a'"),
        (lambda r: r.top(-1), ValueError, "k must be at least 0; got -1"),
        (lambda r: r.top(1.5), TypeError, "k must be a whole number; got 1.5"),
    ],
)
def test_misuse_of_a_result_is_named(call, error, message):
    result = channel_information(torch.rand(50, 3), torch.arange(50) % 2)
    assert len(result.top(0)) == 0
    assert len(result.top(9)) == 3
    with pytest.raises(error) as caught:
        call(result)
    assert str(caught.value) == message


def test_a_seed_is_checked_also_where_nothing_is_drawn():
    with pytest.raises(TypeError, match="seed must be an int"):
        channel_information(torch.rand(50, 3), torch.arange(50) % 2, seed="a")


def test_p_values_are_as_exact_as_values():
    result = channel_information(
        torch.rand(50, 3), torch.arange(50) % 2, null="permutation", permutations=2, seed=0
    )
    assert result.p_values.dtype == torch.float64
    assert {round(3 * p, 12) for p in result.p_values.tolist()} <= {1.0, 2.0, 3.0}
