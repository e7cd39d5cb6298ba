"""Nothing is kept that nobody asked for."""

import pytest
import torch
from torch import nn

import featurelens as fl
from featurelens._structure import CannotCopy
from featurelens.layers import choose
from featurelens.recording.early_stop import EarlyStop
from tests.nets import plain, seeded


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
