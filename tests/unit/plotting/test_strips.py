"""Reconstructions, importance and curves as pictures."""

import re

import numpy as np
import pytest
import torch

import featurelens as fl
from featurelens.plotting import (
    ablation_change,
    ablation_curves,
    ablation_gallery,
    class_importance,
    importance,
    reconstructions,
)


def sweep(count=5, size=3, **more):
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(size, 1, 6, 6, generator=generator)
    fields = {
        "outputs": torch.rand(count, size, 1, 6, 6, generator=generator),
        "baseline": x + 0.01,
        "images": x,
        "channels": tuple(range(count)),
        "layer": "conv1",
        "mode": "keep",
        "fill": "zero",
    }
    return fl.AblationResult(**(fields | more))


def worth(**more):
    fields = {
        "importance": torch.tensor([0.0, 0.3, 0.1]),
        "standard_error": torch.full((3,), 0.02),
        "per_class": torch.tensor([[0.0, 0.0], [0.2, 0.4], [0.3, -0.1]]),
        "baseline": 0.9,
        "channels": (0, 4, 2),
        "n": 100,
        "layer": "conv1",
        "metric": "accuracy",
        "mode": "drop",
        "fill": "zero",
    }
    return fl.ImportanceResult(**(fields | more))


def curve(**more):
    fields = {
        "values": torch.tensor([0.9, 0.8, 0.3]),
        "order": (2, 0),
        "total": 3,
        "n": 100,
        "layer": "conv1",
    }
    return fl.AblationCurve(**(fields | {"metric": "accuracy", "fill": "zero"} | more))


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


def test_pictures_are_stretched_one_by_one_where_the_scale_is_not_the_original_s():
    result = sweep(baseline=torch.full((3, 1, 6, 6), 50.0))
    shown = reconstructions(result).axes[0].images
    for picture in shown[2:]:
        assert picture.get_array().min() == pytest.approx(0)
        assert picture.get_array().max() == pytest.approx(1)
    assert "each image scaled separately" in note(reconstructions(result))
    assert "all on the original's scale" in note(reconstructions(result, scale="shared"))
    assert "stretched" in note(reconstructions(sweep(), scale="each"))


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
    figure = ablation_gallery(sweep(20, 9), images=4, limit=6)
    shown = figure.axes[0].images
    assert len(shown) == 4 * 8
    assert len({round(image.get_extent()[3], 6) for image in shown}) == 4
    assert figure.get_suptitle() == "conv1: each channel alone (first 6 of 20), 4 of 9 images"


def test_other_outputs_are_drawn_as_bars():
    result = sweep(outputs=torch.rand(5, 3, 10), baseline=torch.rand(3, 10))
    figure = result.plot()
    ax = figure.axes[0]
    heights = [bar.get_height() for bar in ax.patches]
    np.testing.assert_allclose(heights, result.change.mean(1).sort(descending=True).values, rtol=1e-5)
    assert len(ablation_change(sweep(5, 1)).axes[0].patches) == 5


def test_pictures_that_are_stretched_have_no_error_below():
    figure = sweep(baseline=torch.rand(3, 1, 6, 6) + 5).plot()
    assert texts(figure) == ["original", "all channels", *"01234"]
    assert "stretched" in note(figure)
    assert "error" not in note(figure)


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


def test_absent_classes_are_quiet():
    per_class = torch.tensor([[0.0, torch.nan], [0.2, torch.nan], [0.3, torch.nan]])
    picture = class_importance(worth(per_class=per_class)).axes[0].images[0]
    red, green, blue, _ = picture.to_rgba(picture.get_array())[1, 0]
    assert min(red, green, blue) > 0.8


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


def test_class_importance_has_classes_in_rows():
    ax = worth().plot_classes(classes=["cat", "dog"]).axes[0]
    np.testing.assert_allclose(ax.images[0].get_array(), [[20, 30, 0], [40, -10, 0]], rtol=1e-5)
    assert ax.images[0].get_clim() == pytest.approx((-40, 40))
    assert [label.get_text() for label in ax.get_yticklabels()] == ["cat", "dog"]
    assert ax.get_ylabel() == "class"
    assert [text.get_text() for text in ax.texts] == ["20", "30", "0", "40", "-10", "0"]
    missing = worth(per_class=torch.tensor([[0.1, torch.nan]] * 3))
    assert [text.get_text() for text in class_importance(missing).axes[0].texts][3:] == ["–"] * 3


def test_curves():
    ax = curve().plot().axes[0]
    np.testing.assert_allclose(ax.lines[0].get_ydata(), [90, 80, 30], rtol=1e-5)
    np.testing.assert_array_equal(ax.lines[0].get_xdata(), [0, 1, 2])
    assert ax.get_legend() is None
    ax = ablation_curves({"least": curve(), "most": curve()}).axes[0]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["least", "most"]


MISUSE = [
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
            "the outputs, (10,) for an image (1, 6, 6), are not reconstructions: give the ablator a decoder, or name "
            "the reconstruction with output="
        ),
    ),
    (
        lambda: importance(sweep()),
        TypeError,
        "result must be what a ChannelAblator's importance returns; got an object of type AblationResult",
    ),
    (lambda: importance(worth(), limit=0), ValueError, "limit must be at least 1; got 0"),
    (
        lambda: class_importance(worth(per_class=None)),
        ValueError,
        "the result has no classes: its labels were not whole numbers (N,)",
    ),
    (
        lambda: class_importance(worth(), classes=["cat"]),
        ValueError,
        "classes must name all of 2 classes; got 1 name",
    ),
    (lambda: ablation_curves({}), ValueError, "curves must be of one metric; got no curve"),
    (
        lambda: ablation_curves({"a": curve(), "b": curve(metric="loss")}),
        ValueError,
        "curves must be of one metric; got accuracy, loss",
    ),
    (lambda: ablation_curves({"a": 1}), TypeError, "curves['a'] must be what curve returns; got 1"),
    (
        lambda: ablation_change(worth()),
        TypeError,
        "result must be what a ChannelAblator's sweep returns; got an object of type ImportanceResult",
    ),
]


@pytest.mark.parametrize(("call", "error", "message"), MISUSE, ids=range(len(MISUSE)))
def test_misuse_is_named(call, error, message):
    with pytest.raises(error) as caught:
        call()
    assert str(caught.value) == message


def worth_by_class(channels, scale):
    per_class = scale * torch.randn(channels, 10, generator=torch.Generator().manual_seed(0))
    errors, numbers = torch.zeros(channels), tuple(range(channels))
    return worth(
        importance=per_class.mean(1),
        standard_error=errors,
        per_class=per_class,
        channels=numbers,
        metric="loss",
    )


@pytest.mark.parametrize("scale", [1e-5, 3e-4, 0.02, 0.3, 4.0, 50.0, 3e3])
def test_numbers_of_any_size_fit_into_their_cells(scale):
    result = worth_by_class(16, scale)
    per_class = result.per_class
    ax = class_importance(result).axes[0]
    ax.figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in ax.texts]
    assert len(boxes) == 160
    cell = ax.get_window_extent().width / 16
    assert all(box.width < 0.95 * cell for box in boxes)
    power = re.search(r"10\^\{(-?\d+)\}", ax.figure.axes[1].get_ylabel())
    unit = 10.0 ** int(power[1]) if power else 1.0
    shown = torch.tensor([float(text.get_text()) for text in ax.texts]).view(10, 16) * unit
    order = list(result.order("most"))
    assert (shown - per_class[order].T).abs().max() <= 0.06 * per_class.abs().max()


def test_the_unit_of_the_numbers_is_named_only_where_there_are_numbers():
    few, many = (class_importance(worth_by_class(channels, 0.02)).axes[0] for channels in (16, 32))
    assert "in cells" in few.figure.axes[1].get_ylabel()
    assert not many.texts
    assert many.figure.axes[1].get_ylabel() == "increase in loss when removed (nats)"
