"""Which axis of a layer's output holds the channels, as far as the model tells."""

from __future__ import annotations

from functools import cached_property
from typing import final

from torch import nn

from featurelens._guard import all_modules

_LAST = (nn.Linear, nn.Bilinear, nn.Embedding, nn.EmbeddingBag, nn.MultiheadAttention)
_NORMS = (nn.LayerNorm, nn.RMSNorm)
_TAKES_ONE = (
    nn.modules.conv._ConvNd,
    nn.modules.pooling._MaxPoolNd,
    nn.modules.pooling._AvgPoolNd,
    nn.modules.pooling._AdaptiveMaxPoolNd,
    nn.modules.pooling._AdaptiveAvgPoolNd,
    nn.modules.instancenorm._InstanceNorm,
)
_LIBRARIES = {"torch", "torchvision", "timm"}  # whose names of classes tell what they are made for


class Unsuitable(ValueError):
    """A layer's output does not suit what was asked for; the message is complete and is raised unchanged."""


def axis_by_type(module: nn.Module | None) -> int | None:
    """Return 1 or -1 where a layer's type tells which axis of its output holds the channels, else None.

    torch's layers for signals, images and volumes have them in axis 1, and those for vectors in the last one. Subclasses
    follow, but for norms with a forward of their own, which may work on images; `LayerNorm2d` of torchvision and timm does.

    >>> axis_by_type(nn.Conv2d(1, 4, 3)), axis_by_type(nn.Linear(3, 4)), axis_by_type(nn.ReLU())
    (1, -1, None)
    """
    named = [k for k in type(module).mro() if k.__module__.partition(".")[0] in _LIBRARIES]
    if isinstance(module, nn.GroupNorm) or any(k.__name__.endswith(("1d", "2d", "3d")) for k in named):
        return 1
    plain_norm = any(type(module).forward is norm.forward for norm in _NORMS if isinstance(module, norm))
    return -1 if plain_norm or isinstance(module, _LAST) else None


def _axes_of_batch(module: nn.Module | None) -> int:
    """Return how many axes a batch has behind a layer of torch that also takes a single image; 0 for any other layer."""
    if not isinstance(module, _TAKES_ONE) or not type(module).forward.__module__.startswith("torch."):
        return 0
    name = next(k.__name__ for k in type(module).mro() if k.__name__.endswith(("1d", "2d", "3d")))
    return int(name[-2]) + 2


def check_batch_axis(module: nn.Module | None, shape: tuple[int, ...]) -> None:
    """Raise an error if a layer that also takes a single image was given one."""
    if len(shape) < _axes_of_batch(module):
        raise Unsuitable(
            f"{type(module).__name__} returned {shape}, which has no batch axis: pass images[None]"
        )


@final
class ChannelAxes:
    """Finds the axis of the channels in what layers of one model return."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def of(self, module: nn.Module | None, shape: tuple[int, ...]) -> int | None:
        """Return 1 or -1 for an output of `shape`, or None where only the user can tell.

        Three axes may be `(N, L, D)` or `(N, C, L)`. Four or more are `(N, C, H, W)`, unless the last one has the size of
        a layer for vectors and axis 1 that of no layer for images: then they may be `(N, H, W, C)`.
        """
        check_batch_axis(module, shape)
        if len(shape) < 3:
            return 1
        if (axis := axis_by_type(module)) is not None:
            return axis
        if len(shape) == 3:
            return None
        first, last = self._sizes
        unclear = shape[-1] in last and (shape[1] not in first or shape[1] == shape[-1])
        return None if unclear else 1

    @cached_property
    def _sizes(self) -> tuple[set[int], set[int]]:
        """Numbers of channels of the layers that have them in axis 1, and of those that have them in the last axis."""
        first: set[int] = set()
        last: set[int] = set()
        for module in all_modules(self.model):
            sizes = first if axis_by_type(module) == 1 else last
            for name in ("out_channels", "num_features", "num_channels", "out_features", "embedding_dim"):
                if isinstance(size := getattr(module, name, None), int):
                    sizes.add(size)
            if isinstance(module, _NORMS):
                sizes.add(module.normalized_shape[-1])
        return first, last
