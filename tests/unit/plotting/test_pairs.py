"""A heat map for pairs of channels."""

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes

from featurelens.plotting import pair_matrix
from tests.unit.plotting.results import channels, pairs


def texts(ax):
    return [text.get_text() for text in ax.texts]


def numbers(ax):
    return [text for text in texts(ax) if "." in text]


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


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
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
