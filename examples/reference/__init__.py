"""What all examples share: data, networks and a training loop.

``python examples/NAME.py`` puts this folder on the path, so that an example can say
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
