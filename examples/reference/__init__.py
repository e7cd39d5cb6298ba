"""Data, networks and a training loop, shared by all examples.

``python examples/NAME.py`` puts the folder of the examples on the path, so an example can write
``from reference import fit, load``.
"""

from reference.command import run
from reference.data import DataError, Dataset, load
from reference.networks import (
    CifarClassifier,
    DigitsCNN,
    GrayscaleCNN,
    MnistCNN,
    SmallCNN,
    TutorialCNN,
    fitting_network,
    seeded,
)
from reference.training import History, accuracy, fit

__all__ = [
    "CifarClassifier",
    "DataError",
    "Dataset",
    "DigitsCNN",
    "GrayscaleCNN",
    "History",
    "MnistCNN",
    "SmallCNN",
    "TutorialCNN",
    "accuracy",
    "fit",
    "fitting_network",
    "load",
    "run",
    "seeded",
]
