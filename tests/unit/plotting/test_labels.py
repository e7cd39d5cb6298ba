"""No two labels of a figure touch, whatever the number of channels and classes."""

import dataclasses
import itertools

import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

import featurelens as fl
from featurelens.plotting import channel_bars

CHANNELS = [6, 64, 512, 2048]


def boxes(figure):
    """The boxes of all texts that are drawn, in pixels; ticks beyond the view are not."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    canvas.draw()  # the layout of the first draw moves things
    texts = list(figure.texts) + ([figure._suptitle] if figure._suptitle else [])
    for ax in figure.axes:
        texts += [*ax.texts, ax.title, ax._left_title, ax.xaxis.label, ax.yaxis.label]
        for axis, (low, high) in ((ax.xaxis, sorted(ax.get_xlim())), (ax.yaxis, sorted(ax.get_ylim()))):
            if ax.axison:
                texts += [tick.label1 for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
                texts += [tick.label2 for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
    found = {}
    for text in texts:
        if text.get_visible() and text.get_text().strip():
            found[id(text)] = (text.get_text(), text.get_window_extent(canvas.get_renderer()))
    return [(text, box) for text, box in found.values() if box.width > 0 and box.height > 0]


def touching(figure):
    return [
        (one, other)
        for (one, a), (other, b) in itertools.combinations(boxes(figure), 2)
        if a.x0 < b.x1 and b.x0 < a.x1 and a.y0 < b.y1 and b.y0 < a.y1
    ]


def worth(channels, classes=10, metric="loss"):
    generator = torch.Generator().manual_seed(0)
    return fl.ImportanceResult(
        importance=torch.randn(channels, generator=generator),
        standard_error=torch.full((channels,), 0.1),
        p_value=torch.rand(channels, generator=generator).double(),
        per_class=torch.randn(channels, classes, generator=generator),
        baseline=0.9,
        channels=tuple(range(channels)),
        n=100,
        layer="layer4.1.conv2",
        metric=metric,
        mode="drop",
        fill="zero",
    )


def test_touching_labels_are_found():
    figure = Figure()
    ax = figure.add_subplot()
    ax.set_xticks(range(100), [f"class {number}" for number in range(100)])
    assert touching(figure)


@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("limit", [32, None])
@pytest.mark.parametrize("metric", ["loss", "accuracy"])
def test_importance(channels, limit, metric):
    figure = worth(channels, metric=metric).plot(limit=limit or channels)
    assert touching(figure) == []
    shown = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert len(shown) > 5


@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("classes", [2, 10, 100, 1000])
def test_importance_by_class(channels, classes):
    names = [f"class name {number}" for number in range(classes)] if channels > 100 else None
    figure = worth(channels, classes).plot_classes(classes=names, limit=channels)
    assert touching(figure) == []
    assert len(figure.axes[0].get_yticklabels()) > min(classes - 1, 40)


@pytest.mark.parametrize("classes", [2, 4, 10, 1000])
def test_no_label_is_cut_off_beside_a_few_channels_and_classes(classes):
    small = worth(3, classes)
    figure = dataclasses.replace(small, per_class=small.per_class / 100).plot_classes()
    found = boxes(figure)
    assert any(text.startswith("increase in loss") for text, _ in found)
    page = figure.bbox
    outside = [text for text, box in found if not (page.x0 <= box.x0 and box.x1 <= page.x1)]
    outside += [text for text, box in found if not (page.y0 <= box.y0 and box.y1 <= page.y1)]
    assert outside == []


@pytest.mark.parametrize("channels", CHANNELS)
def test_information(channels):
    values = torch.rand(channels, generator=torch.Generator().manual_seed(0))
    result = fl.ChannelInformationResult(values=values, method="channels()", n=100)
    assert touching(channel_bars(result, limit=channels)) == []


@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("limit", [32, None])
def test_change(channels, limit):
    result = sweep(channels, outputs=(10,))
    assert touching(result.plot(limit=limit or channels)) == []


def sweep(channels, outputs):
    generator = torch.Generator().manual_seed(0)
    return fl.AblationResult(
        outputs=torch.rand(channels, 2, *outputs, generator=generator),
        baseline=torch.rand(2, *outputs, generator=generator),
        images=torch.rand(2, 1, 8, 8, generator=generator),
        channels=tuple(range(channels)),
        layer="layer4.1.conv2",
        mode="keep",
        fill="zero",
    )


@pytest.mark.parametrize("channels", [6, 16, 64, 512])
def test_reconstructions(channels):
    figure = sweep(channels, outputs=(1, 8, 8)).plot(limit=channels)
    assert touching(figure) == []
    labels = [text.get_text() for text in figure.axes[0].texts]
    if channels <= 64:
        assert "all" in labels or "all channels" in labels
        assert not any("…" in label for label in labels)


@pytest.mark.parametrize("channels", CHANNELS)
def test_charts_side_by_side(channels):
    figure = Figure(figsize=(12, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    worth(channels).plot(ax=left)
    worth(channels).plot_classes(ax=right, limit=24)
    assert touching(figure) == []
