"""`ChannelAblator`: a model without some of a layer's channels, or with one of them alone."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, final

import torch
from torch import nn

from featurelens._checks import check_choice, check_flag, check_module
from featurelens._hooks import check_materialized, exclusively, unwrap, visiting
from featurelens._random import Seed, make_generator
from featurelens.ablation.blocks import closed_in_order
from featurelens.ablation.decoder import DeconvDecoder
from featurelens.ablation.result import AblationCurve, AblationResult, ImportanceResult
from featurelens.ablation.scoring import Metric, not_finite
from featurelens.ablation.site import Site
from featurelens.ablation.suffix import Output
from featurelens.ablation.variants import (
    MODES,
    Fill,
    Filling,
    Mode,
    ablate,
    check_channels,
    check_chunk,
    check_fill,
    chosen_channels,
    one_by_one,
    together,
)
from featurelens.ablation.worth import Run, curve, importance
from featurelens.layers import Selector, not_reached


@final
class ChannelAblator:
    """Puts channels of a layer out of action, and shows what the model does without them.

    ::

        ablator = fl.ChannelAblator(model, "conv2")
        with ablator.ablated([3, 5]): logits = model(images)     # around your own forward
        result = ablator.sweep(images)                           # every channel alone: (channels, N, ...)
        worth = ablator.importance(loader)                       # accuracy lost without each channel
        curve = ablator.curve(loader, order=worth)               # accuracy against channels removed

        decoder = fl.DeconvDecoder(model, "conv2")
        fl.ChannelAblator(model, "conv2", decoder=decoder).sweep(images).plot()

    Parameters
    ----------
    model
        Any module. It runs in eval mode and comes back as it was.
    layer
        One layer that returns a tensor: exact name, ordinal alias (``"conv_2"``), module; ``"act#1"`` for the first
        call of one that is called several times, all of whose calls are ablated otherwise: channel k of each, which
        must then have as many channels in a sweep, an importance or a curve.
    decoder
        Sweeps give what this makes of the layer's output instead of what the model returns: a `DeconvDecoder`, or
        any module that takes the layer's output and returns images `(N, C, H, W)`.
    output
        Which part of what the model returns a sweep is about, where it returns more than a tensor: a key, an index,
        an attribute, or a function of all that it returns.
    axis
        Where the layer's output has its channels: 1 by default, as in `(N, C, H, W)` and `(N, C)`. It has to be said
        for outputs with three axes, -1 for tokens `(N, L, D)` whose features are to be ablated and 1 for
        `(N, C, L)`, save those of `nn.Conv1d`, `nn.ConvTranspose1d` and `nn.BatchNorm1d`.

    Raises
    ------
    TypeError, LookupError, ValueError
        If `model` is not a module, `layer` not one of its layers, or `decoder` and `output` are both given.

    Examples
    --------
    >>> model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10))
    >>> ablator = ChannelAblator(model, "conv_1")
    >>> ablator.sweep(torch.rand(2, 1, 8, 8))
    AblationResult(4 channels of 0 kept alone, 2 images, outputs (4, 2, 10))
    """

    def __init__(
        self,
        model: nn.Module,
        layer: Selector,
        *,
        decoder: nn.Module | None = None,
        output: Output = None,
        axis: int | None = None,
    ) -> None:
        self.model = unwrap(check_module(model))
        self._site = Site.of(self.model, layer, axis, output)
        if decoder is not None:
            if output is not None:
                raise ValueError(
                    "give a decoder or output=, not both: with a decoder the model's output is not used"
                )
            decoder = unwrap(check_module(decoder, argument="decoder"))
            _check_fit(decoder, self._site)
        self.decoder, self.output, self.axis = decoder, output, self._site.channel_axis

    @property
    def layer(self) -> str:
        """The layer's exact name, with ``#k`` where one call was asked for."""
        return self._site.name

    def __repr__(self) -> str:
        return f"ChannelAblator({type(self.model).__name__}, {self.layer!r})"

    @contextmanager
    def ablated(
        self, channels: int | Iterable[int], *, mode: Mode = "drop", fill: Fill = "zero", seed: Seed = 0
    ) -> Iterator[None]:
        """Ablate channels in every forward pass inside the block.

        The model is in eval mode inside, and comes back as it was, BatchNorm's statistics included; ``.grad`` is
        yours, so that a backward pass inside the block counts. Blocks may be nested. A RuntimeWarning tells at the
        end if the model ran and never called the layer.

        Parameters
        ----------
        channels
            Numbers from 0; none of them changes nothing.
        mode
            "drop" ablates these channels, "keep" all others.
        fill
            What stands in their place: "zero"; "mean", the channel's mean over the batch at hand; "resample", its
            values in another image of the batch; or a tensor or array `(C,)` or of the shape of the layer's output for one
            image, such as its mean over a data set.
        seed
            For "resample".

        Raises
        ------
        TypeError, ValueError
            If an argument is wrong; in the forward pass, if a channel or `fill` does not fit the layer.
        RuntimeError
            If the block is closed before one that was opened inside it, which is then closed too.

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
        filler = check_fill(fill)
        check_materialized(self.model)
        generator = make_generator(seed)

        def change(features: torch.Tensor, call: int) -> torch.Tensor:
            total = features.shape[self.axis]
            mask = together(check_channels(listed, total), total, mode, features.device)
            filling = Filling.for_batch(filler, self.axis, len(features), generator).values(features, call)
            return ablate(features[None], mask, filling, self.axis % features.ndim)[0]

        with exclusively(self.model), closed_in_order(self.model) as block:
            block.enter_context(visiting(self.model, autograd=True, randomness=False, gradients=False))
            passes = block.enter_context(self._site.changed(change))
            yield
        if passes.begun and not passes.changed:
            reason = not_reached(self._site.choice, passes.calls)
            warnings.warn(f"nothing was ablated: {reason}", RuntimeWarning, stacklevel=3)

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

        What comes before the layer runs once, what comes after it on batches of variants. Whether that is right for
        the model is tried first, for each batch, at the cost of four variants: the plain features must give what
        they gave alone, before ones with all channels ablated and behind strong ones. If they do not (images of a
        batch that act on each other), or if forward reduces a batch to a single number, makes Python values of
        tensors or draws random numbers, the whole model runs for each variant, and the result's notes say so. No
        test of a few batches can find every way in which images may act on each other; with ``chunk=1`` each
        variant has a batch to itself.

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
            How many variants run at once; by default so many that their largest tensor has 2^20 elements on the
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
        filler = check_fill(fill)
        check_chunk(chunk)
        named = None if channels is None else check_channels(channels)
        suffix = self._site.suffix(images, filler, make_generator(seed), decoder=self.decoder)
        total = suffix.channels
        listed = chosen_channels(named, total)
        mask = one_by_one(listed, total, mode, suffix.features.device)
        outputs = suffix.baseline.new_empty(len(listed), *suffix.baseline.shape)
        for part, values in suffix.outputs(mask, chunk):
            outputs[part] = values
        return AblationResult(
            outputs=outputs,
            baseline=suffix.baseline,
            images=images.detach().to(suffix.baseline.device, copy=True),
            channels=tuple(listed),
            layer=self.layer,
            mode=mode,
            fill=filler if isinstance(filler, str) else "tensor",
            notes=suffix.notes + not_finite(int((~torch.isfinite(outputs)).sum()), outputs.numel()),
        )

    def importance(
        self,
        loader: Iterable[Any],
        *,
        metric: Metric = "accuracy",
        mode: Mode = "drop",
        channels: Iterable[int] | None = None,
        fill: Fill = "zero",
        chunk: int | None = None,
        seed: Seed = 0,
        progress: bool = True,
    ) -> ImportanceResult:
        """Measure what the task loses without each channel, over all images and class by class.

        Of each batch, what comes before the layer runs once, as in `sweep`. A decoder plays no part.

        Parameters
        ----------
        loader
            Gives batches ``(images, labels)``; integer labels `(N,)` are taken for classes.
        metric
            "accuracy"; "loss", the cross-entropy in nats, whose drop is a rise; or a function
            ``(outputs, labels) -> (N,)`` that scores every image, higher being better.
        mode
            "drop" takes one channel out at a time, "keep" leaves one alone.
        channels
            Which channels; by default all.
        fill
            As for `ablated`, but "mean" is the channel's mean over the whole loader. It must be known before the first
            channel is replaced, so that the loader is then gone over twice: first for the means, up to the layer only,
            and then for the scores. With a tensor, and all else, it is gone over once.
        chunk, seed
            As for `sweep`.
        progress
            Show a progress bar, if standard error is a terminal.

        Raises
        ------
        TypeError, ValueError, LookupError, RuntimeError
            As for `sweep`; ValueError also if the loader gives no batch, or labels that do not fit the outputs.
        """
        check_choice(mode, MODES, argument="mode")
        check_flag(progress, argument="progress")
        named = None if channels is None else check_channels(channels)
        run = Run(self._site, loader, metric, fill, chunk, make_generator(seed), progress)
        return importance(run, mode, named)

    def curve(
        self,
        loader: Iterable[Any],
        *,
        order: ImportanceResult | Iterable[int] | Literal["random"] = "random",
        metric: Metric = "accuracy",
        fill: Fill = "zero",
        chunk: int | None = None,
        seed: Seed = 0,
        progress: bool = True,
    ) -> AblationCurve:
        """Measure how well the model does with more and more channels removed.

        Parameters
        ----------
        order
            Which channel goes first, second, ...: a result of `importance` removes the least important first (give
            ``worth.order("most")`` for the contrary), "random" all in an order drawn from `seed`.
        loader, metric, fill, chunk, progress
            As for `importance`.
        seed
            For the random order, and for "resample".

        Raises
        ------
        TypeError, ValueError, LookupError, RuntimeError
            As for `importance`; ValueError also if `order` is of another layer.
        """
        if isinstance(order, ImportanceResult):
            if order.layer != self.layer:
                raise ValueError(
                    f"order is the importance of layer {order.layer!r}; this ablator is for {self.layer!r}"
                )
            order = order.order("least")
        check_flag(progress, argument="progress")
        listed: list[int] | None = None
        if isinstance(order, str):
            check_choice(
                order, ("random",), argument="order", further=", a sequence or a result of importance"
            )
        else:
            listed = check_channels(order)
            if not listed:
                raise ValueError("order must name at least one channel; got none")
        return curve(Run(self._site, loader, metric, fill, chunk, make_generator(seed), progress), listed)


def _check_fit(decoder: nn.Module, site: Site) -> None:
    if isinstance(decoder, DeconvDecoder) and not decoder.mirrors(site.module):
        raise ValueError(
            f"the decoder does not lead back from layer {site.name!r}: it mirrors {', '.join(decoder.layers)} of "
            f"{type(decoder.encoder).__name__}, and the layer must be one of these very modules"
        )
