"""From images in [0, 1] to what the model takes, and back from the user's own images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self, final

import torch

from featurelens._checks import check_dense, check_type, describe
from featurelens.maximization.layouts import ANY, is_batch, per_channel

ROUNDING = 1e-3
"""By how much images may leave [0, 1] and still count as being in it."""


@final
@dataclass(frozen=True)
class Preprocessing:
    """The user's function, or the range of the user's sample, ``(C, 1, ...)``, or nothing."""

    function: Callable[[torch.Tensor], torch.Tensor] | None = None
    low: torch.Tensor | None = None
    high: torch.Tensor | None = None

    @classmethod
    def checked(
        cls, sample: torch.Tensor | None, preprocess: Callable[[torch.Tensor], torch.Tensor] | None
    ) -> Self:
        """Check what the user gave."""
        if preprocess is not None and not callable(preprocess):
            raise TypeError(f"preprocess must be callable on images (N, C, ...); got {describe(preprocess)}")
        if sample is None:
            return cls(preprocess)
        check_type(sample, torch.Tensor, argument="sample", expected=f"a tensor of images {ANY}")
        if not is_batch(sample) or 0 in sample.shape or not sample.is_floating_point():
            raise ValueError(
                f"sample must be floating-point images {ANY} with no empty dimension; got {describe(sample)}"
            )
        check_dense(sample, argument="sample")
        values = sample.detach().cpu().transpose(0, 1).flatten(1).float()
        if not bool(values.isfinite().all()):
            raise ValueError("sample must be finite; got NaN or infinite values")
        low, high = (per_channel(ends, sample.ndim - 2) for ends in (values.amin(1), values.amax(1)))
        rounding = 0.0 if preprocess is None else ROUNDING
        if float(low.min()) >= -rounding and float(high.max()) <= 1 + rounding:
            return cls(preprocess)
        if preprocess is not None:
            raise ValueError(
                f"with preprocess, sample must be in [0, 1]; got values from {float(low.min()):.4g} to "
                f"{float(high.max()):.4g}"
            )
        return cls(None, low, torch.where(high > low, high, low + 1))

    def for_model(self, images: torch.Tensor, *, real: bool = False) -> torch.Tensor:
        """Return what the model takes for images `(N, C, H, W)` in [0, 1], or for `real` ones, in the sample's range.

        It is a copy: the function, or the model, may change what it is given in place.
        """
        images = images.clone()
        if self.function is not None:
            prepared: object = self.function(images)
            if not isinstance(prepared, torch.Tensor) or prepared.shape[:1] != images.shape[:1]:
                raise ValueError(
                    f"preprocess must return as many images as it is given, {len(images)}; got {describe(prepared)}"
                )
            return prepared
        if real or self.low is None or self.high is None:
            return images
        low, high = self.low.to(images), self.high.to(images)
        return low + (high - low) * images

    def for_view(self, images: torch.Tensor) -> torch.Tensor:
        """Return the user's own images in [0, 1].

        Raises
        ------
        ValueError
            If there is no sample to say what range they have, and they are not in [0, 1].
        """
        if self.low is not None and self.high is not None:
            low, high = self.low.to(images), self.high.to(images)
            return ((images - low) / (high - low)).clamp(0, 1)
        lowest, highest = float(images.min()), float(images.max())
        if lowest < -ROUNDING or highest > 1 + ROUNDING:
            raise ValueError(
                f"the loader must yield images in [0, 1]; got values from {lowest:.3g} to {highest:.3g}: preprocess is "
                "applied to them; without preprocess, ActivationMaximizer(model, sample=images) learns another range"
            )
        return images
