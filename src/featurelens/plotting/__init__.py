"""Pictures of what featurelens finds; the only room that knows matplotlib.

Every function takes tensors (any device, any real dtype, with or without gradients) or NumPy arrays and
returns matplotlib objects that belong to the caller: a grid of pictures is a `Figure`, a single picture its
`Axes`. Nothing is shown, and pyplot keeps no reference; write a file with ``figure.savefig("maps.png")``.
"""

from featurelens.plotting._curves import training_curves
from featurelens.plotting._feature_maps import feature_maps, input_and_feature_maps
from featurelens.plotting._filters import filters
from featurelens.plotting._images import image_grid

__all__ = ["feature_maps", "filters", "image_grid", "input_and_feature_maps", "training_curves"]
