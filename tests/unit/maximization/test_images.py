"""Images from parameters: exact inverses, uncorrelated coordinates, gradients, and statistics that are the data's."""

import math

import numpy as np
import pytest
import torch
from torch import nn

import featurelens as fl
from featurelens.maximization.adam import Adam
from featurelens.maximization.images import fourier_basis
from tests.nets import seeded
from tests.state import snapshot


def synthesize(amplitudes):
    down, across = (fourier_basis.basis(n)[0].to(amplitudes) for n in amplitudes.shape[-2:])
    return down @ amplitudes @ across.T


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("n", range(1, 12))
def test_the_real_fourier_basis_is_orthonormal_and_made_of_waves(n):
    waves, frequency = fourier_basis.basis(n)
    assert torch.allclose(waves.T @ waves, torch.eye(n, dtype=torch.float64), atol=1e-12)
    for wave, cycles in zip(waves.T, frequency, strict=True):
        power = torch.fft.fft(wave).abs()
        others = (torch.fft.fftfreq(n).abs() - cycles).abs() > 1e-6
        assert power[others].max().item() < 1e-9 if others.any() else True


@pytest.mark.parametrize("size", [(8, 8), (7, 5), (6, 9), (1, 4)])
def test_magnitudes_are_those_of_the_fft_on_average(size):
    spectrum = 0.5 + torch.rand(size, generator=generator())
    noise = torch.randn(20000, *size, generator=generator(1)) * spectrum
    measured = torch.fft.rfft2(synthesize(noise), norm="ortho").abs().square().mean(0).sqrt()
    assert torch.allclose(fourier_basis.magnitudes(spectrum), measured, rtol=0.05)


@pytest.mark.parametrize("kind", [fl.PixelImage, fl.FourierImage])
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 9, 16), (4, 7, 5), (2, 1, 1)])
def test_images_come_back_exactly(kind, shape):
    parametrization = kind(shape)
    images = 0.001 + 0.998 * torch.rand(3, *shape, dtype=torch.float64, generator=generator())
    parameters = parametrization.from_image(images)
    assert parameters.shape == (3, *shape)
    assert torch.allclose(parametrization.images(parameters), images, atol=1e-10)
    assert torch.allclose(
        parametrization.from_image(parametrization.images(parameters)), parameters, atol=1e-7
    )


def test_black_and_white_come_back_too():
    images = torch.tensor([0.0, 1.0]).repeat(8).view(1, 1, 4, 4)
    parametrization = fl.FourierImage((1, 4, 4))
    assert torch.allclose(parametrization.images(parametrization.from_image(images)), images, atol=1e-4)


@pytest.mark.parametrize(
    "parametrization",
    [
        fl.PixelImage((3, 4, 5)),
        fl.FourierImage((3, 4, 5)),
        fl.PhaseImage((3, 4, 5)),
        fl.PhaseImage((1, 5, 6)),
    ],
    ids=repr,
)
def test_gradients_agree_with_finite_differences(parametrization):
    parameters = parametrization.start([generator(0), generator(1)]).double().requires_grad_()
    assert torch.autograd.gradcheck(parametrization.images, (parameters,))


@pytest.mark.parametrize("kind", [fl.PixelImage, fl.FourierImage, fl.PhaseImage])
def test_starts_differ_between_images_and_are_each_the_generators_own(kind):
    parametrization = kind((1, 6, 6))
    together = parametrization.start([generator(0), generator(1)])
    assert torch.equal(together[1:], parametrization.start([generator(1)]))
    assert not torch.equal(together[0], together[1])
    images = parametrization.images(together)
    assert images.min() >= 0
    assert images.max() <= 1


def correlated(n=400, size=8):
    """Colour noise with a falling spectrum and channels that go together."""
    colours = torch.tensor([[0.10, 0.03, 0.0], [0.08, -0.03, 0.02], [0.06, 0.0, -0.03]])
    falling = 1 / fourier_basis.frequencies(size, size).clamp(min=1 / size)
    noise = synthesize(torch.randn(n, 3, size, size, generator=generator()) * falling)
    return 0.5 + 0.25 * torch.einsum("dc,nchw->ndhw", colours, noise).double(), colours


def test_statistics_are_those_of_the_data_however_it_is_batched():
    images, _ = correlated()
    whole = fl.ImageStatistics.fit(images)
    parts = fl.ImageStatistics.fit((batch, None) for batch in images.split(37))
    for name in ("mean", "covariance", "spectrum", "low", "high"):
        assert torch.allclose(getattr(whole, name), getattr(parts, name), rtol=1e-4), name
    pixels = images.numpy().transpose(1, 0, 2, 3).reshape(3, -1)
    assert np.allclose(whole.covariance, np.cov(pixels, bias=True), rtol=1e-4)
    assert np.allclose(whole.mean, pixels.mean(1), rtol=1e-5)
    assert np.allclose(whole.low, pixels.min(1))
    centred = images - images.mean((0, 2, 3), keepdim=True)
    amplitudes = fourier_basis.analyse(centred).square().mean((0, 1)).sqrt()
    assert torch.allclose(whole.spectrum[1:], amplitudes[1:].float(), rtol=1e-4)
    assert math.isclose(whole.spectrum[0, 0], amplitudes[0, 0], rel_tol=1e-4)


def test_amplitudes_of_the_data_are_uncorrelated_and_of_variance_one():
    images, _ = correlated()
    statistics = fl.ImageStatistics.fit(images)
    parametrization = fl.FourierImage((3, 8, 8), statistics=statistics, decay=None)
    # the logistic curve bends: look at images so faint that it is straight
    faint = statistics.mean[:, None, None] + 0.02 * (images - statistics.mean[:, None, None])
    amplitudes = parametrization.from_image(faint).permute(0, 2, 3, 1) / 0.02
    centred = amplitudes - amplitudes.mean(0)
    covariance = torch.einsum("nhwc,nhwd->cd", centred, centred) / centred[..., 0].numel()
    assert torch.allclose(covariance, torch.eye(3, dtype=torch.float64), atol=0.15)
    waves = centred.square().mean((0, 3))
    assert waves.max() / waves.min() < 2.5


def test_phase_images_keep_the_spectrum_whatever_the_phases():
    images, _ = correlated()
    statistics = fl.ImageStatistics.fit(images)
    parametrization = fl.PhaseImage((3, 8, 8), statistics=statistics)
    patterns = [
        parametrization._unpaint(parametrization.images(torch.full((1, 3, 8, 5), phase).double()))
        for phase in (0.0, 0.7)
    ]
    magnitudes = [torch.fft.rfft2(pattern, norm="ortho").abs()[..., 1:4] for pattern in patterns]
    assert torch.allclose(*magnitudes, atol=1e-4)
    assert torch.allclose(magnitudes[0][0, 0], parametrization._magnitudes[:, 1:4], atol=1e-4)


@pytest.mark.parametrize("value", [0.0, 0.4, -3.0])
def test_a_sample_of_one_colour_gives_its_shape_only(value):
    sample = torch.full((16, 3, 8, 8), value, requires_grad=True)
    maximizer = fl.ActivationMaximizer(nn.Conv2d(3, 1, 3), sample=sample, steps=1, progress=False)
    assert repr(maximizer.parametrization) == "FourierImage((3, 8, 8))"
    assert maximizer.run("").images.std() > 0.01


def test_a_sample_gives_shape_and_colours():
    images, _ = correlated(32)
    model = nn.Conv2d(3, 2, 3)
    maximizer = fl.ActivationMaximizer(model, sample=images.float().clamp(0, 1))
    assert repr(maximizer.parametrization) == (
        "FourierImage((3, 8, 8), statistics=ImageStatistics(32 images of 3x8x8))"
    )
    few = fl.ActivationMaximizer(model, sample=images[:3].float().clamp(0, 1))
    assert repr(few.parametrization) == "FourierImage((3, 8, 8))"


def decoder():
    return seeded(
        lambda: nn.Sequential(
            nn.Linear(4, 64), nn.BatchNorm1d(64), nn.Dropout(0.5), nn.Sigmoid(), nn.Unflatten(1, (1, 8, 8))
        )
    ).train()


def test_whitening_undoes_what_correlates_latents():
    latents = torch.randn(2000, 4, generator=generator()) @ torch.rand(4, 4, generator=generator(1)) + 3
    whitening = fl.LatentWhitening.fit(latents)
    coordinates = whitening.whiten(latents)
    assert torch.allclose(coordinates.T.cov(), torch.eye(4), atol=1e-3)
    assert torch.allclose(coordinates.mean(0), torch.zeros(4), atol=1e-3)
    assert torch.allclose(whitening.unwhiten(coordinates), latents, atol=1e-3)
    by_hand = coordinates @ whitening.unwhitening + whitening.mean  # z = w @ W_inv + mu
    assert torch.equal(whitening.unwhiten(coordinates), by_hand)
    parts = fl.LatentWhitening.fit(latents.split(300))
    assert torch.allclose(parts.unwhitening.T @ parts.unwhitening, latents.T.cov(), rtol=1e-3, atol=1e-3)


def test_whitening_of_latents_without_variance_on_an_axis():
    latents = torch.randn(50, 3, generator=generator()) * torch.tensor([1.0, 0.0, 2.0])
    whitening = fl.LatentWhitening.fit(latents)
    assert whitening.whiten(latents).isfinite().all()
    assert torch.allclose(whitening.unwhiten(whitening.whiten(latents)), latents, atol=1e-4)


@pytest.mark.parametrize("whiten", [False, True])
def test_latent_images_are_the_decoders_and_the_decoder_comes_back(whiten):
    network, model = decoder(), nn.Conv2d(1, 3, 3)
    before = snapshot(network)
    latents = torch.randn(100, 4, generator=generator())
    whitening = fl.LatentWhitening.fit(latents) if whiten else None
    maximizer = fl.ActivationMaximizer(
        model, fl.LatentImage(network, 4, whitening=whitening), steps=30, transforms=None
    )
    result = maximizer.run(model)
    assert result.images.shape == (3, 1, 8, 8)
    assert (result.history[-1] > result.history[0]).all()
    assert snapshot(network) == before
    assert all(p.requires_grad and p.grad is None for p in network.parameters())


def test_our_adam_is_torchs():
    ours, theirs = (torch.linspace(-1, 1, 7, dtype=torch.float64).requires_grad_() for _ in range(2))
    steps = Adam(ours, 0.1), torch.optim.Adam([theirs], lr=0.1)
    for number in range(20):
        for parameters, optimizer in zip((ours, theirs), steps, strict=True):
            parameters.grad = torch.cos(parameters.detach() * (number + 1))
            optimizer.step()
    assert torch.allclose(ours, theirs, atol=1e-12)


def test_latents_come_in_tuples_too():
    latents = torch.rand(20, 3, generator=generator())
    whole = fl.LatentWhitening.fit(latents)
    parts = fl.LatentWhitening.fit([(batch, torch.zeros(len(batch))) for batch in latents.split(6)])
    assert torch.allclose(whole.mean, parts.mean)


@pytest.mark.parametrize("shape", [(3, 28, 28), (1, 31, 24)])
def test_phases_have_the_spectrum_of_the_data(shape):
    """Random phases give the data's amplitudes to 2 %: the mean, and rings of waves of about one length."""
    noise = torch.randn(400, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    falling = 1 / fourier_basis.frequencies(*shape[1:]).clamp(min=0.03)
    waves = fl.FourierImage(shape, decay=0.0)
    pattern = waves.from_image(torch.sigmoid(0.1 * noise)) * falling
    data = waves.images(pattern / pattern.std())
    statistics = fl.ImageStatistics.fit(data, progress=False)
    image = fl.PhaseImage(shape, statistics=statistics)
    drawn = image.images(image.start([torch.Generator().manual_seed(seed) for seed in range(100, 2100)]))
    mean = statistics.mean.double()[:, None, None]
    power, wanted = (
        fourier_basis.analyse(values.double() - mean).square().mean((0, 1)) for values in (drawn, data)
    )
    ring = (fourier_basis.frequencies(*shape[1:]) * 14).ceil().long()
    for number in range(int(ring.max()) + 1):
        assert float((power[ring == number].sum() / wanted[ring == number].sum()).sqrt()) == pytest.approx(
            1, abs=0.02
        ), number


def test_phases_of_data_of_one_colour_paint_that_colour():
    statistics = fl.ImageStatistics.fit(torch.full((20, 3, 8, 8), 0.4), progress=False)
    image = fl.PhaseImage((3, 8, 8), statistics=statistics)
    drawn = image.images(image.start([torch.Generator().manual_seed(0)]))
    assert torch.allclose(drawn, torch.full_like(drawn, 0.4), atol=0.01)


def test_statistics_bring_the_spectrum_and_brightness_is_no_stronger_than_a_pattern():
    images = torch.rand(16, 3, 8, 6, generator=generator()) * torch.rand(16, 1, 1, 1, generator=generator(1))
    statistics = fl.ImageStatistics.fit(images, progress=False)
    measured = statistics.amplitudes(8, 6)
    patterns = measured.flatten()[1:]
    assert measured[0, 0] > patterns.max()
    spectrum = fl.FourierImage((3, 8, 6), statistics=statistics)._spectrum
    assert torch.equal(spectrum.flatten()[1:], patterns)
    assert spectrum[0, 0] == patterns.max()
