"""Bars for channels, a heat map for pairs of channels."""

import itertools

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from featurelens.information import ChannelInformationResult, SpatialMutualInformationResult
from featurelens.plotting import channel_bars, pair_matrix


def channels(values, **more):
    return ChannelInformationResult(
        values=torch.as_tensor(values, dtype=torch.float64), method="channels()", n=99, **more
    )


def pairs(per_pair, null=None, **more):
    per_pair = torch.as_tensor(per_pair, dtype=torch.float64)
    null = None if null is None else torch.full_like(per_pair, null)
    return SpatialMutualInformationResult(
        value=float(per_pair.mean()),
        per_pair=per_pair,
        per_image=torch.zeros(4),
        null_mean=None if null is None else float(null.mean()),
        null_per_pair=null,
        method="spatial",
        n=4,
        dim_x=per_pair.shape[0],
        dim_y=per_pair.shape[1],
        **more,
    )


def texts(ax):
    return [text.get_text() for text in ax.texts]


def numbers(ax):
    return [text for text in texts(ax) if "." in text]


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


def test_the_excess_over_the_null_is_drawn_around_zero():
    ax = pair_matrix(pairs([[0.5, 0.1, 0.2]], null=0.2)).axes[0]
    assert isinstance(ax, Axes)
    np.testing.assert_allclose([image.get_array().item() for image in ax.images], [0.3, -0.1, 0.0])
    assert ax.images[0].get_clim() == (pytest.approx(-0.3), pytest.approx(0.3))
    assert len({image.get_clim() for image in ax.images}) == 1
    assert {image.get_cmap().name for image in ax.images} == {"RdBu_r"}
    assert numbers(ax) == ["0.30", "-0.10", "0.00"]
    note = ax.figure.texts[-1].get_text()
    assert note == "excess over the null in nats: mean 0.067, null 0.200"


def test_without_a_null_values_are_drawn_and_the_note_warns_of_bias():
    ax = pair_matrix(pairs([[0.5, 0.1]]), title="Mine").axes[0]
    assert {image.get_cmap().name for image in ax.images} == {"viridis"}
    assert numbers(ax) == ["0.50", "0.10"]
    note = ax.figure.texts[-1].get_text()
    assert note == "nats; no null, so values include bias; mean 0.300"
    assert ax.figure.get_suptitle() == "Mine"


def test_rows_are_image_channels_and_long_rows_are_broken_into_blocks():
    values = torch.arange(3 * 40.0).reshape(3, 40) / 100
    ax = pair_matrix(pairs(values)).axes[0]
    assert len(ax.images) == 40
    np.testing.assert_allclose(ax.images[17].get_array()[:, 0], values[:, 17])
    tops = [round(image.get_extent()[3], 6) for image in ax.images]
    assert len(set(tops)) == 3
    assert len(numbers(ax)) == 120


def test_large_matrices_are_colours_only_and_limited_in_words():
    ax = pair_matrix(pairs(torch.rand(80, 90))).axes[0]
    assert ax.figure.get_suptitle() == "Spatial information of 80 × 90 pairs of channels (first 64 × 64)"
    assert numbers(ax) == []
    assert len({round(image.get_extent()[3], 6) for image in ax.images}) == 1


@pytest.mark.parametrize("shape", [(1, 1), (1, 16), (3, 64), (16, 16), (64, 3), (64, 64)])
def test_pairs_of_any_shape_fit_their_page(shape):
    ax = pair_matrix(pairs(torch.rand(shape), null=0.5)).axes[0]
    ax.figure.draw_without_rendering()
    page = ax.figure.bbox
    assert page.width < 10 * ax.figure.dpi
    assert page.height < 12 * ax.figure.dpi
    for text in [*ax.texts, *ax.figure.texts]:
        box = text.get_window_extent()
        assert page.x0 <= box.x0 <= box.x1 <= page.x1
        assert page.y0 <= box.y0 <= box.y1 <= page.y1


def test_results_plot_themselves():
    left, right = Figure().subplots(1, 2)
    assert channels([0.1, 0.2]).plot(limit=1, title="one", ax=left) is left.figure
    assert left.get_title(loc="left") == "one (best 1 of 2 channels)"
    assert pairs([[0.1, 0.2]]).plot(ax=right) is right.figure


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: channel_bars([0.1, 0.2]),
            TypeError,
            "result must be what channel_information returns; got [0.1, 0.2]",
        ),
        (lambda: channel_bars(channels([0.1]), limit=0), ValueError, "limit must be at least 1; got 0"),
        (
            lambda: pair_matrix(channels([0.1])),
            TypeError,
            (
                "result must be what spatial_mutual_information returns; got an object of type "
                "ChannelInformationResult"
            ),
        ),
        (
            lambda: pair_matrix(pairs([[0.1]]), limit="all"),
            TypeError,
            "limit must be a whole number; got 'all'",
        ),
    ],
)
def test_misuse_is_named(call, error, message):
    with pytest.raises(error) as caught:
        call()
    assert str(caught.value) == message
