"""`ActivationMaximizer`: the images that objectives want to see, all of them in one batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal, TypeAlias, final

import torch
from torch import nn

from featurelens._checks import check_module, check_type, describe
from featurelens._hooks import unwrap
from featurelens._random import Seed, check_seed
from featurelens.maximization._streams import root_seed
from featurelens.maximization.objective import Objective, numbered
from featurelens.maximization.objectives import channel
from featurelens.maximization.optimization import Optimization, Settings
from featurelens.maximization.parametrizations import FourierImage, Parametrization
from featurelens.maximization.plan import Layers, selectors_of
from featurelens.maximization.preparation import Preparation
from featurelens.maximization.result import MaximizationResult
from featurelens.maximization.statistics import ImageStatistics
from featurelens.maximization.transforms import Transforms

Wanted: TypeAlias = Objective | str | nn.Module
Optimizer: TypeAlias = Callable[[list[torch.Tensor]], torch.optim.Optimizer]


@final
class ActivationMaximizer:
    """Makes the images that channels, neurons, logits or any sum of them respond to most.

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
        Any module that takes images `(N, C, H, W)`. It runs in eval mode and comes back as it was.
    parametrization
        Where the pixels come from: `FourierImage`, `PixelImage`, `PhaseImage` or `LatentImage`. By default a
        `FourierImage` like `sample`.
    sample
        A batch `(N, C, H, W)` of what the model takes: gives the images' shape, their colours (from 16 images up)
        and, if it leaves [0, 1] and there is no `preprocess`, the range to which the images are brought.
    preprocess
        What the model wants before its first layer: any callable on `(N, C, H, W)` in [0, 1], such as
        torchvision's ``Normalize``.
    transforms
        Small random changes in every step: "standard" (shifts, scales and turns that grow with the image), None, or
        a list of `Jitter`, `RandomScale`, `RandomRotate`, `Pad` and callables.
    steps
        How many.
    lr
        Step size of Adam; by default the one that suits the parametrization, its `lr`.
    optimizer
        Called with the list of parameters, returns the optimizer to use instead of Adam, and of `lr`.
    seed
        The same seed gives the same images, and whatever they are batched with the same up to rounding; None takes
        fresh entropy.
    autocast
        Run the model in bfloat16 where it can be. Scores are always taken in full precision.
    redirect_relu
        In how many of the first steps a ReLU that passes no gradient for an image lets through what would wake it;
        for an image that is still in the dark then, until it wakes. 0 for never.
    chunk
        How many images are optimized at a time; by default as many as a processor's cache or a device's memory suit.
    progress
        Show a progress bar, if standard error is a terminal.

    Raises
    ------
    TypeError, ValueError
        If an argument is not one of the above, or if nothing says what shape the images have.

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
        self.preparation = Preparation.of(sample, preprocess)
        self.parametrization = _parametrization(parametrization, sample, self.preparation, self.model)
        for module in self.parametrization.modules:
            check_module(module, argument="decoder")
        self.settings = Settings.checked(
            transforms=transforms,
            steps=steps,
            lr=self.parametrization.lr if lr is None else lr,
            optimizer=optimizer,
            autocast=autocast,
            redirect_relu=redirect_relu,
            chunk=chunk,
            progress=progress,
        )
        if lr is not None and optimizer is not None:
            raise ValueError(
                "give lr or optimizer=, not both: an optimizer of one's own has its own step size"
            )
        self.seed = check_seed(seed)

    def __repr__(self) -> str:
        return f"ActivationMaximizer({type(self.model).__name__}, {self.parametrization!r})"

    def run(self, objectives: Wanted | Iterable[Wanted]) -> MaximizationResult:
        """Optimize one image for each objective.

        Parameters
        ----------
        objectives
            An objective or several. Text names a layer, every channel of it (``"conv3"``), or one channel
            (``"conv3:7"``).

        Returns
        -------
        MaximizationResult
            Image k is for objective k. Its score is taken on the image as it is, untransformed; an image that
            ended below the noise it started from is given back as that noise.

        Raises
        ------
        LookupError
            If a layer, channel or position does not exist.
        TypeError, ValueError
            If something is no objective, or does not depend on the image.
        RuntimeError
            If the model fails on the image, or an objective becomes NaN or infinite.
        """
        wanted = _as_list(objectives)
        known = [item for item in wanted if isinstance(item, Objective)]
        whole = [item for item in wanted if not isinstance(item, Objective)]
        layers = Layers(self.model, [*selectors_of(known), *whole])
        with Optimization(self.model, self.parametrization, self.preparation, layers, self.settings) as work:
            expanded: list[Objective] = []
            for item in wanted:
                if isinstance(item, Objective):
                    expanded.append(item)
                else:
                    channels = work.channels(item)
                    expanded += [channel(item, index) for index in range(channels)]
            return work.run(expanded, root_seed(self.seed))


def _as_list(objectives: Wanted | Iterable[Wanted]) -> list[Wanted]:
    if isinstance(objectives, Objective | str | nn.Module) or not isinstance(objectives, Iterable):
        objectives = [objectives]
    wanted: list[Wanted] = []
    for item in objectives:
        if isinstance(item, str) and (parts := numbered(item)):
            item = channel(*parts)  # noqa: PLW2901
        if not isinstance(item, Objective | str | nn.Module):
            raise TypeError(
                "an objective is made by fl.objectives.channel, fl.objectives.logit, ..., or is text such as 'conv3' or 'conv3:7'; "
                f"got {describe(item)}"
            )
        if isinstance(item, Objective) and not selectors_of([item]):
            raise ValueError(f"an objective must look at the model; {item} looks at the image only")
        wanted.append(item)
    if not wanted:
        raise ValueError("objectives must name at least one; got none")
    return wanted


FEWEST_FOR_COLOURS = 16


def _parametrization(
    given: Parametrization | None, sample: torch.Tensor | None, preparation: Preparation, model: nn.Module
) -> Parametrization:
    if given is not None:
        check_type(
            given, Parametrization, argument="parametrization", expected="a PixelImage, FourierImage, ..."
        )
        return given
    if sample is None:
        first = next((m for m in model.modules() if isinstance(m, nn.Conv2d)), None)
        channels = "C" if first is None else first.in_channels
        raise ValueError(
            "what shape have the images? Give sample=images[:64], or a parametrization such as "
            f"FourierImage(({channels}, H, W))"
        )
    enough = len(sample) >= FEWEST_FOR_COLOURS
    return FourierImage(
        tuple(sample.shape[1:]),
        statistics=ImageStatistics.fit(preparation.real_for_view(sample)) if enough else None,
    )
