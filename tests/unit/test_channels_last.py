"""Layers with their channels in the last axis: every verb knows what is certain, and asks for the rest."""

import pytest
import torch
import torchvision
from torch import nn

import featurelens as fl
from featurelens._channels import ChannelAxes
from tests.nets import seeded


def permuted():
    """Convolution, permute, then layers for vectors on `(N, H, W, C)`."""
    return seeded(
        lambda: nn.Sequential(
            nn.Conv2d(3, 6, 4, 4),
            torchvision.ops.Permute([0, 2, 3, 1]),
            nn.LayerNorm(6),
            nn.Linear(6, 12),
            nn.GELU(),
            torchvision.ops.Permute([0, 3, 1, 2]),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(12, 5),
        )
    ).eval()


def data(n=4):
    return torch.rand(n, 3, 20, 20, generator=torch.Generator().manual_seed(0))


def test_the_mean_and_statistics_are_those_of_the_last_axis():
    model, images = permuted(), data()
    whole = fl.ActivationRecorder(model, ["2", "3"])(images)
    assert whole["3"].shape == (4, 5, 5, 12)
    reduced = fl.ActivationRecorder(model, ["2", "3"], reduce="mean")(images)
    assert torch.allclose(reduced["3"], whole["3"].mean((1, 2)))
    largest = fl.ActivationRecorder(model, "2", reduce="max")(images)
    assert torch.equal(largest["2"], whole["2"].amax((1, 2)))
    found = fl.ActivationRecorder(model, "3").stream([images], fl.statistics.Moments(), progress=False)
    assert torch.allclose(found["3"].moments.mean.float(), whole["3"].mean((0, 1, 2)), atol=1e-6)


def test_channels_are_maximized_and_ablated_in_the_last_axis():
    model, images = permuted(), data()
    maximizer = fl.ActivationMaximizer(model, fl.FourierImage((3, 20, 20)), steps=3, progress=False)
    result = maximizer.run("3")
    assert len(result) == 12
    with torch.no_grad():
        values = model[:4](result.images).mean((1, 2)).diagonal()
    assert torch.allclose(result.scores, values, atol=1e-5)
    swept = fl.ChannelAblator(model, "3").sweep(images, progress=False)
    assert len(swept.channels) == 12
    features = model[:4](images).detach().clone()
    features[..., 7] = 0
    assert torch.allclose(swept.outputs[7], model[4:](features).detach(), atol=1e-5)


def test_of_tokens_what_vectors_return_is_certain():
    tokens = torch.rand(4, 7, 6, generator=torch.Generator().manual_seed(0))
    model = seeded(
        lambda: nn.Sequential(nn.LayerNorm(6), nn.Linear(6, 9), nn.ReLU(), nn.Flatten(), nn.Linear(63, 2))
    )
    reduced = fl.ActivationRecorder(model, "1", reduce="mean")(tokens)["1"]
    assert torch.allclose(reduced, model[:2](tokens).detach().mean(1))
    assert len(fl.ChannelAblator(model, "1").sweep(tokens, progress=False).channels) == 9
    with pytest.raises(ValueError, match=r"may be \(N, L, D\)"):
        fl.ChannelAblator(model, "2").sweep(tokens, progress=False)


def test_what_is_not_certain_is_asked_for():
    model, images = permuted(), data()
    with pytest.raises(
        ValueError, match=r"layer '4' returns \(4, 5, 5, 12\), which may be \(N, H, W, C\) or"
    ):
        fl.ActivationRecorder(model, "4", reduce="mean")(images)
    with pytest.raises(
        ValueError, match=r"may be \(N, H, W, C\) or .*fl.objectives.channel\('4', index, axis=-1\)"
    ):
        fl.ActivationMaximizer(model, fl.FourierImage((3, 20, 20)), progress=False).run("4")
    with pytest.raises(ValueError, match=r"may be \(N, H, W, C\): use axis=-1 to ablate the last axis"):
        fl.ChannelAblator(model, "4").sweep(images, progress=False)
    assert len(fl.ChannelAblator(model, "4", axis=-1).sweep(images, progress=False).channels) == 12


@pytest.mark.parametrize(
    ("build", "last", "first", "unclear"),
    [
        (torchvision.models.swin_t, ["features.0.2", "features.1.0.mlp.0"], ["features.0.0"], ["features.1.0"]),
        (torchvision.models.convnext_tiny, ["features.1.0.block.3"], ["features.0.1", "features.1.0"], []),
        (torchvision.models.vit_b_16, ["encoder.layers.encoder_layer_0.mlp.0"], ["conv_proj"], ["encoder.dropout"]),
        (torchvision.models.resnet18, [], ["relu", "layer1.0", "layer3.1.bn2", "maxpool"], []),
        (torchvision.models.densenet121, [], ["features.norm0", "features.denseblock1"], []),
    ],
)  # fmt: skip
def test_models_in_use(build, last, first, unclear):
    model = build(weights=None).eval()
    axes, modules = ChannelAxes(model), dict(model.named_modules())
    size = 224 if build is torchvision.models.vit_b_16 else 64
    shapes = fl.ActivationRecorder(model, last + first + unclear)(torch.rand(1, 3, size, size))
    for names, axis in ((last, -1), (first, 1), (unclear, None)):
        for name in names:
            assert axes.of(modules[name], tuple(shapes[name].shape)) == axis, name


class EitherNorm(nn.LayerNorm):
    """A norm of images in either order, as ConvNeXt of other libraries has it."""

    def forward(self, x):
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


class Patches2d(nn.Module):
    """Named like torch's layers for images, and returns tokens."""

    def forward(self, x):
        return x.flatten(2).mT


def test_classes_of_the_user_are_not_taken_by_their_names():
    model = seeded(lambda: nn.Sequential(nn.Conv2d(3, 6, 4, 4), EitherNorm(6), Patches2d())).eval()
    whole = fl.ActivationRecorder(model, "1")(data())["1"]
    assert torch.equal(fl.ActivationRecorder(model, "1", reduce="mean")(data())["1"], whole.mean((2, 3)))
    with pytest.raises(ValueError, match=r"layer '2' returns \(4, 25, 6\), which may be"):
        fl.ActivationRecorder(model, "2", reduce="mean")(data())
