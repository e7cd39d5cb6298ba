"""Where everything in a picture stands, in inches: it changes only on purpose.

After a change on purpose, look at the pictures, and then: python -m tests.unit.plotting.test_layouts
"""

import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.collections import Collection
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.text import Text

from featurelens import plotting
from featurelens.statistics import HistogramResult
from tests.unit.plotting.results import channels, curve, estimate, layers, pairs, spatial, sweep, worth

EXPECTED = Path(__file__).with_name("layouts.json")


def waves(*shape):
    """Numbers of both signs that are the same everywhere and always."""
    return torch.linspace(0, 40, int(np.prod(shape))).sin().reshape(shape)


def rising(n):
    return torch.arange(1, n + 1) / n


def histogram(count):
    edges = torch.linspace(-3, 3, 13, dtype=torch.float64)
    counts = torch.arange(count * 12).reshape(count, 12) % 17
    return HistogramResult(edges, counts, torch.zeros(count, dtype=torch.int64), layer="conv1")


EPOCHS = [
    estimate(0.1 * i, interval=(0.1 * i - 0.05, 0.1 * i + 0.2), null_mean=0.02 * i) for i in range(1, 6)
]
PLANE = (
    {"conv1": [1.5, 1.2, 1.0], "conv2": [1.1, 0.8, 0.4]},
    {"conv1": [0.3, 0.5, 0.6], "conv2": [0.2, 0.4, 0.6]},
)
PICTURES = {
    "maps": lambda: plotting.feature_maps(waves(20, 6, 9), title="Twenty maps of one image"),
    "maps on one scale": lambda: plotting.feature_maps(waves(7, 8, 8).abs(), scale="shared"),
    "many maps": lambda: plotting.feature_maps(waves(200, 4, 4)),
    "maps, some dead": lambda: plotting.feature_maps(waves(5, 4, 4) * torch.tensor([1, 0, 1, 0, 1.0]).view(5, 1, 1)),
    "input and maps": lambda: plotting.input_and_feature_maps(waves(1, 3, 12, 12), waves(1, 10, 5, 5)),
    "images": lambda: plotting.image_grid(waves(7, 3, 6, 5).abs(), labels=[f"the picture number {i}" for i in range(7)]),
    "images in columns": lambda: plotting.image_grid(waves(7, 1, 6, 6).abs(), columns=3, title="Seven"),
    "many images": lambda: plotting.image_grid(waves(150, 1, 4, 4).abs()),
    "images of five channels": lambda: plotting.image_grid(waves(3, 5, 6, 6).abs()),
    "signals": lambda: plotting.image_grid(waves(4, 2, 30)),
    "volumes": lambda: plotting.image_grid(waves(2, 1, 5, 6, 6).abs()),
    "filters": lambda: plotting.filters(waves(8, 3, 5, 5)),
    "wide filters": lambda: plotting.filters(waves(6, 9, 3, 3)),
    "importance": lambda: plotting.importance(worth()),
    "importance by class": lambda: plotting.class_importance(worth()),
    "change": lambda: plotting.ablation_change(sweep()),
    "gallery": lambda: plotting.ablation_gallery(sweep(9)),
    "reconstructions": lambda: plotting.reconstructions(sweep(12), title="Decoded"),
    "ablation curves": lambda: plotting.ablation_curves({"importance": curve(), "random": curve(order=(1, 2))}),
    "bars": lambda: plotting.channel_bars(channels(rising(8), null_mean=rising(8) / 5, label_entropy=1.5)),
    "many bars": lambda: plotting.channel_bars(channels(rising(90))),
    "layers": lambda: plotting.layer_bars(layers([0.1, 0.5, 0.3], interval=(0.05, 0.6), null_mean=0.02, ceiling=1.4)),
    "quantiles": lambda: plotting.channel_quantiles(histogram(12)),
    "training": lambda: plotting.training_curves({"train": [3, 2, 1.5], "test": [3, 2.5, 2.4]}, ylabel="loss", best=2),
    "information": lambda: plotting.information_curves({"conv1": EPOCHS, "conv2": EPOCHS[::-1]}),
    "one epoch": lambda: plotting.information_curves({"conv1": EPOCHS[:1], "conv2": EPOCHS[3:4]}),
    "spatial": lambda: plotting.information_curves({"conv1": [spatial(0.4, 0.1, (0.2, 0.4)), spatial(0.5, 0.1, (0.3, 0.5))]}),
    "plane": lambda: plotting.information_plane(*PLANE, units="nats"),
    "pairs": lambda: plotting.pair_matrix(pairs(waves(3, 4), null=0.1)),
    "many pairs": lambda: plotting.pair_matrix(pairs(waves(2, 70).abs())),
    "confusion": lambda: plotting.confusion_matrix(torch.arange(25).reshape(5, 5)),
    "large confusion": lambda: plotting.confusion_matrix(torch.arange(900).reshape(30, 30)),
}  # fmt: skip


def everything(figure):
    """What is in a figure, the first and last of each kind: kind, words if any, and numbers: its box in inches, the mean of its data."""
    figure.draw_without_rendering()
    yield ["Figure", *map(float, figure.get_size_inches())]
    for ax in figure.axes:
        yield ["Axes", *(ax.get_window_extent().extents / figure.dpi), *ax.get_xlim(), *ax.get_ylim()]
        by_kind = defaultdict(list)
        for artist in ax.findobj():
            for row in described(artist, figure.dpi):
                by_kind[row[0]].append(row)
        for kind, rows in by_kind.items():
            yield [f"{len(rows)} x {kind}"]
            yield from rows if len(rows) < 5 else [*rows[:2], *rows[-2:]]


def described(artist, dpi):
    if not artist.get_visible() or not isinstance(artist, Text | Line2D | Patch | AxesImage | Collection):
        return
    words, data = [], []
    if isinstance(artist, Text):
        words = [artist.get_text()]
        if not words[0].strip():
            return
    elif isinstance(artist, Line2D):
        data = (
            np.nanmean(np.asarray(artist.get_xydata(), dtype=float), axis=0)
            if len(artist.get_xydata())
            else []
        )
    elif isinstance(artist, AxesImage):
        data = [np.ma.mean(artist.get_array())]
    yield [type(artist).__name__, *words, *(artist.get_window_extent().extents / dpi), *data]


def rounded(rows):
    return [[value if isinstance(value, str) else round(float(value), 2) for value in row] for row in rows]


@pytest.mark.parametrize("name", PICTURES)
def test_everything_stands_where_it_stood(name):
    expected, found = json.loads(EXPECTED.read_text())[name], rounded(everything(PICTURES[name]()))
    assert len(found) == len(expected)
    for here, there in zip(found, expected, strict=True):
        assert [v for v in here if isinstance(v, str)] == [v for v in there if isinstance(v, str)]
        numbers = ([v for v in row if not isinstance(v, str)] for row in (here, there))
        np.testing.assert_allclose(*numbers, rtol=0.02, atol=0.03, err_msg=str(there))


if __name__ == "__main__":
    layouts = {name: rounded(everything(draw())) for name, draw in PICTURES.items()}
    EXPECTED.write_text(json.dumps(layouts))
