"""The figures for a first look at a trained CNN."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from torch import Tensor, nn

import featurelens as fl
from reference.command import show
from reference.data import Dataset
from reference.training import History


def first_look(model: nn.Module, data: Dataset, history: History, output: Path) -> list[Path]:
    """Write figures of filters, feature maps of one test image and training curves; return the files.

    The image is the first of the test set. The files in `output` are ``conv1_filters.png``, ``featuremaps_LAYER.png`` for
    every convolution, ``orig_and_conv1_grid.png``, ``training_loss.png`` and ``training_accuracy.png``.
    """
    image, label = data.test_images[:1], data.classes[int(data.test_labels[0])]
    acts = fl.ActivationRecorder(model, nn.Conv2d)(image)
    first = next(iter(acts))
    figures: dict[str, Figure] = {
        "conv1_filters": fl.plotting.filters(model.get_submodule(first), title=f"Filters of {first}"),
        "orig_and_conv1_grid": fl.plotting.input_and_feature_maps(
            image, acts[first], title=f"An image of class {label} and its feature maps in {first}"
        ),
    }
    for name, maps in acts.items():
        figures[f"featuremaps_{name}"] = fl.plotting.feature_maps(
            maps, title=f"Feature maps of {name}, class {label}"
        )
    for measure in ("loss", "accuracy"):
        curves = {part: getattr(history, f"{part}_{measure}") for part in ("train", "test")}
        figures[f"training_{measure}"] = fl.plotting.training_curves(
            curves, ylabel="loss (nats)" if measure == "loss" else measure, best=history.best_epoch
        )
    return save(figures, output)


def deeper_look(model: nn.Module, data: Dataset, output: Path) -> list[Path]:
    """Write figures of information, maximization, reconstruction and importance; return the files.

    ``information_LAYER.png``: information of each channel of the last ReLU (its mean) with the class.
    ``importance_LAYER.png``: increase in loss without each channel; ``importance_classes.png``: the same by class.
    ``wanted_LAYER.png``: images that maximize the six most important channels, beside the strongest real images.
    ``reconstructions_relu2.png``: a test image decoded from each channel alone.
    ``overview.png``: one figure for each of the four verbs.
    """
    last = [name for name, layer in model.named_modules() if isinstance(layer, nn.ReLU)][-1]
    batches = list(zip(data.test_images.split(500), data.test_labels.split(500), strict=True))
    worth = fl.ChannelAblator(model, last).importance(batches, metric="loss")
    maximizer = fl.ActivationMaximizer(model, sample=data.train_images[:1000])
    wanted = maximizer.run([f"{last}:{channel}" for channel in worth.top(16)])
    decoder = fl.DeconvDecoder(model, "relu2")
    decoded = fl.ChannelAblator(model, "relu2", decoder=decoder).sweep(data.test_images[:1], mode="keep")
    acts = fl.ActivationRecorder(model, ["relu1", last], reduce={last: "mean"}).record(
        batches, progress=False
    )
    knows = fl.channel_information(acts[last], data.test_labels)
    figures = {
        f"information_{last}": knows.plot(),
        f"wanted_{last}": wanted.compare(data.train_images.split(500)).plot(limit=6),
        "reconstructions_relu2": decoded.plot(),
        f"importance_{last}": worth.plot(),
        "importance_classes": worth.plot_classes(classes=data.classes),
        "overview": overview(data, acts["relu1"], knows, wanted, worth, last),
    }
    return save(figures, output)


def overview(
    data: Dataset,
    maps: Tensor,
    knows: fl.ChannelInformationResult,
    wanted: fl.MaximizationResult,
    worth: fl.ImportanceResult,
    layer: str,
) -> Figure:
    """Draw one panel for each of the four verbs."""
    figure = Figure(figsize=(12, 7.6), layout="constrained")
    parts = figure.subfigures(2, 2, wspace=0.04, hspace=0.04).flat
    record, measure, visualize, ablate = (part.subplots() for part in parts)
    draw = fl.plotting
    draw.input_and_feature_maps(data.test_images, maps, limit=12, ax=record)
    draw.channel_bars(
        knows, limit=24, ax=measure, title=f"Measure: information of channels of {layer} with the class"
    )
    draw.maximization(wanted, limit=8, columns=4, ax=visualize)
    draw.class_importance(worth, classes=data.classes, limit=24, ax=ablate)
    titles = {
        record: "Record: an image and its feature maps in relu1",
        visualize: f"Visualize: images that maximize the most important channels of {layer}",
        ablate: "Ablate: which classes need which channels",
    }
    for ax, words in titles.items():
        ax.set_title(words, loc="left", fontsize=11)
        ax.set_anchor("NW")
    return figure


def save(figures: dict[str, Figure], output: Path) -> list[Path]:
    """Write each figure to ``output/NAME.png``, and show it in a notebook; return the files."""
    output.mkdir(parents=True, exist_ok=True)
    files = [output / f"{name}.png" for name in figures]
    for file, figure in zip(files, figures.values(), strict=True):
        figure.savefig(file)
        show(file)
    return files


def scatter(points: Any, labels: Tensor, classes: Sequence[str], *, title: str) -> Figure:
    """Draw points ``(N, 2)``, coloured by class."""
    figure = Figure(figsize=(7, 6), layout="constrained")
    ax = figure.add_subplot()
    for number, name in enumerate(classes):
        mine = points[(labels == number).numpy()]
        if len(mine):
            ax.scatter(*mine.T, s=7, linewidths=0, alpha=0.7, color=f"C{number % 10}", label=name)
    ax.set_title(title, loc="left")
    ax.set_axis_off()  # the axes of t-SNE have no meaning
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False, markerscale=3)
    return figure
