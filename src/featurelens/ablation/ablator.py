"""`ChannelAblator`: a model without some of a layer's channels, or with one of them alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, final

import torch
from torch import nn

from featurelens._checks import check_choice, check_module, check_type, describe
from featurelens._hooks import check_materialized, eager, evaluating, exclusively, preserved, unwrap
from featurelens._random import Seed, make_generator
from featurelens.ablation.replay import check_features, listening
from featurelens.ablation.result import AblationResult
from featurelens.ablation.suffix import ModelSuffix, Output, Suffix
from featurelens.ablation.variants import (
    MODES,
    Fill,
    Filling,
    Mode,
    ablate,
    check_channels,
    check_fill,
    one_by_one,
    together,
)
from featurelens.layers import Choice, Selector, choose


@final
class ChannelAblator:
    """Puts channels of a layer out of action, and shows what the model does without them.

    ::

        ablator = fl.ChannelAblator(model, "conv2")
        with ablator.ablated([3, 5]): logits = model(images)     # around your own forward
        result = ablator.sweep(images)                           # every channel alone: (channels, N, ...)

    Parameters
    ----------
    model
        Any module. It runs in eval mode and comes back as it was.
    layer
        One layer that returns a tensor: exact name, ordinal alias (``"conv_2"``), module; ``"act#1"`` for the first
        call of one that is called several times, all of whose calls are ablated otherwise.
    output
        Which part of what the model returns a sweep is about, where it returns more than a tensor: a key, an index,
        an attribute, or a function of all that it returns.
    axis
        Where the layer's output has its channels: 1 in `(N, C, H, W)` and `(N, C)`, as everywhere in featurelens;
        say -1 for tokens `(N, L, D)` whose features are to be ablated.

    Raises
    ------
    TypeError, LookupError, ValueError
        If `model` is not a module, or `layer` not one of its layers.

    Examples
    --------
    >>> model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10))
    >>> ablator = ChannelAblator(model, "conv_1")
    >>> ablator.sweep(torch.rand(2, 1, 8, 8))
    AblationResult(4 channels of 0 kept alone, 2 images, outputs (4, 2, 10))
    """

    def __init__(self, model: nn.Module, layer: Selector, *, output: Output = None, axis: int = 1) -> None:
        self.model = unwrap(check_module(model))
        self._choice = _one_layer(self.model, layer)
        if output is not None and not isinstance(output, str | int) and not callable(output):
            raise TypeError(f"output must be a key, an index, a function or None; got {describe(output)}")
        if isinstance(axis, bool) or not isinstance(axis, int):
            raise TypeError(f"axis must be a whole number; got {describe(axis)}")
        if axis == 0:
            raise ValueError("axis 0 is the batch; the channels must be in another one")
        self.output, self.axis = output, axis

    @property
    def layer(self) -> str:
        """The layer's exact name, with ``#k`` where one call was asked for."""
        return self._choice.name if self._choice.call is None else f"{self._choice.name}#{self._choice.call}"

    def __repr__(self) -> str:
        return f"ChannelAblator({type(self.model).__name__}, {self.layer!r})"

    @contextmanager
    def ablated(
        self, channels: int | Iterable[int], *, mode: Mode = "drop", fill: Fill = "zero", seed: Seed = 0
    ) -> Iterator[None]:
        """Ablate channels in every forward pass inside the block.

        Parameters
        ----------
        channels
            Numbers from 0; none of them changes nothing.
        mode
            "drop" ablates these channels, "keep" all others.
        fill
            What stands in their place: "zero"; "mean", the channel's mean over the batch at hand; "resample", its
            values in another image of the batch; or a tensor `(C,)` or of the shape of the layer's output for one
            image, such as its mean over a data set.
        seed
            For "resample".

        Raises
        ------
        TypeError, ValueError
            If an argument is wrong; in the forward pass, if a channel or `fill` does not fit the layer.

        Examples
        --------
        >>> model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU()).eval()
        >>> with ChannelAblator(model, "conv_1").ablated([1, 3]):
        ...     maps = model(torch.rand(2, 1, 8, 8))
        >>> maps.sum((0, 2, 3))[[1, 3]]
        tensor([0., 0.], grad_fn=<IndexBackward0>)
        """
        listed = check_channels(channels)
        check_choice(mode, MODES, argument="mode")
        check_fill(fill)
        generator = make_generator(seed)
        call = 0

        def receive(output: Any) -> torch.Tensor | None:
            nonlocal call
            call += 1
            if self._choice.call not in (None, call):
                return None
            features = check_features(output, self.layer, None, self.axis)
            total = features.shape[self.axis]
            mask = together(check_channels(listed, total), total, mode, features.device)
            filling = Filling.for_batch(fill, self.axis, len(features), generator).values(features)
            return ablate(features[None], mask, filling, self.axis % features.ndim)[0]

        def begin(module: nn.Module, args: Any) -> None:
            nonlocal call
            call = 0

        check_materialized(self.model)
        layer = self.model.get_submodule(self._choice.name)
        with (
            exclusively(self.model),
            preserved(self.model, randomness=False),
            evaluating(self.model),
            eager(),
        ):
            handle = self.model.register_forward_pre_hook(begin)
            try:
                with listening(layer, receive):
                    yield
            finally:
                handle.remove()

    def sweep(
        self,
        images: torch.Tensor,
        *,
        mode: Mode = "keep",
        channels: Iterable[int] | None = None,
        fill: Fill = "zero",
        chunk: int | None = None,
        seed: Seed = 0,
    ) -> AblationResult:
        """Return the output for each channel kept alone, or dropped.

        What comes before the layer runs once, what comes after it on batches of variants. That is checked in every
        batch: the plain features run along with the variants and must give what they gave alone. If they do
        not (images of a batch that act on each other, control flow that depends on the data), the whole model
        runs for each variant, and the result's notes say so.

        Parameters
        ----------
        images
            What the model takes, `(N, C, H, W)` for most; finite.
        mode
            "keep" ablates all other channels, "drop" this one.
        channels
            Which channels; by default all.
        fill
            As for `ablated`; "mean" is over these images.
        chunk
            How many variants run at once; by default so many that their largest tensor has 2^22 elements on the
            CPU and 2^26 elsewhere.
        seed
            For "resample".

        Raises
        ------
        TypeError, ValueError
            If an argument is wrong or does not fit the layer, or the output has to be chosen.
        LookupError
            If the model never calls the layer, or returns nothing that is called `output`.
        RuntimeError
            If the model fails on the images.
        """
        check_choice(mode, MODES, argument="mode")
        check_fill(fill)
        if channels is not None:
            channels = check_channels(channels)
        check_chunk(chunk)
        suffix = self._suffix(images, fill, make_generator(seed))
        total = suffix.channels
        listed = list(range(total)) if channels is None else check_channels(channels, total)
        if not listed:
            raise ValueError("channels must name at least one channel; got none")
        mask = one_by_one(listed, total, mode, suffix.features.device)
        outputs = suffix.baseline.new_empty(len(listed), *suffix.baseline.shape)
        for part, values in suffix.outputs(mask, chunk):
            outputs[part] = values
        return AblationResult(
            outputs=outputs,
            baseline=suffix.baseline,
            images=images.detach().to(suffix.baseline.device),
            channels=tuple(listed),
            layer=self.layer,
            mode=mode,
            fill=fill if isinstance(fill, str) else "tensor",
            notes=suffix.notes,
        )

    def _suffix(self, images: torch.Tensor, fill: Fill, generator: torch.Generator) -> Suffix:
        """Run the model on one batch up to the layer, and return what comes after it."""
        check_type(images, torch.Tensor, argument="images", expected="a tensor (N, ...)")
        if images.ndim == 0 or not len(images):
            raise ValueError(f"images must be (N, ...) with N at least 1; got {describe(images)}")
        if images.is_floating_point() and not bool(torch.isfinite(images).all()):
            broken = int((~torch.isfinite(images)).sum())
            raise ValueError(
                f"images must be finite; got {describe(images)} with {broken} NaN or infinite values"
            )
        check_materialized(self.model)
        device = next((parameter.device for parameter in self.model.parameters()), images.device)
        images = images.detach().to(device)
        filling = Filling.for_batch(fill, self.axis, len(images), generator)
        return ModelSuffix(self.model, self._choice, filling, images, self.output)


def check_chunk(chunk: object) -> None:
    """Raise an error unless `chunk` is None or a whole number from 1."""
    if chunk is not None and (isinstance(chunk, bool) or not isinstance(chunk, int) or chunk < 1):
        raise ValueError(f"chunk must be a whole number from 1, or None; got {describe(chunk)}")


def _one_layer(model: nn.Module, layer: Selector) -> Choice:
    if isinstance(layer, list | tuple):
        raise TypeError(f"layer must be a single layer; got {describe(layer)}")
    choices = choose(model, layer)
    if len(choices) > 1:
        names = ", ".join(choice.name for choice in choices[:4]) + (", ..." if len(choices) > 4 else "")
        raise ValueError(f"layer must be a single layer; {describe(layer)} matches {len(choices)}: {names}")
    return choices[0]
