"""Pictures of what featurelens finds; the only room that knows matplotlib.

Every function takes tensors (any device, any real dtype, with or without gradients), NumPy arrays or results,
and returns matplotlib objects that belong to the caller: a grid of pictures is a `Figure`, a single picture
its `Axes`. Nothing is shown, and pyplot keeps no reference; write a file with ``figure.savefig("maps.png")``.
"""

from featurelens.plotting._ablation import ablation_gallery, reconstructions
from featurelens.plotting._channels import channel_bars, pair_matrix
from featurelens.plotting._confusion import confusion_matrix
from featurelens.plotting._curves import training_curves
from featurelens.plotting._feature_maps import feature_maps, input_and_feature_maps
from featurelens.plotting._filters import filters
from featurelens.plotting._images import image_grid
from featurelens.plotting._importance import (
    ablation_change,
    class_importance,
    importance,
)
from featurelens.plotting._information import information_curves, information_plane
from featurelens.plotting._maximization import comparison, maximization, maximization_history, write_images
from featurelens.plotting._removal import ablation_curves
from featurelens.plotting._statistics import channel_correlations, channel_quantiles, strongest_images

__all__ = [
    "ablation_change",
    "ablation_curves",
    "ablation_gallery",
    "channel_bars",
    "channel_correlations",
    "channel_quantiles",
    "class_importance",
    "comparison",
    "confusion_matrix",
    "feature_maps",
    "filters",
    "image_grid",
    "importance",
    "information_curves",
    "information_plane",
    "input_and_feature_maps",
    "maximization",
    "maximization_history",
    "pair_matrix",
    "reconstructions",
    "strongest_images",
    "training_curves",
    "write_images",
]
