"""Groups of channels, masks of positions, parts of outputs, models of several inputs; and sequences of torch's own layers."""

import re

import pytest
import torch
import torch.nn.functional as F
from matplotlib.text import Text
from torch import nn

import featurelens as fl
from featurelens.ablation.sequential import SequentialPass, sequential_pass
from tests import nets
from tests.unit.ablation.nets import Residual, Tokens, batch, double

LABELS = torch.tensor([0, 1, 0])


def changed_by(model, layer, x, change, part=None):
    """The outputs of a full forward in which `change` replaces the layer's output."""

    def hook(module, args, output):
        if part is None:
            return change(output)
        items = list(output)
        items[part] = change(items[part])
        return tuple(items)

    handle = model.get_submodule(layer).register_forward_hook(hook)
    with torch.no_grad():
        outputs = model.eval()(*x) if isinstance(x, tuple) else model.eval()(x.clone())
    handle.remove()
    model.train()
    return outputs


def zeroed(channels, axis=1, keep=False, positions=None):
    def change(output):
        output = output.clone().movedim(axis, 1)
        for channel in range(output.shape[1]):
            if (channel in channels) != keep:
                where = slice(None) if positions is None else positions
                output[:, channel][:, where] = 0
        return output.movedim(1, axis)

    return change


GROUPS = [
    (2, {0: [0, 1], 1: [2, 3]}),
    ([[0, 3], [1]], {0: [0, 3], 1: [1]}),
    ({"left": [2], "right": [0, 1, 3]}, {"left": [2], "right": [0, 1, 3]}),
]


@pytest.mark.parametrize(("groups", "expected"), GROUPS, ids=["number", "lists", "names"])
@pytest.mark.parametrize("mode", ["drop", "keep"])
def test_groups_in_every_verb(groups, expected, mode):
    model, x = double(Residual), batch()
    ablator = fl.ChannelAblator(model, "left", groups=groups)
    outputs = {
        name: changed_by(model, "left", x, zeroed(channels, keep=mode == "keep"))
        for name, channels in expected.items()
    }
    result = ablator.sweep(x, mode=mode)
    assert result.channels == tuple(expected)
    torch.testing.assert_close(result.outputs, torch.stack(list(outputs.values())))
    last = list(expected)[-1]
    torch.testing.assert_close(ablator.sweep(x, mode=mode, channels=[last]).outputs[0], outputs[last])
    worth = ablator.importance([(x, LABELS)], metric="loss", mode=mode)
    for name, value in zip(worth.channels, worth.importance, strict=True):
        assert value.item() == pytest.approx(F.cross_entropy(outputs[name], LABELS).item() - worth.baseline)
    assert ablator.curve([(x, LABELS)], order=worth).order == tuple(worth.order())
    model.eval()
    with ablator.ablated(last, mode=mode), torch.no_grad():
        torch.testing.assert_close(model(x.clone()), outputs[last])
    model.train()


def test_curves_remove_group_after_group():
    model, x = double(Residual), batch()
    ablator = fl.ChannelAblator(model, "left", groups={"a": [0, 1], "b": [3], "c": [2, 3]})
    curve = ablator.curve([(x, LABELS)], metric="loss", order=["b", "a"])
    assert curve.order == ("b", "a")
    assert curve.total == 3
    for value, channels in zip(curve.values, ([], [3], [0, 1, 3]), strict=True):
        outputs = changed_by(model, "left", x, zeroed(channels))
        assert value.item() == pytest.approx(F.cross_entropy(outputs, LABELS).item())
    assert sorted(ablator.curve([(x, LABELS)], seed=1).order) == ["a", "b", "c"]


def test_named_groups_are_drawn_and_saved(tmp_path):
    ablator = fl.ChannelAblator(double(Residual), "left", groups={"edges": [0, 1], "rest": [2, 3]})
    worth = ablator.importance([(batch(), LABELS)])
    assert {text.get_text() for text in worth.plot().axes[0].get_xticklabels()} == {"edges", "rest"}
    assert repr(worth).startswith("ImportanceResult(2 groups of left, accuracy ")
    assert " without a group: " in repr(worth)
    assert "<th>group</th>" in worth._repr_html_()
    swept, curve = ablator.sweep(batch()), ablator.curve([(batch(), LABELS)])
    assert repr(swept).startswith("AblationResult(2 groups of left dropped one by one")
    assert re.search("group (edges|rest) most", str(swept))
    assert repr(curve).startswith("AblationCurve(2 of 2 groups of left, ")
    for figure in (worth.plot(), worth.plot_classes(), swept.plot(), curve.plot()):
        texts = [text.get_text() for text in figure.findobj(Text)]
        assert not any("hannel" in text for text in texts), texts
        assert any("group" in text.lower() for text in texts)
    worth.save(tmp_path / "worth.pt")
    assert fl.ImportanceResult.load(tmp_path / "worth.pt").channels == ("edges", "rest")


@pytest.mark.parametrize("build", [Residual, nets.plain], ids=["module", "sequence"])
@pytest.mark.parametrize("fill", ["zero", "mean", "resample"])
def test_only_the_positions_of_a_mask_are_ablated(build, fill):
    model, x = double(build), batch()
    layer = "left" if build is Residual else "0"
    positions = torch.zeros(8, 8, dtype=torch.bool)
    positions[2:5, 3:] = True
    ablator = fl.ChannelAblator(model, layer, positions=positions)
    result = ablator.sweep(x, fill=fill, seed=1)
    assert result.notes == ()
    model.eval()
    for channel, outputs in zip(result.channels, result.outputs, strict=True):
        with ablator.ablated(channel, fill=fill, seed=1), torch.no_grad():
            torch.testing.assert_close(model(x.clone()), outputs)
    model.train()
    if fill == "zero":
        expected = changed_by(model, layer, x, zeroed([1], positions=positions))
        torch.testing.assert_close(result.outputs[1], expected)
        everywhere = fl.ChannelAblator(model, layer, groups=1, positions=positions.numpy()).sweep(x)
        expected = changed_by(model, layer, x, zeroed(range(4), positions=positions))
        torch.testing.assert_close(everywhere.outputs[0], expected)


def test_positions_of_tokens():
    model, x = double(Tokens), batch()
    mask = torch.tensor([True, False, False, True, False])
    found = fl.ChannelAblator(model, "block1", axis=-1, groups=2, positions=mask).sweep(x)
    expected = changed_by(model, "block1", x, zeroed(range(4, 8), axis=-1, positions=mask))
    torch.testing.assert_close(found.outputs[1], expected)


class Attending(nn.Module):
    """Its attention returns a tuple, of which both items are used."""

    def __init__(self):
        super().__init__()
        self.rows = nn.Linear(8, 8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        x = self.rows(x[:, 0])
        y, weights = self.attention(x, x, x)
        return self.head((y + weights @ x).mean(1))


def test_one_part_of_a_tuple():
    model, x = double(Attending), batch()
    ablator = fl.ChannelAblator(model, "attention", part=0, axis=-1)
    result = ablator.sweep(x)
    assert result.notes == ()
    for channel in range(8):
        expected = changed_by(model, "attention", x, zeroed([channel], axis=-1), part=0)
        torch.testing.assert_close(result.outputs[channel], expected)
    assert ablator.importance([(x, LABELS)], fill="mean").importance.shape == (8,)
    model.eval()
    with ablator.ablated(3), torch.no_grad():
        torch.testing.assert_close(model(x), result.outputs[3])
    model.train()


class Boxed(nn.Module):
    """Returns a dict, and its caller reads an item of it."""

    def __init__(self):
        super().__init__()
        self.inner = self.Inner()

    class Inner(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(1, 4, 3)

        def forward(self, x):
            return {"maps": self.conv(x), "size": 3}

    def forward(self, x):
        found = self.inner(x)
        return found["maps"].mean((2, 3)) * found["size"]


def test_an_item_of_a_dict():
    result = fl.ChannelAblator(double(Boxed), "inner", part="maps").sweep(batch())
    for channel in range(4):
        assert (result.outputs[channel][:, channel] == 0).all()
    assert result.notes == ()


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.left, self.right = nn.Conv2d(1, 4, 3), nn.Conv2d(2, 4, 3)
        self.head = nn.Linear(4, 3)

    def forward(self, image, depth):
        return self.head((F.relu(self.left(image)) + self.right(depth)).mean((2, 3)))


def test_models_of_several_inputs():
    model, a, b = double(Two), batch(), batch(channels=2)
    ablator = fl.ChannelAblator(model, "left")
    expected = torch.stack([changed_by(model, "left", (a, b), zeroed([channel])) for channel in range(4)])
    for given in (
        ((a, b), LABELS),
        [[a, b], LABELS],
        (a, b),
        [a, b, LABELS],
        {"image": a, "depth": b},
        {"image": a, "depth": b, "label": LABELS},
        ({"depth": b, "image": a}, LABELS),
    ):
        result = ablator.sweep(given)
        torch.testing.assert_close(result.outputs, expected)
        assert result.notes == ()
        assert torch.equal(result.images, a)
    losses = torch.stack([F.cross_entropy(outputs, LABELS) for outputs in expected])
    for loader in ([((a, b), LABELS)], [(a, b, LABELS)], [{"image": a, "depth": b, "label": LABELS}]):
        before = [a.clone(), b.clone()]
        for fill in ("zero", "mean"):
            worth = ablator.importance(loader, metric="loss", fill=fill)
            if fill == "zero":
                torch.testing.assert_close(worth.importance, losses - worth.baseline)
        assert torch.equal(a, before[0])
        assert torch.equal(b, before[1])


def test_a_list_of_images_is_not_several_inputs():
    model = nets.seeded(lambda: nn.Sequential(nn.Conv2d(1, 2, 3)))
    with pytest.raises(TypeError, match="images must be a tensor"):
        fl.ChannelAblator(model, "0").sweep(([batch()[0], batch()[1]], LABELS[:2]))


MISUSE = [
    ({"groups": 3}, ValueError, "groups=3 must divide the number of channels; the layer has 4"),
    ({"groups": 0}, ValueError, "groups must be at least 1; got 0"),
    ({"groups": "heads"}, TypeError, "groups must be a whole number; got 'heads'"),
    ({"groups": []}, ValueError, "groups must be at least one list of channels; got []"),
    ({"groups": [[0], []]}, ValueError, "groups[1] must name at least one channel; got none"),
    ({"groups": {"a": [0, 9]}}, ValueError, "groups['a'] must be from 0 to 3; got 9"),
    ({"groups": {"a": [0, 0]}}, ValueError, "groups['a'] must be different numbers; 0 is given 2 times"),
    (
        {"positions": torch.ones(8, 8)},
        TypeError,
        "positions must be a mask of True and False, such as (H, W); got float32 tensor (8, 8)",
    ),
    (
        {"positions": torch.zeros(8, 8).bool()},
        ValueError,
        "positions must mark at least one position; got bool tensor (8, 8), all False",
    ),
    (
        {"positions": torch.ones(4, 8).bool()},
        ValueError,
        "positions must have shape (8, 8), as layer 'left' returns (3, 4, 8, 8); got bool tensor (4, 8)",
    ),
    (
        {"part": 1.5},
        TypeError,
        "part must be an index, a key, the name of an attribute or None; got 1.5",
    ),
    (
        {"part": "maps"},
        TypeError,
        "layer 'left' returns float64 tensor (3, 4, 8, 8); it has no part 'maps'",
    ),
]


@pytest.mark.parametrize(("options", "error", "message"), MISUSE, ids=range(len(MISUSE)))
def test_misuse_is_named(options, error, message):
    with pytest.raises(error) as caught:
        fl.ChannelAblator(double(Residual), "left", **options).sweep(batch())
    assert str(caught.value) == message


def test_groups_that_are_not_there_are_named():
    ablator = fl.ChannelAblator(double(Residual), "left", groups={"a": [0], "b": [1]})
    with pytest.raises(ValueError, match=r"^channels must be among the groups 'a', 'b'; got 'c'$"):
        ablator.sweep(batch(), channels=["c"])
    with pytest.raises(ValueError, match=r"^order must be different groups; 'a' is given 2 times$"):
        ablator.curve([(batch(), LABELS)], order=["a", "a"])
    with pytest.raises(ValueError, match=r"^channels must be from 0 to 1; got 2$"):
        fl.ChannelAblator(double(Residual), "left", groups=2).sweep(batch(), channels=[2])


def sequence():
    return nets.seeded(
        lambda: nn.Sequential(
            nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True)),
            nn.MaxPool2d(2),
            nn.Sequential(nn.Conv2d(4, 6, 3), nn.ReLU(inplace=True), nn.Dropout(0.5)),
            nn.Flatten(),
            nn.Linear(24, 3),
        )
    ).double()


@pytest.mark.parametrize("layer", ["0.0", "0.1", "0.2", "1", "2.0", "2.1", "4"])
@pytest.mark.parametrize("fill", ["zero", "mean", "resample", "tensor"])
@pytest.mark.parametrize("mode", ["drop", "keep"])
def test_a_sequence_runs_as_the_user_s_own_forward_does(layer, fill, mode):
    model, x = sequence(), batch()
    model[0][1].running_mean += 0.3
    ablator = fl.ChannelAblator(model, layer)
    given = ablator._layer.inputs_in(x)
    model.eval()
    assert isinstance(sequential_pass(ablator._layer, given), SequentialPass)
    channels = len(ablator.sweep(x).channels)
    fill = torch.linspace(-1, 1, channels).double() if fill == "tensor" else fill
    result = ablator.sweep(x, fill=fill, mode=mode, chunk=2)
    for channel in range(channels):
        with ablator.ablated(channel, fill=fill, mode=mode), torch.no_grad():
            torch.testing.assert_close(result.outputs[channel], model(x))
    model.train()


def hooked(model):
    model[4].register_forward_hook(lambda module, args, output: output)


def replaced(model):
    model[2][1].forward = lambda x: x.relu()


def own(model):
    model[3] = type("Own", (nn.Flatten,), {})()


def across(model):
    model.append(nn.Sequential(nn.Flatten(0), nn.Identity()))


def untracked(model):
    model[0][1] = nn.BatchNorm2d(4, track_running_stats=False).double()


@pytest.mark.parametrize("change", [hooked, replaced, own, across, untracked])
def test_sequences_of_other_layers_are_checked(change):
    model = sequence()
    change(model)
    layer = fl.ChannelAblator(model.eval(), "0.0")._layer
    found = sequential_pass(layer, layer.inputs_in(batch()))
    assert found is not None
    assert not found.independent


class Calling(nn.Module):
    """Calls a layer that it does not own."""

    def __init__(self, layer):
        super().__init__()
        self.layers = [layer]

    def forward(self, x):
        return x + self.layers[0](x)


@pytest.mark.parametrize("hidden", [False, True])
def test_a_layer_that_another_step_calls_too_goes_the_common_way(hidden):
    model = sequence().eval()
    model[2][1] = Calling(model[0][2]) if hidden else model[0][2]
    ablator, x = fl.ChannelAblator(model, "0.2", axis=1), batch()
    assert sequential_pass(ablator._layer, ablator._layer.inputs_in(x)) is None
    if hidden:
        with pytest.raises(ValueError, match="different numbers of channels"):
            ablator.sweep(x)
