"""Paths through the information plane."""

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from featurelens.plotting import information_curves, information_plane
from tests.unit.plotting.results import estimate


def texts(ax):
    return [text.get_text() for text in ax.texts]


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_paths_of_layers_are_told_apart_and_epochs_are_colours():
    x = {"conv1": [estimate(3.0), estimate(2.5)], "fc": [estimate(2.0), estimate(1.5)]}
    y = {"conv1": [estimate(0.1), estimate(0.5)], "fc": [estimate(0.2), estimate(0.9)]}
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
    near = information_plane(x, y, units="nats", x_ceiling=torch.tensor(4.9), label_entropy=1.6).axes[0]
    assert {text.get_text() for text in near.texts} == {"ceiling 4.90", "H(Y) = 1.60"}
    assert near.get_xlim()[1] > 4.9
    assert near.get_ylim()[1] >= 1.6


def test_the_null_of_a_layer_is_dashed_and_ends_hollow_below_its_last_value():
    x = {"conv1": [estimate(3.0), estimate(2.5)], "fc": [estimate(2.0), estimate(1.5)]}
    y = {
        "conv1": [estimate(0.5, null_mean=0.3), estimate(0.7, null_mean=0.4)],
        "fc": [estimate(0.2), estimate(0.9)],
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


@pytest.mark.parametrize("argument", ["x_ceiling", "label_entropy"])
def test_limits_that_are_none(argument):
    paths = {"fc": [1.0, 2.0]}
    with pytest.raises(TypeError, match=rf"^{argument} must be a number; got 'x'$"):
        information_plane(paths, paths, units="nats", **{argument: "x"})
    with pytest.raises(ValueError, match=rf"^{argument} must be a number of at least 0; got -1$"):
        information_plane(paths, paths, units="nats", **{argument: -1})


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
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
            "x and y are plain numbers: pass units='nats' or units='bits'",
        ),
        (
            lambda: information_plane({"a": [1]}, {"a": [1]}, units="bans"),
            ValueError,
            "units must be one of 'nats', 'bits'; got 'bans'",
        ),
        (
            lambda: information_plane({"a": [estimate(1.0)]}, {"a": [estimate(1.0)]}, units="bits"),
            ValueError,
            "units is 'bits', but the results in x and y are in nats",
        ),
        (
            lambda: information_plane({"a": [estimate(1.0)]}, {"a": [estimate(1.0, units="bits")]}),
            ValueError,
            "x and y together mixes nats and bits: convert all results to one unit, with result.to('nats')",
        ),
    ],
)
def test_misuse_is_named(call, error, message):
    with pytest.raises(error) as caught:
        call()
    assert str(caught.value) == message
