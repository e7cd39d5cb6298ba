"""The public namespace ``fl.transforms``; its names are described in `featurelens.maximization.transforms`."""

from featurelens.maximization.transforms import *
