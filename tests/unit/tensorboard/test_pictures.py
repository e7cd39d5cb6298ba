"""Images pixel by pixel, and figures as they would be saved."""

import io
import sys

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import nn

import featurelens as fl
from tests import nets
from tests.unit.tensorboard.reading import picture, pixels, read

CLASSES = ["cat", "dog", "owl"]
LABELS, PREDICTIONS = torch.tensor([0, 1, 2, 2]), torch.tensor([0, 1, 1, 2])


def test_images_are_written_pixel_by_pixel(board):
    grey, colour = torch.rand(1, 5, 7), torch.rand(3, 4, 6)
    board.add(0, grey, tag="grey")
    board.add(0, colour, tag="colour")
    board.add(0, np.full((3, 2, 2), 51, dtype=np.uint8), tag="bytes")
    events = read(board)
    (found,) = events.Images("grey")
    np.testing.assert_array_equal(picture(found), (255 * grey).round().expand(3, 5, 7).permute(1, 2, 0))
    assert (found.step, found.width, found.height) == (0, 7, 5)
    np.testing.assert_array_equal(
        picture(events.Images("colour")[0]), (255 * colour).round().permute(1, 2, 0)
    )
    assert (picture(events.Images("bytes")[0]) == 51).all()


def test_a_figure_is_written_as_it_is_saved_and_stays_the_callers(board, monkeypatch):
    monkeypatch.delitem(sys.modules, "matplotlib.pyplot", raising=False)  # of another test
    figure = Figure(figsize=(2, 1), dpi=50, facecolor="red")
    canvas = figure.canvas
    ax = figure.subfigures().add_subplot()
    board.add(7, figure, tag="mine")
    board.add(8, ax, tag="mine")
    first, second = read(board).Images("mine")
    assert (first.step, second.step) == (7, 8)
    assert picture(first).shape == (50, 100, 3)
    assert picture(first)[0, 0].tolist() == [255, 0, 0]
    np.testing.assert_array_equal(picture(first), picture(second))
    assert figure.canvas is canvas
    assert "matplotlib.pyplot" not in sys.modules


def test_confusion_feature_maps_and_filters_are_pictures_with_their_layers_names(board):
    model = nets.plain()
    activations = fl.ActivationRecorder(model, nn.Conv2d)(nets.images())
    board.add(1, fl.plotting.confusion_matrix((LABELS, PREDICTIONS), classes=CLASSES), tag="confusion")
    board.add(1, activations, image=2)
    board.add(1, model)
    board.add(1, fl.plotting.filters(model[0].weight), tag="filters")
    events = read(board)
    assert sorted(events.Tags()["images"]) == [
        "confusion",
        "feature maps/0",
        "feature maps/3",
        "filters",
        "filters/0",
        "filters/3",
    ]
    expected = fl.plotting.feature_maps(activations["0"], image=2, title="Feature maps of 0, epoch 1")
    buffer = io.BytesIO()
    expected.savefig(buffer)
    (found,) = events.Images("feature maps/0")
    np.testing.assert_array_equal(picture(found), pixels(buffer.getvalue()))


def test_a_convolution_by_itself_and_one_in_a_parallel_wrapper_have_filters(board):
    board.add(0, nn.Conv2d(1, 2, 3))
    board.add(0, nn.DataParallel(nn.Sequential(nn.ConvTranspose2d(1, 2, 3))))
    assert sorted(read(board).Tags()["images"]) == ["filters", "filters/0"]
