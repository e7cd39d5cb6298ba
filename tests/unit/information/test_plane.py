"""The information plane over epochs: measured, drawn, saved and resumed."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from featurelens.information import (
    InformationPlane,
    KSGMutualInformation,
    NoisyChannelMutualInformation,
    layer_information,
)
from tests.nets import images, plain


def probe(n=120):
    x = images(n)
    return x, (x.mean((1, 2, 3)) > x.mean()).long()


def test_the_plane_over_epochs_saved_and_resumed(tmp_path):
    model, (x, y) = plain(), probe()
    plane = InformationPlane(model, ["conv_1", "8"], x, y)
    plane.update(1)
    plane.update(3)
    assert plane.epochs == [1, 3]
    assert plane.inputs["8"][0] == plane.inputs["8"][1], "the same weights and seed give the same result"
    assert plane.labels["8"][0].value < plane.inputs["8"][0].value
    assert plane.label_entropy == pytest.approx(math.log(2), abs=0.05)
    plane.save(tmp_path / "plane.pt")
    again = InformationPlane(model, ["conv_1", "8"], x, y)
    again.resume(tmp_path / "plane.pt")
    assert (again.epochs, again.inputs, again.labels) == (plane.epochs, plane.inputs, plane.labels)
    again.update(4)
    assert again.epochs == [1, 3, 4]


def test_messages_of_the_plane(tmp_path):
    model, (x, y) = plain(), probe()
    plane = InformationPlane(model, "8", x, y)
    with pytest.raises(ValueError, match=r"nothing to plot: call update\(epoch\) first"):
        plane.plot()
    plane.update(2)
    with pytest.raises(
        ValueError, match="epoch must be later than those measured, the last of which is 2; got 2"
    ):
        plane.update(2)
    plane.save(tmp_path / "plane.pt")
    other = InformationPlane(model, "conv_1", x, y)
    with pytest.raises(ValueError, match=r"was saved with layers \['8'\]; this plane has \['0'\]"):
        other.resume(tmp_path / "plane.pt")
    with pytest.raises(
        TypeError, match=r"layer '0' returns \(float32 tensor .*: choose a tensor with reduce"
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
    plane.save(tmp_path / "plane.pt")
    for other in (InformationPlane(model, "8", x.flip(0), y), InformationPlane(model, "8", x, 1 - y)):
        with pytest.raises(ValueError, match="was saved with probe set"):
            other.resume(tmp_path / "plane.pt")
    with pytest.raises(ValueError, match="was saved with seed 0; this plane has 7"):
        InformationPlane(model, "8", x, y, seed=7).resume(tmp_path / "plane.pt")
    for content in ("[]", "{}", "half of a", '{"epochs": [1]}'):
        (tmp_path / "bad.pt").write_text(content)
        with pytest.raises(ValueError, match=r"bad\.pt was not written by InformationPlane\.save"):
            plane.resume(tmp_path / "bad.pt")
    assert plane.epochs == [1]


def test_an_update_that_fails_leaves_no_trace():
    model, (x, y) = plain(), probe()
    broken = {"8": lambda scores: scores * float("nan")}
    plane = InformationPlane(model, ["0", "8"], x, y, reduce={"0": "mean", **broken})
    with pytest.raises(ValueError, match="must be finite"):
        plane.update(1)
    assert (plane.epochs, plane.inputs, plane.labels) == ([], {}, {})


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
    plane.save(tmp_path / "plane.pt")
    again = InformationPlane(model, ["conv_1", "8"], x, y, permutations=3)
    again.resume(tmp_path / "plane.pt")
    assert again.labels == plane.labels
    with pytest.raises(ValueError, match="was saved with permutations 3; this plane has 5"):
        InformationPlane(model, ["conv_1", "8"], x, y, permutations=5).resume(tmp_path / "plane.pt")
    without = InformationPlane(model, ["conv_1", "8"], x, y, null=None)
    without.update(1)
    assert without.labels["8"][0].null_mean is None
    assert "null: labels shuffled" not in [
        text.get_text() for text in without.plot().axes[0].get_legend().get_texts()
    ]


WRONG_PLANES = [
    ({"labels": "inputs"}, TypeError, "labels must be an integer tensor (N,); got 'inputs'"),
    ({"labels": None}, ValueError, "the batch float32 tensor (120, 1, 8, 8) has no labels"),
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
    arguments = {"model": plain(), "layers": "8", "loader": x, "labels": y, **wrong}
    with pytest.raises(error) as caught:
        InformationPlane(**arguments)
    assert str(caught.value).startswith(message)


def test_epochs_are_whole_numbers_of_any_kind(tmp_path):
    model, (x, y) = plain(), probe()
    plane = InformationPlane(model, "8", x, y)
    for epoch in (np.int64(2), 3, np.uint8(4)):
        plane.update(epoch)
    plane.save(tmp_path / "plane.pt")
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
        match="layer '8': confidence needs at least 50 samples; got 30: use more, or confidence=None",
    ):
        InformationPlane(model, "8", x, y, **ksg).update(1)
    InformationPlane(model, "8", x, y, confidence=None, **ksg).update(1)


def test_a_loader_of_batches_is_as_good_as_tensors():
    model, (x, y) = plain(), probe()
    one, other = (
        InformationPlane(model, "8", x, y),
        InformationPlane(model, "8", [(x[:50], y[:50]), (x[50:], y[50:])]),
    )
    for plane in (one, other):
        plane.update(1, progress=False)
    assert other.labels["8"][0].value == pytest.approx(one.labels["8"][0].value, abs=1e-5)
    assert other.inputs["8"][0].value == pytest.approx(one.inputs["8"][0].value, abs=1e-5)
    assert other.label_entropy == one.label_entropy


def test_a_loaded_plane_draws_what_was_measured_and_has_no_model(tmp_path):
    model, (x, y) = plain(), probe()
    plane = InformationPlane(model, "8", x, y, units="bits", permutations=2)
    assert str(plane) == "Information in bits from 120 samples, not measured yet"
    plane.update(1)
    plane.save(tmp_path / "plane.pt")
    assert [path.name for path in tmp_path.iterdir()] == ["plane.pt"]
    loaded = InformationPlane.load(tmp_path / "plane.pt")
    assert (loaded.epochs, loaded.inputs, loaded.labels) == (plane.epochs, plane.inputs, plane.labels)
    assert (repr(loaded), str(loaded)) == (repr(plane), str(plane))
    assert str(loaded).startswith("Information in bits from 120 samples after epoch 1; 8: I(X; T) ")
    assert (loaded.label_entropy, loaded.units, loaded.layers) == (plane.label_entropy, "bits", ("8",))
    titles = [each.plot().axes[0].get_title(loc="left").replace("\n", " ") for each in (plane, loaded)]
    assert titles[0] == titles[1] == f"T: channel means of each layer; {plane.labels['8'][0].method}"
    with pytest.raises(
        ValueError, match=r"from InformationPlane\.load has no model: create a plane with the model and call"
    ):
        loaded.update(2)
