"""Data, networks and a training loop, shared by all examples.

``python examples/NAME.py`` puts the folder of the examples on the path, so an example can write
``from reference import fit, load``.
"""

from reference.command import command_line
from reference.data import DataError, Dataset, load
from reference.networks import (
    CifarClassifier,
    GrayscaleCNN,
    MnistCNN,
    SmallCNN,
    TutorialCNN,
    fitting_network,
    seeded,
)
from reference.training import History, accuracy, fit, flip_and_shift, reason_to_stop

__all__ = [
    "CifarClassifier",
    "DataError",
    "Dataset",
    "GrayscaleCNN",
    "History",
    "MnistCNN",
    "SmallCNN",
    "TutorialCNN",
    "accuracy",
    "command_line",
    "fit",
    "fitting_network",
    "flip_and_shift",
    "load",
    "reason_to_stop",
    "seeded",
]
