"""Tied decoders are the deconvnet rule of autograd: gradients, with a ReLU in the place of every ReLU's gradient."""

import random

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import TorchFunctionMode

import featurelens as fl
from tests import nets


class _Rectify(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clamp_min(0)

    @staticmethod
    def backward(ctx, gradient):
        return gradient.clamp_min(0)


class Deconvnet(TorchFunctionMode):
    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func.__name__ in {"relu", "relu_"}:
            return _Rectify.apply(args[0])
        return func(*args, **(kwargs or {}))


def by_autograd(run, x, sign="positive"):
    """The rule for what `run` returns, from one part of it."""
    x = x.clone().requires_grad_()
    with Deconvnet():
        features = run(x)
    start = features.detach().clamp_min(0) if sign == "positive" else features.detach().clamp_max(0)
    return torch.autograd.grad(features, x, start)[0]


class Chain(nn.Module):
    """Random steps, by modules and by functions; shapes of 20 pixels and more survive them."""

    def __init__(self, seed):
        super().__init__()
        self.draw, channels = random.Random(seed), 2
        self.steps = nn.ModuleList()
        for _ in range(self.draw.randint(1, 3)):
            more = self.draw.choice([2, 4, 6])
            self.steps.append(self.convolution(channels, more))
            channels = more
            for step in (self.normalization, self.activation, self.pooling, self.dropout):
                if self.draw.random() < 0.7:
                    self.steps.append(step(channels))

    def convolution(self, before, after):
        pick = self.draw.choice
        kernel, stride = pick([1, 2, 3, (3, 2), 5]), pick([1, 1, 2, (2, 1)])
        padding = pick([0, 1, 2, (0, 1), "valid", *(["same"] if stride == 1 and kernel != 2 else [])])
        return nn.Conv2d(
            before, after, 3 if padding == "same" else kernel, stride, padding, pick([1, 1, 2]), pick([1, 2])
        )

    def normalization(self, channels):
        norm = nn.BatchNorm2d(channels, affine=self.draw.choice([True, False]))
        norm.running_var.uniform_(0.2, 3)
        norm.running_mean.normal_()
        if norm.affine:
            nn.init.normal_(norm.weight)
        return norm

    def activation(self, channels):
        return self.draw.choice(
            [nn.ReLU(), nn.ReLU(inplace=True), Call(F.relu), Call(torch.relu), Call(lambda x: x.relu())]
        )

    def pooling(self, channels):
        pick = self.draw.choice
        kernel = pick([2, 3, (2, 3)])
        sizes = [kernel, pick([None, 1, 2, 3]), pick([0, 1]), pick([1, 1, 2]), False, pick([False, True])]
        return nn.MaxPool2d(*sizes) if pick([True, False]) else Pool(sizes)

    def dropout(self, channels):
        return self.draw.choice([nn.Dropout(), nn.Dropout2d(), Drop(F.dropout), Drop(F.dropout2d)])

    def forward(self, x):
        for step in self.steps:
            x = step(x)
        return x


class Call(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


class Drop(Call):
    def forward(self, x):
        return self.function(x, 0.3, self.training)


class Pool(nn.Module):
    def __init__(self, sizes):
        super().__init__()
        self.sizes = sizes

    def forward(self, x):
        kernel, stride, padding, dilation, indices, ceil = self.sizes
        return F.max_pool2d(x, kernel, stride, padding, dilation, ceil_mode=ceil, return_indices=indices)


@pytest.mark.parametrize(("sign", "seeds"), [("positive", range(40)), ("negative", range(40, 50))])
def test_random_chains(sign, seeds):
    ran = 0
    for seed in seeds:
        model = nets.seeded(lambda seed=seed: Chain(seed), seed).double().eval()
        x = torch.randn(2, 2, 29, 26, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        try:
            with torch.no_grad():
                model(x)
        except RuntimeError:
            continue  # too small for the last steps
        with torch.no_grad():
            found = fl.DeconvDecoder(model, sign=sign)(x)
        torch.testing.assert_close(
            found, by_autograd(model, x, sign), rtol=1e-9, atol=1e-9, msg=f"seed {seed}"
        )
        ran += 1
    assert ran >= 0.75 * len(seeds)


@pytest.mark.parametrize(
    ("name", "layer", "size"),
    [
        ("alexnet", "features.0", 67),
        ("alexnet", "features.5", 90),
        ("alexnet", "features.10", 90),
        ("alexnet", "features.12", 90),
        ("vgg11", "features.3", 40),
        ("vgg11", "features.18", 40),
        ("vgg11_bn", "features.9", 40),
    ],
)
def test_networks_of_torchvision(name, layer, size):
    models = pytest.importorskip("torchvision.models")
    model = nets.seeded(lambda: getattr(models, name)(weights=None)).eval()
    x = nets.images(2, 3, size) - 0.5
    stop = int(layer.rpartition(".")[2]) + 1
    expected = by_autograd(model.features[:stop], x)
    with torch.no_grad():
        found = fl.DeconvDecoder(model, layer)(x)
    assert (found - expected).abs().max() <= 1e-6 * expected.abs().max()


def test_a_convolution_is_decoded_as_its_relu_is():
    conv = nn.Conv2d(2, 1, 1, bias=False)
    conv.weight.data[:] = torch.tensor([1.0, -1.0]).view(1, 2, 1, 1)
    model, x = nn.Sequential(conv, nn.ReLU()), torch.zeros(1, 2, 1, 2)
    x[0, 0, 0, 0], x[0, 1, 0, 1] = 0.1, 1.0
    with torch.no_grad():
        before, after, negative = (
            fl.DeconvDecoder(model, "0")(x),
            fl.DeconvDecoder(model, "1")(x),
            fl.DeconvDecoder(model, "0", sign="negative")(x),
        )
    torch.testing.assert_close(before[0, :, 0], torch.tensor([[0.1, 0.0], [-0.1, 0.0]]))
    torch.testing.assert_close(negative[0, :, 0], torch.tensor([[0.0, -1.0], [0.0, 1.0]]))
    assert torch.equal(before, after)


@pytest.mark.parametrize("conv", ["conv_1", "conv_2"])
def test_sweeps_of_a_convolution_and_of_its_relu_are_the_same(conv):
    model = nets.seeded(
        lambda: nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 6, 3), nn.ReLU())
    )
    relu, x = {"conv_1": "1", "conv_2": "4"}[conv], nets.images() - 0.5
    results = [
        fl.ChannelAblator(model, layer, decoder=fl.DeconvDecoder(model, layer)).sweep(x, mode="keep")
        for layer in (conv, relu)
    ]
    torch.testing.assert_close(results[0].outputs, results[1].outputs)
    assert results[0].outputs.abs().sum() > 0


def test_learned_weights_decode_both_signs():
    model, x = nets.seeded(lambda: nn.Sequential(nn.Conv2d(1, 4, 3))), nets.images() - 0.5
    decoder = fl.DeconvDecoder(model, weights="learned")
    with torch.no_grad():
        code = decoder.encode(x)
        assert (code.features < 0).any()
        assert torch.equal(decoder(x), decoder.deconvolutions[0](code.features))


def test_functional_dropout_drops_in_training_as_its_owner_does():
    model, x = nets.seeded(lambda: nn.Sequential(nn.Conv2d(1, 4, 3), Drop(F.dropout))), nets.images()
    for mode in (True, False):
        model.train(mode)
        decoder = fl.DeconvDecoder(model)
        torch.manual_seed(3)
        features = decoder.encode(x).features
        torch.manual_seed(3)
        assert torch.equal(features, model(x))
        assert ((features == 0).float().mean() > 0.2) == mode
    model.train()


def test_dropout_that_ignores_the_mode_is_refused():
    model = nn.Sequential(nn.Conv2d(1, 4, 3), Call(lambda x: F.dropout(x, 0.5)))
    message = (
        "there is no mirror of the operation 'dropout', which draws random numbers in eval mode too: pass it "
        "self.training; choose the layer to decode from with layer="
    )
    with pytest.raises(ValueError, match=f"^{message}$"):
        fl.DeconvDecoder(model)


def test_signs_are_checked():
    conv = nn.Conv2d(1, 4, 3)
    assert repr(fl.DeconvDecoder(conv, sign="negative")) == "DeconvDecoder(tied, negative part: 0)"
    with pytest.raises(ValueError, match=r"^sign must be one of 'positive', 'negative'; got 'both'$"):
        fl.DeconvDecoder(conv, sign="both")
    message = "sign='negative' is for tied weights; learned weights decode features of both signs"
    with pytest.raises(ValueError, match=f"^{message}$"):
        fl.DeconvDecoder(conv, weights="learned", sign="negative")


class _LeakyRectify(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, slopes):
        ctx.save_for_backward(slopes)
        return torch.where(x > 0, x, slopes * x)

    @staticmethod
    def backward(ctx, gradient):
        (slopes,) = ctx.saved_tensors
        return torch.where(gradient > 0, gradient, slopes * gradient), None


def test_leaky_rectifiers_go_back_with_their_slopes():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(2, 4, 3),
        nn.PReLU(4),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 3, 3),
        nn.LeakyReLU(0.3),
        nn.Conv2d(3, 5, 1),
    )
    model[1].weight.data = torch.tensor([-0.5, 0.0, 0.2, 2.0])
    images = torch.randn(3, 2, 12, 12, requires_grad=True)

    def rule(x):
        x = model[2](_LeakyRectify.apply(model[0](x), model[1].weight.detach().view(-1, 1, 1)))
        return model[5](_LeakyRectify.apply(model[3](x), torch.tensor(0.3)))

    features = rule(images)
    (expected,) = torch.autograd.grad(features, images, features.detach().clamp_min(0))
    decoder = fl.DeconvDecoder(model)
    torch.testing.assert_close(decoder.decode(decoder.encode(images.detach())), expected)
