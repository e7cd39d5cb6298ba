"""Figures of what featurelens finds; the only room that knows matplotlib.

Every function accepts tensors (any device, any real dtype, with or without gradients), NumPy arrays or results, and
returns a matplotlib `Figure` that belongs to the caller. Jupyter shows it as the value of a cell; a file is
``figure.savefig("maps.png")``. With ``ax=`` the picture is drawn on that Axes, and the figure is the one it lies on.
Pyplot keeps no reference.
"""

from featurelens.plotting.bars import ablation_change, channel_bars, channel_quantiles, importance
from featurelens.plotting.curves import (
    ablation_curves,
    information_curves,
    maximization_history,
    training_curves,
)
from featurelens.plotting.heatmap import channel_correlations, class_importance, confusion_matrix
from featurelens.plotting.images import image_grid, maximization, write_images
from featurelens.plotting.maps import feature_maps, input_and_feature_maps
from featurelens.plotting.pairs import pair_matrix
from featurelens.plotting.plane import information_plane
from featurelens.plotting.rows import comparison, strongest_images
from featurelens.plotting.strips import ablation_gallery, reconstructions
from featurelens.plotting.weights import filters

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
