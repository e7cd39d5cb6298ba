"""What to maximize: activations of a network, sums of them, and penalties on the image.

An objective, such as ``channel("conv3", 7) - 0.5 * channel("conv1", 1)``, only describes what to maximize; it holds no
model. Higher is always better; penalties measure something unwanted, so subtract them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from featurelens._checks import check_type, check_whole, describe, to_numbers
from featurelens.layers import Selector
from featurelens.maximization import realism as _realism
from featurelens.maximization import terms as _terms
from featurelens.maximization.objective import Objective

__all__ = [
    "Objective",
    "channel",
    "custom",
    "direction",
    "diversity",
    "exponential",
    "l2",
    "laplacian",
    "layer_energy",
    "logit",
    "neuron",
    "realism",
    "total_variation",
]


def channel(layer: Selector, index: int, *, axis: int | None = None) -> Objective:
    """Maximize the mean activation of one channel over all its positions.

    Parameters
    ----------
    layer
        Any selector of one layer (see `featurelens.layers`): ``"conv3"``, ``"act#2"``, a module.
    index
        The channel, counted from 0; negative numbers count from the end.
    axis
        Axis of the channels in the layer's output: by default what the layer's type tells (1 for convolutions, -1 for
        `nn.Linear` and `nn.LayerNorm`), else 1 as in `(N, C, H, W)` and `(N, C)`. Required where the output may be
        `(N, L, D)` or `(N, H, W, C)`, which have them last: -1.

    Raises
    ------
    TypeError
        If `layer` is not a selector, or `index` or `axis` is not a whole number.

    Examples
    --------
    >>> channel("conv3", 7)
    Objective(conv3:7)
    """
    return _single(_terms.Channel(_named(layer), check_whole(index, argument="index"), axis=_axis(axis)))


def neuron(
    layer: Selector, index: int, position: Sequence[int] | None = None, *, axis: int | None = None
) -> Objective:
    """Maximize the activation of one channel at one position, by default the centre.

    Parameters
    ----------
    layer, index, axis
        As for `channel`.
    position
        Row and column in `(N, C, H, W)`; one number for each axis of the output other than batch and channel.

    Raises
    ------
    TypeError
        If `layer` is not a selector, `position` not a list or tuple, or a number not whole.

    Examples
    --------
    >>> neuron("conv3", 7), neuron("conv3", 7, (0, 4))
    (Objective(conv3:7 at the centre), Objective(conv3:7 at (0, 4)))
    """
    if position is not None:
        if not isinstance(position, list | tuple):
            raise TypeError(f"position must be a sequence of whole numbers; got {describe(position)}")
        position = tuple(check_whole(number, argument="position") for number in position)
    return _single(
        _terms.Neuron(_named(layer), check_whole(index, argument="index"), position, axis=_axis(axis))
    )


def logit(index: int) -> Objective:
    """Maximize one logit of the model's output `(N, classes)`.

    Parameters
    ----------
    index
        The class, counted from 0; negative numbers count from the end.

    Raises
    ------
    TypeError
        If `index` is not a whole number.

    Examples
    --------
    >>> logit(2)
    Objective(logit 2)
    """
    return _single(_terms.Channel("", check_whole(index, argument="index")))


def direction(
    layer: Selector, vector: torch.Tensor | Sequence[float], *, axis: int | None = None
) -> Objective:
    """Maximize the dot product of activations with a vector over the channels, averaged over positions.

    Parameters
    ----------
    layer, axis
        As for `channel`.
    vector
        ``(C,)``, one weight for each channel, not normalized.

    Raises
    ------
    TypeError, ValueError
        If `layer` is not a selector, or `vector` is not a vector of finite numbers.

    Examples
    --------
    >>> direction("conv3", [1.0, 0.0, -1.0])
    Objective(direction in conv3)
    """
    values = to_numbers(vector, argument="vector", expected="(C,), one number for each channel").cpu()
    if values.ndim != 1 or not len(values):
        raise ValueError(f"vector must be (C,), one weight for each channel; got {describe(values)}")
    if not bool(values.isfinite().all()):
        raise ValueError("vector must hold finite numbers; got NaN or infinite ones")
    return _single(_terms.Direction(_named(layer), tuple(values.tolist()), axis=_axis(axis)))


def layer_energy(layer: Selector) -> Objective:
    """Maximize the mean square of the whole output of `layer` (DeepDream).

    Raises
    ------
    TypeError
        If `layer` is no selector.

    Examples
    --------
    >>> layer_energy("conv2")
    Objective(energy of conv2)
    """
    return _single(_terms.LayerEnergy(_named(layer)))


def diversity(layer: Selector, *, axis: int | None = None) -> Objective:
    """Make images that share an objective differ in the correlations between a layer's channels.

    The value for an image is minus the mean cosine between its Gram matrix (channels by channels, summed over
    positions) and those of the other images in the run with the same objective: from -1 (all alike) to 0 (nothing in
    common). A single image gets 0. See Olah, Mordvintsev and Schubert, "Feature Visualization", Distill 2017.

    Parameters
    ----------
    layer, axis
        As for `channel`.

    Raises
    ------
    TypeError
        If `layer` is not a selector, or `axis` is not a whole number.

    Examples
    --------
    >>> facets = [channel("conv3", 7) + 2 * diversity("conv2")] * 4
    >>> facets[0]
    Objective(conv3:7 + 2 diversity in conv2)
    """
    return _single(_terms.Diversity(_named(layer), axis=_axis(axis)))


def exponential(objective: Objective) -> Objective:
    """Replace an activation `a` by ``-exp(-a)`` at each position, before averaging over positions.

    Maximizing it minimizes ``mean(exp(-a))``: the gradient is largest at inactive positions, small at active ones.

    Parameters
    ----------
    objective
        One `channel`, `neuron`, `logit` or `direction`; its factor stays outside the exponential.

    Raises
    ------
    TypeError
        If `objective` is a sum, has no activation to transform, or is already transformed.

    Examples
    --------
    >>> exponential(channel("conv3", 7))
    Objective(-exp(-conv3:7))
    """
    check_type(objective, Objective, argument="objective", expected="an Objective")
    if len(objective.terms) == 1 and isinstance(term := objective.terms[0][1], _terms.Activation):
        if term.exponential:
            raise TypeError(f"exponential applies to an objective once; got {objective}")
        return Objective(((objective.terms[0][0], replace(term, exponential=True)),))
    raise TypeError(f"exponential applies to a single channel, neuron, logit or direction; got {objective}")


def custom(layer: Selector, function: Callable[[torch.Tensor], torch.Tensor]) -> Objective:
    """Maximize a function of a layer's output.

    Parameters
    ----------
    layer
        As for `channel`.
    function
        Differentiable function of the layer's output for a batch, `(N, ...)`, that returns ``(N,)``; higher is better.
        Each value must depend on its own image only. The objective is named after the function.

    Raises
    ------
    TypeError
        If `layer` is not a selector, or `function` is not callable.

    Examples
    --------
    >>> def contrast(activations):
    ...     return activations.flatten(1).var(1)
    >>> custom("conv3", contrast) + 0.1 * channel("conv3", 7)
    Objective(contrast of conv3 + 0.1 conv3:7)
    """
    given: object = function
    if not callable(given) or isinstance(given, type):
        raise TypeError(f"function must be callable on activations (N, ...); got {describe(given)}")
    return _single(
        _terms.Custom(_named(layer), getattr(function, "__name__", type(function).__name__), function)
    )


def realism(
    model: nn.Module,
    layer: Selector,
    loader: torch.Tensor | Iterable[Any],
    *,
    axis: int | None = None,
    progress: bool = True,
) -> Objective:
    """Hold the activations of a layer on the way to the distribution that they have in real images.

    The value is minus the mean squared distance between the quantiles over positions of each channel, in the image and on
    average in real images, in units of the channel's standard deviation. The idea is that of VITAL (Görgün, Schiele and
    Fischer, ICCV 2025). Early layers with many positions serve best. Weights of 0.5 to 2 suit channels, 2 to 8 logits.

    Parameters
    ----------
    model
        The model that will be maximized.
    layer, axis
        As for `channel`; the layer must have positions, as in `(N, C, H, W)`.
    loader
        Real images as the model takes them, or a loader of batches of them; a few hundred are enough. Read once.
    progress
        Show a progress bar; without a terminal, write a line every ten seconds.

    Raises
    ------
    TypeError, ValueError
        If an argument is not one of the above.
    LookupError
        If `layer` does not exist.

    Examples
    --------
    >>> model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3))
    >>> channel("2", 0) + 2 * realism(model, "1", torch.rand(50, 1, 12, 12))
    Objective(2:0 + 2 realism of 1)
    """
    return _single(_realism.measured(model, _named(layer), loader, axis=_axis(axis), progress=progress))


def total_variation() -> Objective:
    """Mean absolute difference between neighbouring pixels, for pixel values in [0, 1]; subtract it.

    Examples
    --------
    >>> channel("conv3", 7) - 0.5 * total_variation()
    Objective(conv3:7 - 0.5 total variation)
    """
    return _single(_terms.TotalVariation())


def l2() -> Objective:
    """Contrast: mean squared distance of the pixels from mid-grey, at most 0.25; subtract it.

    Examples
    --------
    >>> logit(3) - 10 * l2()
    Objective(logit 3 - 10 l2)
    """
    return _single(_terms.SquaredNorm())


def laplacian() -> Objective:
    """Roughness: mean square of the discrete Laplacian, with edges replicated; subtract it.

    Examples
    --------
    >>> logit(3) - laplacian()
    Objective(logit 3 - laplacian)
    """
    return _single(_terms.Laplacian())


def _named(layer: Selector) -> Selector:
    if not isinstance(layer, str | type) and not callable(layer):
        raise TypeError(f"a layer is chosen by name or module; got {describe(layer)}")
    return layer


def _axis(value: object) -> int | None:
    return None if value is None else check_whole(value, argument="axis")


def _single(term: _terms.Term) -> Objective:
    return Objective(((1.0, term),))
