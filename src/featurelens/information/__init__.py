"""Mutual information: estimators that know their bias, their ceiling and their null."""

from featurelens.information.base import MutualInformation
from featurelens.information.binned import BinnedMutualInformation
from featurelens.information.channels import ChannelInformationResult, channel_information
from featurelens.information.copula import CopulaMutualInformation
from featurelens.information.corrected import CorrectedKSGMutualInformation
from featurelens.information.ksg import KSGMutualInformation
from featurelens.information.latent import LatentMutualInformation
from featurelens.information.layerwise import layer_information
from featurelens.information.neural import NeuralMutualInformation
from featurelens.information.noisy_channel import NoisyChannelMutualInformation
from featurelens.information.plane import InformationPlane
from featurelens.information.renyi import RenyiMutualInformation
from featurelens.information.result import MutualInformationResult
from featurelens.information.select import mutual_information
from featurelens.information.spatial import SpatialMutualInformationResult, spatial_mutual_information

__all__ = [
    "BinnedMutualInformation",
    "ChannelInformationResult",
    "CopulaMutualInformation",
    "CorrectedKSGMutualInformation",
    "InformationPlane",
    "KSGMutualInformation",
    "LatentMutualInformation",
    "MutualInformation",
    "MutualInformationResult",
    "NeuralMutualInformation",
    "NoisyChannelMutualInformation",
    "RenyiMutualInformation",
    "SpatialMutualInformationResult",
    "channel_information",
    "layer_information",
    "mutual_information",
    "spatial_mutual_information",
]
