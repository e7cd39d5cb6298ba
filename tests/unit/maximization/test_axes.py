"""Signals and volumes: everything that works for images works with one and with three spatial axes."""

import itertools
import math
from collections import OrderedDict

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import featurelens as fl
from featurelens.maximization.images import fourier_basis
from featurelens.maximization.images.fourier import spectrum
from featurelens.maximization.plain_images import plain_images
from featurelens.maximization.terms import Laplacian, TotalVariation
from featurelens.maximization.transforms import Chain, Jitter, Pad, RandomRotate, RandomScale, standard, warp
from tests.nets import seeded
from tests.state import snapshot

SIZES = [(23,), (6, 9), (5, 4, 7)]
CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
NORMS = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
by_size = pytest.mark.parametrize("size", SIZES, ids=str)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def drawn(*shape, seed=0):
    return torch.rand(*shape, dtype=torch.float64, generator=generator(seed))


def network(axes, channels=2):
    conv = CONVOLUTIONS[axes]

    def build():
        return nn.Sequential(
            OrderedDict(
                conv1=conv(channels, 5, 3, padding=1),
                norm=NORMS[axes](5),
                relu=nn.ReLU(),
                conv2=conv(5, 3, 3, padding=1),
            )
        )

    return seeded(build)


# transforms


def replica(image, matrix):
    """Look up each pixel of one channel where the matrix says, slowly."""
    size = image.shape
    found = np.zeros(size)
    for place in itertools.product(*map(range, size)):
        centred = [at - (n - 1) / 2 for at, n in zip(place, size, strict=True)][::-1]
        source = (matrix @ np.array([*centred, 1.0]))[:-1][::-1]
        corners = []
        for at, n in zip(source, size, strict=True):
            mirrored = (at + (n - 1) / 2 + 0.5) % (2 * n)
            inside = min(max((mirrored if mirrored < n else 2 * n - mirrored) - 0.5, 0), n - 1)
            low = min(int(inside), max(n - 2, 0))
            corners.append([(low, 1 - (inside - low)), (min(low + 1, n - 1), inside - low)])
        for corner in itertools.product(*corners):
            found[place] += math.prod(w for _, w in corner) * image[tuple(at for at, _ in corner)]
    return found


@by_size
def test_warping_agrees_with_a_slow_replica(size):
    axes = len(size)
    images = drawn(2, 2, *size)
    matrices = torch.eye(axes + 1, dtype=torch.float64) + 0.3 * (drawn(2, axes + 1, axes + 1, seed=1) - 0.5)
    matrices[:, :-1, -1] *= 20  # far beyond the edges
    matrices[:, -1] = torch.eye(axes + 1)[-1]
    found = warp(images, matrices)
    for image, matrix, result in zip(images.numpy(), matrices.numpy(), found.numpy(), strict=True):
        for channel, moved in zip(image, result, strict=True):
            assert np.allclose(replica(channel, matrix), moved, atol=1e-9)


@by_size
def test_parameters_that_move_nothing_give_the_images_themselves(size):
    images = drawn(3, 2, *size)
    for transform in (Jitter(0), RandomScale(1, 1), RandomRotate(0), Pad(0)):
        numbers = drawn(3, transform.needed(len(size)), seed=2)
        assert torch.allclose(transform(images, numbers), images, rtol=0, atol=1e-12), transform
    chain = Chain([Pad(2, fill="reflect"), Jitter(0), RandomRotate(0)], size)
    assert torch.allclose(chain(images, drawn(3, chain.numbers)), images, atol=1e-12)


@by_size
def test_shifts_are_by_whole_samples_along_every_axis(size):
    axes, reach = len(size), 2
    images = drawn(1, 1, *size)
    for shift in itertools.product((-2, 0, 1), repeat=axes):
        numbers = torch.tensor(
            [[(step + reach + 0.5) / (2 * reach + 1) for step in shift]], dtype=torch.float64
        )
        moved = Jitter(reach)(images, numbers)[0, 0]
        rolled = images[0, 0].roll([-step for step in shift[::-1]], tuple(range(axes)))
        inside = tuple(
            slice(max(-step, 0), n - max(step, 0)) for step, n in zip(shift[::-1], size, strict=True)
        )
        assert torch.allclose(moved[inside], rolled[inside], rtol=0, atol=1e-12)


@pytest.mark.parametrize(("which", "plane"), [(0, (3, 4)), (1, (2, 4)), (2, (2, 3))])
def test_volumes_turn_about_each_of_their_axes(which, plane):
    images = drawn(1, 1, 5, 5, 5)
    numbers = torch.full((1, 3), 0.5, dtype=torch.float64)
    numbers[0, which] = 1.0  # a quarter
    turned = RandomRotate(90)(images, numbers)
    assert any(torch.allclose(turned, images.rot90(k, plane), atol=1e-10) for k in (1, -1))
    assert not torch.allclose(turned, images, atol=1e-3)


@by_size
def test_turns_keep_lengths_and_scales_are_the_same_along_all_axes(size):
    axes = len(size)
    turns = RandomRotate(40).matrices(drawn(6, RandomRotate(40).needed(axes)), axes)
    assert torch.allclose(
        turns @ turns.mT, torch.eye(axes + 1, dtype=torch.float64).expand_as(turns), atol=1e-12
    )
    assert torch.allclose(torch.linalg.det(turns), torch.ones(6, dtype=torch.float64))
    scales = RandomScale(2, 2).matrices(drawn(2, 1), axes)
    assert torch.equal(scales[0], torch.diag(torch.tensor([0.5] * axes + [1.0], dtype=torch.float64)))


@by_size
def test_transforms_are_differentiable_and_each_image_is_moved_on_its_own(size):
    chain = Chain([Pad(1), *standard(size)], size)
    images, numbers = drawn(3, 2, *size), drawn(3, chain.numbers, seed=1)
    apart = torch.cat([chain(images[[k]], numbers[[k]]) for k in range(3)])
    assert torch.allclose(chain(images, numbers), apart)
    small = images[:1, :1].requires_grad_()
    assert torch.autograd.gradcheck(lambda x: chain(x, numbers[:1]), (small,))


@pytest.mark.parametrize(("size", "number"), [((23,), 1 + 1), ((6, 9), 2 + 1 + 1), ((5, 4, 7), 3 + 1 + 3)])
def test_no_more_random_numbers_are_drawn_than_there_are_shifts_scales_and_turns(size, number):
    assert Chain("standard", size).numbers == number


# penalties


@by_size
def test_penalties_agree_with_loops(size):
    images, rows = drawn(2, 2, *size), torch.arange(2)
    variation, roughness = [], []
    for image in images.numpy():
        steps, squares = [], []
        for channel in image:
            for place in np.ndindex(size):
                second = 0.0
                for axis in range(len(size)):
                    for step in (-1, 1):
                        near = list(place)
                        near[axis] = min(max(place[axis] + step, 0), size[axis] - 1)
                        second += channel[tuple(near)] - channel[place]
                    if place[axis] + 1 < size[axis]:
                        steps.append(abs(channel[tuple(near)] - channel[place]))
                squares.append(second**2)
        variation.append(np.mean(steps))
        roughness.append(np.mean(squares))
    assert np.allclose(TotalVariation().values([], images, rows), variation)
    assert np.allclose(Laplacian().values([], images, rows), roughness)


# parametrizations and statistics


def correlated(size, n=600):
    """Two channels that go together, with a falling spectrum."""
    mix = torch.tensor([[0.08, 0.02], [0.06, -0.03]], dtype=torch.float64)
    falling = fourier_basis.frequencies(*size).clamp(min=1 / max(size)) ** -1.0
    noise = torch.randn(n, 2, *size, dtype=torch.float64, generator=generator())
    waves = fourier_basis.synthesize(
        noise * falling / falling.square().mean().sqrt(), fourier_basis.bases(size)
    )
    return 0.5 + torch.einsum("dc,nc...->nd...", mix, waves)


@by_size
def test_amplitudes_of_the_data_are_uncorrelated_and_of_variance_one(size):
    images = correlated(size)
    statistics = fl.ImageStatistics.fit(images, progress=False)
    assert repr(statistics) == f"ImageStatistics(600 images of {'x'.join(map(str, (2, *size)))})"
    waves = fl.FourierImage((2, *size), statistics=statistics)
    mean = statistics.mean.double().view(2, *[1] * len(size))
    faint = mean + 0.02 * (images - mean)  # where the logistic curve is straight
    amplitudes = waves.from_image(faint).flatten(2)[..., 1:] / 0.02  # brightness has a scale of its own
    covariance = torch.einsum("ncp,ndp->cd", amplitudes, amplitudes) / amplitudes[:, 0].numel()
    assert torch.allclose(covariance, torch.eye(2, dtype=torch.float64), atol=0.1)
    power = amplitudes.square().mean((0, 1))
    assert power.max() / power.min() < 2


@pytest.mark.parametrize("size", [(64,), (37,), (16, 20), (8, 9, 10)], ids=str)
def test_random_phases_have_the_spectrum_of_the_data(size):
    """To 2 %: the mean, and waves of about one length."""
    data = correlated(size).clamp(0, 1)
    statistics = fl.ImageStatistics.fit(data, progress=False)
    image = fl.PhaseImage((2, *size), statistics=statistics)
    found = image.images(image.start([generator(seed) for seed in range(100, 2100)])).double()
    mean = statistics.mean.double().view(2, *[1] * len(size))
    power, wanted = (fourier_basis.analyse(each - mean).square().mean((0, 1)) for each in (found, data))
    ring = (fourier_basis.frequencies(*size) * min(size)).ceil().long()
    for number in range(int(ring.max()) + 1):
        of_ring = ring == number
        if bool(of_ring.any()):
            assert float((power[of_ring].sum() / wanted[of_ring].sum()).sqrt()) == pytest.approx(1, abs=0.02)
    edge = (
        ...,
        0,
    )  # waves that are constant along the last axis, which a real transform treats by themselves
    assert float((power[edge].sum() / wanted[edge].sum()).sqrt()) == pytest.approx(1, abs=0.04)


@pytest.mark.parametrize("size", [(256,), (128, 128), (40, 40, 40)], ids=str)
def test_by_default_octaves_fall_alike_for_any_number_of_axes(size):
    waves = fourier_basis.frequencies(*size) * size[0]
    for power, share in (
        (fl.FourierImage((1, *size))._spectrum.square(), 0.5),
        (spectrum(size, None, None).square(), 1.0),
    ):
        low, high = (power[(waves >= first) & (waves < 2 * first)].sum() for first in (5, 10))
        assert float(high / low) == pytest.approx(share, rel=0.12)


@by_size
@pytest.mark.parametrize("kind", [fl.PixelImage, fl.FourierImage, fl.PhaseImage])
def test_images_have_the_shape_and_gradients_agree_with_finite_differences(size, kind):
    parametrization = kind((2, *size))
    assert repr(parametrization) == f"{kind.__name__}({(2, *size)})"
    parameters = parametrization.start([generator(0)]).double()
    assert parametrization.images(parameters).shape == (1, 2, *size)
    directions = torch.randn_like(parameters)
    along = torch.zeros((), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda t: parametrization.images(parameters + t * directions), (along,))


@pytest.mark.parametrize(("shape", "number"), [((2, 16), 14), ((2, 16, 16), 32), ((1, 16, 8, 8), 27)])
def test_plain_images_are_colours_and_waves_along_each_axis(shape, number):
    found = plain_images(shape, None)
    assert found.shape == (number, *shape)
    assert len({tuple(image.flatten().tolist()) for image in found}) == number


# runs


@by_size
@pytest.mark.parametrize("kind", [fl.PixelImage, fl.FourierImage, fl.PhaseImage])
def test_runs_raise_the_score_and_leave_the_model_as_it_was(size, kind):
    model = network(len(size)).train()
    before = snapshot(model)
    maximizer = fl.ActivationMaximizer(model, kind((2, *size)), steps=24, progress=False, autocast=True)
    penalized = fl.objectives.channel("conv2", 1) - 0.1 * fl.objectives.total_variation()
    result = maximizer.run(["conv2", penalized, fl.objectives.neuron("conv2", 2)])
    assert result.images.shape == (5, 2, *size)
    assert (result.history[-3:].mean(0) > result.history[0]).all()
    assert snapshot(model) == before
    assert torch.equal(maximizer.run("conv2:1").images, maximizer.run("conv2:1").images)


@by_size
def test_a_silent_channel_is_woken(size):
    conv = CONVOLUTIONS[len(size)](2, 1, 3, padding=1)
    nn.init.ones_(conv.weight)
    nn.init.constant_(conv.bias, -0.7 * conv.weight.numel())  # silent unless pixels are brighter than 0.7
    model = nn.Sequential(conv, nn.ReLU())
    for steps, woken in ((0, False), (16, True)):
        image = fl.PixelImage((2, *size))
        maximizer = fl.ActivationMaximizer(model, image, steps=60, progress=False, redirect_relu=steps)
        result = maximizer.run(fl.objectives.channel("relu_1", 0, axis=1))
        assert (float(result.scores[0]) > 0) is woken


@by_size
def test_samples_starts_and_frames(size, tmp_path):
    sample = (6 * drawn(20, 2, *size) - 3).float()
    model = network(len(size))
    maximizer = fl.ActivationMaximizer(model, sample=sample, steps=4, progress=False)
    assert maximizer.parametrization.shape == (2, *size)
    start = drawn(1, 2, *size, seed=5).float()
    result = maximizer.run("conv2", start=start, record_every=2)
    assert result.frames.shape == (3, 3, 2, *size)
    assert torch.allclose(result.frames[:, 0], start.clamp(0.01, 0.99).expand(3, 2, *size), atol=1e-5)
    result.save(tmp_path)
    assert len(list(tmp_path.glob("*.png"))) == 3
    loaded = fl.MaximizationResult.load(tmp_path, model=model)
    assert torch.equal(loaded.images, result.images)
    assert str(loaded.compare(sample, progress=False)) == str(result.compare(sample, progress=False))
    result.animate(tmp_path / "run.gif", limit=2)
    with Image.open(tmp_path / "run.gif") as animation:
        assert animation.n_frames == 3
    result.plot_frames(limit=2)


@by_size
def test_comparisons_find_the_strongest_real_ones_in_the_range_of_the_sample(size):
    sample = (6 * drawn(30, 2, *size) - 3).float()
    model = network(len(size)).eval()
    result = fl.ActivationMaximizer(model, sample=sample, steps=30, progress=False).run("conv2")
    found = result.compare(sample.split(8), top=3, progress=False)
    with torch.no_grad():
        values = model(sample).flatten(2).mean(2).T
    assert torch.allclose(found.data_maximum, values.amax(1), atol=1e-5)
    assert torch.equal(found.top_indices[:, 0], values.argmax(1))
    low = sample.transpose(0, 1).flatten(1).amin(1).view(2, *[1] * len(size))
    high = sample.transpose(0, 1).flatten(1).amax(1).view(2, *[1] * len(size))
    expected = (sample[values.argmax(1)] - low) / (high - low)
    assert torch.allclose(found.top_images[:, 0], expected, atol=1e-6)
    assert found.plain_images.shape == result.images.shape


@by_size
def test_decoders_may_return_them(size):
    decoder = seeded(
        lambda: nn.Sequential(nn.Linear(4, 2 * math.prod(size)), nn.Sigmoid(), nn.Unflatten(1, (2, *size)))
    )
    maximizer = fl.ActivationMaximizer(
        network(len(size)), fl.LatentImage(decoder, 4), steps=4, progress=False
    )
    assert maximizer.run("conv2").images.shape == (3, 2, *size)


def test_a_transform_must_keep_the_axes():
    maximizer = fl.ActivationMaximizer(
        network(1), fl.FourierImage((2, 9)), transforms=[lambda signals: signals[:, :, None]], progress=False
    )
    with pytest.raises(
        ValueError, match=r"a transform must return as many images \(N, C, L\) as it is given"
    ):
        maximizer.run("conv2")
