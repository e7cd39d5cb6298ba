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
    from featurelens.recording import (
        ActivationRecorder,
        Activations,
        FeatureExtractor,
        TappedModule,
        insert_extractors,
        list_operations,
    )
    from featurelens.tensorboard import TensorBoardWriter

__version__ = "0.1.0"

_ROOMS = {
    "AblationCurve": "ablation",
    "AblationResult": "ablation",
    "ActivationRecorder": "recording",
    "Activations": "recording",
    "BinnedMutualInformation": "information",
    "ChannelAblator": "ablation",
    "ChannelInformationResult": "information",
    "CopulaMutualInformation": "information",
    "CorrectedKSGMutualInformation": "information",
    "DeconvDecoder": "ablation",
    "FeatureExtractor": "recording",
    "ImportanceResult": "ablation",
    "InformationPlane": "information",
    "KSGMutualInformation": "information",
    "LatentMutualInformation": "information",
    "Layer": "_layer_table",
    "LayerTable": "_layer_table",
    "MutualInformation": "information",
    "MutualInformationResult": "information",
    "NeuralMutualInformation": "information",
    "NoisyChannelMutualInformation": "information",
    "RenyiMutualInformation": "information",
    "SpatialMutualInformationResult": "information",
    "TappedModule": "recording",
    "TensorBoardWriter": "tensorboard",
    "channel_information": "information",
    "insert_extractors": "recording",
    "layer_information": "information",
    "layers": "layers",
    "list_layers": "layers",
    "list_operations": "recording",
    "mutual_information": "information",
    "plotting": "plotting",
    "spatial_mutual_information": "information",
}

__all__ = [
    "AblationCurve",
    "AblationResult",
    "ActivationRecorder",
    "Activations",
    "BinnedMutualInformation",
    "ChannelAblator",
    "ChannelInformationResult",
    "CopulaMutualInformation",
    "CorrectedKSGMutualInformation",
    "DeconvDecoder",
    "FeatureExtractor",
    "ImportanceResult",
    "InformationPlane",
    "KSGMutualInformation",
    "LatentMutualInformation",
    "Layer",
    "LayerTable",
    "MutualInformation",
    "MutualInformationResult",
    "NeuralMutualInformation",
    "NoisyChannelMutualInformation",
    "RenyiMutualInformation",
    "SpatialMutualInformationResult",
    "TappedModule",
    "TensorBoardWriter",
    "__version__",
    "channel_information",
    "insert_extractors",
    "layer_information",
    "layers",
    "list_layers",
    "list_operations",
    "mutual_information",
    "plotting",
    "spatial_mutual_information",
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
