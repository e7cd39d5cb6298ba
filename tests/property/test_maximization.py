"""What holds for every size, channel count, seed and network."""

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
shapes = st.tuples(st.integers(1, 5), sizes, sizes)
seeds = st.integers(0, 2**40)


def drawn(shape, seed, dtype=torch.float64):
    return torch.rand(shape, dtype=dtype, generator=torch.Generator().manual_seed(seed % 2**32))


@given(shapes, seeds, st.sampled_from([fl.PixelImage, fl.FourierImage]), st.floats(0, 2))
@settings(deadline=None)
def test_images_come_back_from_their_parameters(shape, seed, kind, decay):
    parametrization = kind(shape) if kind is fl.PixelImage else kind(shape, decay=decay)
    images = 0.01 + 0.98 * drawn((2, *shape), seed)
    assert torch.allclose(parametrization.images(parametrization.from_image(images)), images, atol=1e-9)


@given(sizes, sizes, seeds)
@settings(deadline=None)
def test_amplitudes_hold_the_power_of_the_image(height, width, seed):
    images = drawn((2, height, width), seed)
    amplitudes = fourier_basis.analyse(images)
    assert torch.allclose(amplitudes.square().sum((1, 2)), images.square().sum((1, 2)))
    down, across = (fourier_basis.basis(n)[0] for n in (height, width))
    assert torch.allclose(down @ amplitudes @ across.T, images)
    assert torch.isclose(amplitudes[0, 0, 0], images[0].sum() / (height * width) ** 0.5)


@given(sizes, sizes, seeds)
@settings(deadline=None)
def test_magnitudes_hold_the_power_of_the_spectrum(height, width, seed):
    spectrum = drawn((height, width), seed)
    waves = fourier_basis.magnitudes(spectrum)
    full = torch.fft.fft2(
        torch.fft.irfft2(waves.to(torch.complex128), s=(height, width), norm="ortho"), norm="ortho"
    )
    assert torch.isclose(full.abs().square().sum(), spectrum.square().sum())


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


@given(shapes.filter(lambda shape: min(shape[1:]) >= 3), seeds, st.booleans(), st.floats(0.01, 10))
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
