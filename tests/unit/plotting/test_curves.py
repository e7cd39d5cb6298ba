"""Loss and accuracy over epochs."""

import math

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from featurelens.plotting import training_curves


def test_one_line_for_each_name_over_epochs_from_one():
    ax = training_curves({"train": [3, 2, 1], "test": torch.tensor([3.0, 2.5])}, ylabel="loss (nats)").axes[0]
    assert isinstance(ax, Axes)
    train, test = ax.lines
    np.testing.assert_array_equal(train.get_xydata(), [[1, 3], [2, 2], [3, 1]])
    np.testing.assert_array_equal(test.get_xydata(), [[1, 3], [2, 2.5]])
    assert (train.get_label(), test.get_label()) == ("train", "test")
    assert (train.get_color(), test.get_color()) == ("#0072B2", "#D55E00")
    assert ax.get_ylabel() == "loss (nats)"
    assert ax.get_xlabel() == "epoch"


@pytest.mark.parametrize("epochs", [1, 2, 3, 7, 60, 500])
def test_ticks_are_epochs(epochs):
    ax = training_curves({"train": np.linspace(1, 0, epochs)}, ylabel="loss").axes[0]
    low, high = ax.get_xlim()
    ticks = [tick for tick in ax.get_xticks() if low <= tick <= high]
    assert ticks
    assert all(tick == round(tick) and 1 <= tick <= epochs for tick in ticks)


@pytest.mark.parametrize("epochs", [5, 60])
def test_more_curves_than_colours_differ_in_their_dashes_and_leave_the_legend_outside(epochs):
    ax = training_curves({f"run {i}": np.linspace(1, i, epochs) for i in range(16)}, ylabel="loss").axes[0]
    ax.figure.draw_without_rendering()
    assert len({(line.get_color(), str(line._unscaled_dash_pattern)) for line in ax.lines}) == 16
    legend = ax.get_legend().get_window_extent()
    assert legend.x0 >= ax.get_window_extent().x1
    assert legend.y0 >= 0
    assert legend.x1 <= ax.figure.bbox.x1


def test_the_best_epoch_is_pointed_out():
    ax = training_curves({"test": [0.1, 0.9, 0.5]}, ylabel="accuracy", best=2).axes[0]
    assert ax.lines[-1].get_xdata() == [2, 2]
    assert [text.get_text() for text in ax.texts] == ["best epoch: 2"]


def test_epochs_without_a_number_are_crosses():
    ax = training_curves({"train": [1.0, math.nan, 0.5]}, ylabel="loss").axes[0]
    line, crosses = ax.lines
    assert np.isnan(line.get_ydata()[1])
    assert line.get_marker() == "o"
    np.testing.assert_array_equal(crosses.get_xdata(), [2])
    assert crosses.get_label() == "train: NaN or infinite"


def test_an_axes_of_the_callers_is_used():
    ax = Figure().add_subplot()
    assert training_curves({"train": [1, 2]}, ylabel="loss", title="Loss", ax=ax) is ax.figure
    assert ax.get_title(loc="left") == "Loss"


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: training_curves([1, 2], ylabel="loss"),
            TypeError,
            "curves must be a mapping from names to values over epochs; got [1, 2]",
        ),
        (
            lambda: training_curves({}, ylabel="loss"),
            ValueError,
            "curves is empty: give at least one name with its values over epochs",
        ),
        (
            lambda: training_curves({"train": []}, ylabel="loss"),
            ValueError,
            "curves['train'] is empty: its shape is (0,)",
        ),
        (
            lambda: training_curves({"train": 3}, ylabel="loss"),
            TypeError,
            "curves['train'] must be a sequence of numbers; got 3",
        ),
        (
            lambda: training_curves({"train": [1, 2]}, ylabel="loss", best=3),
            ValueError,
            "best must be an epoch from 1 to 2; got 3",
        ),
    ],
)
def test_misuse_is_named(call, error, message):
    with pytest.raises(error) as caught:
        call()
    assert str(caught.value) == message
