"""Optimized images beside real ones."""

import pytest
import torch
from torch import nn

import featurelens as fl
from tests.nets import images, seeded
from tests.unit.plotting.results import maximized


def texts(ax):
    return [text.get_text() for text in ax.texts]


def test_results_hand_on_what_the_plotting_functions_take():
    found = maximized(1, 4)
    (ax,) = found.plot(columns=1).axes
    assert len({round(picture.get_extent()[0], 6) for picture in ax.images}) == 1
    (few,), (many,) = (found.compare(images()[..., :6]).plot(shown=n).axes for n in (1, 3))
    assert len(many.images) == 2 * len(few.images) == 16


def test_a_comparison_shows_the_optimized_image_first():
    found = maximized().compare(images(9)[..., :6])
    (ax,) = fl.plotting.comparison(found, shown=2).axes
    assert len(ax.images) == 3 * 3
    values = [f"{v:.3g}" for v in (found.scores[1], *found.top_scores[1, :2])]
    assert texts(ax)[5:8] == values
    assert torch.allclose(
        torch.tensor(ax.images[4].get_array().data).float(), found.top_images[1, 0, 0], atol=1e-6
    )
    assert "conv_1, channel 0" in texts(ax)


def test_a_dead_channel_has_no_strongest_images_and_says_so():
    model = seeded(lambda: nn.Sequential(nn.Conv2d(1, 1, 3), nn.ReLU()))
    with torch.no_grad():
        model[0].weight.zero_()
        model[0].bias.fill_(-1)
    comparison = (
        fl.ActivationMaximizer(model, fl.FourierImage((1, 8, 8)), steps=2).run("relu_1").compare(images())
    )
    (ax,) = comparison.plot().axes
    assert len(ax.images) == 1
    assert any(text.startswith("dead") for text in texts(ax))


def test_a_comparison_tells_what_it_leaves_out():
    figure = maximized(1, 5).compare(images()[..., :6]).plot(limit=2)
    assert figure.get_suptitle().replace("\n", " ").endswith("(first 2 of 5 shown)")


def test_everything_lies_on_the_page():
    figure = maximized(1, 3).compare(images()[..., :6]).plot()
    figure.draw_without_rendering()
    box = figure.bbox
    for ax in figure.axes:
        for text in ax.texts:
            inside = text.get_window_extent()
            assert inside.x0 >= box.x0
            assert inside.x1 <= box.x1
            assert inside.y1 <= box.y1


@pytest.mark.parametrize(
    "draw", [fl.plotting.maximization, fl.plotting.maximization_history, fl.plotting.comparison]
)
def test_what_is_no_result_is_refused(draw):
    with pytest.raises(
        TypeError, match=r"(result|comparison) must be a (MaximizationResult|RealImageComparison); got 3"
    ):
        draw(3)


def test_limits_are_positive(tmp_path):
    found = maximized()
    with pytest.raises(ValueError, match="limit must be at least 1; got 0"):
        found.plot(limit=0)
    with pytest.raises(ValueError, match="shown must be at least 1; got 0"):
        fl.plotting.comparison(found.compare(images()[..., :6]), shown=0)
    with pytest.raises(ValueError, match="paths must name all of 3 images; got 1"):
        fl.plotting.write_images(found.images, [tmp_path / "a.png"])


def test_real_images_of_another_size_are_drawn_in_their_own_shape():
    (ax,) = maximized(1, 2).compare(images()[..., :5, :]).plot(shown=1).axes
    optimized, real = ax.images[:2]
    assert optimized.get_array().shape == (8, 6)
    assert real.get_array().shape == (5, 8)
    left, right, bottom, top = real.get_extent()
    assert abs((right - left) / abs(top - bottom) - 8 / 5) < 1e-6
