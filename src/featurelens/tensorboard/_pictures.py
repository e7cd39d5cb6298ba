"""Pictures: figures of any kind, those of results, and single images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from featurelens._checks import check_module, check_type, describe
from featurelens._hooks import named_modules, unwrap
from featurelens.tensorboard._run import check_tag, join

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from featurelens.tensorboard._run import Run

    Array = torch.Tensor | NDArray[Any]


def write_figure(run: Run, epoch: int, tag: str, figure: Figure | Axes) -> None:
    """Write a figure, or the one that an Axes lies on."""
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    check_type(figure, (Figure, Axes), argument="figure", expected="a matplotlib Figure or Axes")
    run.figures(epoch, {check_tag(tag): figure})


def write_image(run: Run, tag: str, image: Array) -> None:
    """Write one image ``(C, H, W)`` pixel by pixel."""
    from featurelens.plotting._arrays import check_array
    from featurelens.plotting._images import as_pictures

    check_array(image, {3: "(C, H, W)"}, argument="image")
    run.pixels(0, check_tag(tag), as_pictures(image[None]).rgb()[0])


def write_confusion(
    run: Run, epoch: int, matrix: Array | tuple[Array, Array], classes: Sequence[object] | None
) -> None:
    """Draw which classes are taken for which."""
    from featurelens import plotting

    run.figures(epoch, {"confusion": plotting.confusion_matrix(matrix, classes=classes)})


def write_feature_maps(run: Run, epoch: int, activations: Mapping[str, Any], image: int) -> None:
    """Draw every layer's maps of one image; nothing is written unless all can be drawn."""
    from featurelens import plotting

    check_type(activations, Mapping, argument="activations", expected="what a recorder returns")
    for layer, maps in activations.items():
        if not isinstance(maps, torch.Tensor) or maps.ndim != 4:
            raise ValueError(
                f"feature maps are (N, C, H, W), but layer {layer!r} returned {describe(maps)}: "
                "record other layers for this picture"
            )
    figures = {
        join("feature maps", layer): plotting.feature_maps(
            maps, image=image, title=f"Feature maps of {layer or 'the model'}, epoch {epoch}"
        )
        for layer, maps in activations.items()
    }
    run.figures(epoch, figures)


def write_filters(run: Run, epoch: int, model: nn.Module | Array) -> None:
    """Draw the filters of every 2-d convolution, or of one weight."""
    from featurelens import plotting

    if not isinstance(model, nn.Module):
        run.figures(epoch, {"filters": plotting.filters(model, title=f"Filters, epoch {epoch}")})
        return
    convolutions = {
        name: module
        for name, module in named_modules(unwrap(check_module(model))).items()
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d)
    }
    if not convolutions:
        raise ValueError(f"{type(model).__name__} has no 2-d convolution whose filters could be drawn")
    figures = {
        join("filters", name): plotting.filters(
            module, title=f"Filters of {name or 'the layer'}, epoch {epoch}"
        )
        for name, module in convolutions.items()
    }
    run.figures(epoch, figures)
