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
    from featurelens.layers import Layer, LayerTable, list_layers
    from featurelens.recording import (
        ActivationRecorder,
        Activations,
        TappedModule,
        insert_extractors,
        list_operations,
    )
    from featurelens.tensorboard import TensorBoardWriter

__version__ = "0.1.0"

_ROOMS = {
    "ActivationRecorder": "recording",
    "Activations": "recording",
    "Layer": "layers",
    "LayerTable": "layers",
    "TappedModule": "recording",
    "TensorBoardWriter": "tensorboard",
    "insert_extractors": "recording",
    "layers": "layers",
    "list_layers": "layers",
    "list_operations": "recording",
    "plotting": "plotting",
}

__all__ = [
    "ActivationRecorder",
    "Activations",
    "Layer",
    "LayerTable",
    "TappedModule",
    "TensorBoardWriter",
    "__version__",
    "insert_extractors",
    "layers",
    "list_layers",
    "list_operations",
    "plotting",
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
