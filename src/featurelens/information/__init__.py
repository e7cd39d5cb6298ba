"""Mutual information: estimators that know their bias, their ceiling and their null."""

from featurelens.information.base import MutualInformation
from featurelens.information.binned import BinnedMutualInformation
from featurelens.information.ksg import KSGMutualInformation
from featurelens.information.result import MutualInformationResult
from featurelens.information.spatial import SpatialMutualInformationResult, spatial_mutual_information

__all__ = [
    "BinnedMutualInformation",
    "KSGMutualInformation",
    "MutualInformation",
    "MutualInformationResult",
    "SpatialMutualInformationResult",
    "spatial_mutual_information",
]
