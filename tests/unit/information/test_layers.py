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
    LayerInformationResult,
    NoisyChannelMutualInformation,
    ProbeMutualInformation,
    layer_information,
)
from featurelens.information.variables import label_codes
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
    by_hand = ProbeMutualInformation().estimate(y, rows, seed=3)
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
    narrow = layer_information(model, "8", x, y, confidence=0.5)["8"].interval
    assert nats.interval[0] < narrow[0] < narrow[1] < nats.interval[1]
    ksg = layer_information(
        model, "conv_1", x, y, estimator=KSGMutualInformation(k=3), reduce=lambda maps: maps[:, 0, 0, 0]
    )
    assert ksg["0"].method.startswith("KSG(k=3")


def test_the_result_is_a_mapping_that_can_be_saved(tmp_path):
    model, (x, y) = plain(), probe()
    found = layer_information(model, ["conv_1", "8"], x, y, confidence=0.95)
    found.save(tmp_path / "layers.pt")
    loaded = LayerInformationResult.load(tmp_path / "layers.pt")
    assert loaded == found == dict(found)
    assert list(loaded) == ["0", "8"]
    assert repr(loaded) == repr(found)
    assert repr(found).startswith("LayerInformationResult(2 layers, ")
    assert repr(found).endswith(" nats, Probe(folds=5), n=120)")
    assert str(found).splitlines()[1] == f"8: {found['8']}"
    assert found.to("bits")["8"].value == pytest.approx(found["8"].value / math.log(2))
    assert f"<td>8</td><td>{found['8'].value:.4f}</td>" in found._repr_html_()
    with pytest.raises(KeyError, match=r"no activations of 'conv'"):
        found["conv"]
    with pytest.raises(ValueError, match=r"was not written by LayerInformationResult.save"):
        found["8"].save(tmp_path / "one.pt")
        LayerInformationResult.load(tmp_path / "one.pt")


def test_the_model_and_the_random_state_are_given_back():
    model, (x, y) = plain(), probe()
    before, random_before = snapshot(model), random_state()
    plane = InformationPlane(model, ["conv_1", "8"], x, y)
    plane.update(0)
    layer_information(model, "8", x, "inputs")
    assert snapshot(model) == before
    assert random_state() == random_before


def test_a_change_of_scale_is_no_information():
    model, (x, _) = nn.Sequential(nn.Flatten(), nn.Linear(64, 3)), probe()
    scaled = seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 3)))
    scaled.load_state_dict({name: 100 * value for name, value in model.state_dict().items()})
    one, other = (layer_information(net, "1", x, "inputs")["1"].value for net in (model, scaled))
    assert one == pytest.approx(other, abs=1e-3)


WRONG = [
    (
        {"against": "outputs"},
        ValueError,
        "against must be one of 'labels', 'inputs' or labels \\(N,\\); got 'outputs'",
    ),
    (
        {"against": torch.rand(120)},
        TypeError,
        r"against must be an integer tensor \(N,\); got float32",
    ),
    ({"against": torch.zeros(3, dtype=torch.long)}, ValueError, "got 3 labels for 120 images"),
    (
        {"loader": torch.zeros(1, 1, 8, 8)},
        ValueError,
        r"at least 2 images; got a? ?float32 tensor \(1, 1, 8, 8\)",
    ),
    ({"loader": 3}, TypeError, "layer_information takes a loader of batches; got 3"),
    (
        {"against": "labels"},
        ValueError,
        r"the batch float32 tensor \(120, 1, 8, 8\) has no labels: yield batches \(images, labels\), or pass labels",
    ),
    ({"progress": "yes"}, TypeError, "progress must be True or False; got 'yes'"),
    ({"per": "unit"}, ValueError, "per must be one of 'layer', 'channel'; got 'unit'"),
    ({"estimator": "ksg"}, TypeError, "estimator must be a MutualInformation estimator; got 'ksg'"),
    (
        {"per": "channel", "confidence": 0.95},
        ValueError,
        "confidence is for per='layer'; got 0.95 with per='channel'",
    ),
    (
        {"null": np.ones(3)},
        ValueError,
        "null must be one of None, 'permutation'; got float64 NumPy array",
    ),
    ({"null": "shuffle"}, ValueError, "null must be one of None, 'permutation'; got 'shuffle'"),
    ({"permutations": 0}, ValueError, "permutations must be at least 1; got 0"),
    ({"units": "bans"}, ValueError, "units must be one of 'nats', 'bits'; got 'bans'"),
    ({"seed": "a"}, TypeError, "seed must be an int, a torch.Generator or None; got 'a'"),
    ({"against": torch.tensor(3)}, TypeError, r"integer tensor \(N,\); got int64 tensor \(\)"),
    (
        {"against": "inputs", "null": "permutation"},
        ValueError,
        "layer '8': null='permutation' is not informative here: with 120 distinct x",
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
    arguments = {"model": plain(), "layers": "8", "loader": x, "against": y, **wrong}
    with pytest.raises(error, match=message):
        layer_information(**arguments)


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

    monkeypatch.setattr("featurelens.information.layers.label_codes", counted)
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


def test_loaders_tensors_and_arrays_agree():
    model, (x, y) = plain(), probe()
    expected = layer_information(model, ["conv_1", "8"], x, y)
    batches = [(x[:50], y[:50].tolist()), (x[50:], y[50:])]
    dataset = torch.utils.data.TensorDataset(x, y)
    for loader in (
        batches,
        torch.utils.data.DataLoader(dataset, batch_size=50),
        (batch for batch in batches),
    ):
        for name, result in layer_information(model, ["conv_1", "8"], loader).items():
            assert result.value == pytest.approx(expected[name].value, abs=1e-5)
            assert result.null_mean == pytest.approx(expected[name].null_mean, abs=1e-5)
    assert layer_information(model, "8", [x], y)["8"].value == pytest.approx(expected["8"].value, abs=1e-5)
    inputs = layer_information(model, "8", batches, "inputs")["8"]
    assert inputs.value == pytest.approx(layer_information(model, "8", x, "inputs")["8"].value, abs=1e-5)
    assert inputs.dim_x == 64
    channels = layer_information(model, "conv_1", batches, per="channel")["0"]
    assert torch.allclose(
        channels.values, layer_information(model, "conv_1", x, y, per="channel")["0"].values
    )


def test_labels_must_fit_the_batches():
    model, (x, y) = plain(), probe()
    with pytest.raises(ValueError, match="against must label each image: got 100 labels for 120 images"):
        layer_information(model, "8", [x[:60], x[60:]], y[:100])
    with pytest.raises(
        TypeError, match=r"the labels of a batch must be an integer tensor \(N,\); got float32"
    ):
        layer_information(model, "8", [(x, y.float())])
    with pytest.raises(ValueError, match="against='inputs' needs inputs of the same size"):
        layer_information(plain()[:2], "0", [x, x[:, :, :4]], "inputs")


def test_progress_is_shown_when_asked_for(monkeypatch):
    bars = []

    def bar(items, desc, unit, disable, **_):
        bars.append((desc, unit, disable))
        return items

    monkeypatch.setattr("featurelens._progress._kind_of_bar", lambda: (bar, {}))
    model, (x, y) = plain(), probe()
    layer_information(model, "8", x, y, permutations=1)
    layer_information(model, "8", x, y, permutations=1, progress=False)
    ours = [("recording", "batch"), ("measuring", "layer")]
    assert [each for each in bars if each[:2] in ours] == [
        (*each, quiet) for quiet in (False, True) for each in ours
    ]
