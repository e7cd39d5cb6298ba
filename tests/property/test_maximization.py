"""What holds for every size, channel count, seed and network."""

import math
import unittest.mock

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import featurelens as fl
from featurelens.maximization.images import fourier_basis
from featurelens.maximization.relu import redirect
from featurelens.maximization.transforms import Chain
from tests.nets import seeded

sizes = st.integers(1, 13)
axes = st.lists(sizes, min_size=1, max_size=3).filter(lambda size: math.prod(size) <= 500).map(tuple)
shapes = st.tuples(st.integers(1, 5), axes).map(
    lambda drawn: (drawn[0], *drawn[1])
)  # signals, images, volumes
flat = shapes.filter(lambda shape: len(shape) == 3)
seeds = st.integers(0, 2**40)


def drawn(shape, seed, dtype=torch.float64):
    return torch.rand(shape, dtype=dtype, generator=torch.Generator().manual_seed(seed % 2**32))


@given(shapes, seeds, st.sampled_from([fl.PixelImage, fl.FourierImage]), st.floats(0, 2))
@settings(deadline=None)
def test_images_come_back_from_their_parameters(shape, seed, kind, decay):
    parametrization = kind(shape) if kind is fl.PixelImage else kind(shape, decay=decay)
    images = 0.01 + 0.98 * drawn((2, *shape), seed)
    assert torch.allclose(parametrization.images(parametrization.from_image(images)), images, atol=1e-9)


@given(shapes, seeds)
@settings(deadline=None)
def test_amplitudes_hold_the_power_of_the_image(shape, seed):
    images = drawn((2, *shape), seed)
    amplitudes = fourier_basis.analyse(images)
    assert torch.allclose(amplitudes.square().flatten(2).sum(2), images.square().flatten(2).sum(2))
    assert torch.allclose(fourier_basis.synthesize(amplitudes, fourier_basis.bases(shape[1:])), images)
    assert torch.allclose(
        amplitudes.flatten(2)[..., 0], images.flatten(2).sum(2) / math.prod(shape[1:]) ** 0.5
    )


@given(shapes, seeds)
@settings(deadline=None)
def test_long_axes_have_the_same_waves_without_a_matrix(shape, seed):
    values, matrices = drawn((2, *shape), seed), [fourier_basis.basis(n)[0] for n in shape[1:]]
    expected = values
    for axis, matrix in enumerate(matrices, start=2):
        expected = torch.tensordot(expected, matrix, ([axis], [1])).movedim(-1, axis)
    assert torch.allclose(fourier_basis.synthesize(values, matrices), expected)
    assert torch.allclose(fourier_basis.synthesize(values, [None] * len(matrices)), expected)
    assert torch.allclose(fourier_basis.analyse(expected), values)
    with unittest.mock.patch.object(fourier_basis, "LONGEST", 1):
        assert torch.allclose(fourier_basis.analyse(expected), values)


@given(axes, seeds)
@settings(deadline=None)
def test_magnitudes_hold_the_power_of_the_spectrum(size, seed):
    spectrum = drawn(size, seed)
    waves = fourier_basis.magnitudes(spectrum).to(torch.complex128)
    full = torch.fft.fftn(torch.fft.irfftn(waves, s=size, norm="ortho"), norm="ortho")
    assert torch.isclose(full.abs().square().sum(), spectrum.square().sum())


@given(axes, st.sampled_from([fl.PixelImage, fl.FourierImage]), seeds)
@settings(deadline=None, max_examples=20)
def test_starts_are_spread_as_asked(size, kind, seed):
    parametrization = kind((2, *size), sd=0.3)
    generators = [torch.Generator().manual_seed(seed % 2**32 + k) for k in range(400)]
    parameters = parametrization.start(generators)
    assert parameters.shape == (400, 2, *size)
    assert abs(float(parameters.std()) / 0.3 - 1) < 0.2
    assert abs(float(parameters.mean())) < 0.1


@given(shapes, seeds)
@settings(deadline=None, max_examples=30)
def test_statistics_are_those_of_a_plain_replica(shape, seed):
    images = drawn((6, *shape), seed)
    found = fl.ImageStatistics.fit(images.split(4), progress=False)
    pixels = images.movedim(1, 0).flatten(1)
    assert torch.allclose(found.mean, pixels.mean(1).float(), atol=1e-5)
    assert torch.allclose(
        found.covariance, torch.cov(pixels, correction=0).float().view(shape[0], -1), atol=1e-5
    )
    centred = images - pixels.mean(1).view(-1, *[1] * (len(shape) - 1))
    # All but the mean of an image is measured around its own mean, which lies in the first amplitude alone.
    power = fourier_basis.analyse(centred).square().mean((0, 1))
    assert torch.allclose(found.spectrum, power.sqrt().float(), atol=1e-5)
    assert torch.equal(found.low, pixels.amin(1).float())


@given(shapes, seeds)
@settings(deadline=None, max_examples=30)
def test_transforms_keep_the_shape_and_grey_stays_grey(shape, seed):
    chain = Chain("standard", shape[1:])
    images = drawn((2, *shape), seed)
    numbers = drawn((2, chain.numbers), seed + 1)
    assert chain(images, numbers).shape == images.shape
    assert torch.allclose(
        chain(torch.full_like(images, 0.3), numbers), torch.tensor(0.3, dtype=torch.float64)
    )


@given(st.integers(1, 4), st.integers(1, 6), seeds)
@settings(deadline=None)
def test_redirected_gradients_are_the_usual_ones_wherever_there_are_any(n, units, seed):
    values, gradient = drawn((n, units), seed) - 0.5, drawn((n, units), seed + 1) - 0.5
    found, _ = redirect(gradient, values > 0, torch.ones(n, dtype=torch.bool))
    usual = gradient * (values > 0)
    alive = usual.abs().sum(1) > 0
    assert torch.equal(found[alive], usual[alive])
    assert (found[~alive] <= 0).all()  # going down the gradient of a loss raises these


@given(flat.filter(lambda shape: min(shape[1:]) >= 3), seeds, st.booleans(), st.floats(0.01, 10))
@settings(deadline=None, max_examples=15)
def test_seeds_decide_everything_and_no_image_ends_below_its_start(shape, seed, batch_norm, lr):
    def build():
        norm = nn.BatchNorm2d(3) if batch_norm else nn.Identity()
        return nn.Sequential(nn.Conv2d(shape[0], 3, 3), norm, nn.ReLU(), nn.Conv2d(3, 2, 1))

    model = seeded(build, seed=seed)
    image = fl.FourierImage(shape)

    def run(**changed):
        return fl.ActivationMaximizer(model, image, **{"steps": 3, "seed": seed, "lr": lr, **changed}).run(
            "conv_2"
        )

    one, other = run(), run()
    assert torch.equal(one.images, other.images)
    assert torch.equal(one.scores, other.scores)
    assert torch.equal(one.history, other.history)
    assert (one.scores >= run(steps=1, lr=1e-30).scores).all()
    assert torch.equal(one.images, one.images.clamp(0, 1))
