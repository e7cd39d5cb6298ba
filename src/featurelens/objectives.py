"""The public namespace ``fl.objectives``; its names are described in `featurelens.maximization.objectives`."""

from featurelens.maximization.objectives import *  # noqa: F403  the names in its __all__
from featurelens.maximization.objectives import __all__ as __all__
