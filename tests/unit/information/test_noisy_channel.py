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
    with pytest.warns(UserWarning, match="^NoisyChannel.* is above 0.6 of the ceiling with n = 300"):
        assert estimator.estimate(x, 1e5 * x, seed=0).value == pytest.approx(math.log(300))
    assert NoisyChannelMutualInformation(relative=True).estimate(x, torch.ones(300), seed=0).value == 0.0


def test_relative_noise_is_that_of_each_column():
    """One large column of noise must not hide a small column that tells the labels."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(600) % 2
    small = labels + 0.1 * torch.randn(600, generator=generator)
    y = torch.stack([small, 1e6 * torch.randn(600, generator=generator), torch.full((600,), 3.0)], dim=1)
    estimator = NoisyChannelMutualInformation(sigma=0.5, relative=True)
    alone = estimator.estimate(labels, small, seed=0).value
    assert alone > 0.5
    assert estimator.estimate(labels, y, seed=0).value == pytest.approx(alone, abs=0.1)
    huge = estimator.estimate(labels, y.double() * torch.tensor([1e280, 1, 1], dtype=torch.float64), seed=0)
    assert huge.value == pytest.approx(estimator.estimate(labels, y.double(), seed=0).value, abs=1e-6)


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
    first = estimator.estimate(labels, h, seed=0, null="permutation", permutations=4, confidence=0.95)
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
        ({"relative": 1}, TypeError, "relative must be True or False; got 1"),
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
        ValueError,
        match="null='permutation' is not informative here: with 10 distinct x, every pairing with y",
    ):
        estimator.estimate(h, h, null="permutation")


def test_data_drawn_with_the_same_seed_do_not_meet_their_own_numbers():
    h = torch.randn(500, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert not torch.equal(torch.randn(500, 1, generator=make_generator(0), dtype=torch.float64), h)
    values = [NoisyChannelMutualInformation().estimate(h, h, seed=seed).value for seed in (0, 1)]
    assert values[0] == pytest.approx(values[1], abs=0.05)


def test_the_ceiling_is_what_there_is_to_know():
    """Three labels in shares 1/2, 1/4 and 1/4: a layer that tells them apart knows 1.5 bits, and no warning."""
    labels = torch.arange(400) % 4 // 2 * (1 + torch.arange(400) % 2)
    h = 1e4 * labels[:, None].double()
    result = NoisyChannelMutualInformation().estimate(labels, h, units="bits", seed=0)
    assert result.value == pytest.approx(1.5, abs=1e-9)
    assert result.ceiling == result.label_entropy == pytest.approx(1.5)
    assert not result.saturated


def test_labels_that_hardly_recur_number_the_samples():
    """Their entropy is that of the number of samples, and a layer that reaches it is cut off by that."""
    h = 1e4 * activations(100, 2)
    for x in (torch.arange(100), torch.arange(100) % 67):
        with pytest.warns(UserWarning, match="read it as a lower bound"):
            result = NoisyChannelMutualInformation().estimate(x, h, seed=0)
        assert result.label_entropy is None


def test_the_null_is_the_slow_formula_with_the_labels_in_another_order(monkeypatch):
    monkeypatch.setattr("featurelens.information.noisy_channel.CHUNK_ELEMENTS", 700)
    n, labels = 60, torch.arange(60) % 4
    h = activations(n, 2)
    generator = make_generator(3)
    noises = [torch.randn((n, 2), generator=generator, dtype=torch.float64) for _ in range(2)]
    orders = [torch.randperm(n, generator=generator) for _ in range(5)]

    def slow(x):
        terms = [
            math.log(density[x == x[i]].mean() / density.mean())
            for z in noises
            for i in range(n)
            for density in [torch.exp(-((h[i] + z[i] - h) ** 2).sum(dim=1) / 2)]
        ]
        return sum(terms) / len(terms)

    estimator = NoisyChannelMutualInformation(samples=2)
    result = estimator.estimate(labels, h, null="permutation", permutations=5, seed=3)
    null = [slow(labels[order]) for order in orders]
    assert result.value == pytest.approx(slow(labels), abs=1e-12)
    assert result.null_mean == pytest.approx(sum(null) / 5, abs=1e-12)
    assert result.p_value == (1 + sum(value >= result.value for value in null)) / 6
    assert result.excess == result.value - result.null_mean
    assert result.value == estimator.estimate(labels, h, seed=3).value, (
        "the null leaves the estimate as it is"
    )


def test_p_values_of_labels_that_mean_nothing_are_uniform():
    p = torch.tensor(
        [
            NoisyChannelMutualInformation(samples=1)
            .estimate(
                torch.arange(60) % 3, activations(60, 8, seed), null="permutation", permutations=19, seed=seed
            )
            .p_value
            for seed in range(80)
        ]
    )
    assert 0.42 < p.mean() < 0.63  # uniform on 0.05 ... 1: 0.525, standard error 0.032
    assert (p <= 0.1).float().mean() < 0.22


def test_many_columns_show_labels_that_are_not_there_and_the_null_shows_as_much():
    h, labels = activations(300, 40), torch.arange(300) % 10
    result = NoisyChannelMutualInformation(relative=True).estimate(
        labels, h, null="permutation", permutations=10, seed=0
    )
    assert result.value > 0.6 * math.log(10)
    assert abs(result.excess) < 0.03


def test_its_own_error_has_as_many_degrees_of_freedom_as_samples():
    h = activations(40, 1)  # fewer than the blocks of other estimators need
    result = NoisyChannelMutualInformation().estimate(h, h, confidence=0.95, seed=0)
    half = (result.interval[1] - result.interval[0]) / 2
    assert half / result.standard_error == pytest.approx(2.0227, abs=1e-3)  # t with 39 degrees


def test_a_constant_side_shares_nothing_and_warns_of_nothing():
    h = activations(40, 2)
    result = NoisyChannelMutualInformation().estimate(torch.zeros(40, 1), h, seed=0)
    assert abs(result.value) < 1e-12
    assert str(result.ceiling) == "0.0"
    assert not result.saturated
