"""Nothing is kept that nobody asked for."""

import pytest
import torch
from torch import nn

import featurelens as fl
from featurelens._structure import CannotCopy
from featurelens.layers import choose
from featurelens.recording.early_stop import EarlyStop
from tests.nets import Unused, images, plain, seeded


class HandsOut(nn.Module):
    """Returns something that cannot be copied beside its result."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def forward(self, x):
        return self.layer(x), (i for i in range(3))


def test_an_output_that_cannot_be_kept_is_no_trouble_where_none_is(tmp_path):
    model, x = seeded(HandsOut), torch.rand(4, 3)
    with pytest.raises(CannotCopy, match="an object of type generator cannot be copied"):
        fl.ActivationRecorder(model, "layer")(x)
    assert fl.ActivationRecorder(model, "layer").stream([x], fl.statistics.Moments()).rows == 4
    assert fl.ActivationRecorder(model, "layer").record([x, x], to=tmp_path).rows == 8
    acts = fl.ActivationRecorder(model, "layer", stop_early=True).record([x, x])
    assert acts["layer"].shape == (8, 2)


def test_early_stops_remember_a_hundred_structures():
    stop = EarlyStop(plain(), choose(plain(), "conv_1"))
    for number in range(150):
        stop.count(str(number), {"0": 1})
    assert [number for number in range(150) if stop.last_calls(str(number))] == list(range(49, 150))


@pytest.mark.parametrize("backend", ["hooks", "rewrite"])
@pytest.mark.parametrize("layers", [nn.Conv2d, "*"], ids=["type", "glob"])
def test_a_selector_of_many_may_match_layers_that_are_not_called(backend, layers):
    acts = fl.ActivationRecorder(seeded(Unused), layers, backend=backend)(images())
    assert {"conv", "head"} <= set(acts)
    assert "aux" not in acts


class Lists(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def forward(self, columns):
        return self.layer(columns[0])


def test_of_two_lists_with_a_tensor_each_the_first_is_the_input():
    data = [([torch.rand(4, 3)], [torch.rand(5, 2)])]
    acts = fl.ActivationRecorder(seeded(Lists), "layer").record(data, rows=lambda batch: 4)
    assert acts["layer"].shape == (4, 2)


def test_the_bar_counts_batches(monkeypatch, tmp_path):
    told = []

    def bar(batches, **options):
        told.append((options["initial"], options["total"], options["progress"]))
        return batches

    monkeypatch.setattr("featurelens.recording.dataset.progress_bar", bar)
    recorder, data = fl.ActivationRecorder(plain(), "conv_1"), [images(2) for _ in range(5)]
    recorder.record(data)
    recorder.record(iter(data), progress=False)
    with pytest.raises(RuntimeError, match="the model failed on batch 4"):
        recorder.record([*data[:3], torch.zeros(()), data[4]], to=tmp_path)
    recorder.record(data, to=tmp_path, resume=True)
    assert told == [(0, 5, True), (0, None, False), (0, 5, True), (0, 5, True)]
