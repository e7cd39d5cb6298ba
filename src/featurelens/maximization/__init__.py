"""Images that maximize the activations of channels, neurons and logits."""

from featurelens.maximization import objectives, transforms
from featurelens.maximization.comparison import RealImageComparison
from featurelens.maximization.images.base import Parametrization
from featurelens.maximization.images.fourier import FourierImage
from featurelens.maximization.images.image_statistics import ImageStatistics
from featurelens.maximization.images.latent import LatentImage, LatentWhitening
from featurelens.maximization.images.phase import PhaseImage
from featurelens.maximization.images.pixel import PixelImage
from featurelens.maximization.maximizer import ActivationMaximizer
from featurelens.maximization.objective import Objective
from featurelens.maximization.result import MaximizationResult

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
