"""What a sweep found: the output for every variant of a layer."""

from __future__ import annotations

import os
import pickle
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Self, final

import torch

from featurelens._checks import count, describe

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Result:
    """Saves and loads; everything in it is a tensor, a number, text, or a tuple of these."""

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write everything to one file that `load` and ``torch.load(path, weights_only=True)`` read."""
        content: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        torch.save({"kind": type(self).__name__, **content}, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read what `save` wrote; nothing but tensors and plain values is ever unpickled."""
        try:
            content = torch.load(path, weights_only=True)
            if content.pop("kind") != cls.__name__:
                raise TypeError
            return cls(**content)
        except (pickle.UnpicklingError, KeyError, TypeError, AttributeError, RuntimeError) as error:
            raise ValueError(f"{os.fspath(path)} was not written by {cls.__name__}.save") from error


@final
@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class AblationResult(Result):
    """The output for every channel kept alone, or dropped; made by `ChannelAblator.sweep`.

    Attributes
    ----------
    outputs : torch.Tensor
        `(channels, N, ...)`, the chosen output for each variant.
    baseline : torch.Tensor
        `(N, ...)`, the same with nothing ablated: the full reconstruction, or the model's plain output.
    images : torch.Tensor
        `(N, ...)`, what the model was given.
    channels : tuple of int
        Which channel each variant is about.
    layer, mode, fill : str
        What was ablated, and how; `fill` is "tensor" where one was given.
    notes : tuple of str
        What to know of how it was computed.

    Examples
    --------
    >>> images = torch.zeros(2, 1, 4, 4)
    >>> result = AblationResult(
    ...     outputs=torch.ones(3, 2, 1, 4, 4), baseline=images, images=images, channels=(0, 1, 2), layer="conv1",
    ...     mode="keep", fill="zero")
    >>> result
    AblationResult(3 channels of conv1 kept alone, 2 images, outputs (3, 2, 1, 4, 4))
    >>> result.error.shape
    torch.Size([3, 2])
    """

    outputs: torch.Tensor
    baseline: torch.Tensor
    images: torch.Tensor
    channels: tuple[int, ...]
    layer: str
    mode: str
    fill: str
    notes: tuple[str, ...] = ()

    @property
    def reconstructions(self) -> torch.Tensor | None:
        """`(channels, N, C, H, W)` where the outputs have the images' own shape, else None."""
        return self.outputs if self.images.ndim == 4 and self.baseline.shape == self.images.shape else None

    @property
    def error(self) -> torch.Tensor | None:
        """`(channels, N)`, mean squared difference from the original images; None if the output is no image."""
        return None if self.reconstructions is None else _mean_square(self.outputs - self.images, 2)

    @property
    def baseline_error(self) -> torch.Tensor | None:
        """`(N,)`, mean squared difference of the full reconstruction from the original; None as for `error`."""
        return None if self.reconstructions is None else _mean_square(self.baseline - self.images, 1)

    @property
    def change(self) -> torch.Tensor:
        """`(channels, N)`, mean squared difference from `baseline`: what the ablation changed."""
        return _mean_square(self.outputs.double() - self.baseline.double(), 2).to(self.outputs.dtype)

    def plot(
        self, *, image: int = 0, limit: int = 64, title: str | None = None, ax: Axes | None = None
    ) -> Figure:
        """Draw the original, the full reconstruction and every channel's; see `plotting.reconstructions`."""
        from featurelens import plotting

        return plotting.reconstructions(self, image=image, limit=limit, title=title, ax=ax)

    def __repr__(self) -> str:
        done = "kept alone" if self.mode == "keep" else "dropped one by one"
        return (
            f"{type(self).__name__}({count(len(self.channels), 'channel')} of {self.layer or 'the model'} {done}, "
            f"{count(len(self.images), 'image')}, outputs {tuple(self.outputs.shape)})"
        )


def _mean_square(difference: torch.Tensor, first: int) -> torch.Tensor:
    return difference.square().flatten(first).mean(first) if difference.ndim > first else difference.square()
