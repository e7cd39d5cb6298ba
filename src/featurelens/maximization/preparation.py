"""Between images in [0, 1] and what the model takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self, final

import torch

from featurelens._checks import describe

ROUNDING = 1e-3
"""By how much images may leave [0, 1] and still count as being in it."""


@final
@dataclass(frozen=True)
class Preparation:
    """The user's `preprocess`, or the range of the user's sample, or nothing."""

    preprocess: Callable[[torch.Tensor], torch.Tensor] | None = None
    low: torch.Tensor | None = None  # (C, 1, 1)
    high: torch.Tensor | None = None

    @classmethod
    def of(
        cls, sample: torch.Tensor | None, preprocess: Callable[[torch.Tensor], torch.Tensor] | None
    ) -> Self:
        """Check what the user gave."""
        if preprocess is not None and not callable(preprocess):
            raise TypeError(f"preprocess must be callable on images (N, C, H, W); got {describe(preprocess)}")
        if sample is None:
            return cls(preprocess)
        if not isinstance(sample, torch.Tensor):
            raise TypeError(f"sample must be a tensor of images (N, C, H, W); got {describe(sample)}")
        if sample.ndim != 4 or 0 in sample.shape or not sample.is_floating_point():
            raise ValueError(
                f"sample must be floating-point images (N, C, H, W), none of them 0; got {describe(sample)}"
            )
        values = sample.detach().cpu().transpose(0, 1).flatten(1).float()
        if not bool(values.isfinite().all()):
            raise ValueError("sample must be finite; got NaN or infinite values")
        if bool((values >= 0).all()) and bool((values <= 1).all()):
            return cls(preprocess)
        if preprocess is not None:
            raise ValueError(
                f"with preprocess, sample must be in [0, 1]; got values from {float(values.min()):.3g} to "
                f"{float(values.max()):.3g}"
            )
        low, high = values.amin(1), values.amax(1)
        return cls(None, low[:, None, None], torch.where(high > low, high, low + 1)[:, None, None])

    def for_model(self, images: torch.Tensor) -> torch.Tensor:
        """Return what the model takes for images `(N, C, H, W)` in [0, 1]."""
        if self.preprocess is not None:
            return self._preprocessed(self.preprocess, images)
        if self.low is None or self.high is None:
            return images
        low, high = self.low.to(images), self.high.to(images)
        return low + (high - low) * images

    def real_for_model(self, images: torch.Tensor) -> torch.Tensor:
        """Return what the model takes for the user's own images, which are like the sample."""
        return images if self.preprocess is None else self._preprocessed(self.preprocess, images)

    @staticmethod
    def _preprocessed(
        preprocess: Callable[[torch.Tensor], torch.Tensor], images: torch.Tensor
    ) -> torch.Tensor:
        prepared: object = preprocess(images)
        if not isinstance(prepared, torch.Tensor) or prepared.shape[:1] != images.shape[:1]:
            raise ValueError(
                f"preprocess must return as many images as it is given, {len(images)}; got {describe(prepared)}"
            )
        return prepared

    def check_real(self, images: torch.Tensor) -> None:
        """Raise an error if the user's own images should be in [0, 1] and are not."""
        if self.low is not None:
            return
        low, high = float(images.min()), float(images.max())
        if low < -ROUNDING or high > 1 + ROUNDING:
            hint = (
                "the maximizer was given no sample: with ActivationMaximizer(model, sample=images) it learns the range"
                if self.preprocess is None
                else "the maximizer's preprocess is applied to them"
            )
            raise ValueError(
                f"the loader must give images in [0, 1]; got values from {low:.3g} to {high:.3g} ({hint})"
            )

    def real_for_view(self, images: torch.Tensor) -> torch.Tensor:
        """Return the user's own images in [0, 1]."""
        if self.low is None or self.high is None:
            return images
        low, high = self.low.to(images), self.high.to(images)
        return ((images - low) / (high - low)).clamp(0, 1)
