"""Numbers over epochs, and the charts over them."""

import io
import math
import re

import numpy as np
import pytest
import torch

from featurelens.information import (
    ChannelInformationResult,
    LayerInformationResult,
    SpatialMutualInformationResult,
)
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
    board.add(3, {"conv1": result(0.5, null_mean=0.1, interval=(0.4, 0.6)), "fc": result(-0.01)})
    board.add(4, LayerInformationResult({"fc": result(2.0, units="bits")}))
    events = read(board)
    assert scalars(events) == {
        "information in nats/conv1/value": [(3, 0.5)],
        "information in nats/conv1/null": [(3, 0.1)],
        "information in nats/conv1/low": [(3, 0.4)],
        "information in nats/conv1/high": [(3, 0.6)],
        "information in nats/fc/value": [(3, -0.01)],
        "information in bits/fc/value": [(4, 2.0)],
    }
    charts = layout(events)
    assert list(charts) == ["information in nats", "information in bits"]
    lines = charts["information in nats"]["all layers"]
    tags = scalars(events)
    assert [[tag for tag in tags if re.match(line, tag)] for line in lines] == [
        ["information in nats/conv1/value"],
        ["information in nats/fc/value"],
    ]
    assert len(charts["information in nats"]["conv1"]) == 4


def test_a_single_result_needs_no_name(board):
    board.add(np.int64(3), result(0.5, null_mean=0.1), tag="label information")
    assert scalars(read(board)) == {
        "label information in nats/value": [(3, 0.5)],
        "label information in nats/null": [(3, 0.1)],
    }


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
    board.add(1, {"conv6": spatial})
    found = scalars(read(board))
    assert found["information in nats/conv6/low"] == [(1, 2.25)]
    assert found["information in nats/conv6/high"] == [(1, 2.75)]


def test_charts_grow_by_what_is_written_apart(board):
    board.training(1, {"loss": {"train": 0.5}})
    board.training(1, {"loss": {"test": 0.6}})
    board.add(1, {"conv1": result(0.5)})
    board.add(1, {"conv2": result(0.6)})
    charts = layout(read(board))
    assert charts["training"] == {"loss": ["^loss/train$", "^loss/test$"]}
    assert len(charts["information in nats"]["all layers"]) == 2


def test_two_kinds_of_information_of_the_same_layers_stay_apart(board):
    board.add(1, {"conv1": result(2.5)}, tag="input information")
    board.add(1, {"conv1": result(1.5)}, tag="label information")
    events = read(board)
    assert scalars(events) == {
        "input information in nats/conv1/value": [(1, 2.5)],
        "label information in nats/conv1/value": [(1, 1.5)],
    }
    assert list(layout(events)) == ["input information in nats", "label information in nats"]


def test_a_parenthesis_which_custom_scalars_cannot_draw_has_no_chart(board):
    board.training(1, {"loss": {"train": 0.5, "test (clean)": 0.6}, "top (5)": {"train": 0.5}})
    board.add(1, {"conv1": result(2.5)}, tag="I(X;T)")
    events = read(board)
    assert list(scalars(events)) == [
        "loss/train",
        "loss/test (clean)",
        "top (5)/train",
        "I(X;T) in nats/conv1/value",
    ]
    assert layout(events) == {"training": {"loss": ["^loss/train$"]}}


def test_information_by_channel_is_mean_best_null_and_the_bars(board):
    found = ChannelInformationResult(
        values=torch.tensor([0.25, 0.75, 0.5], dtype=torch.float64),
        null_mean=torch.tensor([0.125, 0.125, 0.5]),
        method="channels()",
        n=99,
        units="bits",
    )
    board.add(2, {"conv1": found, "fc": result(1.0, units="bits")})
    events = read(board)
    assert scalars(events) == {
        "information in bits/conv1/mean": [(2, 0.5)],
        "information in bits/conv1/best": [(2, 0.75)],
        "information in bits/conv1/null": [(2, 0.25)],
        "information in bits/fc/value": [(2, 1.0)],
    }
    (every,) = [
        lines for title, lines in layout(events)["information in bits"].items() if title == "all layers"
    ]
    assert [re.sub(r"\\", "", line) for line in every] == [
        "^information in bits/conv1/mean$",
        "^information in bits/fc/value$",
    ]
    (bars,) = events.Images("information in bits/conv1")
    assert bars.step == 2
    expected = io.BytesIO()
    found.plot(title="information of conv1, epoch 2").savefig(expected)
    np.testing.assert_array_equal(picture(bars), pixels(expected.getvalue()))


def test_a_model_recorded_as_a_whole_has_tags_without_a_gap(board):
    board.add(1, {"": result(0.5)})
    events = read(board)
    assert list(scalars(events)) == ["information in nats/value"]
    assert list(layout(events)["information in nats"]) == ["all layers", "model"]


@pytest.mark.parametrize(
    "write",
    [
        lambda board: board.training(1, {"loss": 0.5, "accuracy": "high"}),
        lambda board: board.training(1, {"loss": {"train": 0.5, "test": None}}),
        lambda board: board.training(1, {"a": {"b/c": 1.0}, "a/b": {"c": 2.0}}),
        lambda board: board.add(1, {"conv1": result(0.5), "conv2": 0.5}),
        lambda board: board.add(1, {"a": torch.rand(2, 1, 4, 4), "b": torch.rand(1, 1, 4, 4)}, image=1),
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
