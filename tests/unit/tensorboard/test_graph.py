"""The graph that is traced, and the model that comes back."""

import pytest
import torch
from torch import nn

from tests import nets
from tests.state import random_state, snapshot
from tests.unit.tensorboard.reading import read


@pytest.mark.parametrize("build", [nets.plain, nets.Reused, nets.DataDependent, nets.Unused, nets.Busy])
def test_the_graph_names_the_layers_and_leaves_the_model_as_it_was(board, build):
    model = build().train()
    state, random = snapshot(model), random_state()
    board.graph(model, nets.images())
    assert snapshot(model) == state
    assert random_state() == random
    nodes = [node.name for node in read(board).Graph().node]
    leaves = [name for name, module in model.named_children() if isinstance(module, nn.Conv2d | nn.Linear)]
    used = [name for name in leaves if any(f"[{name}]" in node for node in nodes)]
    assert used == [name for name in leaves if name != "aux"]  # the branch that only train mode runs


def test_a_graph_takes_several_inputs_and_layers_that_return_structures(board):
    board.graph(nets.Nested(), torch.rand(2, 2, 2, 8))
    board.graph(nets.Unused(), (nets.images(), torch.ones(1)))
    model = nets.Nested.Dict()
    state = snapshot(model)
    board.graph(model, torch.rand(3))
    assert snapshot(model) == state
    assert read(board).Graph().node


def test_a_wrapped_model_has_the_graph_of_the_model_inside(board):
    model = nn.Sequential(nn.Conv2d(1, 2, 3))
    board.graph(nn.DataParallel(model), nets.images())
    assert any("Conv2d[0]" in node.name for node in read(board).Graph().node)


def test_a_sample_without_tensors_is_refused_unread(board):
    def endless():
        while True:
            yield nets.images()

    with pytest.raises(
        TypeError, match=r"sample must be a tensor \(N, ...\) or a tuple of tensors; got an object"
    ):
        board.graph(nets.plain(), endless())


def test_a_model_that_fails_is_told_and_comes_back(board, capsys):
    model = nets.Fails().train()
    state, random = snapshot(model), random_state()
    with pytest.raises(RuntimeError, match="mat1 and mat2 shapes cannot be multiplied") as caught:
        board.graph(model, nets.images())
    assert str(caught.value).startswith(
        "no graph of Fails could be traced with the sample float32 tensor (4, 1, 8, 8): "
    )
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert (snapshot(model), random_state()) == (state, random)
    assert capsys.readouterr() == ("", "")
