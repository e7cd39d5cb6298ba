"""Mutual information: estimators that report their bias, their ceiling and their null."""

from featurelens.information.automatic import AutomaticMutualInformation
from featurelens.information.binned import BinnedMutualInformation
from featurelens.information.channels import channel_information
from featurelens.information.copula import CopulaMutualInformation
from featurelens.information.corrected_ksg import CorrectedKSGMutualInformation
from featurelens.information.estimator import Measurement, MutualInformation
from featurelens.information.ksg import KSGMutualInformation
from featurelens.information.latent import LatentMutualInformation
from featurelens.information.layer_result import LayerInformationResult
from featurelens.information.layers import layer_information
from featurelens.information.linear_probe_result import LinearProbeResult
from featurelens.information.methods import mutual_information
from featurelens.information.neural import NeuralMutualInformation
from featurelens.information.noisy_channel import NoisyChannelMutualInformation
from featurelens.information.plane import InformationPlane
from featurelens.information.probe import ProbeMutualInformation
from featurelens.information.probing import linear_probe
from featurelens.information.renyi import RenyiMutualInformation
from featurelens.information.results import (
    ChannelInformationResult,
    MutualInformationResult,
    SpatialMutualInformationResult,
)
from featurelens.information.spatial import spatial_mutual_information

__all__ = [
    "AutomaticMutualInformation",
    "BinnedMutualInformation",
    "ChannelInformationResult",
    "CopulaMutualInformation",
    "CorrectedKSGMutualInformation",
    "InformationPlane",
    "KSGMutualInformation",
    "LatentMutualInformation",
    "LayerInformationResult",
    "LinearProbeResult",
    "Measurement",
    "MutualInformation",
    "MutualInformationResult",
    "NeuralMutualInformation",
    "NoisyChannelMutualInformation",
    "ProbeMutualInformation",
    "RenyiMutualInformation",
    "SpatialMutualInformationResult",
    "channel_information",
    "layer_information",
    "linear_probe",
    "mutual_information",
    "spatial_mutual_information",
]
