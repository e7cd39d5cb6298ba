"""The images that channels, neurons and logits respond to most."""

from featurelens.maximization.maximizer import ActivationMaximizer
from featurelens.maximization.objectives import (
    Objective,
    channel,
    direction,
    diversity,
    exponential,
    l2,
    laplacian,
    layer_energy,
    logit,
    neuron,
    total_variation,
)
from featurelens.maximization.parametrizations import FourierImage, Parametrization, PixelImage
from featurelens.maximization.result import MaximizationResult
from featurelens.maximization.statistics import ImageStatistics
from featurelens.maximization.transforms import Jitter, Pad, RandomRotate, RandomScale

__all__ = [
    "ActivationMaximizer",
    "FourierImage",
    "ImageStatistics",
    "Jitter",
    "MaximizationResult",
    "Objective",
    "Pad",
    "Parametrization",
    "PixelImage",
    "RandomRotate",
    "RandomScale",
    "channel",
    "direction",
    "diversity",
    "exponential",
    "l2",
    "laplacian",
    "layer_energy",
    "logit",
    "neuron",
    "total_variation",
]
