"""The images that channels, neurons and logits respond to most."""

from featurelens.maximization import objectives, transforms
from featurelens.maximization.comparison import RealImageComparison
from featurelens.maximization.latent import LatentImage, LatentWhitening
from featurelens.maximization.maximizer import ActivationMaximizer
from featurelens.maximization.objective import Objective
from featurelens.maximization.parametrizations import FourierImage, Parametrization, PixelImage
from featurelens.maximization.phase import PhaseImage
from featurelens.maximization.result import MaximizationResult
from featurelens.maximization.statistics import ImageStatistics

__all__ = [
    "ActivationMaximizer",
    "FourierImage",
    "ImageStatistics",
    "LatentImage",
    "LatentWhitening",
    "MaximizationResult",
    "Objective",
    "Parametrization",
    "PhaseImage",
    "PixelImage",
    "RealImageComparison",
    "objectives",
    "transforms",
]
