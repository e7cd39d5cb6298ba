"""Pictures of optimized images: what is drawn, what is written above it, and what is left out."""

from collections import OrderedDict

import pytest
import torch
from torch import nn

import featurelens as fl
from tests.nets import images, seeded


def result(channels=1, outputs=3, wanted=None):
    model = seeded(lambda: nn.Sequential(nn.Conv2d(channels, outputs, 3), nn.ReLU()))
    return fl.ActivationMaximizer(model, fl.FourierImage((channels, 8, 6)), steps=3).run(wanted or "conv_1")


def texts(ax):
    return [text.get_text() for text in ax.texts]


def test_every_image_stands_under_its_score_and_objective():
    found = result()
    (ax,) = found.plot().axes
    assert len(ax.images) == 3
    assert texts(ax) == [f"{score:.3g}  conv_1:{k}" for k, score in enumerate(found.scores.tolist())]
    assert ax.images[0].get_cmap().name == "gray"
    assert torch.allclose(torch.tensor(ax.images[1].get_array().data).float(), found.images[1, 0], atol=1e-6)


def test_colours_and_a_limit():
    figure = result(3, 5).plot(limit=2, title="What they see")
    assert figure.get_suptitle() == "What they see (first 2 of 5)"
    assert figure.axes[0].images[0].get_array().shape == (8, 6, 3)


def test_results_hand_on_what_the_plotting_functions_take():
    found = result(1, 4)
    (ax,) = found.plot(columns=1).axes
    assert len({round(picture.get_extent()[0], 6) for picture in ax.images}) == 1
    (few,), (many,) = (found.compare(images()[..., :6]).plot(shown=n).axes for n in (1, 3))
    assert len(many.images) == 2 * len(few.images) == 16


def test_history_has_a_line_for_each_or_bands_for_many():
    few = result().plot_history(title="Rise").axes[0]
    assert [line.get_label() for line in few.lines] == ["conv_1:0", "conv_1:1", "conv_1:2"]
    assert few.get_xlabel() == "step"
    many = result(1, 9).plot_history().axes[0]
    assert [text.get_text() for text in many.get_legend().get_texts()] == [
        "all",
        "middle half",
        "median of 9",
    ]
    one = result(wanted="conv_1:0")
    assert len(one.plot_history().axes[0].lines) == 1


def test_a_verdict_shows_the_optimized_image_first():
    found = result().compare(images(9)[..., :6])
    (ax,) = fl.plotting.comparison(found, shown=2).axes
    assert len(ax.images) == 3 * 3
    values = [f"{v:.3g}" for v in (found.scores[1], *found.top_scores[1, :2])]
    assert texts(ax)[5:8] == values
    assert torch.allclose(
        torch.tensor(ax.images[4].get_array().data).float(), found.top_images[1, 0, 0], atol=1e-6
    )
    assert "conv_1:0" in texts(ax)


def test_a_dead_channel_has_no_strongest_images_and_says_so():
    model = seeded(lambda: nn.Sequential(nn.Conv2d(1, 1, 3), nn.ReLU()))
    with torch.no_grad():
        model[0].weight.zero_()
        model[0].bias.fill_(-1)
    verdict = (
        fl.ActivationMaximizer(model, fl.FourierImage((1, 8, 8)), steps=2).run("relu_1").compare(images())
    )
    (ax,) = verdict.plot().axes
    assert len(ax.images) == 1
    assert any(text.startswith("dead") for text in texts(ax))


def test_a_verdict_tells_what_it_leaves_out():
    figure = result(1, 5).compare(images()[..., :6]).plot(limit=2)
    assert figure.get_suptitle().replace("\n", " ").endswith("(first 2 of 5 shown)")


def test_everything_lies_on_the_page():
    figure = result(1, 3).compare(images()[..., :6]).plot()
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


def test_long_labels_are_spread_over_lines():
    network = nn.Sequential(OrderedDict([("a_long_name_of_a_layer", nn.Conv2d(1, 12, 3))]))
    network = nn.Sequential(OrderedDict([("and_of_a_block", network)]))
    maximizer = fl.ActivationMaximizer(network, fl.FourierImage((1, 8, 8)), steps=1, progress=False)
    figure = maximizer.run("and_of_a_block.a_long_name_of_a_layer").plot()
    figure.draw_without_rendering()
    labels = figure.axes[0].texts
    assert [text.get_text().replace("\n", "").partition("and")[2] for text in labels] == [
        f"_of_a_block.a_long_name_of_a_layer:{number}" for number in range(12)
    ]
    boxes = [text.get_window_extent() for text in labels]
    frames = [image.get_window_extent() for image in figure.axes[0].images]
    for label, box in enumerate(boxes):
        assert box.y1 <= figure.bbox.y1
        assert not any(box.overlaps(other) for other in boxes[label + 1 :])
        assert not any(box.overlaps(frame) for frame in frames)


def test_objectives_of_different_kinds_share_a_scale():
    network = seeded(lambda: nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3)))
    maximizer = fl.ActivationMaximizer(network, fl.FourierImage((1, 8, 8)), steps=6, progress=False)
    alike = maximizer.run(["conv_1:0", "conv_1:1"]).plot_history().axes[0]
    assert alike.get_ylabel() == "objective"
    result = maximizer.run([fl.objectives.channel("conv_1", 0), 100 * fl.objectives.logit(1)])
    ax = result.plot_history().axes[0]
    assert ax.get_ylabel() == "objective: 0 lowest, 1 highest"
    for row, line in enumerate(ax.lines):
        values = result.history[:, row].double()
        expected = (values - values.min()) / (values.max() - values.min())
        assert abs(line.get_ydata() - expected.numpy()).max() < 1e-6
        label = line.get_label().replace("\n", " ")
        assert label.endswith(f"({values.min():.3g} to {values.max():.3g})")


def test_limits_are_positive(tmp_path):
    found = result()
    with pytest.raises(ValueError, match="limit must be at least 1; got 0"):
        found.plot(limit=0)
    with pytest.raises(ValueError, match="shown must be at least 1; got 0"):
        fl.plotting.comparison(found.compare(images()[..., :6]), shown=0)
    with pytest.raises(ValueError, match="paths must name all of 3 images; got 1"):
        fl.plotting.write_images(found.images, [tmp_path / "a.png"])


def test_real_images_of_another_size_are_drawn_in_their_own_shape():
    (ax,) = result(1, 2).compare(images()[..., :5, :]).plot(shown=1).axes
    optimized, real = ax.images[:2]
    assert optimized.get_array().shape == (8, 6)
    assert real.get_array().shape == (5, 8)
    left, right, bottom, top = real.get_extent()
    assert abs((right - left) / abs(top - bottom) - 8 / 5) < 1e-6
