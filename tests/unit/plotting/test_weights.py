"""The weights of a convolution as pictures."""

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from torch import nn

from featurelens.plotting import filters


def pictures(figure):
    return figure.axes[0].images


def test_one_input_channel_is_signed_around_zero_with_a_scale_for_each_filter():
    weight = torch.stack([torch.full((1, 3, 3), 0.5), torch.full((1, 3, 3), -2.0)])
    figure = filters(weight)
    assert isinstance(figure, Figure)
    assert [image.get_cmap().name for image in pictures(figure)] == ["RdBu_r", "RdBu_r"]
    assert [image.get_clim() for image in pictures(figure)] == [(-0.5, 0.5), (-2.0, 2.0)]
    np.testing.assert_allclose(pictures(figure)[1].get_array(), -2.0)


def test_shared_scale_has_one_range_and_a_colour_bar():
    figure = filters(torch.tensor([0.5, -2.0]).reshape(2, 1, 1, 1).expand(2, 1, 3, 3), scale="shared")
    assert {image.get_clim() for image in pictures(figure)} == {(-2.0, 2.0)}
    assert len(figure.axes) == 2
    assert figure.axes[1].get_ylim() == (-2.0, 2.0)


def test_three_input_channels_are_rgb_around_mid_grey():
    weight = torch.zeros(2, 3, 5, 5)
    weight[0, 0] = 1.0  # red
    weight[0, 1] = -0.5
    first, second = pictures(filters(weight))
    np.testing.assert_allclose(first.get_array()[0, 0], [1.0, 0.25, 0.5])
    np.testing.assert_allclose(second.get_array(), 0.5)


def test_rgb_on_a_shared_scale_compares_filters():
    weight = torch.tensor([1.0, 0.1]).reshape(2, 1, 1, 1).expand(2, 3, 2, 2)
    strong, weak = pictures(filters(weight, scale="shared"))
    np.testing.assert_allclose(strong.get_array(), 1.0)
    np.testing.assert_allclose(weak.get_array(), 0.55)


def test_many_input_channels_are_a_table_and_the_title_says_what_is_left_out():
    weight = torch.randn(20, 64, 3, 3)
    figure = filters(weight, title="conv2")
    assert figure.get_suptitle() == "conv2 (first 16 of 20 filters, first 16 of 64 input channels)"
    assert len(pictures(figure)) == 256
    np.testing.assert_allclose(pictures(figure)[16 + 2].get_array(), weight[1, 2])
    top = [round(image.get_extent()[3], 6) for image in pictures(figure)]
    assert len(set(top[:16])) == 1
    assert top[16] > top[15]
    row = {image.get_clim() for image in pictures(figure)[:16]}
    assert len(row) == 1  # a filter is a row: one scale
    words = {text.get_text(): text.get_position() for text in figure.axes[0].texts}
    left, _, bottom, top = pictures(figure)[0].get_extent()
    assert words["filter"][0] < words["input channel"][0] == pytest.approx(left)
    assert words["input channel"][1] < words["filter"][1] <= top + 1e-9 < bottom


def test_limit_counts_filters():
    figure = filters(torch.randn(100, 3, 3, 3), limit=5)
    assert len(pictures(figure)) == 5
    assert figure.get_suptitle() == "100 filters of 3×3 (first 5 of 100 filters)"


def test_a_module_stands_for_its_weight():
    conv = nn.Conv2d(1, 4, 3)
    np.testing.assert_allclose(pictures(filters(conv))[3].get_array(), conv.weight.detach()[3, 0])


@pytest.mark.parametrize("groups", [1, 2])
def test_transposed_convolution_is_brought_into_order(groups):
    conv = nn.ConvTranspose2d(4, 6, 3, groups=groups)
    figure = filters(conv)
    assert figure.get_suptitle() == "6 filters of 3×3"
    per_group, inputs = 6 // groups, 4 // groups
    for out in range(6):
        group = out // per_group
        for channel in range(inputs):
            expected = conv.weight[group * inputs + channel, out % per_group].detach()
            np.testing.assert_allclose(pictures(figure)[out * inputs + channel].get_array(), expected)


def test_filters_of_one_weight_share_their_scale():
    figure = filters(torch.tensor([0.5, -2.0]).reshape(2, 1, 1, 1))
    assert {image.get_clim() for image in pictures(figure)} == {(-2.0, 2.0)}


def test_nan_is_pink():
    weight = torch.ones(1, 3, 2, 2)
    weight[0, 1, 0, 0] = torch.nan
    (image,) = pictures(filters(weight))
    np.testing.assert_allclose(image.get_array()[0, 0], [1, 0, 168 / 255])
    np.testing.assert_allclose(image.get_array()[1, 1], 1.0)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: filters([[1.0]]), TypeError, "weight must be a tensor or a NumPy array; got [[1.0]]"),
        (
            lambda: filters(nn.ReLU()),
            TypeError,
            "weight must be a tensor or a module with a weight; got an object of type ReLU",
        ),
        (lambda: filters(nn.Linear(3, 2)), ValueError, "weight must be (out, in, kh, kw); got shape (2, 3)"),
        (
            lambda: filters(torch.zeros(0, 1, 3, 3)),
            ValueError,
            "weight is empty: its shape is (0, 1, 3, 3)",
        ),
        (
            lambda: filters(torch.zeros(1, 1, 3, 3), scale="map"),
            ValueError,
            "scale must be one of 'filter', 'shared'; got 'map'",
        ),
        (lambda: filters(torch.zeros(1, 1, 3, 3), limit=0), ValueError, "limit must be at least 1; got 0"),
        (
            lambda: filters(torch.zeros(1, 1, 3, 3), limit=2.5),
            TypeError,
            "limit must be a whole number; got 2.5",
        ),
        (
            lambda: filters(torch.zeros(1, 1, 3, 3, dtype=torch.complex64)),
            TypeError,
            "weight must hold real numbers; got complex64",
        ),
        (
            lambda: filters(torch.zeros(1, 1, 3, 3), ax=1),
            TypeError,
            "ax must be a matplotlib Axes; got 1",
        ),
    ],
)
def test_misuse_is_named(call, error, message):
    with pytest.raises(error) as caught:
        call()
    assert str(caught.value) == message
