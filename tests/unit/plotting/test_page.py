"""Figures belong to the caller: Jupyter shows them once, and pyplot is neither imported nor told."""

import pickle
import subprocess
import sys

import pytest
import torch
from matplotlib.figure import Figure

import featurelens as fl
from featurelens.information import ChannelInformationResult
from featurelens.plotting import channel_bars, confusion_matrix, feature_maps, image_grid, training_curves

SCRIPT = """
import sys, torch
from featurelens.plotting import *
from featurelens.information import channel_information, spatial_mutual_information
maps = torch.rand(2, 3, 4, 4)
feature_maps(maps), filters(maps), image_grid(maps), input_and_feature_maps(maps, maps)
training_curves({"train": [1, 2]}, ylabel="loss").savefig("curves.png")
information_curves({"conv1": [1, 2]}), information_plane({"conv1": [1, 2]}, {"conv1": [1, 2]}, units="nats")
channel_information(torch.rand(20, 3), torch.arange(20) % 2).plot()
spatial_mutual_information(maps, maps).plot()
confusion_matrix(torch.eye(3)).savefig("confusion.png")
print(sorted(name for name in ("matplotlib.pyplot", "torchvision") if name in sys.modules))
"""


def test_plotting_leaves_pyplot_alone(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert done.stdout.strip() == "[]"


BARS = ChannelInformationResult(values=torch.tensor([0.1, 0.7]), method="channels()", n=9)
DRAWN = {
    "page": lambda **ax: feature_maps(torch.rand(2, 4, 4), **ax),
    "page with a bar": lambda **ax: feature_maps(torch.rand(2, 4, 4), scale="shared", **ax),
    "grid": lambda **ax: image_grid(torch.rand(2, 1, 4, 4), **ax),
    "bars": lambda **ax: channel_bars(BARS, **ax),
    "heat map": lambda **ax: confusion_matrix(torch.eye(3), **ax),
    "curves": lambda **ax: training_curves({"train": [1, 2]}, ylabel="loss", **ax),
    "result": BARS.plot,
}


@pytest.mark.parametrize("draw", DRAWN.values(), ids=DRAWN)
def test_a_picture_is_a_figure_that_a_notebook_shows(draw):
    figure = draw()
    assert isinstance(figure, Figure)
    assert figure._repr_png_().startswith(b"\x89PNG")
    assert type(figure) is Figure  # loggers know figures by the name of their class
    assert pickle.loads(pickle.dumps(figure))._repr_png_() == figure._repr_png_()
    ax = figure.axes[0]  # the picture; a colour bar comes after it
    assert ax.images or ax.patches or ax.lines


@pytest.mark.parametrize("draw", DRAWN.values(), ids=DRAWN)
def test_an_axes_of_the_callers_is_drawn_on_and_its_figure_returned(draw):
    figure = Figure(figsize=(8, 4))
    left = figure.subfigures(1, 2)[0].subplots()
    assert draw(ax=left) is figure
    assert left.images or left.patches or left.lines
    assert not hasattr(figure, "_repr_png_")  # the caller's own, which pyplot may show


def test_a_notebook_shows_a_figure_once():
    formatters = pytest.importorskip("IPython.core.formatters", reason="IPython is not installed")
    pylabtools = pytest.importorskip("IPython.core.pylabtools")
    formatter = formatters.DisplayFormatter()
    figure = fl.plotting.image_grid(torch.rand(1, 1, 4, 4))
    assert set(formatter.format(figure)[0]) == {"image/png", "text/plain"}
    formatter.formatters["image/png"].for_type(Figure, lambda shown: pylabtools.print_figure(shown, "png"))
    shown, _ = formatter.format(figure)  # as the inline backend registers it
    assert set(shown) == {"image/png", "text/plain"}
