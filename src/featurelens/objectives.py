"""The public namespace ``fl.objectives``; its names are described in `featurelens.maximization.objectives`."""

from featurelens.maximization import objectives
from featurelens.maximization.objectives import *

__all__ = objectives.__all__
