"""Images as pictures in a grid."""

import re
from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import nn

import featurelens as fl
from featurelens.plotting import image_grid
from tests.unit.plotting.results import maximized


def texts(ax):
    return [text.get_text() for text in ax.texts]


def test_every_image_stands_under_its_score_and_objective():
    found = maximized()
    (ax,) = found.plot().axes
    assert len(ax.images) == 3
    assert texts(ax) == [
        f"conv_1, channel {k}\nscore {score:.3g}" for k, score in enumerate(found.scores.tolist())
    ]
    assert ax.images[0].get_cmap().name == "gray"
    assert torch.allclose(torch.tensor(ax.images[1].get_array().data).float(), found.images[1, 0], atol=1e-6)


def test_colours_and_a_limit():
    figure = maximized(3, 5).plot(limit=2, title="What they see")
    assert figure.get_suptitle() == "What they see (first 2 of 5)"
    assert figure.axes[0].images[0].get_array().shape == (8, 6, 3)


def test_long_labels_are_spread_over_lines():
    network = nn.Sequential(OrderedDict([("a_long_name_of_a_layer", nn.Conv2d(1, 12, 3))]))
    network = nn.Sequential(OrderedDict([("and_of_a_block", network)]))
    maximizer = fl.ActivationMaximizer(network, fl.FourierImage((1, 8, 8)), steps=1, progress=False)
    figure = maximizer.run("and_of_a_block.a_long_name_of_a_layer").plot()
    figure.draw_without_rendering()
    labels = figure.axes[0].texts
    named = [re.sub(r"\s", "", text.get_text().partition("score")[0]) for text in labels]
    assert named == [f"and_of_a_block.a_long_name_of_a_layer,channel{number}" for number in range(12)]
    boxes = [text.get_window_extent() for text in labels]
    frames = [image.get_window_extent() for image in figure.axes[0].images]
    for label, box in enumerate(boxes):
        assert box.y1 <= figure.bbox.y1
        assert not any(box.overlaps(other) for other in boxes[label + 1 :])
        assert not any(box.overlaps(frame) for frame in frames)


def pictures(figure):
    return figure.axes[0].images


def note(figure):
    return " ".join(text.get_text() for text in figure.texts)


def test_three_channels_are_shown_as_they_are():
    images = torch.rand(5, 3, 4, 6)
    figure = image_grid(images)
    for image, expected in zip(pictures(figure), images, strict=True):
        np.testing.assert_allclose(image.get_array(), expected.permute(1, 2, 0))
    assert note(figure) == ""


def test_one_channel_is_grey_between_zero_and_one():
    (image,) = pictures(image_grid(torch.full((1, 1, 3, 3), 0.25)))
    assert image.get_cmap().name == "gray"
    assert image.get_clim() == (0, 1)
    np.testing.assert_allclose(image.get_array(), 0.25)


def test_bytes_are_pixels():
    (image,) = pictures(image_grid(np.full((1, 3, 2, 2), 51, dtype=np.uint8)))
    np.testing.assert_allclose(image.get_array(), 0.2)


@pytest.mark.parametrize(("channels", "rows", "columns"), [(2, 1, 2), (4, 2, 2), (6, 2, 3), (24, 5, 5)])
def test_other_numbers_of_channels_lie_side_by_side_and_the_note_says_so(channels, rows, columns):
    images = torch.rand(1, channels, 3, 4)
    figure = image_grid(images)
    drawn = pictures(figure)[0].get_array()
    assert drawn.shape == (3 * rows, 4 * columns)
    for channel in range(channels):
        down, across = 3 * (channel // columns), 4 * (channel % columns)
        np.testing.assert_allclose(drawn[down : down + 3, across : across + 4], images[0, channel])
    assert pictures(figure)[0].get_cmap().name == "viridis"
    assert note(figure) == f"{channels} channels, {columns} in a row"


def test_normalized_images_are_stretched_together_and_the_note_says_so():
    images = torch.tensor([-1.0, 3.0]).reshape(2, 1, 1, 1).expand(2, 3, 2, 2)
    figure = image_grid(images)
    assert [image.get_array().mean() for image in pictures(figure)] == [0.0, 1.0]
    assert note(figure) == "stretched from [-1, 3] to [0, 1]"


def test_nan_pixels_are_pink():
    images = torch.rand(1, 3, 2, 2)
    images[0, 2, 0, 1] = torch.nan
    figure = image_grid(images)
    np.testing.assert_allclose(pictures(figure)[0].get_array()[0, 1], [1, 0, 168 / 255])
    assert note(figure) == "pink: NaN or infinite"


def test_labels_stand_above_and_long_ones_take_lines_and_are_shortened_in_the_end():
    figure = image_grid(
        torch.rand(64, 1, 4, 4), labels=["a very long label indeed", "word " * 30, *range(62)]
    )
    labels = [text.get_text() for text in figure.axes[0].texts]
    assert labels[2:] == [str(number) for number in range(62)]
    assert labels[0].replace("\n", " ") == "a very long label indeed"
    assert labels[1].endswith("…")
    assert labels[1].count("\n") == 3


def test_labels_may_be_a_tensor():
    figure = image_grid(torch.rand(2, 1, 4, 4), labels=torch.tensor([7, 3]))
    assert [text.get_text() for text in figure.axes[0].texts] == ["7", "3"]


def test_columns_can_be_chosen():
    figure = image_grid(torch.rand(6, 1, 4, 4), columns=torch.tensor(2))  # a whole number of any kind
    assert len({round(image.get_extent()[0], 6) for image in pictures(figure)}) == 2
    assert len({round(image.get_extent()[3], 6) for image in pictures(figure)}) == 3


def test_a_large_batch_is_limited_in_words():
    figure = image_grid(torch.rand(100, 1, 2, 2), title="Digits", limit=9)
    assert len(pictures(figure)) == 9
    assert figure.get_suptitle() == "Digits (first 9 of 100)"


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: image_grid(None), TypeError, "images must be a tensor or a NumPy array; got None"),
        (
            lambda: image_grid(torch.rand(4, 4)),
            ValueError,
            "images must be (N, C, L), (N, C, H, W) or (N, C, D, H, W); got shape (4, 4)",
        ),
        (
            lambda: image_grid(torch.rand(2, 1, 4, 4), labels=["one"]),
            ValueError,
            "labels must have one label for each of 2 images; got 1 label",
        ),
        (
            lambda: image_grid(torch.rand(2, 1, 4, 4), labels="ab"),
            TypeError,
            "labels must be a sequence with one label for each image; got 'ab'",
        ),
        (
            lambda: image_grid(torch.rand(2, 1, 4, 4), columns=0),
            ValueError,
            "columns must be at least 1; got 0",
        ),
    ],
)
def test_misuse_is_named(call, error, message):
    with pytest.raises(error) as caught:
        call()
    assert str(caught.value) == message
