"""The pictures that a first look at a trained CNN asks for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from torch import Tensor, nn

import featurelens as fl
from reference.data import Dataset
from reference.training import History


def first_look(model: nn.Module, data: Dataset, history: History, output: Path) -> list[Path]:
    """Draw filters, feature maps of one test image and training curves into `output`; return the files.

    The image is the first of the test set. The files are ``conv1_filters.png``, ``featuremaps_LAYER.png`` for
    every convolution, ``orig_and_conv1_grid.png``, ``training_loss.png`` and ``training_accuracy.png``.
    """
    image, label = data.test_images[:1], data.classes[int(data.test_labels[0])]
    acts = fl.ActivationRecorder(model, nn.Conv2d)(image)
    first = next(iter(acts))
    figures: dict[str, Figure] = {
        "conv1_filters": fl.plotting.filters(model.get_submodule(first), title=f"Filters of {first}"),
        "orig_and_conv1_grid": fl.plotting.input_and_feature_maps(
            image, acts[first], title=f"An image of class {label}, and what {first} makes of it"
        ),
    }
    for name, maps in acts.items():
        figures[f"featuremaps_{name}"] = fl.plotting.feature_maps(
            maps, title=f"Feature maps of {name}, class {label}"
        )
    for measure in ("loss", "accuracy"):
        curves = {part: getattr(history, f"{part}_{measure}") for part in ("train", "test")}
        ax = fl.plotting.training_curves(
            curves, ylabel="loss (nats)" if measure == "loss" else measure, best=history.best_epoch
        )
        figures[f"training_{measure}"] = ax.figure
    return save(figures, output)


def save(figures: dict[str, Figure], output: Path) -> list[Path]:
    """Write each figure to ``output/NAME.png`` and return the files."""
    output.mkdir(parents=True, exist_ok=True)
    files = [output / f"{name}.png" for name in figures]
    for file, figure in zip(files, figures.values(), strict=True):
        figure.savefig(file)
    return files


def scatter(points: Any, labels: Tensor, classes: Sequence[str], *, title: str) -> Figure:
    """Draw points ``(N, 2)`` in the colour of their class."""
    figure = Figure(figsize=(7, 6), layout="constrained")
    ax = figure.add_subplot()
    for number, name in enumerate(classes):
        mine = points[(labels == number).numpy()]
        if len(mine):
            ax.scatter(*mine.T, s=7, linewidths=0, alpha=0.7, color=f"C{number % 10}", label=name)
    ax.set_title(title, loc="left")
    ax.set_axis_off()  # t-SNE's axes mean nothing
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False, markerscale=3)
    return figure
