"""Realism: the distribution of real images is measured in one pass, is reached at zero, and draws images towards it."""

import numpy as np
import pytest
import torch
from torch import nn

import featurelens as fl
from featurelens.maximization.realism import QUANTILES, measured
from tests.nets import images, plain, seeded


def two_layers():
    return seeded(lambda: nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3)))


def data(n=40, size=12):
    return torch.rand(n, 1, size, size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("size", [1, 7, 40])
def test_the_distribution_is_that_of_a_plain_loop(size):
    model = two_layers()
    found = measured(model, "1", list(data().split(size)), axis=None, progress=False)
    with torch.no_grad():
        maps = model[:2](data()).flatten(2).numpy()
    places = np.linspace(0, maps.shape[2] - 1, QUANTILES).round().astype(int)
    expected = np.sort(maps, axis=2)[:, :, places].mean(0)
    assert np.allclose(found.quantiles, expected, atol=1e-6)
    assert np.allclose(found.deviations, maps.std(axis=(0, 2)), rtol=1e-4)


def test_an_image_with_that_distribution_has_value_zero_and_others_less():
    model, real = two_layers(), data(1)
    wanted = fl.objectives.realism(model, "1", real, progress=False)
    maximizer = fl.ActivationMaximizer(model, fl.PixelImage((1, 12, 12)), steps=1, transforms=None)
    found = maximizer.run([wanted] * 2).compare(torch.cat([real, 1 - real]), progress=False)
    assert found.data_maximum[0] == pytest.approx(0, abs=1e-8)
    assert found.data_minimum[0] < -0.01
    assert found.top_indices[0, 0] == 0


def test_it_draws_the_activations_to_those_of_real_images():
    model, real = two_layers(), data()
    realism = fl.objectives.realism(model, "1", real, progress=False)
    maximizer = fl.ActivationMaximizer(model, sample=real, steps=64, transforms=None, progress=False)
    free, held = (maximizer.run(each) for each in ("2:0", fl.objectives.channel("2", 0) + 5 * realism))
    with torch.no_grad():
        wanted, alone, together = (model[:2](x).mean((0, 2, 3)) for x in (real, free.images, held.images))
    assert (together - wanted).abs().sum() < 0.5 * (alone - wanted).abs().sum()
    assert str(held.objectives[0]) == "2:0 + 5 realism of 1"


def test_it_is_saved_with_its_distribution(tmp_path):
    model, real = two_layers(), data()
    maximizer = fl.ActivationMaximizer(model, sample=real, steps=2, progress=False)
    result = maximizer.run(
        fl.objectives.channel("2", 0) + fl.objectives.realism(model, "1", real, progress=False)
    )
    result.save(tmp_path)
    loaded = fl.MaximizationResult.load(tmp_path, model=model)
    assert loaded.objectives == result.objectives
    assert torch.equal(loaded.compare(real).scores, result.compare(real).scores)


def test_what_cannot_be_measured_is_an_error():
    model, real = two_layers(), data()
    with pytest.raises(LookupError, match="relu9"):
        fl.objectives.realism(model, "relu9", real)
    with pytest.raises(TypeError, match="model must be"):
        fl.objectives.realism("model", "1", real)
    with pytest.raises(ValueError, match=r"must return \(N, C, ...\) with positions; got \(20, 10\)"):
        fl.objectives.realism(plain(), "linear_1", images(20))
    other = fl.objectives.realism(two_layers(), "2", real, progress=False)
    with pytest.raises(ValueError, match="was measured on 2 channels"):
        fl.ActivationMaximizer(
            seeded(lambda: nn.Sequential(nn.Conv2d(1, 1, 1), nn.ReLU(), nn.Conv2d(1, 3, 1))),
            sample=real,
            steps=1,
        ).run(other)
    tokens = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(2), nn.GELU())
    with pytest.raises(
        ValueError, match=r"fl.objectives.realism\(model, '2', loader, axis=-1\) for the features"
    ):
        fl.objectives.realism(tokens, "2", real)


def test_an_axis_that_does_not_exist_and_values_that_are_not_finite_are_errors():
    with pytest.raises(
        LookupError, match=r"layer '1' returns shape \(40, 4, 10, 10\), which has no channel axis 7"
    ):
        fl.objectives.realism(two_layers(), "1", data(), axis=7, progress=False)
    broken = nn.Sequential(two_layers(), nn.Threshold(0.0, float("nan")))
    with pytest.raises(
        ValueError, match="layer '1' returned NaN or infinite values for images of the loader"
    ):
        fl.objectives.realism(broken, "1", data(), progress=False)
