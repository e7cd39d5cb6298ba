"""The layer that is ablated: its output, the part of it that has channels, and the model's inputs."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self, final

import numpy as np
import torch
from torch import nn

from featurelens._batches import Given
from featurelens._channels import ChannelAxes, axis_by_type
from featurelens._checks import check_whole, describe, listing, to_tensor
from featurelens._hooks import check_weights, hooked, submodule
from featurelens._structure import tensors
from featurelens.ablation.attention import heads_hooked
from featurelens.layers import Choice, Selector, choose
from featurelens.recording.inputs import arguments

Part = int | str | None
"""Which part of a layer's output has the channels, if it is more than a tensor."""


@final
@dataclass(frozen=True)
class AblatedLayer:
    """A layer of `model`, or one of its calls.

    Attributes
    ----------
    axis
        The axis of its channels; None: 1, if that is unambiguous.
    part
        The index, key or attribute of the tensor that has them.
    positions
        A mask over all axes but those of the batch and the channels: only there, channels are ablated.
    heads
        Ablate the heads of an attention layer, before its output projection, in the place of its output.
    """

    model: nn.Module
    choice: Choice
    axis: int | None
    axes: ChannelAxes
    part: Part
    positions: torch.Tensor | None
    heads: bool

    @classmethod
    def find(
        cls,
        model: nn.Module,
        layer: Selector,
        axis: int | None,
        part: Part = None,
        positions: torch.Tensor | None = None,
        heads: bool = False,
    ) -> Self:
        """Return the one layer that `layer` selects.

        Raises
        ------
        TypeError, ValueError, LookupError
            If there is not exactly one, or `axis` or `part` is wrong.
        """
        check_weights(model)
        axis = None if axis is None else check_whole(axis, argument="axis")
        if axis == 0:
            raise ValueError("axis 0 is the batch; the channels must be in another axis")
        if part is not None and (isinstance(part, bool) or not isinstance(part, int | str)):
            raise TypeError(
                f"part must be an index, a key, the name of an attribute or None; got {describe(part)}"
            )
        if isinstance(layer, list | tuple):
            raise TypeError(f"layer must be a single layer; got {describe(layer)}")
        choices = choose(model, layer)
        if len(choices) > 1:
            names = listing((choice.name for choice in choices), most=4)
            raise ValueError(
                f"layer must be a single layer; {describe(layer)} matches {len(choices)}: {names}"
            )
        if axis is None:
            axis = axis_by_type(submodule(model, choices[0].name))
        return cls(model, choices[0], axis, ChannelAxes(model), part, positions, heads)

    @property
    def name(self) -> str:
        """The layer's exact name, with ``#k`` if one call was selected."""
        return self.choice.name if self.choice.call is None else f"{self.choice.name}#{self.choice.call}"

    @property
    def module(self) -> nn.Module:
        """The layer itself."""
        return submodule(self.model, self.choice.name)

    @property
    def channel_axis(self) -> int:
        """The axis of the channels in an output that passed `check`."""
        return 1 if self.axis is None else self.axis

    def check(self, output: Any, size: int | None = None) -> torch.Tensor:
        """Return the part of the layer's output that has channels, for a batch of `size`; raise an error if it has none."""
        features: Any = self._part_of(output)
        if not isinstance(features, torch.Tensor):
            hint = (
                ""
                if self.part is not None or not tensors(output)
                else "; choose one with part=, such as part=0"
            )
            raise TypeError(
                f"layer {self.name!r} must return a tensor to have its channels ablated; got {describe(features)}{hint}"
            )
        floating, ndim = features.is_floating_point(), features.ndim
        if ndim < 2 or (size is not None and len(features) != size) or not floating:
            batch = "" if size is None else f" for a batch of {size}"
            raise ValueError(
                f"layer {self.name!r} must return floating-point numbers (N, C, ...){batch}; got {describe(features)}"
            )
        if self.axis is None and self.axes.of(None, tuple(features.shape)) is None:
            kind, what = (
                ("(N, L, D)", "features of tokens") if ndim == 3 else ("(N, H, W, C)", "the last axis")
            )
            raise ValueError(
                f"layer {self.name!r} returns {describe(features)}, which may be {kind}: use axis=-1 to ablate {what}, "
                "axis=1 for channels"
            )
        axis = self.channel_axis
        if not -ndim < axis < ndim:
            raise ValueError(
                f"axis {axis} does not hold channels: layer {self.name!r} returns {describe(features)}"
            )
        shape = [*features.shape[1:]]
        del shape[axis % ndim - 1]
        if self.positions is not None and list(self.positions.shape) != shape:
            raise ValueError(
                f"positions must have shape {tuple(shape)}, as layer {self.name!r} returns {tuple(features.shape)}; got "
                f"{describe(self.positions)}"
            )
        return features

    def _part_of(self, output: Any) -> Any:
        if self.part is None:
            return output
        try:
            indexed = isinstance(output, Mapping) or isinstance(self.part, int)
            return output[self.part] if indexed else getattr(output, str(self.part))
        except (LookupError, TypeError, AttributeError):
            raise TypeError(
                f"layer {self.name!r} returns {describe(output)}; it has no part {self.part!r}"
            ) from None

    def put(self, output: Any, features: torch.Tensor) -> Any:
        """Return the layer's output with other features."""
        if self.part is None:
            return features
        if isinstance(output, tuple) and isinstance(self.part, int):
            items = list(output)
            items[self.part] = features
            return type(output)(*items) if hasattr(output, "_fields") else tuple(items)
        changed: Any = copy.copy(output)
        if isinstance(output, tuple):  # a named one
            return changed._replace(**{str(self.part): features})
        if isinstance(output, Mapping) or isinstance(self.part, int):
            changed[self.part] = features
        else:
            setattr(changed, str(self.part), features)
        return changed

    def ablate(self, features: torch.Tensor, mask: torch.Tensor, fill: torch.Tensor) -> torch.Tensor:
        """Return V variants of features, `(V, N, ...)`, with the channels that `mask` `(V, C)` marks replaced by `fill`."""
        shape, axis = [1] * features.ndim, self.channel_axis % (features.ndim - 1) + 1
        shape[0], shape[axis] = mask.shape
        chosen = mask.view(shape)
        if self.positions is not None:
            chosen = chosen & self.positions.to(mask.device).unsqueeze(axis - 2)
        return torch.where(chosen, fill, features)

    def inputs_in(self, batch: Any, *, where: str = "images") -> Given:
        """Return what the model takes of a batch: the batch itself, or without its labels."""
        batch = self.inputs_apart(batch)
        if isinstance(batch, np.ndarray) and batch.dtype.kind in "biuf":
            batch = to_tensor(batch, where)
        args, kwargs = ((batch,), {}) if isinstance(batch, torch.Tensor) else arguments(batch, self.model)
        if len(args) == 1 and type(args[0]) in (tuple, list) and len(args[0]) == self._needed() > 1:
            args = tuple(args[0])
        found = [value for value in (*args, *kwargs.values()) if isinstance(value, torch.Tensor)]
        if not found or any(not isinstance(value, torch.Tensor) for value in args):
            raise TypeError(f"{where} must be a tensor (N, ...); got {describe(batch)}")
        if any(value.is_nested for value in found):
            raise TypeError(f"{where} must not be nested tensors; got {describe(found[0])}")
        if found[0].ndim == 0 or not len(found[0]):
            raise ValueError(f"{where} must be (N, ...) with N at least 1; got {describe(found[0])}")
        for value in found:
            if value.is_meta:
                raise TypeError(f"{where} must have values; got {describe(value)}")
            dense = value.layout is torch.strided
            if dense and value.is_floating_point() and not bool(torch.isfinite(value).all()):
                broken = int((~torch.isfinite(value)).sum())
                raise ValueError(
                    f"{where} must be finite; got {describe(value)} with {broken} NaN or infinite values"
                )
        return Given(args, kwargs, len(found[0]))

    def inputs_apart(self, batch: Any) -> Any:
        """Return a batch (a, b, labels) or (a, b) as ((a, b), labels) or ((a, b),), if forward needs both inputs."""
        if type(batch) not in (tuple, list):
            return batch
        number = self._needed()
        if number < 2 or not number <= len(batch) <= number + 1:
            return batch
        first = tuple(batch[:number])
        return (first, *batch[number:]) if all(isinstance(each, torch.Tensor) for each in first) else batch

    def _needed(self) -> int:
        """Return how many arguments forward needs."""
        parameters = inspect.signature(self.model.forward).parameters.values()
        return sum(p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD for p in parameters)

    @contextmanager
    def hooked(self, receive: Callable[[Any], Any]) -> Iterator[None]:
        """Pass the layer's output to `receive` inside the block; if that returns something, it replaces the output."""
        layer = self.module
        if isinstance(layer, torch.jit.ScriptModule):
            raise TypeError(
                f"a scripted {layer.original_name} cannot be ablated, as hooks do not run in scripted code: "
                "use the module it was scripted from"
            )
        if self.heads:
            with heads_hooked(layer, receive):
                yield
            return
        with hooked({layer: lambda module, args, output: receive(output)}):
            yield
