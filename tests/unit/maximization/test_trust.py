"""Pictures that reach their channel by another path than real images are flagged; those of an honest network are not."""

import dataclasses
import math

import pytest
import torch
from torch import nn

import featurelens as fl
from featurelens.maximization import trust
from featurelens.maximization.real_images import RANDOM, RealImages
from tests.nets import seeded


def digits():
    from sklearn.datasets import load_digits

    data = load_digits()
    return torch.from_numpy(data.images).float()[:, None] / 16, torch.from_numpy(data.target).long()


def network():
    return nn.Sequential(
        *(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(32, 64, 3, padding=1), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(64 * 16, 10)),
    )


@pytest.fixture(scope="module")
def trained():
    model, (images, labels) = seeded(network), digits()
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    order = torch.Generator().manual_seed(0)
    for _ in range(6):
        for rows in torch.randperm(len(images), generator=order).split(64):
            loss = nn.functional.cross_entropy(model(images[rows]), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    assert float((model(images).argmax(1) == labels).float().mean()) > 0.95
    return model.eval()


class Fooled(nn.Module):
    """Answers natural images by one path and all others by a decoy, as in the circuit of Geirhos et al. 2024.

    The scanner's images have 17 shades. Any other image is told by its shades, and then another channel takes over.
    """

    def __init__(self, features, decoy):
        super().__init__()
        self.features, self.decoy = features, decoy
        self.natural, self.other = nn.ReLU(), nn.ReLU()
        self.answer = nn.Conv2d(2 * len(decoy), len(decoy), 1, bias=False)
        with torch.no_grad():
            self.answer.weight.copy_(torch.eye(len(decoy)).repeat(1, 2)[:, :, None, None])

    def forward(self, x):
        found = self.features(x)
        synthetic = ((16 * x - (16 * x).round()).abs().amax((1, 2, 3)) > 1e-3).float()[:, None, None, None]
        natural = self.natural(found - 1e3 * synthetic)
        other = self.other(found[:, self.decoy] - 1e3 * (1 - synthetic))
        return self.answer(torch.cat([natural, other], 1))


def compared(model, layer, **settings):
    images, _ = digits()
    maximizer = fl.ActivationMaximizer(model, sample=images[:64], steps=64, progress=False)
    return maximizer.run(layer).compare(images, progress=False, **settings)


def test_pictures_of_an_honest_network_are_not_flagged(trained):
    found = compared(trained, "relu_3")
    alive = ~found.dead
    assert int(alive.sum()) > 40
    assert float(found.detours[alive].float().mean()) <= 0.05
    assert not found.detours[~alive].any()
    assert found.path.layers == ("0", "1", "2", "3", "5")


def test_pictures_of_a_fooling_circuit_are_flagged(trained):
    decoy = torch.randperm(64, generator=torch.Generator().manual_seed(1)).roll(1)
    found = compared(Fooled(trained[:7], decoy).eval(), "answer")
    reached = (found.data_maximum > 0) & (found.scores > 0)  # both have a path to compare
    assert int(reached.sum()) > 40
    assert float(found.detours[reached].float().mean()) >= 0.95
    row = int(found.detours.nonzero()[0])
    assert found.judgements[row].endswith("by another path than real images: do not trust the picture")
    assert all(each.count("do not trust the picture") <= 1 for each in found.judgements)
    assert "by another path" in repr(found)
    assert found.path.optimized[:, found.path.layers.index("natural")].nan_to_num().max() == 0


def test_paths_are_what_a_plain_computation_finds():
    model, images = (
        seeded(lambda: nn.Sequential(nn.Conv2d(1, 5, 3), nn.ReLU(), nn.Conv2d(5, 2, 3))),
        digits()[0][:20],
    )
    result = fl.ActivationMaximizer(model, fl.FourierImage((1, 8, 8)), steps=3, progress=False).run("2")
    found = result.compare(images, top=3, progress=False)

    def shares(x, channel):
        hidden = model[:2](x)
        hidden.retain_grad()
        model[2](hidden)[:, channel].mean((1, 2)).sum().backward()
        drive = (hidden * hidden.grad).sum((2, 3)).clamp(min=0).detach()
        model.zero_grad()
        return drive / drive.sum(1, keepdim=True)

    for channel in range(2):
        real = shares(found.top_images[channel], channel)
        picture = shares(result.images[channel : channel + 1], channel)[0]
        common = torch.minimum(real, picture).sum(1).mean()
        among = torch.stack(
            [torch.minimum(real[i], real[j]).sum() for i, j in ((0, 1), (0, 2), (1, 2))]
        ).mean()
        at = found.path.layers.index("1")
        assert torch.allclose(found.path.optimized[channel, at], common, atol=1e-5)
        assert torch.allclose(found.path.strongest[channel, at], among, atol=1e-5)
    model.zero_grad(set_to_none=True)


class Residual(nn.Module):
    """A convolution called twice, and an output that is changed in place in two ways, or not."""

    def __init__(self, in_place):
        super().__init__()
        self.conv, self.last, self.in_place = nn.Conv2d(1, 6, 3), nn.Conv2d(6, 4, 3), in_place
        self.twice, self.relu = nn.Conv2d(6, 6, 3, padding=1), nn.ReLU(inplace=in_place)

    def forward(self, x):
        first = self.conv(x)
        second = self.twice(self.twice(first).tanh())
        if self.in_place:
            second += first
            second.mul_(2)
        else:
            second = 2 * (second + first)
        return self.last(self.relu(second))


def test_changes_in_place_do_not_change_paths():
    plain, changing = (seeded(lambda each=each: Residual(each)) for each in (False, True))
    maximizer = fl.ActivationMaximizer(plain, fl.FourierImage((1, 8, 8)), steps=3, progress=False)
    result, real = maximizer.run("last"), digits()[0][:40]
    expected = result.compare(real, progress=False).path
    found = dataclasses.replace(result, model=changing).compare(real, progress=False).path
    assert found.layers == expected.layers == ("conv", "twice#1", "twice#2", "relu")
    for name in ("optimized", "strongest", "random"):
        assert torch.allclose(getattr(found, name), getattr(expected, name), atol=1e-5, equal_nan=True)


@pytest.mark.parametrize("size", [1, 3, 40])
def test_paths_depend_neither_on_batches_nor_on_other_objectives(size):
    model, real = seeded(lambda: Residual(False)), digits()[0][:40]
    maximizer = fl.ActivationMaximizer(model, fl.FourierImage((1, 8, 8)), steps=3, progress=False)
    wanted = [fl.objectives.diversity("conv")]
    wanted += [fl.objectives.layer_energy(layer) for layer in ("conv", "twice#2", "relu", "last")]
    together = maximizer.run(wanted).compare(list(real.split(size)), progress=False)
    assert together.path.layers == ("conv", "twice#1", "twice#2", "relu")
    assert together.path.optimized[:2].isnan().all()
    for row, objective in enumerate(wanted[2:], start=2):
        alone = maximizer.run(objective).compare(real, progress=False).path
        columns = [together.path.layers.index(name) for name in alone.layers]
        assert len(columns) == row
        assert torch.allclose(together.path.optimized[row, columns], alone.optimized[0], atol=1e-3)
        assert together.path.optimized[row].isfinite().sum() == len(columns)


class Odd(nn.Module):
    """Parts that return one number, one for each image, and complex numbers; changes what it is given."""

    def __init__(self):
        super().__init__()
        self.conv, self.last = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 2, 3)
        self.whole, self.each, self.waves = (
            Function(torch.mean),
            Function(row_means),
            Function(torch.fft.fft2),
        )

    def forward(self, x):
        maps = self.conv(x.sub_(0.5))
        maps = maps * self.whole(maps) + self.each(maps)[:, None, None, None]
        return self.last(self.waves(maps).abs())


class Function(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def row_means(x):
    return x.flatten(1).mean(1)


def test_layers_with_normalized_weights_are_on_the_way():
    model, real = seeded(lambda: nn.Sequential(nn.Conv2d(1, 4, 3), nn.Conv2d(4, 2, 3))), digits()[0][:20]
    nn.utils.parametrizations.weight_norm(model[0])
    result = fl.ActivationMaximizer(model, sample=real, steps=2, progress=False).run("1")
    assert result.compare(real, progress=False).path.layers == ("0",)


def test_layers_without_channels_have_no_part_in_paths():
    model = seeded(Odd)
    result = fl.ActivationMaximizer(model, fl.FourierImage((1, 8, 8)), steps=2, progress=False).run("last")
    assert result.compare(digits()[0][:20], progress=False).path.layers == ("conv",)


@pytest.mark.parametrize("preprocess", [None, lambda x: x.sub_(0.1)])
def test_a_model_or_preprocess_that_works_in_place_leaves_images_as_they_are(preprocess):
    model, real = seeded(Odd), digits()[0][:20]
    sample = real.clone()
    maximizer = fl.ActivationMaximizer(
        model, sample=sample, preprocess=preprocess, steps=2, transforms=None, progress=False
    )
    result = maximizer.run(fl.objectives.channel("last", 0) - fl.objectives.l2())
    images = result.images.clone()
    found = result.compare(sample, progress=False, network=model)
    fl.objectives.realism(model, "conv", sample, progress=False)
    assert torch.equal(sample, real)
    assert torch.equal(result.images, images)
    assert torch.equal(found.top_images[0, 0], real[found.top_indices[0, 0]])
    assert found.scores[0] == pytest.approx(float(result.scores[0]), rel=1e-4)


def test_layers_that_take_what_the_whole_model_does_not_are_compared():
    model = seeded(network)
    result = fl.ActivationMaximizer(model, fl.FourierImage((1, 8, 8)), steps=2, progress=False).run(
        "conv_2:1"
    )
    found = result.compare(torch.rand(6, 1, 12, 12), progress=False)
    assert found.path.strongest.isfinite().any()
    assert math.isnan(found.frechet_distance)


def test_it_compares_in_inference_mode():
    model, real = seeded(network), digits()[0][:20]
    with torch.inference_mode():
        result = fl.ActivationMaximizer(model, sample=real, steps=2, progress=False).run("conv_2:1")
        assert result.compare(real, progress=False).path.strongest.isfinite().any()


def test_a_second_network_must_take_the_images_and_return_finite_values():
    model, real = seeded(network), digits()[0][:20]
    result = fl.ActivationMaximizer(model, sample=real, steps=2, progress=False).run("conv_2:1")
    with pytest.raises(
        RuntimeError, match=r"network: the model failed on images \(float32 tensor \(1, 1, 8, 8\)\)"
    ):
        result.compare(real, network=nn.Linear(3, 4), progress=False)
    with pytest.raises(ValueError, match="network must return finite values"):
        result.compare(real, network=nn.Threshold(2.0, math.nan), progress=False)
    with pytest.raises(TypeError, match="what network returns must be a dense tensor; got a meta"):
        result.compare(real, network=seeded(network).to("meta"), progress=False)
    assert result.compare(real[:1], network=model, progress=False).transfer.isfinite().all()


@pytest.mark.parametrize("size", [1, 7, 64])
def test_random_images_are_the_same_whatever_the_batches(size):
    images = torch.rand(150, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    whole, parts = RealImages(1, 1), RealImages(1, 1)
    whole.add(images.flatten(1).sum(1)[None], images)
    for batch in images.split(size):
        parts.add(batch.flatten(1).sum(1)[None], batch)
    assert torch.equal(whole.random, parts.random)
    assert whole.random.shape == (RANDOM, 1, 2, 2)
    assert len(whole.random.flatten(1).unique(dim=0)) == RANDOM


def test_other_seeds_agree_where_there_is_one_maximum():
    images, _ = digits()
    model = nn.Sequential(seeded(lambda: nn.Conv2d(1, 4, 1)), nn.ReLU(), seeded(lambda: nn.Conv2d(4, 3, 1)))
    image = fl.FourierImage((1, 8, 8))
    first, second = (
        fl.ActivationMaximizer(model, image, seed=seed, steps=64, progress=False).run("2") for seed in (0, 1)
    )
    assert torch.allclose(first.compare(images, seeds=[first]).path.agreement, torch.ones(3), atol=1e-5)
    assert first.compare(images, seeds=[second]).path.agreement.min() > 0.9
    assert first.compare(images).path.agreement.isnan().all()
    with pytest.raises(ValueError, match="seeds must be results for the same objectives"):
        first.compare(images, seeds=[fl.ActivationMaximizer(model, image, steps=1).run("2:1")])
    with pytest.raises(TypeError, match="seeds must be a list of results"):
        first.compare(images, seeds=first)


def test_a_second_network_ranks_pictures_among_real_images(trained):
    twin = compared(trained, "linear_1", network=trained)
    assert (
        twin.transfer.mean() > 0.9
    )  # the network itself finds its pictures like the images it finds strongest
    lost = compared(
        trained, "linear_1", network=seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 10)))
    )
    assert lost.transfer.mean() < twin.transfer.mean()
    assert compared(trained, "linear_1").transfer is None
    with pytest.raises(TypeError, match="network must be a"):
        compared(trained, "linear_1", network="other")


def test_the_frechet_distance_is_that_of_the_gaussians():
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.randn(400, 3, generator=generator, dtype=torch.float64) for _ in range(2))
    second = second @ torch.randn(3, 3, generator=generator, dtype=torch.float64) + 2
    root = torch.linalg.eigvals(first.T.cov() @ second.T.cov()).real.sqrt().sum()
    expected = (
        (first.mean(0) - second.mean(0)).square().sum()
        + first.T.cov().trace()
        + second.T.cov().trace()
        - 2 * root
    )
    assert trust.frechet_distance(first, second) == pytest.approx(float(expected.sqrt()), rel=1e-9)
    assert trust.frechet_distance(first, first) == pytest.approx(0, abs=1e-6)


def test_it_is_saved_with_its_paths(trained, tmp_path):
    found = compared(trained, "linear_1", network=trained)
    found.save(tmp_path / "found.pt")
    again = fl.RealImageComparison.load(tmp_path / "found.pt")
    assert again.path.layers == found.path.layers
    assert torch.equal(again.path.optimized, found.path.optimized)
    assert torch.equal(again.transfer, found.transfer)
    assert again.frechet_distance == found.frechet_distance
    assert str(again) == str(found)


def test_paths_are_drawn(trained):
    figure = compared(trained, "linear_1").plot_paths()
    assert len(figure.axes[0].lines) == 12  # ten pictures, random images, the limit
    first = compared(trained, "conv_1")
    assert first.path.layers == ()
    with pytest.raises(ValueError, match="no layer before those of the objectives contributes"):
        first.plot_paths()
