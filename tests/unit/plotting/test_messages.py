"""Arguments that cannot be drawn are named."""

import itertools
import re

import numpy as np
import pytest
import torch

from featurelens import plotting
from featurelens.statistics import TopKResult
from tests.unit.plotting.results import channels, curve, layers, sweep, worth

STRONGEST = TopKResult(
    values=torch.ones(2, 1),
    rows=torch.tensor([[0], [3]]),
    positions=torch.zeros(2, 1, 2, dtype=torch.long),
    tied=torch.tensor([False, False]),
)
IMAGES = torch.rand(4, 1, 6, 6)
DRAWN = [
    lambda title: plotting.image_grid(IMAGES, title=title),
    lambda title: plotting.training_curves({"a": [1.0]}, ylabel="loss", title=title),
    lambda title: plotting.channel_bars(channels([0.1]), title=title),
    lambda title: plotting.layer_bars(layers([0.1]), title=title),
    lambda title: plotting.ablation_curves(curve(), title=title),
    lambda title: plotting.ablation_change(sweep(), title=title),
    lambda title: plotting.class_importance(worth(), title=title),
    lambda title: plotting.strongest_images(STRONGEST, IMAGES, title=title),
]


@pytest.mark.parametrize("draw", DRAWN, ids=range(len(DRAWN)))
def test_a_title_is_text_that_can_be_written(draw):
    for title in (3, ["a"], b"a", torch.ones(2), np.ones(2)):
        with pytest.raises(TypeError, match=r"^title must be text or None; got "):
            draw(title)
    with pytest.raises(ValueError, match=r"^title must be text; got half a character in '\\ud800'$"):
        draw("\ud800")
    with pytest.raises(ValueError, match=r"^title must have at most 2000 characters; got 2001$"):
        draw("x" * 2001)
    draw("a\0\u4e2d")  # which the font lacks: matplotlib says so when the figure is drawn


def strongest(images=IMAGES, **options):
    return lambda: plotting.strongest_images(STRONGEST, images, **options)


@pytest.mark.parametrize(
    ("draw", "kind", "message"),
    [
        (lambda: plotting.confusion_matrix(np.eye(2), classes=3), TypeError, "classes must be the names of the classes; got 3"),
        (
            lambda: plotting.class_importance(worth(), classes=torch.tensor(1)),
            TypeError,
            "classes must be the names of the classes; got 1",
        ),
        (
            lambda: plotting.image_grid(IMAGES, labels=itertools.count()),
            ValueError,
            "labels must be a sequence with one label for each image; got a million or more",
        ),
        (
            lambda: plotting.training_curves({"a": [1.0]}, ylabel=None),
            TypeError,
            "ylabel must be text; got None",
        ),
        (
            lambda: plotting.write_images(IMAGES, "abcd"),
            TypeError,
            "paths must be a list of files' paths; got 'abcd'",
        ),
        (
            lambda: plotting.image_grid(IMAGES.to("meta")),
            TypeError,
            "images must be a dense tensor; got a meta float32 tensor (4, 1, 6, 6) on meta",
        ),
        (
            strongest(receptive_field=IMAGES),
            TypeError,
            "receptive_field must be what featurelens.receptive_field returns; got float32 tensor (4, 1, 6, 6)",
        ),
        (
            strongest(torch.tensor(1.0)),
            TypeError,
            "images must be a tensor (N, C, H, W) or a map-style data set; got float32 tensor ()",
        ),
        (strongest(channels=range(2**62)), ValueError, "channels must be a list of channels; got a million or more"),
        (strongest(channels=[0.5]), TypeError, "channels must be a whole number; got 0.5"),
        (
            strongest(IMAGES[:3]),
            ValueError,
            "images must hold image 3, which the result names; got float32 tensor (3, 1, 6, 6)",
        ),
        (strongest(torch.rand(4)), ValueError, "images must be "),
        (
            strongest([IMAGES[0], None, None, IMAGES[0, :, :5]]),
            ValueError,
            "images must be of one size; got [float32 tensor (1, 6, 6), float32 tensor (1, 5, 6)]",
        ),
        (strongest([IMAGES[0], None, None, "cat"]), TypeError, "images[3] must hold numbers; got "),
    ],
)  # fmt: skip
def test_an_argument_that_cannot_be_drawn_is_named(draw, kind, message):
    with pytest.raises(kind, match=f"^{re.escape(message)}"):
        draw()
