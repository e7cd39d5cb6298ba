"""Sweeps equal a slow loop of full forwards, for any architecture; and only the rest of the model runs."""

import pathlib
import sys
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from torch import nn

import featurelens as fl
from featurelens._hooks import visiting
from tests import nets
from tests.unit.ablation.nets import (
    MIXES,
    Branching,
    Coupled,
    Mixing,
    Noisy,
    Recurrent,
    Remembered,
    Residual,
    Sampling,
    Skips,
    Stateful,
    Tokens,
    batch,
    double,
    slow_loop,
)

torchvision = pytest.importorskip("torchvision")


def same(model, layer, x, *, mode="keep", channels=None, axis=1, output=None, replayed=True, chunk=None):
    """A sweep equals the slow loop, and was replayed, or not, as expected."""
    model = model.double()
    result = fl.ChannelAblator(model, layer, axis=axis, output=output).sweep(
        x, mode=mode, channels=channels, chunk=chunk
    )
    name, _, call = layer.partition("#")
    expected = slow_loop(
        model,
        name,
        x,
        mode=mode,
        axis=axis,
        call=int(call) if call else None,
        output=output,
        channels=result.channels,
    )
    torch.testing.assert_close(result.outputs, expected, rtol=1e-9, atol=1e-9)
    assert (result.notes == ()) == replayed, result.notes
    return result


@pytest.mark.parametrize("mode", ["keep", "drop"])
@pytest.mark.parametrize(
    ("build", "layer"),
    [
        (nets.plain, "0"),
        (nets.plain, "1"),
        (nets.plain, "4"),
        (nets.plain, "8"),
        (nets.plain, ""),
        (nets.Reused, "conv1"),
        (nets.Reused, "conv2"),
        (nets.Reused, "act"),
        (nets.Reused, "act#1"),
        (nets.Reused, "act#2"),
        (nets.Reused, "act#3"),
        (Residual, "stem"),
        (Residual, "norm"),
        (Residual, "relu"),
        (Residual, "left"),
        (Residual, "right"),
        (Recurrent, "conv"),
        (Stateful, "conv"),
    ],
)
def test_equals_full_forwards(build, layer, mode):
    same(double(build), layer, batch(), mode=mode)


@pytest.mark.parametrize("layer", ["down1", "down1.0", "down2.1", "bottom", "up"])
def test_skip_connections_and_a_dict(layer):
    same(double(Skips), layer, batch(), output="mask")


@pytest.mark.parametrize(
    ("layer", "axis"),
    [
        ("patch", 1),
        ("block1", 1),
        ("block1", -1),
        ("block1.linear1", 2),
        ("block2.self_attn.out_proj", -1),
        ("block2", -1),
    ],
)
def test_tokens(layer, axis):
    if layer.endswith("out_proj"):
        with pytest.raises(LookupError, match="used only through its weights"):
            fl.ChannelAblator(double(Tokens), layer, axis=axis).sweep(batch())
        return
    same(double(Tokens), layer, batch(), axis=axis)


@pytest.mark.parametrize(("output", "build"), [(0, "tuple"), (lambda value: value[1]["deep"], "nested")])
def test_chosen_outputs(output, build):
    class Several(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(1, 3, 3)

        def forward(self, x):
            x = self.conv(x)
            return x.mean((2, 3)), {"deep": x.amax((2, 3))}

    same(double(Several), "conv", batch(), output=output)


@pytest.mark.parametrize("build", [Coupled, Branching, Remembered])
@pytest.mark.parametrize("mode", ["keep", "drop"])
def test_what_cannot_be_replayed_runs_in_full_and_says_so(build, mode):
    layer = "middle" if build is Remembered else "conv"
    result = same(double(build), layer, batch(), mode=mode, replayed=False)
    assert result.notes[0].startswith("the whole model ran for every variant (")
    assert len(result.notes) == 1


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("mode", ["keep", "drop"])
@pytest.mark.parametrize("mix", MIXES)
def test_images_that_act_on_each_other(mix, mode, size):
    result = same(double(lambda: Mixing(MIXES[mix])), "conv", batch(size) + 0.3, mode=mode, replayed=False)
    assert "images of a batch affect each other" in result.notes[0]


def test_scalars_of_the_weights_alone_do_not_matter():
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.utils.parametrizations.spectral_norm(nn.Conv2d(3, 3, 3)))
    same(model, "0", batch(3))


@pytest.mark.parametrize("size", [1, 3])
def test_random_numbers_in_forward(size):
    model, x = double(Sampling), batch(size)
    result = fl.ChannelAblator(model, "conv").sweep(x, mode="drop")
    assert result.notes == ("the whole model ran for every variant (forward draws random numbers)",)
    before = torch.get_rng_state()
    for channel, outputs in enumerate(result.outputs):
        torch.set_rng_state(before)
        expected = slow_loop(model, "conv", x, mode="drop", channels=[channel])[0]
        torch.testing.assert_close(outputs, expected)
    torch.set_rng_state(before)


def test_control_flow_inside_a_part_that_is_answered_does_not_matter():
    same(double(nets.InnerLoop), "head", batch())
    same(double(nets.InnerLoop), "loop.conv", batch(), replayed=False)


def test_reasons_are_told():
    def note(build):
        return fl.ChannelAblator(double(build), "conv").sweep(batch()).notes[0]

    assert (
        note(Coupled)
        == "the whole model ran for every variant (images of a batch affect each other, or change in place what is read again)"
    )
    assert (
        note(Branching) == "the whole model ran for every variant (forward depends on the values of tensors)"
    )


def test_values_that_are_read_before_the_layer_are_noticed_too():
    class Early(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(1, 3, 3)

        def forward(self, x):
            return self.conv(x / max(float(x.abs().max()), 1e-6)).mean((2, 3))

    result = same(double(Early), "conv", batch(), replayed=False)
    assert result.notes == (
        "the whole model ran for every variant (forward depends on the values of tensors)",
    )


def test_random_models_draw_the_same_numbers_for_every_variant():
    model = double(Noisy)
    before = torch.get_rng_state()
    result = fl.ChannelAblator(model, "conv").sweep(batch(), mode="drop")
    plain = result.baseline
    with torch.no_grad():
        torch.set_rng_state(before)
        torch.testing.assert_close(model(batch()), plain, rtol=0, atol=0)
    others = torch.tensor([[1, 2], [0, 2], [0, 1]])
    for channel, kept in enumerate(others):
        torch.testing.assert_close(result.outputs[channel][:, kept], plain[:, kept])


@pytest.mark.parametrize(
    ("name", "layer", "size"),
    [
        ("resnet18", "layer1.0.conv1", 32),
        ("resnet18", "layer2.0", 32),
        ("resnet18", "layer3.0.downsample.0", 32),
        ("resnet18", "layer4.1.relu#2", 32),
        ("densenet121", "features.denseblock3.denselayer5.conv1", 32),
        ("mobilenet_v2", "features.7.conv.0", 32),
        ("mobilenet_v3_small", "features.4.block.1.0", 32),
        ("googlenet", "inception4b.branch2", 64),
        ("squeezenet1_0", "features.5.squeeze", 64),
        ("shufflenet_v2_x0_5", "stage3.1.branch2.0", 64),
    ],
)
def test_torchvision(name, layer, size):
    more = {"aux_logits": False, "init_weights": False} if name == "googlenet" else {}
    model = nets.seeded(lambda: getattr(torchvision.models, name)(weights=None, **more))
    same(model, layer, batch(2, 3, size), channels=[1, 5, 7])


def test_vision_transformer():
    model = nets.seeded(
        lambda: torchvision.models.VisionTransformer(
            image_size=16, patch_size=8, num_layers=2, num_heads=2, hidden_dim=8, mlp_dim=12
        )
    )
    nn.init.normal_(model.heads.head.weight)
    same(model, "encoder.layers.encoder_layer_0.mlp.0", batch(2, 3, 16), axis=-1)


@pytest.mark.parametrize("chunk", [1, 2, 5, 100])
def test_chunks_change_nothing(chunk):
    same(double(Residual), "left", batch(), chunk=chunk)


def test_only_the_rest_of_the_model_runs():
    class Counting(nn.Conv2d):
        def _conv_forward(self, x, *more):
            sizes[self.out_channels].append(len(x))
            return super()._conv_forward(x, *more)

    sizes = {2: [], 6: [], 3: []}
    model = nn.Sequential(Counting(1, 2, 3), nn.ReLU(), Counting(2, 6, 3), nn.ReLU(), Counting(6, 3, 3))
    fl.ChannelAblator(model, "2").sweep(nets.images(2), chunk=3)
    # What comes before the layer, and the layer itself, run once; what follows also on three of six variants, at first together
    # with five images that show whether images act on each other.
    assert sizes == {2: [2], 6: [2], 3: [2, 11, 6]}


def test_images_that_hardly_act_on_each_other_are_noticed_where_the_layer_hardly_acts_at_all():
    class Faint(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(1, 3, 3)

        def forward(self, x):
            y = self.conv(x)
            return x.mean((2, 3)) + 1e-4 * (y - y.mean(0)).square().mean((2, 3))

    model = nets.seeded(Faint)
    result = fl.ChannelAblator(model, "conv").sweep(nets.images(), mode="drop")
    assert result.notes == (
        "the whole model ran for every variant (images of a batch affect each other, or change in place what is read again)",
    )


@pytest.mark.parametrize("replayed", [True, False])
def test_fills(replayed):
    model = double(Residual if replayed else Coupled)
    layer, x = ("left", batch(4)) if replayed else ("conv", batch(4))
    ablator = fl.ChannelAblator(model, layer)
    channels = model.get_submodule(layer).out_channels
    constant = torch.linspace(-1, 1, channels, dtype=torch.float64)
    cases = {
        "zero": None,
        "mean": lambda v: v.mean((0, 2, 3), keepdim=True).expand_as(v),
        constant: lambda v: constant[:, None, None] + 0 * v,
    }
    for fill, slow in cases.items():
        for mode in ("keep", "drop"):
            result = ablator.sweep(x, mode=mode, fill=fill)
            expected = slow_loop(model, layer, x, mode=mode, fill=slow, channels=range(channels))
            torch.testing.assert_close(result.outputs, expected)
            assert result.fill == (fill if isinstance(fill, str) else "tensor")


def test_resampled_channels_come_from_another_image():
    model = nn.Sequential(nn.Identity(), nn.Identity())
    x = batch(5, channels=3, size=2)
    result = fl.ChannelAblator(model, "0").sweep(x, mode="drop", fill="resample", seed=3)
    for channel in range(3):
        changed = result.outputs[channel]
        assert torch.equal(
            changed[:, [c for c in range(3) if c != channel]], x[:, [c for c in range(3) if c != channel]]
        )
        for image in range(5):
            sources = [j for j in range(5) if torch.equal(changed[image, channel], x[j, channel])]
            assert len(sources) == 1
            assert sources != [image]
    again = fl.ChannelAblator(model, "0").sweep(x, mode="drop", fill="resample", seed=3)
    other = fl.ChannelAblator(model, "0").sweep(x, mode="drop", fill="resample", seed=4)
    assert torch.equal(again.outputs, result.outputs)
    assert not torch.equal(other.outputs, result.outputs)


def test_a_fill_of_the_shape_of_an_image_s_features():
    model = nn.Sequential(nn.Identity(), nn.Identity())
    x, fill = batch(2, channels=3, size=2), batch(1, channels=3, size=2, seed=5)[0]
    result = fl.ChannelAblator(model, "0").sweep(x, mode="keep", fill=fill, channels=[2])
    torch.testing.assert_close(result.outputs[0, 0], torch.cat([fill[:2], x[0, 2:]]))


def test_numpy_numbers_and_fills():
    ablator, x = fl.ChannelAblator(double(Residual), "left"), batch()
    fill = torch.tensor([1.0, 2, 3, 4])
    expected = ablator.sweep(x, channels=[1, 3], fill=fill)
    for channels in (np.array([1, 3]), [np.int64(1), np.int32(3)], torch.tensor([1, 3])):
        result = ablator.sweep(x, channels=channels, fill=fill.numpy())
        assert result.channels == (1, 3)
        assert torch.equal(result.outputs, expected.outputs)
    with pytest.raises(TypeError, match="channels must be whole numbers"):
        ablator.sweep(x, channels=np.array([1.0]))
    with pytest.raises(TypeError, match="channels must be whole numbers"):
        ablator.sweep(x, channels=np.array([True]))


def test_outputs_that_are_not_finite_are_counted():
    class Log(nn.Module):
        def forward(self, x):
            return x.sum(1).log()

    model = nn.Sequential(nn.Identity(), Log())
    result = fl.ChannelAblator(model, "0").sweep(torch.ones(2, 1, 3, 3), mode="drop")
    assert result.notes == ("18 of 18 outputs are not finite",)


def test_a_result_keeps_its_own_images():
    x = batch()
    result = fl.ChannelAblator(double(Residual), "left").sweep(x)
    x.zero_()
    assert torch.equal(result.images, batch())


def test_images_come_as_in_a_batch_of_a_loader():
    class Named(nn.Sequential):
        def forward(self, pixels):
            return super().forward(pixels)

    model = nets.seeded(lambda: Named(nn.Conv2d(1, 3, 3), nn.Flatten()))
    ablator, x, labels = fl.ChannelAblator(model, "0"), nets.images(), torch.arange(4)
    expected = ablator.sweep(x)
    for given in ([x], (x, labels), {"pixels": x, "label": labels}, {"image": x, "label": labels}):
        result = ablator.sweep(given)
        assert torch.equal(result.outputs, expected.outputs)
        assert torch.equal(result.images, x)


def test_a_sweep_visits_the_model_once(monkeypatch):
    visits = []

    @contextmanager
    def counted(model, **options):
        visits.append(model)
        with visiting(model, **options) as rewind:
            yield rewind

    monkeypatch.setattr("featurelens.ablation.following.visiting", counted)
    for build, layer in ((Residual, "left"), (Coupled, "conv")):
        model = double(build)
        fl.ChannelAblator(model, layer).sweep(batch(), chunk=1)
        assert visits == [model]
        visits.clear()


def test_a_sweep_passes_through_seven_files():
    ablator, x = fl.ChannelAblator(double(Residual), "left"), batch()
    house = pathlib.Path(fl.__file__).parent
    files = set()

    def note(frame, event, argument):
        path = pathlib.Path(frame.f_code.co_filename)
        if event == "call" and house in path.parents and path.parent != house:
            files.add(path)

    ablator.sweep(x)
    sys.setprofile(note)
    try:
        ablator.sweep(x)
    finally:
        sys.setprofile(None)
    assert len(files) <= 7, sorted(files)


def test_progress_is_shown_where_it_can_be(capsys, monkeypatch):
    ablator, pair = fl.ChannelAblator(double(Residual), "left"), (batch(), torch.tensor([0, 1, 2]))
    verbs = {
        "chunk": lambda **more: ablator.sweep(pair[0], chunk=1, **more),
        "batch": lambda **more: ablator.importance([pair], **more),
    }
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    for unit, call in verbs.items():
        capsys.readouterr()
        call()
        assert f"{unit}/s" in capsys.readouterr().err
        call(progress=False)
        assert capsys.readouterr().err == ""
    with pytest.raises(TypeError, match="progress must be True or False; got 1"):
        ablator.sweep(pair[0], progress=1)


def test_a_batch_of_one():
    for build, layer in ((Residual, "left"), (Recurrent, "conv"), (Tokens, "patch")):
        same(double(build), layer, batch(1))


def test_training_mode_is_put_aside_and_comes_back():
    model = double(nets.plain).train()
    result = fl.ChannelAblator(model, "3").sweep(batch())
    assert model.training
    expected = slow_loop(model, "3", batch(), channels=result.channels)  # in eval mode
    model.train()
    torch.testing.assert_close(result.outputs, expected)
    assert result.notes == ()


def test_the_user_s_hooks_act_as_they_do_in_a_plain_forward():
    model = double(Residual)
    for name in ("stem", "left", "right"):
        model.get_submodule(name).register_forward_hook(lambda module, args, output: output * 1.5)
    for layer in ("stem", "left", "right"):
        same(model, layer, batch())


def test_a_compiled_model():
    model = double(nets.Reused)
    compiled = torch.compile(model, backend="eager")
    with torch.no_grad():
        compiled(batch())
    result = fl.ChannelAblator(compiled, "conv1").sweep(batch())
    expected = slow_loop(model, "conv1", batch(), channels=range(4))
    torch.testing.assert_close(result.outputs, expected)


def test_inputs_are_left_alone_and_gradients_are_not_recorded():
    model, x = double(Residual), batch().requires_grad_()
    before = x.detach().clone()
    result = fl.ChannelAblator(model, "left").sweep(x)
    assert torch.equal(x, before)
    assert not result.outputs.requires_grad


def test_inference_mode():
    model = double(Residual)
    with torch.inference_mode():
        result = fl.ChannelAblator(model, "left").sweep(batch())
    torch.testing.assert_close(result.outputs, slow_loop(model, "left", batch(), channels=range(4)))
    assert result.notes == ()


def test_half_precision():
    model = nets.seeded(Residual).bfloat16()
    result = fl.ChannelAblator(model, "left").sweep(nets.images().bfloat16())
    assert result.outputs.dtype is torch.bfloat16
    assert result.notes == ()
