"""A bar for each channel."""

import itertools

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from featurelens.information import ChannelInformationResult
from featurelens.plotting import (
    ablation_change,
    ablation_curves,
    channel_bars,
    importance,
    layer_bars,
)
from tests.unit.plotting.results import channels, curve, layers, pairs, sweep, worth


def test_other_outputs_are_drawn_as_bars():
    result = sweep(outputs=torch.rand(5, 3, 10), baseline=torch.rand(3, 10))
    figure = result.plot()
    ax = figure.axes[0]
    heights = [bar.get_height() for bar in ax.patches]
    np.testing.assert_allclose(heights, result.change.mean(1).sort(descending=True).values, rtol=1e-5)
    assert len(ablation_change(sweep(5, 1)).axes[0].patches) == 5


def test_numbered_layers_are_called_layers():
    outputs = {"outputs": torch.rand(5, 3, 10), "baseline": torch.rand(3, 10)}
    assert importance(worth(layer="2"), limit=3).axes[0].get_title(loc="left") == "Importance of layer 2"
    assert ablation_curves(curve(layer="2")).axes[0].get_title(loc="left") == "Channels of layer 2 removed"
    assert (
        ablation_change(sweep(layer="2", **outputs))
        .axes[0]
        .get_title(loc="left")
        .startswith("Layer 2: change")
    )
    assert sweep(layer="2").plot().get_suptitle() == "Layer 2: each channel alone"


def test_importance_is_sorted_and_in_points():
    ax = worth().plot().axes[0]
    assert [bar.get_height() for bar in ax.patches] == pytest.approx([30, 10, 0])
    assert [label.get_text() for label in ax.get_xticklabels()] == ["4", "2", "0"]
    assert ax.get_ylabel() == "accuracy lost when removed (points)"
    (strokes,) = ax.collections
    np.testing.assert_allclose(
        [s[:, 1] for s in strokes.get_segments()], [[26, 34], [6, 14], [-4, 4]], atol=1e-5
    )
    assert importance(worth(metric="loss")).axes[0].get_ylabel() == "increase in loss when removed (nats)"
    assert (
        importance(worth(), limit=2).axes[0].get_title(loc="left")
        == "Importance of conv1 (most important 2 of 3)"
    )


def test_channels_that_change_nothing_are_said_to_change_nothing():
    zeros = torch.zeros(3)
    ax = worth(importance=zeros, standard_error=zeros, per_class=None).plot().axes[0]
    (note,) = [text.get_text() for text in ax.texts if "with all channels" in text.get_text()]
    assert note.replace("\n", " ").endswith("; removing any single channel changes nothing")


def test_a_method_is_written_in_words():
    result = ChannelInformationResult(
        values=torch.rand(3), method="counts(bins=(7, 8), correction='none')", n=9
    )
    assert "counts, bins 7, 8, correction none, 9 samples" in texts(result.plot().axes[0])


def test_channels_without_a_significant_effect_are_pale():
    ax = worth(p_value=torch.tensor([0.5, 0.001, 0.04])).plot().axes[0]
    colours = {
        label.get_text(): bar.get_facecolor()
        for label, bar in zip(ax.get_xticklabels(), ax.patches, strict=True)
    }
    assert colours["0"] == colours["2"] != colours["4"]
    assert any(
        "pale: not significant (false discovery rate 5 %)" in " ".join(text.split()) for text in texts(ax)
    )
    ax = worth(p_value=torch.tensor([0.001, 0.001, 0.001])).plot().axes[0]
    assert not any("pale" in text for text in texts(ax))


def texts(ax):
    return [text.get_text() for text in ax.texts]


def test_the_channel_that_knows_most_comes_first():
    ax = channel_bars(channels([0.1, 0.7, -0.02, 0.4], units="bits")).axes[0]
    assert isinstance(ax, Axes)
    assert [bar.get_height() for bar in ax.patches] == [0.7, 0.4, 0.1, -0.02]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["1", "3", "0", "2"]
    assert ax.get_ylabel() == "mutual information (bits)"
    assert ax.get_title(loc="left") == "Information with the label"
    assert ax.get_legend() is None


def test_each_bar_carries_its_own_null():
    ax = channel_bars(channels([0.1, 0.7], null_mean=torch.tensor([0.05, 0.02]))).axes[0]
    strokes = ax.collections[-1].get_segments()
    np.testing.assert_allclose([stroke[0, 1] for stroke in strokes], [0.02, 0.05])
    assert all(stroke[0, 0] < bar < stroke[1, 0] for bar, stroke in enumerate(strokes))
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["null (shuffled labels)"]


def test_many_channels_are_limited_in_words():
    ax = channel_bars(channels(torch.arange(100.0)), limit=5).axes[0]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["99", "98", "97", "96", "95"]
    title = ax.get_title(loc="left").replace("\n", " ")
    assert title == "Information with the label (best 5 of 100 channels)"


@pytest.mark.parametrize(("highest", "drawn"), [(1.0, True), (0.1, False)])
def test_the_entropy_of_the_labels_is_a_line_unless_it_dwarfs_the_bars(highest, drawn):
    ax = channel_bars(channels([highest, 0.05], label_entropy=2.3)).axes[0]
    assert ("H(Y) = 2.30" in texts(ax)) is drawn
    assert "label entropy: 2.300 nats" in " ".join(texts(ax)).replace("\n", " ")
    assert bool(ax.get_ylim()[1] > 2.3) is drawn


@pytest.mark.parametrize("highest", [2.29, 1.0])
def test_no_word_lies_on_a_bar(highest):
    nulls = torch.full((40,), 0.02)
    ax = channel_bars(channels([highest] * 40, label_entropy=2.3, null_mean=nulls), limit=40).axes[0]
    ax.figure.draw_without_rendering()
    words = [*ax.texts, *ax.get_legend().get_texts()]
    bars = [bar.get_window_extent() for bar in ax.patches]
    assert "H(Y) = 2.30" in texts(ax)
    assert not [text for text in words for bar in bars if text.get_window_extent().overlaps(bar)]


def test_channels_that_know_nothing_are_drawn():
    ax = channel_bars(channels([0.0, 0.0], label_entropy=0.0, null_mean=torch.zeros(2))).axes[0]
    ax.figure.draw_without_rendering()


@pytest.mark.parametrize("count", [1, 2, 6, 32, 64, 512])
def test_bars_of_any_number_fit_their_page(count):
    result = channels(
        torch.linspace(0.01, 1.0, count), null_mean=torch.full((count,), 0.02), label_entropy=2.3
    )
    ax = channel_bars(result, limit=count).axes[0]
    ax.figure.draw_without_rendering()
    page = ax.figure.bbox
    for text in [*ax.texts, *ax.get_xticklabels(), ax.xaxis.label]:
        box = text.get_window_extent()
        assert page.x0 <= box.x0 <= box.x1 <= page.x1
    labels = [label.get_window_extent() for label in ax.get_xticklabels()]
    assert all(left.x1 <= right.x0 for left, right in itertools.pairwise(labels))


def test_results_plot_themselves():
    left, right = Figure().subplots(1, 2)
    assert channels([0.1, 0.2]).plot(limit=1, title="one", ax=left) is left.figure
    assert left.get_title(loc="left") == "one (best 1 of 2 channels)"
    assert pairs([[0.1, 0.2]]).plot(ax=right) is right.figure


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: importance(sweep()),
            TypeError,
            "result must be what a ChannelAblator's importance returns; got an object of type AblationResult",
        ),
        (lambda: importance(worth(), limit=0), ValueError, "limit must be at least 1; got 0"),
        (
            lambda: ablation_change(worth()),
            TypeError,
            "result must be what a ChannelAblator's sweep returns; got an object of type ImportanceResult",
        ),
        (
            lambda: channel_bars([0.1, 0.2]),
            TypeError,
            "result must be what channel_information returns; got [0.1, 0.2]",
        ),
        (
            lambda: layer_bars({"a": 0.1}),
            TypeError,
            "result must be what layer_information returns; got {'a': 0.1}",
        ),
        (lambda: channel_bars(channels([0.1]), limit=0), ValueError, "limit must be at least 1; got 0"),
    ],
    ids=range(6),
)
def test_misuse_is_named(call, error, message):
    with pytest.raises(error) as caught:
        call()
    assert str(caught.value) == message


def test_layers_stand_in_their_order_with_null_interval_and_bound():
    found = layers([0.2, 0.7], null_mean=-0.1, interval=(0.1, 0.9), label_entropy=2.0, units="bits")
    ax = found.plot().axes[0]
    assert [bar.get_height() for bar in ax.patches] == [0.2, 0.7]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["conv1", "conv2"]
    assert ax.get_ylabel() == "mutual information (bits)"
    strokes, *_, nulls = ax.collections
    np.testing.assert_allclose([s[:, 1] for s in strokes.get_segments()], [[0.1, 0.9]] * 2)
    np.testing.assert_allclose([s[0, 1] for s in nulls.get_segments()], [-0.1, -0.1])
    assert "H(Y) = 2.00" in texts(ax)


def test_layers_without_null_and_interval_have_neither():
    ax = layer_bars(layers([0.2, 0.7], ceiling=5.9)).axes[0]
    assert ax.get_legend() is None
    assert not ax.collections
    assert not any("=" in text for text in texts(ax)), "the bound would dwarf the bars"
    assert "ceiling: 5.900 nats" in texts(ax)[0]
    assert "ceiling = 1.00" in texts(layer_bars(layers([0.7], ceiling=1.0)).axes[0])
