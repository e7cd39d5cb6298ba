"""The public namespace ``fl.transforms``; its names are described in `featurelens.maximization.transforms`."""

from featurelens.maximization.transforms import *  # noqa: F403  the names in its __all__
from featurelens.maximization.transforms import __all__ as __all__
