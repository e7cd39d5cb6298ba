"""Information over epochs and in the information plane."""

import math

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from featurelens.information import MutualInformationResult, SpatialMutualInformationResult
from featurelens.plotting import information_curves, information_plane


def result(value, **more):
    return MutualInformationResult(value=value, method="KSG", n=9, dim_x=1, dim_y=1, **more)


def spatial(value, null, interval):
    return SpatialMutualInformationResult(
        value=value,
        null_mean=null,
        interval=interval,
        per_pair=torch.full((1, 1), value),
        per_image=torch.full((4,), value),
        method="spatial",
        n=4,
        dim_x=1,
        dim_y=1,
    )


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_a_line_a_band_and_dashes_in_one_colour():
    results = [result(v, null_mean=v / 10, interval=(v - 0.1, v + 0.2)) for v in (0.2, 0.5, 0.7)]
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
        {"a": [result(0.1, units="bits")] * 2, "b": [result(0.2, units="bits")] * 3}
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
    ax = information_curves({"a": [result(0.5, null_mean=0.1, interval=(0.4, 0.6))]}).axes[0]
    value, interval, null = ax.lines
    assert value.get_marker() == "o"
    np.testing.assert_allclose(interval.get_ydata().ravel(), [0.4, 0.6])
    assert null.get_marker() == "_"
    ax.figure.draw_without_rendering()


def test_an_epoch_without_a_number_is_a_cross():
    ax = information_curves({"a": [result(0.5), result(math.nan), result(0.4)]}).axes[0]
    assert legend(ax) == ["a", "a: NaN or infinite"]


def test_thirteen_layers_differ_in_colour_or_marker():
    ax = information_curves({f"conv{i}": [0.1 * i, 0.2 * i] for i in range(13)}).axes[0]
    assert len({(line.get_color(), line.get_marker()) for line in ax.lines[:26]}) >= 13
    ax = information_curves({f"conv{i}": np.linspace(0, i, 50) for i in range(13)}).axes[0]
    lines = [line for line in ax.lines if line.get_label().startswith("conv")]
    assert len({(line.get_color(), line.get_marker()) for line in lines}) == 13, "long curves too"


def test_paths_of_layers_are_told_apart_and_epochs_are_colours():
    x = {"conv1": [result(3.0), result(2.5)], "fc": [result(2.0), result(1.5)]}
    y = {"conv1": [result(0.1), result(0.5)], "fc": [result(0.2), result(0.9)]}
    ax = information_plane(x, y, epochs=[1, 10], x_ceiling=4.6, label_entropy=2.3, title="Plane").axes[0]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("I(X;T), nats", "I(T;Y), nats")
    first, second = ax.collections
    np.testing.assert_allclose(first.get_offsets(), [[3.0, 0.1], [2.5, 0.5]])
    np.testing.assert_allclose(second.get_offsets(), [[2.0, 0.2], [1.5, 0.9]])
    np.testing.assert_array_equal(first.get_array(), [1, 10])
    assert first.get_cmap().name == "cividis"
    assert not np.array_equal(first.get_paths()[0].vertices, second.get_paths()[0].vertices)
    assert legend(ax) == ["conv1", "fc"]
    assert {text.get_text() for text in ax.texts} == {"ceiling 4.60", "H(Y) = 2.30 ↑"}
    (bar,) = [other for other in ax.figure.axes if other is not ax]
    assert bar.get_xlabel() == "epoch"


def test_a_ceiling_far_from_the_paths_is_told_in_words_and_squeezes_nothing():
    x, y = {"fc": [2.5, 3.0]}, {"fc": [0.5, 1.0]}
    far = information_plane(x, y, units="nats", x_ceiling=6.9, label_entropy=2.3).axes[0]
    assert {text.get_text() for text in far.texts} == {"ceiling 6.90 →", "H(Y) = 2.30 ↑"}
    assert far.get_xlim()[1] < 3.2
    assert far.get_ylim()[1] < 1.2
    near = information_plane(x, y, units="nats", x_ceiling=4.9, label_entropy=1.6).axes[0]
    assert {text.get_text() for text in near.texts} == {"ceiling 4.90", "H(Y) = 1.60"}
    assert near.get_xlim()[1] > 4.9
    assert near.get_ylim()[1] >= 1.6


def test_the_null_of_a_layer_is_dashed_and_ends_hollow_below_its_last_value():
    x = {"conv1": [result(3.0), result(2.5)], "fc": [result(2.0), result(1.5)]}
    y = {
        "conv1": [result(0.5, null_mean=0.3), result(0.7, null_mean=0.4)],
        "fc": [result(0.2), result(0.9)],
    }
    ax = information_plane(x, y).axes[0]
    _, dashes, tie, end, _ = ax.lines
    np.testing.assert_allclose(dashes.get_xydata(), [[3.0, 0.3], [2.5, 0.4]])
    np.testing.assert_allclose(tie.get_xydata(), [[2.5, 0.4], [2.5, 0.7]])
    np.testing.assert_allclose(end.get_xydata(), [[2.5, 0.4]])
    assert end.get_markerfacecolor() == "white"
    assert legend(ax) == ["conv1", "fc", "null: labels shuffled"]


def test_one_layer_and_one_epoch_are_a_plane_too():
    ax = information_plane({"fc": [3.0]}, {"fc": [1.0]}, units="bits").axes[0]
    assert ax.get_xlabel() == "I(X;T), bits"
    assert ax.figure.axes == [ax]
    ax.figure.draw_without_rendering()


@pytest.mark.parametrize("epochs", [1, 2, 50])
@pytest.mark.parametrize("layers", [1, 6])
def test_no_label_leaves_the_page(epochs, layers):
    x = {f"features.{i}.convolution": np.linspace(6, 5 - i, epochs) for i in range(layers)}
    y = {name: values / 3 for name, values in x.items()}
    plane = information_plane(
        x, y, units="nats", x_ceiling=7, label_entropy=2.3, title="A long title " * 12
    ).axes[0]
    curves = information_curves(x, title="A long title " * 12).axes[0]
    for ax in (plane, curves):
        ax.figure.draw_without_rendering()
        page = ax.figure.bbox
        for text in [*ax.texts, *ax.get_legend().get_texts(), ax.xaxis.label, ax.yaxis.label]:
            box = text.get_window_extent()
            assert page.x0 <= box.x0 <= box.x1 <= page.x1
            assert page.y0 <= box.y0 <= box.y1 <= page.y1


def test_an_axes_of_the_callers_is_used():
    left, right = Figure().subplots(1, 2)
    assert information_curves({"a": [1, 2]}, ax=left) is left.figure
    assert information_plane({"a": [1, 2]}, {"a": [1, 2]}, units="nats", ax=right) is right.figure


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: information_curves([result(1.0)]),
            TypeError,
            (
                "curves must be a mapping from names to results (or numbers) over epochs; got "
                "[an object of type MutualInformationResult]"
            ),
        ),
        (
            lambda: information_curves({}),
            ValueError,
            "curves is empty: give at least one name with its results over epochs",
        ),
        (
            lambda: information_curves({"a": result(1.0)}),
            TypeError,
            (
                "curves['a'] must be a sequence of results or numbers; got an object of type "
                "MutualInformationResult"
            ),
        ),
        (
            lambda: information_curves({"a": []}),
            ValueError,
            "curves['a'] is empty: give at least one epoch",
        ),
        (
            lambda: information_curves({"a": ["high"]}),
            TypeError,
            "curves['a'] must hold results or numbers; got ['high']",
        ),
        (
            lambda: information_curves({"a": [result(1.0), 0.5]}),
            TypeError,
            (
                "curves['a'] must hold results only or numbers only; got "
                "[an object of type MutualInformationResult, 0.5]"
            ),
        ),
        (
            lambda: information_curves({"a": [result(1.0)], "b": [result(1.0, units="bits")]}),
            ValueError,
            "curves mixes nats and bits: bring all results to one unit, as by result.to('nats')",
        ),
        (
            lambda: information_curves({"a": [result(1.0), result(1.0, units="bits")]}),
            ValueError,
            "curves['a'] mixes nats and bits: bring all results to one unit, as by result.to('nats')",
        ),
        (
            lambda: information_curves({"a": [result(1.0)], "b": [0.5]}),
            ValueError,
            "curves mixes results in nats with plain numbers, which carry no unit: give either everywhere",
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
        (
            lambda: information_plane({"a": [1]}, {"b": [1]}, units="nats"),
            ValueError,
            "x and y must have the same layers in the same order; got ['a'] and ['b']",
        ),
        (
            lambda: information_plane({"a": [1, 2]}, {"a": [1]}, units="nats"),
            ValueError,
            "every path must have the same number of epochs; got {\"x['a']\": 2, \"y['a']\": 1}",
        ),
        (
            lambda: information_plane({"a": [1]}, {"a": [1]}),
            ValueError,
            "x and y are plain numbers: say in which units, 'nats' or 'bits'",
        ),
        (
            lambda: information_plane({"a": [1]}, {"a": [1]}, units="bans"),
            ValueError,
            "units must be one of 'nats', 'bits'; got 'bans'",
        ),
        (
            lambda: information_plane({"a": [result(1.0)]}, {"a": [result(1.0)]}, units="bits"),
            ValueError,
            "units is 'bits', but the results in x and y are in nats",
        ),
        (
            lambda: information_plane({"a": [result(1.0)]}, {"a": [result(1.0, units="bits")]}),
            ValueError,
            "x and y together mixes nats and bits: bring all results to one unit, as by result.to('nats')",
        ),
    ],
)
def test_misuse_is_named(call, error, message):
    with pytest.raises(error) as caught:
        call()
    assert str(caught.value) == message


@pytest.mark.parametrize("argument", ["x_ceiling", "label_entropy"])
def test_limits_that_are_none(argument):
    paths = {"fc": [1.0, 2.0]}
    with pytest.raises(TypeError, match=rf"^{argument} must be a number; got 'x'$"):
        information_plane(paths, paths, units="nats", **{argument: "x"})
    with pytest.raises(ValueError, match=rf"^{argument} must be a number from 0; got -1$"):
        information_plane(paths, paths, units="nats", **{argument: -1})
