"""Numbers over epochs, and the charts over them."""

import io
import math
import re

import numpy as np
import pytest
import torch

from featurelens.information import ChannelInformationResult, SpatialMutualInformationResult
from tests.unit.tensorboard.reading import layout, picture, pixels, read, result, scalars


def test_training_is_scalars_over_epochs_with_one_chart_for_each_group(board):
    board.training(1, {"loss": {"train": 0.5, "test": 0.75}, "learning rate": 0.1})
    board.training(2, {"loss": {"train": torch.tensor(0.25), "test": np.float32(0.5)}})
    events = read(board)
    assert scalars(events) == {
        "loss/train": [(1, 0.5), (2, 0.25)],
        "loss/test": [(1, 0.75), (2, 0.5)],
        "learning rate": [(1, 0.1)],
    }
    assert layout(events) == {"training": {"loss": ["^loss/train$", "^loss/test$"]}}
    assert len(events.Tensors("custom_scalars__config__")) == 1  # written only when there is a new chart


def test_information_has_its_unit_null_and_interval_as_far_as_known(board):
    board.information(3, {"conv1": result(0.5, null_mean=0.1, interval=(0.4, 0.6)), "fc": result(-0.01)})
    board.information(4, {"fc": result(2.0, units="bits")})
    events = read(board)
    assert scalars(events) == {
        "information (nats)/conv1/value": [(3, 0.5)],
        "information (nats)/conv1/null": [(3, 0.1)],
        "information (nats)/conv1/low": [(3, 0.4)],
        "information (nats)/conv1/high": [(3, 0.6)],
        "information (nats)/fc/value": [(3, -0.01)],
        "information (bits)/fc/value": [(4, 2.0)],
    }
    charts = layout(events)
    assert list(charts) == ["information (nats)", "information (bits)"]
    lines = charts["information (nats)"]["all layers"]
    tags = scalars(events)
    assert [[tag for tag in tags if re.match(line, tag)] for line in lines] == [
        ["information (nats)/conv1/value"],
        ["information (nats)/fc/value"],
    ]
    assert len(charts["information (nats)"]["conv1"]) == 4


def test_the_interval_of_a_spatial_result_is_moved_from_the_excess_to_the_value(board):
    spatial = SpatialMutualInformationResult(
        value=2.5,
        null_mean=2.0,
        interval=(0.25, 0.75),
        per_pair=torch.full((1, 1), 2.5),
        per_image=torch.full((4,), 2.5),
        method="spatial",
        n=4,
        dim_x=1,
        dim_y=1,
    )
    board.information(1, {"conv6": spatial})
    found = scalars(read(board))
    assert found["information (nats)/conv6/low"] == [(1, 2.25)]
    assert found["information (nats)/conv6/high"] == [(1, 2.75)]


def test_charts_grow_by_what_is_written_apart(board):
    board.training(1, {"loss": {"train": 0.5}})
    board.training(1, {"loss": {"test": 0.6}})
    board.information(1, {"conv1": result(0.5)})
    board.information(1, {"conv2": result(0.6)})
    charts = layout(read(board))
    assert charts["training"] == {"loss": ["^loss/train$", "^loss/test$"]}
    assert len(charts["information (nats)"]["all layers"]) == 2


def test_two_kinds_of_information_of_the_same_layers_stay_apart(board):
    board.information(1, {"conv1": result(2.5)}, tag="I(X;T)")
    board.information(1, {"conv1": result(1.5)}, tag="I(T;Y)")
    events = read(board)
    assert scalars(events) == {
        "I(X;T) (nats)/conv1/value": [(1, 2.5)],
        "I(T;Y) (nats)/conv1/value": [(1, 1.5)],
    }
    assert list(layout(events)) == ["I(X;T) (nats)", "I(T;Y) (nats)"]


def test_information_by_channel_is_mean_best_null_and_the_bars(board):
    found = ChannelInformationResult(
        values=torch.tensor([0.25, 0.75, 0.5], dtype=torch.float64),
        null_mean=torch.tensor([0.125, 0.125, 0.5]),
        method="channels()",
        n=99,
        units="bits",
    )
    board.information(2, {"conv1": found, "fc": result(1.0, units="bits")})
    events = read(board)
    assert scalars(events) == {
        "information (bits)/conv1/mean": [(2, 0.5)],
        "information (bits)/conv1/best": [(2, 0.75)],
        "information (bits)/conv1/null": [(2, 0.25)],
        "information (bits)/fc/value": [(2, 1.0)],
    }
    (every,) = [
        lines for title, lines in layout(events)["information (bits)"].items() if title == "all layers"
    ]
    assert [re.sub(r"\\", "", line) for line in every] == [
        "^information (bits)/conv1/mean$",
        "^information (bits)/fc/value$",
    ]
    (bars,) = events.Images("information (bits)/conv1")
    assert bars.step == 2
    expected = io.BytesIO()
    found.plot(title="information of conv1, epoch 2").figure.savefig(expected)
    np.testing.assert_array_equal(picture(bars), pixels(expected.getvalue()))


def test_a_model_recorded_as_a_whole_has_tags_without_a_gap(board):
    board.information(1, {"": result(0.5)})
    events = read(board)
    assert list(scalars(events)) == ["information (nats)/value"]
    assert list(layout(events)["information (nats)"]) == ["all layers", "model"]


@pytest.mark.parametrize(
    "write",
    [
        lambda board: board.training(1, {"loss": 0.5, "accuracy": "high"}),
        lambda board: board.training(1, {"loss": {"train": 0.5, "test": None}}),
        lambda board: board.training(1, {"a": {"b/c": 1.0}, "a/b": {"c": 2.0}}),
        lambda board: board.information(1, {"conv1": result(0.5), "conv2": 0.5}),
        lambda board: board.feature_maps(
            1, {"a": torch.rand(2, 1, 4, 4), "b": torch.rand(1, 1, 4, 4)}, image=1
        ),
    ],
    ids=["a word", "nothing", "one tag twice", "no result", "no such image"],
)
def test_a_refused_call_writes_nothing(board, write):
    with pytest.raises((TypeError, ValueError)):
        write(board)
    tags = read(board).Tags()
    assert (tags["scalars"], tags["images"], tags["tensors"]) == ([], [], [])


def test_a_training_that_diverges_is_written(board):
    board.training(1, {"loss": math.inf, "accuracy": torch.tensor(math.nan)})
    events = read(board)
    assert math.isinf(events.Scalars("loss")[0].value)
    assert math.isnan(events.Scalars("accuracy")[0].value)
