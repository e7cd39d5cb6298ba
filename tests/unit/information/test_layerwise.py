"""From recorder to information in one call, and the plane over epochs."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from featurelens.information import (
    BinnedMutualInformation,
    InformationPlane,
    KSGMutualInformation,
    NoisyChannelMutualInformation,
    layer_information,
)
from featurelens.information._variables import label_codes
from featurelens.recording import ActivationRecorder
from tests.nets import images, plain, seeded
from tests.state import random_state, snapshot


def probe(n=120):
    x = images(n)
    return x, (x.mean((1, 2, 3)) > x.mean()).long()


def test_a_layer_is_measured_as_by_hand():
    model, (x, y) = plain(), probe()
    found = layer_information(model, ["conv_1", "8"], x, y, seed=3)
    rows = ActivationRecorder(model, "conv_1")(x)["0"].mean((2, 3))
    estimator = NoisyChannelMutualInformation(sigma=1.0, relative=True)
    by_hand = estimator.estimate(y, rows, seed=3)
    assert list(found) == ["0", "8"]
    assert found["0"].value == pytest.approx(by_hand.value, abs=1e-5)
    assert found["0"].dim_y == 4
    inputs = layer_information(model, "conv_1", x, "inputs", seed=3)
    assert inputs["0"].value == pytest.approx(estimator.estimate(x.flatten(1), rows, seed=3).value, abs=1e-5)
    assert inputs["0"].ceiling == pytest.approx(math.log(120))


def test_channels_one_by_one():
    model, (x, y) = plain(), probe()
    by_label = layer_information(model, "conv_2", x, y, per="channel")["3"]
    assert len(by_label) == 6
    by_input = layer_information(model, "conv_2", x, "inputs", per="channel")["3"]
    assert by_input.values.shape == (6,)
    assert (by_input.values > by_label.values).all(), "a channel knows more of the image than of two classes"
    other = layer_information(
        model, "conv_2", x, y, per="channel", estimator=BinnedMutualInformation(bins=4)
    )["3"]
    assert other.method.startswith("Binned(bins=4")


def test_a_layer_that_carries_the_label_knows_all_of_it():
    x, y = probe(400)

    class Tells(nn.Module):
        def forward(self, batch):
            return (batch.mean((1, 2, 3), keepdim=True) > x.mean()).float()

    model = nn.Sequential(Tells(), nn.Flatten())
    found = layer_information(model, "0", x, y, estimator=NoisyChannelMutualInformation(sigma=0.01))["0"]
    shares = y.bincount() / len(y)
    assert found.value == pytest.approx(float(-(shares * shares.log()).sum()), abs=0.02)


def test_units_intervals_and_other_estimators():
    model, (x, y) = plain(), probe()
    nats = layer_information(model, "8", x, y, confidence=0.95)["8"]
    bits = layer_information(model, "8", x, y, units="bits")["8"]
    assert bits.value * math.log(2) == pytest.approx(nats.value)
    assert nats.interval[0] < nats.value < nats.interval[1]
    ksg = layer_information(
        model, "conv_1", x, y, estimator=KSGMutualInformation(k=3), reduce=lambda maps: maps[:, 0, 0, 0]
    )
    assert ksg["0"].method.startswith("KSG(k=3")


def test_the_model_and_the_random_state_are_given_back():
    model, (x, y) = plain(), probe()
    before, random_before = snapshot(model), random_state()
    plane = InformationPlane(model, ["conv_1", "8"], x, y)
    plane.update(0)
    layer_information(model, "8", x, "inputs")
    assert snapshot(model) == before
    assert random_state() == random_before


def test_the_plane_over_epochs_saved_and_resumed(tmp_path):
    model, (x, y) = plain(), probe()
    plane = InformationPlane(model, ["conv_1", "8"], x, y)
    plane.update(1)
    plane.update(3)
    assert plane.epochs == [1, 3]
    assert plane.inputs["8"][0] == plane.inputs["8"][1], "the same weights and seed give the same result"
    assert plane.labels["8"][0].value < plane.inputs["8"][0].value
    assert plane.label_entropy == pytest.approx(math.log(2), abs=0.05)
    plane.save(tmp_path / "plane.json")
    again = InformationPlane(model, ["conv_1", "8"], x, y)
    again.load(tmp_path / "plane.json")
    assert (again.epochs, again.inputs, again.labels) == (plane.epochs, plane.inputs, plane.labels)
    again.update(4)
    assert again.epochs == [1, 3, 4]


def test_a_change_of_scale_is_no_information():
    model, (x, _) = nn.Sequential(nn.Flatten(), nn.Linear(64, 3)), probe()
    scaled = seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 3)))
    scaled.load_state_dict({name: 100 * value for name, value in model.state_dict().items()})
    one, other = (layer_information(net, "1", x, "inputs")["1"].value for net in (model, scaled))
    assert one == pytest.approx(other, abs=1e-3)


WRONG = [
    ({"against": "outputs"}, ValueError, "against must be one of 'inputs'; got 'outputs'"),
    (
        {"against": torch.rand(120)},
        TypeError,
        r'against must be "inputs" or an integer tensor of labels \(N,\); got float32',
    ),
    ({"against": torch.zeros(3, dtype=torch.long)}, ValueError, "got 3 labels for 120 images"),
    (
        {"images": torch.zeros(1, 1, 8, 8)},
        ValueError,
        r"at least 2 images; got a? ?float32 tensor \(1, 1, 8, 8\)",
    ),
    ({"per": "unit"}, ValueError, "per must be one of 'layer', 'channel'; got 'unit'"),
    ({"estimator": "ksg"}, TypeError, "estimator must be a MutualInformation estimator; got 'ksg'"),
    (
        {"per": "channel", "confidence": 0.95},
        ValueError,
        "confidence is for per='layer'; got 0.95 with per='channel'",
    ),
    ({"null": "shuffle"}, ValueError, "null must be one of None, 'permutation'; got 'shuffle'"),
    ({"permutations": 0}, ValueError, "permutations must be at least 1; got 0"),
    ({"units": "bans"}, ValueError, "units must be one of 'nats', 'bits'; got 'bans'"),
    ({"seed": "a"}, TypeError, "seed must be an int, a torch.Generator or None; got 'a'"),
    ({"against": torch.tensor(3)}, TypeError, r"integer tensor of labels \(N,\); got int64 tensor \(\)"),
    (
        {"against": "inputs", "null": "permutation"},
        ValueError,
        "layer '8': null='permutation' says nothing here: with 120 distinct x",
    ),
    (
        {"reduce": lambda scores: scores * float("nan")},
        ValueError,
        "layer '8': y must be finite; got 1200 NaN or infinite of 1200 values",
    ),
    (
        {"reduce": lambda scores: scores * float("nan"), "per": "channel"},
        ValueError,
        "layer '8': activations must be finite",
    ),
    (
        {"estimator": KSGMutualInformation(k=500), "per": "channel"},
        ValueError,
        "layer '8', channel 0: k must be smaller than the number of samples",
    ),
    ({"layers": "conv_9"}, LookupError, "no layer matches 'conv_9'; there are conv_1 to conv_2"),
]


@pytest.mark.parametrize(("wrong", "error", "message"), WRONG, ids=range(len(WRONG)))
def test_messages(wrong, error, message):
    x, y = probe()
    arguments = {"model": plain(), "layers": "8", "images": x, "against": y, **wrong}
    with pytest.raises(error, match=message):
        layer_information(**arguments)


def test_messages_of_the_plane(tmp_path):
    model, (x, y) = plain(), probe()
    plane = InformationPlane(model, "8", x, y)
    with pytest.raises(ValueError, match=r"there is nothing to plot before the first update\(epoch\)"):
        plane.plot()
    plane.update(2)
    with pytest.raises(
        ValueError, match="epoch must be later than those measured, the last of which is 2; got 2"
    ):
        plane.update(2)
    plane.save(tmp_path / "plane.json")
    other = InformationPlane(model, "conv_1", x, y)
    with pytest.raises(ValueError, match=r"was saved with layers \['8'\]; this plane has \['0'\]"):
        other.load(tmp_path / "plane.json")
    with pytest.raises(
        TypeError, match=r"layer '0' returns \(float32 tensor .*: choose a tensor of it with reduce"
    ):
        layer_information(
            nn.Sequential(nn.LSTM(8, 3, batch_first=True)),
            "0",
            torch.rand(5, 4, 8),
            "inputs",
            reduce=lambda out: (out[0],),
        )


def test_a_plane_takes_up_only_its_own_file(tmp_path):
    model, (x, y) = plain(), probe()
    plane = InformationPlane(model, "8", x, y)
    plane.update(1)
    plane.save(tmp_path / "plane.json")
    for other in (InformationPlane(model, "8", x.flip(0), y), InformationPlane(model, "8", x, 1 - y)):
        with pytest.raises(ValueError, match="was saved with probe set"):
            other.load(tmp_path / "plane.json")
    with pytest.raises(ValueError, match="was saved with seed 0; this plane has 7"):
        InformationPlane(model, "8", x, y, seed=7).load(tmp_path / "plane.json")
    for content in ("[]", "{}", "half of a", '{"epochs": [1]}'):
        (tmp_path / "bad.json").write_text(content)
        with pytest.raises(ValueError, match=r"bad\.json is not a saved InformationPlane"):
            plane.load(tmp_path / "bad.json")
    assert plane.epochs == [1]


def test_an_update_that_fails_leaves_no_trace():
    model, (x, y) = plain(), probe()
    broken = {"8": lambda scores: scores * float("nan")}
    plane = InformationPlane(model, ["0", "8"], x, y, reduce={"0": "mean", **broken})
    with pytest.raises(ValueError, match="must be finite"):
        plane.update(1)
    assert (plane.epochs, plane.inputs, plane.labels) == ([], {}, {})


def test_labels_without_meaning_have_no_excess_and_real_ones_do():
    model, (x, y) = plain(), probe(300)
    shuffled = y[torch.randperm(300, generator=torch.Generator().manual_seed(0))]
    real, random = (layer_information(model, "conv_2", x, labels)["3"] for labels in (y, shuffled))
    assert real.excess > 5 * abs(random.excess)
    assert real.p_value == pytest.approx(1 / 11)
    assert layer_information(model, "conv_2", x, "inputs")["3"].null_mean is None
    without = layer_information(model, "conv_2", x, y, null=None)["3"]
    assert (without.null_mean, without.value) == (None, real.value)
    for options in ({}, {"estimator": KSGMutualInformation()}):
        by_channel = layer_information(model, "conv_2", x, y, per="channel", permutations=4, **options)["3"]
        assert by_channel.null_mean.shape == by_channel.p_values.shape == (6,)
        assert by_channel[0].p_value == pytest.approx(float(by_channel.p_values[0]))
        assert by_channel.label_entropy == pytest.approx(real.ceiling, abs=1e-6)


def test_the_plane_keeps_and_draws_its_null(tmp_path):
    model, (x, y) = plain(), probe()
    plane = InformationPlane(model, ["conv_1", "8"], x, y, permutations=3)
    plane.update(np.int64(1))
    (result,) = plane.labels["8"]
    assert result.p_value >= 1 / 4
    assert result.excess == result.value - result.null_mean
    assert plane.inputs["8"][0].null_mean is None
    ax = plane.plot(title="Paths").axes[0]
    assert ax.get_title(loc="left") == "Paths"
    assert "null: labels shuffled" in [text.get_text() for text in ax.get_legend().get_texts()]
    plane.save(tmp_path / "plane.json")
    again = InformationPlane(model, ["conv_1", "8"], x, y, permutations=3)
    again.load(tmp_path / "plane.json")
    assert again.labels == plane.labels
    with pytest.raises(ValueError, match="was saved with permutations 3; this plane has 5"):
        InformationPlane(model, ["conv_1", "8"], x, y, permutations=5).load(tmp_path / "plane.json")
    without = InformationPlane(model, ["conv_1", "8"], x, y, null=None)
    without.update(1)
    assert without.labels["8"][0].null_mean is None
    assert "null: labels shuffled" not in [
        text.get_text() for text in without.plot().axes[0].get_legend().get_texts()
    ]


WRONG_PLANES = [
    ({"labels": "inputs"}, TypeError, "labels must be an integer tensor of labels (N,); got 'inputs'"),
    ({"labels": torch.zeros(3, dtype=torch.long)}, ValueError, "labels must label each image: got 3 labels for 120 images"),
    ({"estimator": "ksg"}, TypeError, "estimator must be a MutualInformation estimator; got 'ksg'"),
    ({"units": "bans"}, ValueError, "units must be one of 'nats', 'bits'; got 'bans'"),
    ({"confidence": 95}, TypeError, "confidence must be a level such as 0.95, or None; got 95"),
    ({"null": "cross_image"}, ValueError, "null must be one of None, 'permutation'; got 'cross_image'"),
    ({"permutations": 0}, ValueError, "permutations must be at least 1; got 0"),
    ({"seed": None}, TypeError, "seed must be an int, the same for every epoch; got None"),
    ({"seed": True}, TypeError, "seed must be an int, the same for every epoch; got True"),
    ({"reduce": "median"}, ValueError, "reduce must be "),
]  # fmt: skip


@pytest.mark.parametrize(("wrong", "error", "message"), WRONG_PLANES, ids=range(len(WRONG_PLANES)))
def test_a_plane_says_what_is_wrong_before_anything_runs(wrong, error, message):
    x, y = probe()
    arguments = {"model": plain(), "layers": "8", "images": x, "labels": y, **wrong}
    with pytest.raises(error) as caught:
        InformationPlane(**arguments)
    assert str(caught.value).startswith(message)


def test_epochs_are_whole_numbers_of_any_kind(tmp_path):
    model, (x, y) = plain(), probe()
    plane = InformationPlane(model, "8", x, y)
    for epoch in (np.int64(2), 3, np.uint8(4)):
        plane.update(epoch)
    plane.save(tmp_path / "plane.json")
    assert plane.epochs == [2, 3, 4]
    for wrong in (5.0, "5", True, None):
        with pytest.raises(TypeError, match="epoch must be a whole number"):
            plane.update(wrong)


def test_few_images():
    """The noisy channel has an error of its own; others ask for 50 samples, or no interval."""
    model, (x, y) = plain(), probe(30)
    quiet = NoisyChannelMutualInformation(sigma=3.0, relative=True)
    plane = InformationPlane(model, "8", x, y, estimator=quiet)
    plane.update(1)
    low, high = plane.labels["8"][0].interval
    assert low < plane.labels["8"][0].value < high
    ksg = {"estimator": KSGMutualInformation(k=3), "reduce": lambda scores: scores[:, :1]}
    with pytest.raises(
        ValueError,
        match="layer '8': confidence needs at least 50 samples; got 30: give more, or confidence=None",
    ):
        InformationPlane(model, "8", x, y, **ksg).update(1)
    InformationPlane(model, "8", x, y, confidence=None, **ksg).update(1)


def test_arrays_are_as_good_as_tensors():
    model, (x, y) = plain(), probe()
    for against in (y, "inputs"):
        expected = layer_information(model, "8", x, against)
        as_array = against if isinstance(against, str) else against.numpy().astype(np.uint16)
        assert layer_information(model, "8", x.numpy(), as_array) == expected
    plane = InformationPlane(model, "8", x.numpy(), y.numpy())
    plane.update(1)
    assert plane.label_entropy == pytest.approx(plane.labels["8"][0].ceiling)


@pytest.mark.parametrize(
    "estimator", [None, KSGMutualInformation(), NoisyChannelMutualInformation(sigma=0.1)]
)
def test_channels_that_never_change_know_nothing(estimator):
    model, (x, y) = plain(), probe()

    def dead(maps):
        rows = maps.mean((2, 3)).clone()
        rows[:, [1, 3]] = 0.1
        return rows

    found = layer_information(model, "conv_2", x, y, per="channel", estimator=estimator, reduce=dead)["3"]
    for channel in (1, 3):
        assert (found[channel].value, found[channel].null_mean, found[channel].p_value) == (0.0, 0.0, 1.0)
    assert found.values[0] != 0.0
    assert "2 channels never changed" in found.notes
    none_left = layer_information(
        model, "conv_2", x, y, per="channel", estimator=estimator, reduce=lambda maps: 0 * maps[:, :, 0, 0]
    )["3"]
    assert none_left.values.tolist() == [0.0] * 6


def test_inputs_are_told_apart_once(monkeypatch):
    calls = []

    def counted(columns):
        calls.append(columns.shape)
        return label_codes(columns)

    monkeypatch.setattr("featurelens.information.layerwise.label_codes", counted)
    model, (x, y) = plain(), probe()
    plane = InformationPlane(model, ["conv_1", "conv_2", "8"], x, y)
    assert calls == []
    for epoch in range(3):
        plane.update(epoch)
    layer_information(model, ["conv_1", "conv_2"], x, "inputs")
    assert calls == [(120, 64)] * 2
    assert plane.inputs["8"][0].dim_x == 64


def test_a_layer_that_runs_out_of_images_is_named():
    model, x = nn.Sequential(nn.Flatten()), images(100)
    with pytest.warns(
        UserWarning, match=r"^layer '0' is above 0.6 of the ceiling with n = 100 \(4.61 nats\)"
    ):
        layer_information(model, "0", x, "inputs", estimator=NoisyChannelMutualInformation(sigma=1e-3))
