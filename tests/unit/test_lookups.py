"""Tables and results that are looked up say what they hold, whatever they are asked for."""

import re

import numpy as np
import pytest
import torch

import featurelens as fl
from featurelens.describing import ChannelTable
from tests.nets import plain

TABLE = ChannelTable({"layer": np.array(["a"]), "channel": np.array([0]), "mean": np.array([0.5])})
ACTS = fl.Activations({"a": torch.ones(2), "conv_1": torch.zeros(2)}, aliases={"conv_1": "a"})
LAYERS = fl.list_layers(plain())


@pytest.mark.parametrize(
    ("look", "kind", "message"),
    [
        (lambda: ACTS[["a"]], KeyError, "activations are looked up by layer name; got ['a']"),
        (lambda: ACTS["c" * 300], KeyError, f"no activations of '{'c' * 39}...{'c' * 39}' (2 layers: a, conv_1)"),
        (lambda: fl.Activations("conv1"), TypeError, "layers must be a mapping from names; got 'conv1'"),
        (lambda: fl.Activations(aliases=["a"]), TypeError, "aliases must be a mapping from names; got ['a']"),
        (lambda: LAYERS[9], IndexError, "index must be below 9, the number of layers; got 9"),
        (lambda: LAYERS["conv1"], TypeError, "index must be a whole number; got 'conv1'"),
        (lambda: TABLE["std"], KeyError, "the table has no column 'std'; it has layer, channel, mean"),
        (lambda: TABLE[["mean"]], TypeError, "name must be the name of a column; got ['mean']"),
        (lambda: TABLE.select("mean", {}), TypeError, "name must be the name of a column; got {}"),
        (lambda: TABLE.sort(["mean"]), TypeError, "by must be the name of a column; got ['mean']"),
        (lambda: TABLE.row(0), TypeError, "channel must be text such as 'conv1:7'; got 0"),
        (lambda: TABLE.row("a:1"), LookupError, "the table has no channel 'a:1'; did you mean 'a:0'? (1 channel: a:0)"),
        (lambda: TABLE.where([[True], []]), TypeError, "mask must be True or False for each row; got [[True], []]"),
    ],
)  # fmt: skip
def test_what_is_not_there_is_named(look, kind, message):
    with pytest.raises(kind, match=re.escape(message)) as caught:
        look()
    assert str(caught.value) == message


def test_an_exact_name_comes_before_an_alias():
    assert ACTS["conv_1"] is ACTS._layers["conv_1"]
    assert LAYERS[-1] is LAYERS[8]
