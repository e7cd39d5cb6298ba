"""Strips of reconstructions."""

import numpy as np
import pytest
import torch

from featurelens.plotting import ablation_gallery, reconstructions
from tests.unit.plotting.results import sweep


def texts(figure):
    return [text.get_text() for text in figure.axes[0].texts if text.get_text()]


def note(figure):
    return " ".join(text.get_text() for text in figure.texts)


def test_the_original_comes_first_and_errors_stand_below():
    result = sweep()
    figure = result.plot(image=1)
    shown = figure.axes[0].images
    assert len(shown) == 7
    np.testing.assert_allclose(shown[0].get_array(), result.images[1, 0].double())
    np.testing.assert_allclose(shown[1].get_array(), result.baseline[1, 0].double().clip(0, 1))
    np.testing.assert_allclose(shown[4].get_array(), result.outputs[2, 1, 0].double())
    errors = [f"{result.baseline_error[1]:.3g}", *(f"{error:.3g}" for error in result.error[:, 1])]
    labels = ["original", "all channels", *map(str, range(5))]
    assert texts(figure) == [
        "original",
        *[text for pair in zip(labels[1:], errors, strict=True) for text in pair],
    ]
    assert figure.get_suptitle() == "conv1: each channel alone"


def test_pictures_are_scaled_separately_where_the_scale_is_not_the_original_s():
    result = sweep(baseline=torch.full((3, 1, 6, 6), 50.0))
    shown = reconstructions(result).axes[0].images
    for picture in shown[2:]:
        assert picture.get_array().min() == pytest.approx(0)
        assert picture.get_array().max() == pytest.approx(1)
    assert "each image scaled separately" in note(reconstructions(result))
    assert "all on the original's scale" in note(reconstructions(result, scale="shared"))
    assert "scaled separately" in note(reconstructions(sweep(), scale="each"))


def test_normalized_colour_images():
    x = torch.randn(2, 3, 6, 6)
    result = sweep(images=x, baseline=x, outputs=torch.stack([x, 10 * x, x * 0]), channels=(0, 1, 2))
    shown = reconstructions(result).axes[0].images
    np.testing.assert_allclose(shown[1].get_array(), shown[0].get_array())
    np.testing.assert_allclose(shown[2].get_array(), shown[0].get_array())
    assert shown[3].get_array().max() == 1  # cut at the original's range


@pytest.mark.parametrize("scale", ["shared", "each"])
@pytest.mark.parametrize("draw", [reconstructions, ablation_gallery])
def test_what_a_dead_channel_gives_is_hatched_and_told(draw, scale):
    result = sweep()
    assert "hatched" not in note(draw(result, scale=scale))
    result.outputs[2] = 0.25
    result.images[0] = 0.5  # an original is a picture, whatever it shows
    figure = draw(result, scale=scale)
    rows = 3 if draw is ablation_gallery else 1
    assert len(figure.axes[0].images) == 6 * rows
    assert sum(patch.get_hatch() == "////" for patch in figure.axes[0].patches) == rows
    assert texts(figure).count("0.25") == rows
    assert "hatched: constant" in note(figure).replace("\n", " ")


def test_nan_is_pink_and_told():
    outputs = torch.rand(2, 3, 3, 6, 6)
    outputs[0, 0, :, 0, 0] = torch.nan
    x = torch.rand(3, 3, 6, 6)
    figure = reconstructions(sweep(images=x, baseline=x, outputs=outputs, channels=(0, 1)))
    np.testing.assert_allclose(figure.axes[0].images[2].get_array()[0, 0], [1, 0, 168 / 255])
    assert "pink: NaN or infinite" in note(figure)


def test_the_gallery_has_a_row_for_each_image():
    result = sweep(20, 9)
    figure = ablation_gallery(result, images=4, limit=6)
    shown = figure.axes[0].images
    assert len(shown) == 4 * 8
    assert len({round(image.get_extent()[3], 6) for image in shown}) == 4
    for row in range(4):
        np.testing.assert_allclose(shown[8 * row].get_array(), result.images[row, 0].double())
        np.testing.assert_allclose(shown[8 * row + 7].get_array(), result.outputs[5, row, 0].double())
    errors = [text for text in texts(figure) if text.startswith("0.")]
    assert errors[7:9] == [f"{error:.3g}" for error in (result.baseline_error[1], result.error[0, 1])]
    assert figure.get_suptitle() == "conv1: each channel alone (first 6 of 20), 4 of 9 images"


def test_pictures_that_are_scaled_separately_have_no_error_below():
    figure = sweep(baseline=torch.rand(3, 1, 6, 6) + 5).plot()
    assert texts(figure) == ["original", "all channels", *"01234"]
    assert "scaled separately" in note(figure)
    assert "error" not in note(figure)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: reconstructions(torch.rand(3)),
            TypeError,
            "result must be what a ChannelAblator's sweep returns; got float32 tensor (3,)",
        ),
        (
            lambda: reconstructions(sweep(), image=3),
            ValueError,
            "image must be below 3, the number of images in the result; got 3",
        ),
        (
            lambda: reconstructions(sweep(), scale="own"),
            ValueError,
            "scale must be one of 'auto', 'shared', 'each'; got 'own'",
        ),
        (
            lambda: reconstructions(sweep(outputs=torch.rand(5, 3, 10), baseline=torch.rand(3, 10))),
            ValueError,
            (
                "the outputs, (10,) for an image (1, 6, 6), are not reconstructions: pass the ablator a decoder, or select "
                "the reconstruction with output="
            ),
        ),
    ],
)
def test_misuse_is_named(call, error, message):
    with pytest.raises(error) as caught:
        call()
    assert str(caught.value) == message
