"""The images that channels, neurons and logits respond to most."""

from featurelens.maximization.latent import LatentImage, LatentWhitening
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
from featurelens.maximization.phase import PhaseImage
from featurelens.maximization.result import MaximizationResult
from featurelens.maximization.statistics import ImageStatistics
from featurelens.maximization.transforms import Jitter, Pad, RandomRotate, RandomScale
from featurelens.maximization.verdict import Verdict

__all__ = [
    "ActivationMaximizer",
    "FourierImage",
    "ImageStatistics",
    "Jitter",
    "LatentImage",
    "LatentWhitening",
    "MaximizationResult",
    "Objective",
    "Pad",
    "Parametrization",
    "PhaseImage",
    "PixelImage",
    "RandomRotate",
    "RandomScale",
    "Verdict",
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
