"""Lines over epochs, steps and channels removed."""

import math

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from torch import nn

import featurelens as fl
from featurelens.plotting import (
    ablation_curves,
    information_curves,
    training_curves,
)
from tests.nets import seeded
from tests.unit.plotting.results import curve, estimate, maximized, spatial


def texts(ax):
    return [text.get_text() for text in ax.texts]


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_ablation_curves_are_in_percent_over_channels_removed():
    ax = curve().plot().axes[0]
    np.testing.assert_allclose(ax.lines[0].get_ydata(), [90, 80, 30], rtol=1e-5)
    np.testing.assert_array_equal(ax.lines[0].get_xdata(), [0, 1, 2])
    assert ax.get_legend() is None
    ax = ablation_curves({"least": curve(), "most": curve()}).axes[0]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["least", "most"]


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


def test_a_line_a_band_and_dashes_in_one_colour():
    results = [estimate(v, null_mean=v / 10, interval=(v - 0.1, v + 0.2)) for v in (0.2, 0.5, 0.7)]
    ax = information_curves({"conv1": results}).axes[0]
    assert isinstance(ax, Axes)
    line, null = ax.lines
    np.testing.assert_allclose(line.get_xydata(), [[1, 0.2], [2, 0.5], [3, 0.7]])
    np.testing.assert_allclose(null.get_xydata(), [[1, 0.02], [2, 0.05], [3, 0.07]])
    assert line.get_linestyle() == "-"
    assert null.is_dashed()
    (band,) = ax.collections
    corners = band.get_paths()[0].vertices
    assert corners[:, 1].min() == pytest.approx(0.1)
    assert corners[:, 1].max() == pytest.approx(0.9)
    assert {line.get_color(), null.get_color(), to_hex(band.get_facecolor()[0]).upper()} == {"#0072B2"}
    assert ax.get_ylabel() == "mutual information (nats)"
    assert legend(ax) == ["conv1", "null", "interval"]


def test_without_null_or_interval_there_is_only_a_line():
    ax = information_curves(
        {"a": [estimate(0.1, units="bits")] * 2, "b": [estimate(0.2, units="bits")] * 3}
    ).axes[0]
    assert legend(ax) == ["a", "b"]
    assert ax.get_ylabel() == "mutual information (bits)"
    assert len([line for line in ax.lines if np.isfinite(line.get_ydata()).any()]) == 2


def test_the_band_of_a_spatial_result_lies_around_its_value_not_its_excess():
    ax = information_curves(
        {"conv6": [spatial(2.5, 2.0, (0.25, 0.75)), spatial(2.6, 2.0, (0.35, 0.85))]}
    ).axes[0]
    corners = ax.collections[0].get_paths()[0].vertices
    assert corners[:, 1].min() == pytest.approx(2.25)
    assert corners[:, 1].max() == pytest.approx(2.85)


def test_plain_numbers_have_no_unit():
    ax = information_curves({"a": [0.1, 0.2], "b": torch.tensor([0.3, 0.4]), "c": np.array([1, 2])}).axes[0]
    assert ax.get_ylabel() == "mutual information"
    assert information_curves({"a": [0.1]}, ylabel="I (bits)").axes[0].get_ylabel() == "I (bits)"


def test_epochs_may_have_gaps_between_them():
    ax = information_curves({"a": [0.1, 0.2, 0.3]}, epochs=torch.tensor([0, 5, 20]), title="Mine").axes[0]
    np.testing.assert_array_equal(ax.lines[0].get_xdata(), [0, 5, 20])
    assert ax.get_title(loc="left") == "Mine"
    assert ax.get_xlim()[0] == pytest.approx(-0.6)


def test_a_single_epoch_shows_its_interval_and_its_null():
    ax = information_curves({"a": [estimate(0.5, null_mean=0.1, interval=(0.4, 0.6))]}).axes[0]
    value, interval, null = ax.lines
    assert value.get_marker() == "o"
    np.testing.assert_allclose(interval.get_ydata().ravel(), [0.4, 0.6])
    assert null.get_marker() == "_"
    ax.figure.draw_without_rendering()


def test_an_epoch_without_a_number_is_a_cross():
    ax = information_curves({"a": [estimate(0.5), estimate(math.nan), estimate(0.4)]}).axes[0]
    assert legend(ax) == ["a", "a: NaN or infinite"]


def test_thirteen_layers_differ_in_colour_or_marker():
    ax = information_curves({f"conv{i}": [0.1 * i, 0.2 * i] for i in range(13)}).axes[0]
    assert len({(line.get_color(), line.get_marker()) for line in ax.lines[:26]}) >= 13
    ax = information_curves({f"conv{i}": np.linspace(0, i, 50) for i in range(13)}).axes[0]
    lines = [line for line in ax.lines if line.get_label().startswith("conv")]
    assert len({(line.get_color(), line.get_marker()) for line in lines}) == 13, "long curves too"


def test_history_has_a_line_for_each_or_bands_for_many():
    few = maximized().plot_history(title="Rise").axes[0]
    assert [line.get_label() for line in few.lines] == [f"conv_1, channel {k}" for k in range(3)]
    assert few.get_xlabel() == "step"
    many = maximized(1, 9).plot_history().axes[0]
    assert [text.get_text() for text in many.get_legend().get_texts()] == [
        "all",
        "middle half",
        "median of 9",
    ]
    one = maximized(wanted="conv_1:0")
    assert len(one.plot_history().axes[0].lines) == 1


def test_objectives_of_different_kinds_share_a_scale():
    network = seeded(lambda: nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3)))
    maximizer = fl.ActivationMaximizer(network, fl.FourierImage((1, 8, 8)), steps=6, progress=False)
    alike = maximizer.run(["conv_1:0", "conv_1:1"]).plot_history().axes[0]
    assert alike.get_ylabel() == "objective"
    result = maximizer.run([fl.objectives.channel("conv_1", 0), 100 * fl.objectives.logit(1)])
    ax = result.plot_history().axes[0]
    assert ax.get_ylabel() == "objective: 0 lowest, 1 highest"
    for row, line in enumerate(ax.lines):
        values = result.history[:, row].double()
        expected = (values - values.min()) / (values.max() - values.min())
        assert abs(line.get_ydata() - expected.numpy()).max() < 1e-6
        label = line.get_label().replace("\n", " ")
        assert label.endswith(f"({values.min():.3g} to {values.max():.3g})")


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: ablation_curves({}), ValueError, "curves must be of one metric; got no curve"),
        (
            lambda: ablation_curves({"a": curve(), "b": curve(metric="loss")}),
            ValueError,
            "curves must be of one metric; got accuracy, loss",
        ),
        (lambda: ablation_curves({"a": 1}), TypeError, "curves['a'] must be what curve returns; got 1"),
        (
            lambda: training_curves([1, 2], ylabel="loss"),
            TypeError,
            "curves must be a mapping from names to values over epochs; got [1, 2]",
        ),
        (
            lambda: training_curves({}, ylabel="loss"),
            ValueError,
            "curves is empty: pass at least one name with its values over epochs",
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
        (
            lambda: information_curves([estimate(1.0)]),
            TypeError,
            (
                "curves must be a mapping from names to results (or numbers) over epochs; got "
                "[an object of type MutualInformationResult]"
            ),
        ),
        (
            lambda: information_curves({}),
            ValueError,
            "curves is empty: pass at least one name with its results (or numbers) over epochs",
        ),
        (
            lambda: information_curves({"a": estimate(1.0)}),
            TypeError,
            (
                "curves['a'] must be a sequence of results or numbers; got an object of type "
                "MutualInformationResult"
            ),
        ),
        (
            lambda: information_curves({"a": []}),
            ValueError,
            "curves['a'] is empty: pass at least one epoch",
        ),
        (
            lambda: information_curves({"a": ["high"]}),
            TypeError,
            "curves['a'] must hold results or numbers; got ['high']",
        ),
        (
            lambda: information_curves({"a": [estimate(1.0), 0.5]}),
            TypeError,
            (
                "curves['a'] must hold results only or numbers only; got "
                "[an object of type MutualInformationResult, 0.5]"
            ),
        ),
        (
            lambda: information_curves({"a": [estimate(1.0)], "b": [estimate(1.0, units="bits")]}),
            ValueError,
            "curves mixes nats and bits: convert all results to one unit, with result.to('nats')",
        ),
        (
            lambda: information_curves({"a": [estimate(1.0), estimate(1.0, units="bits")]}),
            ValueError,
            "curves['a'] mixes nats and bits: convert all results to one unit, with result.to('nats')",
        ),
        (
            lambda: information_curves({"a": [estimate(1.0)], "b": [0.5]}),
            ValueError,
            "curves mixes results in nats with plain numbers, which have no unit: use one of them everywhere",
        ),
        (
            lambda: information_curves({"a": [1, 2]}, epochs=[1, 2, 3]),
            ValueError,
            "curves['a'] must have one value for each of 3 epochs; got 2",
        ),
        (
            lambda: information_curves({"a": [1, 2]}, epochs=[2, 1]),
            ValueError,
            "epochs must increase; got [2, 1]",
        ),
        (
            lambda: information_curves({"a": [1, 2]}, epochs=3),
            TypeError,
            "epochs must be a sequence of whole numbers; got 3",
        ),
        (
            lambda: information_curves({"a": [1, 2]}, ax="here"),
            TypeError,
            "ax must be a matplotlib Axes; got 'here'",
        ),
    ],
)
def test_misuse_is_named(call, error, message):
    with pytest.raises(error) as caught:
        call()
    assert str(caught.value) == message
