"""featurelens looks inside any :class:`torch.nn.Module`.

>>> import featurelens as fl
>>> import torch
>>> from torch import nn
>>> model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10))
>>> acts = fl.ActivationRecorder(model, ["conv_1", nn.ReLU])(torch.rand(2, 1, 8, 8))
>>> {name: tuple(activation.shape) for name, activation in acts.items()}
{'0': (2, 4, 6, 6), '1': (2, 4, 6, 6)}

Public names are imported when they are first used, so that ``import featurelens`` costs no more than
``import torch``.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from featurelens import layers, plotting
    from featurelens._layer_table import Layer, LayerTable
    from featurelens.ablation import (
        AblationCurve,
        AblationResult,
        ChannelAblator,
        DeconvDecoder,
        ImportanceResult,
    )
    from featurelens.information import (
        BinnedMutualInformation,
        ChannelInformationResult,
        CopulaMutualInformation,
        CorrectedKSGMutualInformation,
        InformationPlane,
        KSGMutualInformation,
        LatentMutualInformation,
        MutualInformation,
        MutualInformationResult,
        NeuralMutualInformation,
        NoisyChannelMutualInformation,
        RenyiMutualInformation,
        SpatialMutualInformationResult,
        channel_information,
        layer_information,
        mutual_information,
        spatial_mutual_information,
    )
    from featurelens.layers import list_layers
    from featurelens.maximization import (
        ActivationMaximizer,
        FourierImage,
        ImageStatistics,
        Jitter,
        LatentImage,
        LatentWhitening,
        MaximizationResult,
        Objective,
        Pad,
        PhaseImage,
        PixelImage,
        RandomRotate,
        RandomScale,
        Verdict,
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
    from featurelens.recording import (
        ActivationRecorder,
        Activations,
        FeatureExtractor,
        ReceptiveField,
        TappedModule,
        insert_extractors,
        list_operations,
        receptive_field,
    )
    from featurelens.statistics import (
        Covariance,
        CovarianceResult,
        Histogram,
        HistogramResult,
        JointCounts,
        JointCountsResult,
        LayerStatistics,
        Moments,
        MomentsResult,
        Statistic,
        StreamResult,
        TopK,
        TopKResult,
    )
    from featurelens.storage import ActivationStore, StoredLayer, merge
    from featurelens.tensorboard import TensorBoardWriter

__version__ = "0.1.0"

_ROOMS = {
    "AblationCurve": "ablation",
    "AblationResult": "ablation",
    "ActivationMaximizer": "maximization",
    "ActivationRecorder": "recording",
    "ActivationStore": "storage",
    "Activations": "recording",
    "BinnedMutualInformation": "information",
    "ChannelAblator": "ablation",
    "ChannelInformationResult": "information",
    "CopulaMutualInformation": "information",
    "CorrectedKSGMutualInformation": "information",
    "Covariance": "statistics",
    "CovarianceResult": "statistics",
    "DeconvDecoder": "ablation",
    "FeatureExtractor": "recording",
    "FourierImage": "maximization",
    "Histogram": "statistics",
    "HistogramResult": "statistics",
    "ImageStatistics": "maximization",
    "ImportanceResult": "ablation",
    "InformationPlane": "information",
    "Jitter": "maximization",
    "JointCounts": "statistics",
    "JointCountsResult": "statistics",
    "KSGMutualInformation": "information",
    "LatentImage": "maximization",
    "LatentMutualInformation": "information",
    "LatentWhitening": "maximization",
    "Layer": "_layer_table",
    "LayerStatistics": "statistics",
    "LayerTable": "_layer_table",
    "MaximizationResult": "maximization",
    "Moments": "statistics",
    "MomentsResult": "statistics",
    "MutualInformation": "information",
    "MutualInformationResult": "information",
    "NeuralMutualInformation": "information",
    "NoisyChannelMutualInformation": "information",
    "Objective": "maximization",
    "Pad": "maximization",
    "PhaseImage": "maximization",
    "PixelImage": "maximization",
    "RandomRotate": "maximization",
    "RandomScale": "maximization",
    "ReceptiveField": "recording",
    "RenyiMutualInformation": "information",
    "SpatialMutualInformationResult": "information",
    "Statistic": "statistics",
    "StoredLayer": "storage",
    "StreamResult": "statistics",
    "TappedModule": "recording",
    "TensorBoardWriter": "tensorboard",
    "TopK": "statistics",
    "TopKResult": "statistics",
    "Verdict": "maximization",
    "channel": "maximization",
    "channel_information": "information",
    "direction": "maximization",
    "diversity": "maximization",
    "exponential": "maximization",
    "insert_extractors": "recording",
    "l2": "maximization",
    "laplacian": "maximization",
    "layer_energy": "maximization",
    "layer_information": "information",
    "layers": "layers",
    "list_layers": "layers",
    "list_operations": "recording",
    "logit": "maximization",
    "merge": "storage",
    "mutual_information": "information",
    "neuron": "maximization",
    "plotting": "plotting",
    "receptive_field": "recording",
    "spatial_mutual_information": "information",
    "total_variation": "maximization",
}

__all__ = [
    "AblationCurve",
    "AblationResult",
    "ActivationMaximizer",
    "ActivationRecorder",
    "ActivationStore",
    "Activations",
    "BinnedMutualInformation",
    "ChannelAblator",
    "ChannelInformationResult",
    "CopulaMutualInformation",
    "CorrectedKSGMutualInformation",
    "Covariance",
    "CovarianceResult",
    "DeconvDecoder",
    "FeatureExtractor",
    "FourierImage",
    "Histogram",
    "HistogramResult",
    "ImageStatistics",
    "ImportanceResult",
    "InformationPlane",
    "Jitter",
    "JointCounts",
    "JointCountsResult",
    "KSGMutualInformation",
    "LatentImage",
    "LatentMutualInformation",
    "LatentWhitening",
    "Layer",
    "LayerStatistics",
    "LayerTable",
    "MaximizationResult",
    "Moments",
    "MomentsResult",
    "MutualInformation",
    "MutualInformationResult",
    "NeuralMutualInformation",
    "NoisyChannelMutualInformation",
    "Objective",
    "Pad",
    "PhaseImage",
    "PixelImage",
    "RandomRotate",
    "RandomScale",
    "ReceptiveField",
    "RenyiMutualInformation",
    "SpatialMutualInformationResult",
    "Statistic",
    "StoredLayer",
    "StreamResult",
    "TappedModule",
    "TensorBoardWriter",
    "TopK",
    "TopKResult",
    "Verdict",
    "__version__",
    "channel",
    "channel_information",
    "direction",
    "diversity",
    "exponential",
    "insert_extractors",
    "l2",
    "laplacian",
    "layer_energy",
    "layer_information",
    "layers",
    "list_layers",
    "list_operations",
    "logit",
    "merge",
    "mutual_information",
    "neuron",
    "plotting",
    "receptive_field",
    "spatial_mutual_information",
    "total_variation",
]


def __getattr__(name: str) -> Any:
    if name not in _ROOMS:
        raise AttributeError(f"module 'featurelens' has no attribute {name!r}")
    room = import_module(f"featurelens.{_ROOMS[name]}")
    value = room if name == _ROOMS[name] else getattr(room, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
