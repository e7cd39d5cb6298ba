"""One channel of a last convolution for each image: against the whole convolution, and only where it is safe."""

import threading

import pytest
import torch
from torch import nn

import featurelens as fl
from featurelens.maximization.shortcut import channels_looked_at, only_channels
from tests.nets import plain, seeded
from tests.state import snapshot


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"bias": False},
        {"padding": 1},
        {"padding": "same"},
        {"stride": 2, "padding": (1, 0)},
        {"dilation": 2},
        {"kernel_size": (1, 4)},
        {"kernel_size": 1},
    ],
    ids=str,
)
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_it_gives_the_channels_and_gradients_of_the_whole_convolution(settings, memory_format):
    layer = seeded(lambda: nn.Conv2d(3, 5, **{"kernel_size": 3, **settings})).double()
    images = torch.rand(4, 3, 9, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    images = images.to(memory_format=memory_format).requires_grad_()
    channels = [4, 0, -2, 0]
    whole = layer(images)[torch.arange(4), torch.tensor(channels)]
    before = snapshot(layer)
    with only_channels(layer, channels):
        alone = layer(images)
    assert snapshot(layer) == before
    assert alone.shape == (4, 1, *whole.shape[1:])
    assert torch.allclose(alone[:, 0], whole, atol=1e-12)
    gradients = [torch.autograd.grad((out**2).sum(), images)[0] for out in (alone, whole)]
    assert torch.allclose(*gradients, atol=1e-12)


def run(model, wanted):
    return fl.ActivationMaximizer(model, fl.FourierImage((1, 8, 8)), steps=6).run(wanted)


def test_results_are_those_of_the_whole_layer(monkeypatch):
    wanted = [
        fl.channel("conv_2", 1) - fl.l2(),
        fl.neuron("conv_2", -1, (0, 1)),
        2 * fl.exponential(fl.channel("conv_2", 3)),
    ]
    short = run(plain(), wanted)
    assert channels_looked_at(plain()[3], wanted) == [1, -1, 3]
    monkeypatch.setattr("featurelens.maximization.optimization.channels_looked_at", lambda *_: None)
    whole = run(plain(), wanted)
    assert short.objectives == whole.objectives == tuple(wanted)
    for name in ("images", "scores", "history"):
        assert torch.allclose(getattr(short, name), getattr(whole, name), atol=1e-4), name


def test_it_is_left_alone_where_more_is_looked_at():
    conv = nn.Conv2d(2, 4, 3)
    one = [fl.channel("conv", 1)]
    assert channels_looked_at(conv, one) == [1]
    for several in (
        [fl.channel("c", 1) + fl.channel("c", 2)],
        [fl.layer_energy("c")],
        [fl.channel("c", 1, axis=2)],
    ):
        assert channels_looked_at(conv, several) is None
    assert channels_looked_at(nn.Conv2d(2, 4, 3, groups=2), one) is None
    assert channels_looked_at(nn.Conv2d(2, 4, 3, padding=1, padding_mode="circular"), one) is None
    assert channels_looked_at(nn.ConvTranspose2d(2, 4, 3), one) is None
    conv.register_forward_hook(lambda *_: None)
    assert channels_looked_at(conv, one) is None


class Untraceable(nn.Module):
    """Runs on behind the layer, as no one can tell whether it is called again."""

    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 2, 3)

    def forward(self, x):
        x = self.conv(x)
        return self.head(x) if x.sum() > -1e9 else x


def test_it_is_left_alone_where_the_forward_pass_goes_on():
    assert run(seeded(Untraceable), "conv").scores.isfinite().all()
    assert run(seeded(Untraceable), ["conv:1", fl.logit(0)]).scores.isfinite().all()
    assert run(nn.Sequential(nn.Conv2d(1, 4, 3)), fl.logit(1)).scores.isfinite().all()


def test_other_threads_and_other_batches_get_the_whole_layer():
    layer = seeded(lambda: nn.Conv2d(1, 4, 3))
    images, found = torch.rand(2, 1, 6, 6), []
    whole = layer(images)
    with only_channels(layer, [1, 2]):
        thread = threading.Thread(target=lambda: found.append(layer(images)))
        thread.start()
        thread.join()
        found.append(layer(images[:1]))
        assert layer(images).shape[1] == 1
    assert torch.equal(found[0], whole)
    assert found[1].shape == (1, 4, 4, 4)
