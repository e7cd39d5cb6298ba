"""The noisy channel: closed forms, bounds, and a slow replica."""

import math

import pytest
import torch

from featurelens._random import make_generator
from featurelens.information import NoisyChannelMutualInformation


def activations(n, d, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(("d", "sigma"), [(1, 1.0), (2, 1.0), (5, 1.0), (1, 0.3)])
def test_gaussian_activations(d, sigma):
    h = activations(2000, d)
    result = NoisyChannelMutualInformation(sigma=sigma).estimate(h, h, seed=0)
    truth = d / 2 * math.log(1 + 1 / sigma**2)
    assert result.value == pytest.approx(truth, abs=0.06)
    assert result.bracket[0] <= result.value <= result.bracket[1]
    assert result.noise_model == f"y + N(0, {sigma:.4g}^2 I)"
    assert result.ceiling == pytest.approx(math.log(2000))


@pytest.mark.parametrize("classes", [None, 4])
def test_equals_the_slow_formula(classes, monkeypatch):
    """The same noise, sample by sample, with densities written out."""
    monkeypatch.setattr("featurelens.information.noisy_channel.CHUNK_ELEMENTS", 100)
    n, sigma = 60, 0.7
    h = activations(n, 2)
    x = torch.arange(n) if classes is None else torch.arange(n) % classes
    z = torch.randn((n, 2), generator=make_generator(3), dtype=torch.float64)
    terms = []
    for i in range(n):
        t = h[i] + sigma * z[i]
        density = torch.exp(-((t - h) ** 2).sum(dim=1) / (2 * sigma**2))
        terms.append(torch.log(density[x == x[i]].mean() / density.mean()))
    estimator = NoisyChannelMutualInformation(sigma=sigma, samples=1)
    assert estimator.estimate(x, h, seed=3).value == pytest.approx(
        float(torch.stack(terms).mean()), abs=1e-10
    )


def test_duplicates_give_zero_and_distance_gives_log_n():
    x = activations(300, 2)
    estimator = NoisyChannelMutualInformation()
    assert estimator.estimate(x, torch.zeros(300, 4), seed=0).value == pytest.approx(0.0, abs=1e-12)
    with pytest.warns(UserWarning, match="above 0.6 of the ceiling of NoisyChannel"):
        assert estimator.estimate(x, 1e5 * x, seed=0).value == pytest.approx(math.log(300))
    assert NoisyChannelMutualInformation(relative=True).estimate(x, torch.ones(300), seed=0).value == 0.0


def test_relative_noise_does_not_see_scale():
    x = activations(200, 3)
    relative = NoisyChannelMutualInformation(sigma=0.5, relative=True)
    small, large = (relative.estimate(x, scale * x, seed=0) for scale in (1e-6, 1e6))
    assert small.value == pytest.approx(large.value, rel=1e-9)
    assert small.noise_model != large.noise_model


def test_far_from_the_origin():
    x = activations(200, 2)
    estimator = NoisyChannelMutualInformation()
    assert estimator.estimate(x, x + 1e6, seed=0).value == pytest.approx(
        estimator.estimate(x, x, seed=0).value, abs=1e-6
    )


def test_labels_on_either_side():
    h = activations(400, 1)
    labels = (h[:, 0] > 0).int()
    estimator = NoisyChannelMutualInformation(sigma=0.05)
    first = estimator.estimate(labels, h, seed=0, null="permutation", permutations=4, interval=0.95)
    second = estimator.estimate(h, labels, seed=0)
    assert first.value == second.value
    assert second.noise_model.startswith("x + ")
    assert first.value == pytest.approx(math.log(2), abs=0.1)
    assert first.null_mean < 0.1
    assert first.bracket is None


def test_inputs_that_repeat_are_one_input():
    x = activations(100, 2).repeat(2, 1)
    h = x * 1e5
    with pytest.warns(UserWarning, match="ceiling"):
        assert NoisyChannelMutualInformation().estimate(x, h, seed=0).value == pytest.approx(math.log(100))


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"sigma": 0.0}, ValueError, "sigma must be positive and finite; got 0.0"),
        ({"sigma": "small"}, TypeError, "sigma must be a number; got 'small'"),
        ({"relative": 1}, TypeError, "relative must be a bool; got 1"),
        ({"samples": 0}, ValueError, "samples must be at least 1; got 0"),
    ],
)
def test_constructor_says_what_is_wrong(settings, error, message):
    with pytest.raises(error) as caught:
        NoisyChannelMutualInformation(**settings)
    assert str(caught.value) == message


def test_bad_input_is_named():
    estimator, h = NoisyChannelMutualInformation(), activations(10, 1)
    with pytest.raises(TypeError, match="noise needs a continuous side; got integer labels for both x and y"):
        estimator.estimate(torch.arange(10), torch.arange(10))
    with pytest.raises(
        ValueError, match="null='permutation' says nothing here: with 10 distinct x, every pairing with y"
    ):
        estimator.estimate(h, h, null="permutation")


def test_data_drawn_with_the_same_seed_do_not_meet_their_own_numbers():
    h = torch.randn(500, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert not torch.equal(torch.randn(500, 1, generator=make_generator(0), dtype=torch.float64), h)
    values = [NoisyChannelMutualInformation().estimate(h, h, seed=seed).value for seed in (0, 1)]
    assert values[0] == pytest.approx(values[1], abs=0.05)
