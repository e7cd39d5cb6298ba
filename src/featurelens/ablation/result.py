"""The result of a sweep: the output with each channel ablated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, final

import torch

from featurelens._checks import count
from featurelens._saving import SavedResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@final
@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class AblationResult(SavedResult):
    """The output with each channel dropped, or with only that channel kept; made by `ChannelAblator.sweep`.

    All tensors are on the CPU.

    Attributes
    ----------
    outputs : torch.Tensor
        `(channels, N, ...)`, the selected output for each variant.
    baseline : torch.Tensor
        `(N, ...)`, the output with nothing ablated: the full reconstruction, or the model's plain output.
    images : torch.Tensor
        `(N, ...)`, the model's input.
    channels : tuple of int or str
        The channel that each variant drops or keeps.
    noun : str
        What `channels` are: "channel", "group" or "head".
    layer, mode, fill : str
        What was ablated, and how; `fill` is "tensor" if one was given.
    notes : tuple of str
        Remarks on the computation.

    Examples
    --------
    >>> images = torch.zeros(2, 1, 4, 4)
    >>> result = AblationResult(
    ...     outputs=torch.ones(3, 2, 1, 4, 4), baseline=images, images=images, channels=(0, 1, 2), layer="conv1",
    ...     mode="keep", fill="zero")
    >>> result
    AblationResult(3 channels of conv1 kept alone, 2 images, outputs (3, 2, 1, 4, 4))
    >>> print(result)
    each of 3 channels of conv1 alone changes the outputs of 2 images by 1 on average (mean square), channel 0 most (1)
    >>> result.error.shape
    torch.Size([3, 2])
    """

    outputs: torch.Tensor
    baseline: torch.Tensor
    images: torch.Tensor
    channels: tuple[int | str, ...]
    layer: str
    mode: str
    fill: str
    noun: str = "channel"
    notes: tuple[str, ...] = ()

    @property
    def reconstructions(self) -> torch.Tensor | None:
        """`(channels, N, C, H, W)` if the outputs have the shape of the images, else None."""
        return self.outputs if self.images.ndim == 4 and self.baseline.shape == self.images.shape else None

    @property
    def error(self) -> torch.Tensor | None:
        """`(channels, N)`, mean squared difference from the original images; None if the outputs are not images."""
        return None if self.reconstructions is None else _mean_square(self.outputs - self.images, 2)

    @property
    def baseline_error(self) -> torch.Tensor | None:
        """`(N,)`, mean squared difference of the full reconstruction from the original; None if `error` is."""
        return None if self.reconstructions is None else _mean_square(self.baseline - self.images, 1)

    @property
    def change(self) -> torch.Tensor:
        """`(channels, N)`, mean squared difference from `baseline`: the effect of the ablation."""
        return _mean_square(self.outputs.double() - self.baseline.double(), 2).to(self.outputs.dtype)

    def plot(
        self, *, image: int = 0, limit: int = 64, title: str | None = None, ax: Axes | None = None
    ) -> Figure:
        """Draw the original, the full reconstruction and that of every channel: see `plotting.reconstructions`.

        If the outputs are not images, draw how much each channel changes them: see `plotting.ablation_change`.
        """
        from featurelens import plotting

        if self.reconstructions is None:
            return plotting.ablation_change(self, limit=limit, title=title, ax=ax)
        return plotting.reconstructions(self, image=image, limit=limit, title=title, ax=ax)

    def __repr__(self) -> str:
        done = "kept alone" if self.mode == "keep" else "dropped one by one"
        return (
            f"{type(self).__name__}({count(len(self.channels), self.noun)} of {self.layer or 'the model'} {done}, "
            f"{count(len(self.images), 'image')}, outputs {tuple(self.outputs.shape)})"
        )

    def __str__(self) -> str:
        change = self.change.double().flatten(1).mean(1)
        most = int(change.argmax())
        alone = "alone" if self.mode == "keep" else "removed"
        text = (
            f"each of {count(len(self.channels), self.noun)} of {self.layer or 'the model'} {alone} changes the outputs "
            f"of {count(len(self.images), 'image')} by {float(change.mean()):.3g} on average (mean square), "
            f"{self.noun} {self.channels[most]} most ({float(change[most]):.3g})"
        )
        return "; ".join([text, *self.notes])


def _mean_square(difference: torch.Tensor, first: int) -> torch.Tensor:
    return difference.square().flatten(first).mean(first) if difference.ndim > first else difference.square()
