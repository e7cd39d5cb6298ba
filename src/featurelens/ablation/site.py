"""Where channels are ablated: a layer of a model, and the part of the model's output that is looked at."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self, final

import torch
from torch import nn

from featurelens._checks import check_type, check_whole, describe
from featurelens._hooks import check_materialized, device_of, submodule
from featurelens._structure import has_channels_first
from featurelens.ablation.decoding import DecoderSuffix
from featurelens.ablation.replay import Change, check_features, listening
from featurelens.ablation.suffix import ModelSuffix, Output, Suffix
from featurelens.ablation.variants import Filler, Filling
from featurelens.layers import Choice, Selector, choose
from featurelens.recording import ActivationRecorder


@dataclass
class Passes:
    """What forward passes did: how often one began, the most calls of the layer in one, and those changed."""

    begun: int = 0
    calls: int = 0
    changed: int = 0


@final
@dataclass(frozen=True)
class Site:
    """One layer, or one call of it, with its axis of channels."""

    model: nn.Module
    choice: Choice
    axis: int | None
    output: Output

    @classmethod
    def of(cls, model: nn.Module, layer: Selector, axis: int | None, output: Output) -> Self:
        """Return the site that these arguments of a `ChannelAblator` mean.

        Raises
        ------
        TypeError, ValueError, LookupError
            If one of them is wrong.
        """
        if output is not None and not isinstance(output, str | int) and not callable(output):
            raise TypeError(f"output must be a key, an index, a function or None; got {describe(output)}")
        axis = None if axis is None else check_whole(axis, argument="axis")
        if axis == 0:
            raise ValueError("axis 0 is the batch; the channels must be in another one")
        choice = _one_layer(model, layer)
        if axis is None and has_channels_first(submodule(model, choice.name)):
            axis = 1
        return cls(model, choice, axis, output)

    @property
    def channel_axis(self) -> int:
        """Which axis holds the channels, of an output that `check_features` let pass."""
        return 1 if self.axis is None else self.axis

    @property
    def name(self) -> str:
        """The layer's exact name, with ``#k`` where one call was asked for."""
        return self.choice.name if self.choice.call is None else f"{self.choice.name}#{self.choice.call}"

    @property
    def module(self) -> nn.Module:
        """The layer itself."""
        return submodule(self.model, self.choice.name)

    @contextmanager
    def changed(self, change: Change) -> Iterator[Passes]:
        """Put what `change` makes of the layer's output in its place, in every forward pass in the block."""
        calls, passes = 0, Passes()

        def begin(module: nn.Module, args: Any) -> None:
            nonlocal calls
            calls = 0
            passes.begun += 1

        def receive(output: Any) -> torch.Tensor | None:
            nonlocal calls
            calls += 1
            passes.calls = max(passes.calls, calls)
            if self.choice.call not in (None, calls):
                return None
            passes.changed += 1
            return change(check_features(output, self.name, None, self.axis), calls)

        handle = self.model.register_forward_pre_hook(begin)
        try:
            with listening(self.module, receive):
                yield passes
        finally:
            handle.remove()

    def suffix(
        self,
        images: torch.Tensor,
        fill: Filler | Mapping[int, torch.Tensor],
        generator: torch.Generator,
        *,
        decoder: nn.Module | None = None,
        where: str = "images",
    ) -> Suffix:
        """Run the model on one batch up to the layer, and return what comes after it, or the decoder."""
        check_type(images, torch.Tensor, argument=where, expected="a tensor (N, ...)")
        if images.ndim == 0 or not len(images):
            raise ValueError(f"{where} must be (N, ...) with N at least 1; got {describe(images)}")
        if images.is_floating_point() and not bool(torch.isfinite(images).all()):
            broken = int((~torch.isfinite(images)).sum())
            raise ValueError(
                f"{where} must be finite; got {describe(images)} with {broken} NaN or infinite values"
            )
        check_materialized(self.model)
        device = device_of(self.model) or images.device
        images = images.detach().to(device)
        filling = Filling.for_batch(fill, self.channel_axis, len(images), generator)
        if decoder is not None:
            return DecoderSuffix(self.model, self.choice, self.axis, filling, images, decoder)
        return ModelSuffix(self.model, self.choice, self.axis, filling, images, self.output)

    def means(self, loader: Iterable[Any], *, progress: bool) -> dict[int, torch.Tensor]:
        """Return the mean `(C,)` of every channel over a data set, for each of the layer's calls."""

        def by_image(output: Any) -> torch.Tensor:
            features = check_features(output, self.name, None, self.axis)
            others = [axis for axis in range(1, features.ndim) if axis != self.channel_axis % features.ndim]
            return features.mean(others) if others else features

        recorder = ActivationRecorder(self.model, self.name, reduce=by_image)
        recorded = recorder.record(loader, progress=progress)
        first = self.choice.call or 1
        return {call: values.double().mean(0) for call, values in enumerate(recorded.values(), first)}


def _one_layer(model: nn.Module, layer: Selector) -> Choice:
    if isinstance(layer, list | tuple):
        raise TypeError(f"layer must be a single layer; got {describe(layer)}")
    choices = choose(model, layer)
    if len(choices) > 1:
        names = ", ".join(choice.name for choice in choices[:4]) + (", ..." if len(choices) > 4 else "")
        raise ValueError(f"layer must be a single layer; {describe(layer)} matches {len(choices)}: {names}")
    return choices[0]
