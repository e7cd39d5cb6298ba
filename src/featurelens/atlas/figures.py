"""The figures of channels and layers: what they are called, what they mean, and how they follow from the survey."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, final

import torch

from featurelens.atlas.survey import LayerSurvey
from featurelens.information import channel_information


@final
@dataclass(frozen=True)
class Figure:
    """A figure, as the pages explain it; `null` is the key of another one, which says what chance gives."""

    key: str
    title: str
    unit: str
    help: str
    signed: bool = False
    null: str | None = None
    link: str | None = None

    def entry(self) -> dict[str, Any]:
        """Return what stands in the manifest; `null` is the key of the figure that says what chance gives, if any."""
        return {key: value for key, value in asdict(self).items() if key != "null" or value}


DEAD = "{} above 0 in no image, unless a normalization reads the layer, or {} the same largest value in all."

CHANNEL_FIGURES = (
    Figure("dead", "Dead", "", DEAD.format("The channel is", "has")),
    Figure(
        "maximum", "Largest value", "", "The channel's largest activation in any image of the data.", True
    ),
    Figure("active", "Active", "share", "Share of the images in which the channel is above 0 somewhere."),
    Figure(
        "sparseness",
        "Sparseness",
        "0 to 1",
        "Treves and Rolls' lifetime sparseness of the response, the mean over positions of what is above 0: 1 if one "
        "image alone activates the channel, 0 if all do alike.",
    ),
    Figure(
        "selectivity",
        "Class selectivity",
        "0 to 1",
        "Mean response to the class with the largest mean, less the mean of the other classes, over their sum.",
        null="selectivity_null",
    ),
    Figure(
        "selectivity_null",
        "Selectivity of chance",
        "0 to 1",
        "The same with shuffled labels: what chance gives with this many images of each class.",
    ),
    Figure("best_class", "Strongest class", "", "The class with the largest mean response."),
    Figure(
        "information",
        "Information",
        "nats",
        "Mutual information of the channel's largest value in an image and the class, corrected for bias.",
        True,
        null="information_null",
    ),
    Figure(
        "information_null",
        "Information of chance",
        "nats",
        "The mean of the same estimate with shuffled labels.",
        True,
    ),
    Figure("information_p", "p of information", "", "p-value of the information against shuffled labels."),
    Figure(
        "importance",
        "Importance",
        "accuracy",
        "Accuracy lost when the channel is replaced by its mean.",
        True,
    ),
    Figure("importance_error", "Error of importance", "accuracy", "Standard error of the importance."),
    Figure(
        "importance_q",
        "q of importance",
        "",
        "False discovery rate at which the importance counts as significant (Benjamini and Hochberg).",
    ),
    Figure(
        "score",
        "Optimized score",
        "",
        "The channel's activation at the centre of its map for the optimized image.",
        True,
    ),
    Figure(
        "ratio",
        "Optimized to real",
        "times",
        "The optimized image's score over the channel's largest value in any real image.",
    ),
    Figure(
        "trusted",
        "Trusted",
        "",
        "Whether the optimized image is stronger than real and plain images, and drives the channel by the same path as "
        "the strongest real images.",
    ),
    Figure(
        "agreement",
        "Agreement of seeds",
        "0 to 1",
        "How far images of other seeds drive the channel through the same channels.",
    ),
)
"""In the order in which the pages offer them."""

LAYER_FIGURES = (
    Figure("dead", "Dead channels", "", DEAD.format("Channels that are", "have")),
    Figure(
        "effective_rank",
        "Effective rank",
        "",
        "Number of directions that the channels' values use in the sampled images: the exponential of the entropy of the "
        "covariance's eigenvalues.",
    ),
    Figure(
        "participation_ratio",
        "Participation ratio",
        "",
        "Another count of directions: the eigenvalues' squared sum over the sum of their squares.",
    ),
    Figure(
        "probe_accuracy",
        "Probe accuracy",
        "share",
        "Share of sampled images whose class a linear probe of the layer's means predicts, fitted to other images.",
        null="probe_null",
    ),
    Figure(
        "probe_null", "Probe accuracy of chance", "share", "The same for a probe fitted to shuffled labels."
    ),
    Figure(
        "probe_nats",
        "Probe information",
        "nats",
        "Label entropy minus the probe's cross-entropy: a lower bound on the layer's information on the class.",
        True,
    ),
    Figure(
        "similarity",
        "Similarity of layers",
        "0 to 1",
        "Debiased CKA over the channels' largest values in the sampled images: 1 for the same up to rotation and scale.",
    ),
)

PICTURE_FIGURES = (
    Figure(
        "path",
        "Path of the optimized image",
        "0 to 1",
        "How far it drives the channel through the same channels of earlier layers as the strongest real images do.",
    ),
    Figure(
        "path_real",
        "Path of real images",
        "0 to 1",
        "The same for the strongest real images among themselves.",
    ),
    Figure("path_random", "Path of random images", "0 to 1", "The same for random real images."),
    Figure(
        "agreement",
        "Agreement of seeds",
        "0 to 1",
        "The same for optimized images of other seeds and this one.",
    ),
)
"""What is shown of the trust in an optimized image."""


def columns(found: LayerSurvey, *, seed: int) -> dict[str, torch.Tensor]:
    """Return the figures that follow from the survey, ``(C,)`` each."""
    result = {
        "maximum": found.highest,
        "active": found.activity.active_images,
        "sparseness": found.activity.sparseness,
    }
    if found.by_class is not None:
        result["selectivity"] = found.by_class.index
        result["selectivity_null"] = found.by_class.null_mean
        preferred = found.by_class.preferred.double()
        result["best_class"] = preferred.masked_fill(preferred < 0, torch.nan)
    values, labels = found.sample.values, found.sample.labels
    if labels is not None and 1 < len(torch.unique(labels)) < len(labels):
        information = channel_information(values.nan_to_num(0, 0, 0), labels, seed=seed, progress=False)
        result["information"] = information.values
        if information.null_mean is not None:
            result["information_null"] = information.null_mean
        if information.p_values is not None:
            result["information_p"] = information.p_values
    return result


def layer_figures(found: LayerSurvey, dead: torch.Tensor) -> dict[str, float]:
    """Return the figures of a layer, of whose channels some are `dead`."""
    values = found.sample.values.nan_to_num(0, 0, 0).double()
    strengths = torch.linalg.svdvals(values - values.mean(0)).square()
    shares = strengths / strengths.sum()
    entropy = -torch.special.xlogy(shares, shares).sum()
    return {
        "dead": float(dead.sum()),
        "effective_rank": float(entropy.exp()),
        "participation_ratio": float(1 / shares.square().sum()),
    }
