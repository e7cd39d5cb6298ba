"""The images that channels, neurons and logits respond to most."""

from featurelens.maximization.latent import LatentImage, LatentWhitening
from featurelens.maximization.maximizer import ActivationMaximizer
from featurelens.maximization.objectives import (
    Objective,
    channel,
    custom,
    direction,
    diversity,
    exponential,
    layer_energy,
    logit,
    neuron,
)
from featurelens.maximization.parametrizations import FourierImage, Parametrization, PixelImage
from featurelens.maximization.penalties import l2, laplacian, total_variation
from featurelens.maximization.phase import PhaseImage
from featurelens.maximization.result import MaximizationResult
from featurelens.maximization.statistics import ImageStatistics
from featurelens.maximization.transforms import Jitter, Pad, RandomRotate, RandomScale, Transform
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
    "Transform",
    "Verdict",
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
    "total_variation",
]
