"""`ActivationMaximizer`: images that maximize objectives, all of them in one batch."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Literal, TypeAlias, final

import torch
from torch import nn

from featurelens._checks import (
    as_list,
    check_flag,
    check_module,
    check_number,
    check_type,
    check_whole,
    describe,
)
from featurelens._hooks import unwrap
from featurelens._random import Seed, check_seed
from featurelens.maximization.images.base import Parametrization
from featurelens.maximization.images.fourier import FourierImage
from featurelens.maximization.images.image_statistics import ImageStatistics
from featurelens.maximization.layouts import LAYOUTS
from featurelens.maximization.objectives import Objective, channel
from featurelens.maximization.optimization import Optimization
from featurelens.maximization.preprocessing import Preprocessing
from featurelens.maximization.result import MaximizationResult
from featurelens.maximization.transforms import Chain, Transforms

Wanted: TypeAlias = Objective | str | nn.Module
Optimizer: TypeAlias = Callable[[list[torch.Tensor]], torch.optim.Optimizer]

FEWEST_FOR_COLOURS = 16
"""The number of images from which a sample's colours are used."""


@final
class ActivationMaximizer:
    """Optimizes images to maximize channels, neurons, logits or any sum of them.

    ::

        maximizer = fl.ActivationMaximizer(model, sample=images[:64])  # shape, range and colours from the sample
        maximizer = fl.ActivationMaximizer(model, fl.FourierImage((1, 28, 28)))
        result = maximizer.run("conv3")                                # every channel: one image each, in one batch
        result = maximizer.run([fl.objectives.channel("conv3", 7), fl.objectives.logit(2), "conv3:5"])
        result.plot()
        print(result.compare(loader))                                  # against the strongest real images

    Parameters
    ----------
    model
        Any module that takes images `(N, C, H, W)`, signals ``(N, C, L)`` or volumes ``(N, C, D, H, W)``. It runs in eval
        mode and is restored afterwards.
    parametrization
        How pixels are parametrized: `FourierImage`, `PixelImage`, `PhaseImage` or `LatentImage`. By default a
        `FourierImage` like `sample`.
    sample
        A batch of the model's inputs, such as `(N, C, H, W)`. It sets the images' shape, their colours (if it has at least 16
        images) and, if its values leave [0, 1] and there is no `preprocess`, the range that images are scaled to.
    preprocess
        Applied to images before the model: any callable on `(N, C, H, W)` in [0, 1], such as torchvision's
        ``Normalize``.
    transforms
        Small random transforms in every step: "standard" (shifts, scales and rotations that grow with the image),
        None, or a list of `Jitter`, `RandomScale`, `RandomRotate`, `Pad` and callables.
    steps
        Number of optimization steps.
    lr
        Step size of Adam; by default the parametrization's `lr`.
    optimizer
        Function of the list of parameters that returns an optimizer, used instead of Adam and `lr`.
    seed
        The same seed gives the same images; other images in the batch affect an image only by rounding. None draws a
        new seed.
    autocast
        Run the model in bfloat16 where possible. Scores are always computed in full precision.
    redirect_relu
        Redirect ReLU gradients for this many steps; images that still get none continue until they do. 0 disables.
    chunk
        How many images to optimize at a time; by default as many as suit the processor's cache or the device's memory.
    progress
        Show a progress bar; without a terminal, write a line every ten seconds.

    Raises
    ------
    TypeError, ValueError
        If an argument is not one of the above, or nothing determines the images' shape.

    Examples
    --------
    >>> model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10))
    >>> maximizer = ActivationMaximizer(model, FourierImage((1, 8, 8)), steps=8)
    >>> maximizer.run("conv_1")
    MaximizationResult(4 images of 1x8x8, 8 steps)
    """

    def __init__(
        self,
        model: nn.Module,
        parametrization: Parametrization | None = None,
        *,
        sample: torch.Tensor | None = None,
        preprocess: Callable[[torch.Tensor], torch.Tensor] | None = None,
        transforms: Literal["standard"] | Transforms | None = "standard",
        steps: int = 256,
        lr: float | None = None,
        optimizer: Optimizer | None = None,
        seed: Seed = 0,
        autocast: bool = False,
        redirect_relu: int = 16,
        chunk: int | None = None,
        progress: bool = True,
    ) -> None:
        self.model = unwrap(check_module(model))
        self.preprocessing = Preprocessing.checked(sample, preprocess)
        if parametrization is None:
            parametrization = _like(sample, self.preprocessing, self.model)
        expected = "a PixelImage, FourierImage, ..."
        check_type(parametrization, Parametrization, argument="parametrization", expected=expected)
        self.parametrization = parametrization
        for module in parametrization.modules:
            check_module(module, argument="decoder")
        if isinstance(transforms, Iterable) and not isinstance(transforms, str):
            # A generator can be read only once.
            transforms = tuple(
                as_list(transforms, argument="transforms", expected="a sequence of transforms")
            )
        Chain(transforms, (8, 8))  # checks them
        self.transforms = transforms
        self.steps = check_whole(steps, argument="steps", least=1)
        self.redirect_relu = check_whole(redirect_relu, argument="redirect_relu", least=0)
        self.chunk = None if chunk is None else check_whole(chunk, argument="chunk", least=1)
        if optimizer is not None and not callable(optimizer):
            raise TypeError(f"optimizer must be callable on parameters; got {describe(optimizer)}")
        if lr is not None and optimizer is not None:
            raise ValueError("pass lr or optimizer=, not both: your own optimizer has its own step size")
        self.optimizer, self.lr = optimizer, parametrization.lr if lr is None else lr
        self.lr = check_number(self.lr, argument="lr", expected="a positive number")
        if not 0 < self.lr < math.inf:
            raise ValueError(f"lr must be a positive number; got {describe(lr)}")
        self.autocast = check_flag(autocast, argument="autocast")
        self.progress = check_flag(progress, argument="progress")
        self.seed = check_seed(seed)

    def __repr__(self) -> str:
        return f"ActivationMaximizer({type(self.model).__name__}, {self.parametrization!r})"

    def run(
        self,
        objectives: Wanted | Iterable[Wanted],
        *,
        start: torch.Tensor | None = None,
        record_every: int | None = None,
    ) -> MaximizationResult:
        """Optimize one image for each objective.

        Parameters
        ----------
        objectives
            An objective or several. Text names a layer, every channel of it (``"conv3"``), or one channel
            (``"conv3:7"``).
        start
            Images `(N, C, H, W)`, or signals or volumes, in [0, 1] to begin from, one or as many as objectives; pixels are
            kept 0.01 from 0 and 1.
        record_every
            Keep the images every so many steps, as the result's `frames`.

        Returns
        -------
        MaximizationResult
            Image k is for objective k. Its score is computed on the image without transforms. If optimization ends
            below its starting score, the starting image is returned.

        Raises
        ------
        LookupError
            If a layer, channel or position does not exist.
        TypeError, ValueError
            If an item is not an objective, or does not depend on the image.
        RuntimeError
            If the model fails on the image, or an objective becomes NaN or infinite.
        """
        wanted = _listed(objectives)
        if record_every is not None:
            record_every = check_whole(record_every, argument="record_every", least=1)
        return Optimization(self, wanted, start, record_every).run()


def _listed(objectives: Wanted | Iterable[Wanted]) -> list[Wanted]:
    """Return what is to be maximized, item by item, or raise an error that names what is not an objective."""
    if isinstance(objectives, Objective | str | nn.Module) or not isinstance(objectives, Iterable):
        objectives = [objectives]
    if isinstance(objectives, Mapping):
        raise TypeError(
            "objectives must be one or a list of them, such as ['conv3:1', 'conv3:2'] for two channels of a layer; "
            f"got {describe(objectives)}"
        )
    wanted: list[Wanted] = []
    for item in objectives:
        if not isinstance(item, Objective | str | nn.Module):
            raise TypeError(
                "objectives are made by fl.objectives.channel, fl.objectives.logit, ..., or are text such as 'conv3' "
                f"or 'conv3:7'; got {describe(item)}"
            )
        if isinstance(item, Objective) and not item.layers:
            raise ValueError(f"an objective must use the model; {item} uses the image only")
        numbered = re.fullmatch(r"(.*):(-?\d+)", item, re.DOTALL) if isinstance(item, str) else None
        wanted.append(channel(numbered[1], int(numbered[2])) if numbered else item)
    if not wanted:
        raise ValueError("objectives must name at least one; got none")
    return wanted


def _like(sample: torch.Tensor | None, preprocessing: Preprocessing, model: nn.Module) -> FourierImage:
    """Return the parametrization of images like those of `sample`."""
    if sample is None:
        first = next((m for m in model.modules() if isinstance(m, nn.Conv1d | nn.Conv2d | nn.Conv3d)), None)
        layout = LAYOUTS[4 if first is None else len(first.kernel_size) + 2].replace("N, ", "")
        channels = "C" if first is None else str(first.in_channels)
        raise ValueError(
            "the shape of the images is unknown: pass sample=images[:64], or a parametrization such as "
            f"FourierImage({layout.replace('C', channels)})"
        )
    statistics = None
    if len(sample) >= FEWEST_FOR_COLOURS:
        found = ImageStatistics.fit(preprocessing.for_view(sample.detach()), progress=False)
        # Under the statistics of one colour, as of zeros given for their shape, nothing but that colour could be drawn.
        statistics = found if bool((found.high > found.low).any()) else None
    return FourierImage(tuple(sample.shape[1:]), statistics=statistics)
