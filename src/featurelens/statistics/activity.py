"""How often and how strongly every channel responds: active images, dead channels, sparseness."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import final

import torch

from featurelens._checks import count
from featurelens._html import Shown
from featurelens.statistics.base import State, Statistic, check_same_channels, combined
from featurelens.statistics.exact_sums import added, central_products, exact, raw_products, total
from featurelens.statistics.responses import Responses, responses


@final
@dataclass(frozen=True, repr=False, eq=False)
class ActivityResult(Shown):
    """Activity of each channel, image by image.

    Attributes
    ----------
    images : torch.Tensor
        ``(C,)`` int64: number of images in which the channel was finite throughout; all of the below is about these.
    active_images : torch.Tensor
        ``(C,)`` float64: share of images in which the channel is positive at one position or more.
    active_positions : torch.Tensor
        ``(C,)`` float64: share of positions, over all images, at which it is positive.
    response : torch.Tensor
        ``(C,)`` float64, in the units of the activations: mean over images of the response, which is the mean over
        positions of the activation where it is positive, and of 0 elsewhere.
    sparseness : torch.Tensor
        ``(C,)`` float64: lifetime sparseness of the response, from 0 (the same in all images) to 1 (a single image);
        NaN for a dead channel, or for fewer than two images.
    max : torch.Tensor
        ``(C,)`` float64: the largest value.
    not_finite : torch.Tensor
        ``(C,)`` int64: images that are left out because the channel was NaN or infinite somewhere.
    layer : str or None
        The layer, if measured by `ActivationRecorder.stream`.
    """

    images: torch.Tensor
    active_images: torch.Tensor
    active_positions: torch.Tensor
    response: torch.Tensor
    sparseness: torch.Tensor
    max: torch.Tensor
    not_finite: torch.Tensor
    layer: str | None = None

    @property
    def dead(self) -> torch.Tensor:
        """``(C,)`` bool: the channel is positive nowhere in any image."""
        return (self.active_images == 0) & (self.images > 0)

    def __str__(self) -> str:
        low, high = (100 * float(value) for value in torch.aminmax(self.active_images))
        text = f"{count(len(self.images), 'channel')} over {count(int(self.images.max()), 'image')}"
        text += f": active in {low:.0f} to {high:.0f} % of the images, {int(self.dead.sum())} dead"
        known = self.sparseness[~self.sparseness.isnan()]
        return f"{text}, median sparseness {known.median():.2f}" if len(known) else text

    def __repr__(self) -> str:
        broken = int(self.not_finite.sum())
        rest = f", {broken} images not finite" if broken else ""
        channels, dead = count(len(self.images), "channel"), int(self.dead.sum())
        return (
            f"{type(self).__name__}({channels}, {dead} dead, {count(int(self.images.max()), 'image')}{rest})"
        )


@final
@dataclass(eq=False)
class Activity(Statistic):
    """Share of images and positions at which each channel is active, mean response, and lifetime sparseness.

    A channel is active where it is above 0. Its response r to an image is the mean over positions of the activation
    where it is positive, and of 0 elsewhere: what a ReLU behind the channel would pass on. Lifetime sparseness over n
    images (Treves & Rolls 1991, scaled as by Vinje & Gallant 2000) is ``(1 - mean(r)^2 / mean(r^2)) / (1 - 1 / n)``.
    Images in which a channel is NaN or infinite anywhere are left out for this channel, and counted.

    Examples
    --------
    >>> activity = Activity()
    >>> activity.update(torch.tensor([[1.0, 0.0, 2.0], [1.0, 0.0, -2.0]]))
    >>> found = activity.compute()
    >>> found.active_images.tolist(), found.sparseness.tolist(), found.dead.tolist()
    ([1.0, 0.0, 0.5], [0.0, nan, 1.0], [False, True, False])
    """

    view = staticmethod(responses)

    def measure(self, found: Responses, first_row: int, labels: torch.Tensor | None) -> State:
        images, sums = found.usable.sum(1), found.strength.sum(1)
        mean = (sums / images.clamp_min(1))[:, None]
        scatter = ((found.strength - mean) * found.usable).square().sum(1)
        return {
            "images": images,
            "not_finite": found.usable.shape[1] - images,
            "positions": images * found.positions,
            "active_images": (found.active > 0).sum(1),
            "active_positions": found.active.sum(1),
            "sum": exact(sums),
            "squares": raw_products(scatter, sums, sums, images),
            "max": found.largest.amax(1),
            "response_min": found.strength.masked_fill(~found.usable, torch.inf).amin(1),
            "response_max": found.strength.masked_fill(~found.usable, -torch.inf).amax(1),
        }

    def combine(self, one: State, other: State) -> State:
        check_same_channels(len(one["images"]), len(other["images"]))
        counts = ("images", "not_finite", "positions", "active_images", "active_positions")
        return combined(
            one,
            other,
            **dict.fromkeys(counts, operator.add),
            sum=added,
            squares=added,
            max=torch.maximum,
            response_min=torch.minimum,
            response_max=torch.maximum,
        )

    def summarize(self, state: State) -> ActivityResult:
        images, sums = state["images"].double(), total(state["sum"])[0]
        scatter = central_products(state["squares"], state["sum"], state["sum"], images).clamp_min(0.0)
        # The mean of equal responses is rounded, so that batches seem to differ.
        scatter = scatter.masked_fill(state["response_min"] == state["response_max"], 0.0)
        # 1 - mean^2 / mean of squares, without the difference of two nearly equal numbers
        sparseness = scatter / (scatter + sums.square() / images) / (1 - 1 / images)
        return ActivityResult(
            images=state["images"],
            active_images=state["active_images"] / images,
            active_positions=state["active_positions"] / state["positions"].double(),
            response=sums / images,
            sparseness=sparseness.masked_fill(images < 2, torch.nan).clamp_max(1.0),
            max=state["max"].masked_fill(images == 0, torch.nan),
            not_finite=state["not_finite"],
        )
