"""The picture of a linear probe."""

import pytest
import torch

import featurelens as fl
from featurelens.plotting import probe_curve


def result(**fields):
    some = torch.tensor([0.4, 0.7, 0.9], dtype=torch.float64)
    values = {"accuracy": some, "accuracy_error": some / 50, "nats": 2 * some, "nats_error": some / 20}
    rest = {"columns": (16, 32, 10), "majority": 0.1, "label_entropy": 2.3, "n": 500, "folds": 5}
    return fl.information.LinearProbeResult(layers=("conv1", "conv2", "fc"), **values, **rest, **fields)


def test_layers_stand_in_order_with_errors_null_and_the_commonest_label():
    ax = result(null_accuracy=torch.tensor([0.1, 0.12, 0.09])).plot().axes[0]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["conv1", "conv2", "fc"]
    assert ax.lines[0].get_ydata().tolist() == pytest.approx([40, 70, 90])
    (low, high), *_ = ax.collections[0].get_segments()
    assert high[1] - low[1] == pytest.approx(4 * 100 * 0.4 / 50), "two standard errors to each side"
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["shuffled labels", "commonest label"]
    assert ax.get_ylabel() == "accuracy (%)"


def test_nats_and_their_entropy():
    ax = probe_curve(result(), "nats", title="My probe").axes[0]
    assert ax.lines[0].get_ydata().tolist() == pytest.approx([0.8, 1.4, 1.8])
    assert ax.get_ylabel() == "information (nats)"
    assert ax.get_title(loc="left") == "My probe"
    assert ax.get_legend() is None
    assert any("H(Y) = 2.30 nats" in text.get_text() for text in ax.texts)


def test_wrong_use_is_refused():
    with pytest.raises(TypeError, match="result must be what linear_probe returns; got 3"):
        probe_curve(3)
    with pytest.raises(ValueError, match="measure must be one of 'accuracy', 'nats'; got 'loss'"):
        probe_curve(result(), "loss")
