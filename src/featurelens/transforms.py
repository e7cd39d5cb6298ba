"""The public namespace ``fl.transforms``; its names are described in `featurelens.maximization.transforms`."""

from featurelens.maximization import transforms
from featurelens.maximization.transforms import *

__all__ = transforms.__all__
