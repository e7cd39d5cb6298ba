"""Opening and closing, and what a wrong call is told."""

import sys

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from torch import nn

import featurelens as fl
from tests import nets
from tests.state import random_state
from tests.unit.tensorboard.reading import read, result, scalars


def strongest():
    found = fl.statistics.TopK(1)
    found.update(torch.ones(2, 2))
    return found.compute()


def test_nothing_moves_the_global_random_state(tmp_path):
    model, images = nets.plain(), nets.images()
    random, numbers = random_state(), np.random.get_state()[1].tolist()
    with fl.TensorBoardWriter(tmp_path) as board:
        board.training(0, {"loss": 1.0})
        board.graph(model, images)
        board.add(0, model)
        board.add(0, images[0], tag="input")
        board.embedding(images.flatten(1), labels=[0, 1, 2, 2], sprites=images)
    assert random_state() == random
    assert np.random.get_state()[1].tolist() == numbers


def test_the_writer_is_closed_after_an_exception_and_can_be_opened_again(tmp_path):
    writer = fl.TensorBoardWriter(tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with pytest.raises(KeyError), writer as board:
        board.training(1, {"loss": 1.0})
        raise KeyError
    with writer as board:
        board.training(2, {"loss": 0.5})
        assert scalars(read(board)) == {"loss": [(1, 1.0), (2, 0.5)]}


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda b: b.training(-1, {"loss": 1.0}),
            ValueError,
            "epoch must be at least 0; got -1",
        ),
        (
            lambda b: b.training({"loss": 1.0}, 1),
            TypeError,
            "epoch must be a whole number; got {'loss': 1.0}",
        ),
        (
            lambda b: b.add(1, 3),
            TypeError,
            (
                "result must be a result of featurelens, a mapping from names to results, a model, a figure or an "
                "image; got 3"
            ),
        ),
        (
            lambda b: b.add(1, strongest()),
            TypeError,
            "result is an object of type TopKResult, of which a figure can be added: add(epoch, result.plot(), tag=...)",
        ),
        (
            lambda b: b.add(1, result(0.5), classes=["cat"]),
            TypeError,
            (
                "result is an object of type MutualInformationResult: got an unexpected keyword argument 'classes'"
            ),
        ),
        (
            lambda b: b.add(1, Figure()),
            TypeError,
            "result is an object of type Figure: missing a required argument: 'tag'",
        ),
        (
            lambda b: b.training(1, [0.5]),
            TypeError,
            "values must be a mapping from names to numbers, or to parts of them; got [0.5]",
        ),
        (
            lambda b: b.training(1, {"loss": {"train": "low"}}),
            TypeError,
            "the value of 'loss/train' must be a number; got 'low'",
        ),
        (
            lambda b: b.training(1, {"loss": torch.zeros(2)}),
            TypeError,
            "the value of 'loss' must be a number; got float32 tensor (2,)",
        ),
        (
            lambda b: b.training(1, {"loss": "0.5"}),
            TypeError,
            "the value of 'loss' must be a number; got '0.5'",
        ),
        (
            lambda b: b.training(1, {7: 0.5}),
            TypeError,
            "a name in values must be text; got 7",
        ),
        (
            lambda b: b.training(1, {"a": {"b/c": 1.0}, "a/b": {"c": 2.0}}),
            ValueError,
            "two of the values are named 'a/b/c'",
        ),
        (
            lambda b: b.add(1, {"conv1": result(0.5)}, tag=" "),
            ValueError,
            "tag must be a name with a letter or a digit; got ' '",
        ),
        (
            lambda b: b.add(0, torch.zeros(1, 4, 4), tag=""),
            ValueError,
            "tag must be a name with a letter or a digit; got ''",
        ),
        (
            lambda b: b.add(1, Figure(), tag=2),
            TypeError,
            "tag must be text; got 2",
        ),
        (
            lambda b: b.add(1, {"conv1": 0.5}),
            TypeError,
            (
                "a mapping passed as result must hold feature maps (N, C, H, W), results of estimators, or ablation curves; "
                "got {'conv1': 0.5}"
            ),
        ),
        (
            lambda b: b.add(1, {"fc": torch.zeros(2, 10)}),
            ValueError,
            (
                "feature maps are (N, C, H, W), but layer 'fc' returned float32 tensor (2, 10): "
                "record other layers for this picture"
            ),
        ),
        (
            lambda b: b.add(1, nn.Linear(2, 2)),
            ValueError,
            "Linear has no 2-d convolution whose filters could be drawn",
        ),
        (
            lambda b: b.add(1, torch.zeros(3), tag="mine"),
            ValueError,
            "image must be (C, H, W); got shape (3,)",
        ),
        (
            lambda b: b.add(0, torch.zeros(2, 3, 4, 4), tag="mine"),
            ValueError,
            "image must be (C, H, W); got shape (2, 3, 4, 4)",
        ),
        (
            lambda b: b.graph("model", torch.zeros(1)),
            TypeError,
            "model must be an nn.Module; got 'model'",
        ),
        (
            lambda b: b.embedding(torch.zeros(2, 3), labels=["one"]),
            ValueError,
            "labels must have one label for each of 2 vectors; got 1 label",
        ),
        (
            lambda b: b.embedding(torch.zeros(2, 3), sprites=torch.zeros(1, 1, 2, 2)),
            ValueError,
            "sprites must have one image for each of 2 vectors; got 1 image",
        ),
        (
            lambda b: b.embedding(torch.full((2, 3), torch.nan)),
            ValueError,
            "vectors must be finite: the projector cannot place NaN or infinite values",
        ),
        (
            lambda b: b.__enter__(),
            RuntimeError,
            "TensorBoardWriter('runs/here') is already open",
        ),
    ],
)
def test_misuse_is_named(tmp_path, monkeypatch, call, error, message):
    monkeypatch.chdir(tmp_path)
    with fl.TensorBoardWriter("runs/here") as board, pytest.raises(error) as caught:
        call(board)
    assert str(caught.value).replace("required keyword-only", "required") == message  # as Python 3.13 says


def test_writing_outside_the_block_is_named():
    with pytest.raises(RuntimeError) as caught:
        fl.TensorBoardWriter("runs/here").training(1, {"loss": 1.0})
    assert str(caught.value) == (
        "TensorBoardWriter('runs/here') is not open: write inside 'with TensorBoardWriter(...) as board:'"
    )


def test_without_tensorboard_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ImportError) as caught:
        fl.TensorBoardWriter("runs/here")
    assert str(caught.value) == (
        "TensorBoardWriter needs the package tensorboard: pip install 'featurelens[tensorboard]'"
    )
