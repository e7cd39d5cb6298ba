"""`ChannelAblator`: a model without some of a layer's channels, or with one of them alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, Self, final

import torch
from torch import nn

from featurelens._checks import check_choice, check_flag, check_module, describe, warn
from featurelens._hooks import check_materialized, exclusively, unwrap, visiting
from featurelens._random import Seed, make_generator
from featurelens.ablation import masks
from featurelens.ablation.attention import heads_of
from featurelens.ablation.blocks import closed_in_order
from featurelens.ablation.decoder_suffix import check_decoder
from featurelens.ablation.following import following
from featurelens.ablation.hooks import ChannelHooks
from featurelens.ablation.importance import score
from featurelens.ablation.importance_result import AblationCurve, ImportanceResult
from featurelens.ablation.layer import AblatedLayer, Part
from featurelens.ablation.masks import Fill, Groups, Mode, Name, Variants, check_fill
from featurelens.ablation.metrics import Metric, scorer
from featurelens.ablation.result import AblationResult
from featurelens.ablation.suffix import Output, not_finite
from featurelens.layers import Selector, not_reached


@final
class ChannelAblator:
    """Ablates channels of a layer and measures what the model does without them.

    ::

        ablator = fl.ChannelAblator(model, "conv2")
        with ablator.ablated([3, 5]): logits = model(images)     # around your own forward
        result = ablator.sweep(images)                           # without each channel: (channels, N, ...)
        worth = ablator.importance(loader)                       # accuracy lost without each channel
        curve = ablator.curve(loader, order=worth)               # accuracy against channels removed

        decoder = fl.DeconvDecoder(model, "conv2")
        fl.ChannelAblator(model, "conv2", decoder=decoder).sweep(images, mode="keep").plot()

    In sweeps, importances and curves the part before the layer runs once for each batch, and what follows runs on
    batches of variants. This is valid if the images of a batch do not affect each other. That is tested at the cost of
    about one variant: in the first batch of variants, between much stronger and much weaker features, the plain features
    of every image must give the same output as before. If they do not, or if forward reduces a batch to one number, turns
    tensors into Python values or draws random numbers, the whole model runs for each variant. The test cannot find every
    interaction; ``chunk=1`` gives each variant a batch of its own.

    Parameters
    ----------
    model
        Any module. It runs in eval mode and is restored afterwards.
    layer
        One layer that returns a tensor: exact name, ordinal alias (``"conv_2"``) or module. If the layer is called
        several times, every call is ablated; ``"act#1"`` is the first call only. In sweeps, importances and curves all
        ablated calls must have the same number of channels.
    groups
        Channels to ablate together: the number of equal groups of neighbouring channels (the heads of an attention layer), a
        list of lists of channels, or a dict from names to such lists. Where methods and results speak of channels, these
        are then the groups, by number or name.
    positions
        Ablate channels only where this mask is True, `(H, W)` for an output `(N, C, H, W)`: all axes but those of the batch
        and the channels. With ``groups=1`` all channels are ablated there.
    part
        Which part of the layer's output to ablate, if it returns more than a tensor: an index, a key, or an attribute.
    decoder
        If given, sweeps return its output instead of the model's: a `DeconvDecoder`, or any module that turns the
        layer's output into images `(N, C, H, W)`.
    output
        Which part of the model's output to measure, if the model returns more than a tensor: a key, an index, an
        attribute, or a function of the whole output.
    axis
        The axis of the channels in the layer's output: by default what the layer's type tells (1 for convolutions, -1 for
        `nn.Linear` and `nn.LayerNorm`), else 1 as in `(N, C, H, W)` and `(N, C)`. Required where the output may be
        `(N, L, D)` or `(N, H, W, C)`, which have them last: -1.

    Raises
    ------
    TypeError, LookupError, ValueError
        If `model` is not a module, `layer` is not one of its layers, both `decoder` and `output` are given, or another
        argument is wrong.

    Examples
    --------
    >>> model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10))
    >>> ablator = ChannelAblator(model, "conv_1")
    >>> ablator.sweep(torch.rand(2, 1, 8, 8))
    AblationResult(4 channels of 0 dropped one by one, 2 images, outputs (4, 2, 10))
    """

    def __init__(
        self,
        model: nn.Module,
        layer: Selector,
        *,
        groups: int | Sequence[Iterable[int]] | Mapping[str, Iterable[int]] | None = None,
        positions: Any = None,
        part: Part = None,
        decoder: nn.Module | None = None,
        output: Output = None,
        axis: int | None = None,
    ) -> None:
        self.model = unwrap(check_module(model))
        if output is not None and not isinstance(output, str | int) and not callable(output):
            raise TypeError(f"output must be a key, an index, a function or None; got {describe(output)}")
        self._groups, positions = Groups.of(groups), masks.check_positions(positions)
        self._layer = AblatedLayer.find(self.model, layer, axis, part, positions)
        if decoder is not None:
            decoder = check_decoder(decoder, self._layer, output)
        self.decoder, self.output, self.axis = decoder, output, self._layer.channel_axis

    @classmethod
    def of_heads(cls, model: nn.Module, layer: Selector, *, output: Output = None) -> Self:
        """Return an ablator of the heads of an attention layer: what each adds before the output projection.

        Channels are then the numbers of heads, in every method. The layer is an `nn.MultiheadAttention`, or one with a number
        of heads and a linear output projection, as in timm and in most models of Hugging Face's transformers.

        Parameters
        ----------
        model, layer, output
            As for the class.

        Raises
        ------
        TypeError, LookupError, ValueError
            As for the class; TypeError also if the layer is no such attention.

        Examples
        --------
        >>> model = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        >>> ChannelAblator.of_heads(model, "self_attn").sweep(torch.rand(3, 5, 8)).channels
        (0, 1)
        """
        ablator = cls(model, layer, output=output)
        ablator._layer = AblatedLayer.find(ablator.model, layer, -1, heads=True)
        ablator._groups, ablator.axis = Groups(heads_of(ablator._layer.module), "head"), -1
        return ablator

    @property
    def layer(self) -> str:
        """The layer's exact name, with ``#k`` if one call was selected."""
        return self._layer.name

    def __repr__(self) -> str:
        return f"ChannelAblator({type(self.model).__name__}, {self.layer!r})"

    @contextmanager
    def ablated(
        self, channels: Name | Iterable[Name], *, mode: Mode = "drop", fill: Fill = "zero", seed: Seed = 0
    ) -> Iterator[None]:
        """Ablate channels in every forward pass inside the block.

        Inside, the model is in eval mode. It is restored afterwards, including BatchNorm's statistics; gradients that a
        backward pass adds to ``.grad`` are kept. Blocks may be nested. A RuntimeWarning at the end says if the model
        ran without calling the layer.

        Parameters
        ----------
        channels
            Channel numbers, from 0, or groups; an empty list changes nothing.
        mode
            "drop" ablates these channels, "keep" all others.
        fill
            What replaces them: "zero"; "mean", the channel's mean over the batch; "resample", the channel in another
            image of the batch; or a tensor or array, `(C,)` or the shape of the layer's output for one image, such as
            its mean over a data set.
        seed
            For "resample".

        Raises
        ------
        TypeError, ValueError
            If an argument is wrong; in the forward pass, if a channel or `fill` does not fit the layer.
        RuntimeError
            If the block ends before one that was opened inside it; both are then closed.

        Examples
        --------
        >>> model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU()).eval()
        >>> with ChannelAblator(model, "conv_1").ablated([1, 3]):
        ...     maps = model(torch.rand(2, 1, 8, 8))
        >>> maps.sum((0, 2, 3))[[1, 3]]
        tensor([0., 0.], grad_fn=<IndexBackward0>)
        """
        check_choice(mode, masks.MODES, argument="mode")
        names, drawn = self._groups.check(channels), make_generator(seed)
        hooks = ChannelHooks(self._layer, self._groups, names, mode, check_fill(fill), drawn)
        check_materialized(self.model)
        with exclusively(self.model), closed_in_order(self.model) as block:
            block.enter_context(visiting(self.model, autograd=True, randomness=False, gradients=False))
            block.callback(self.model.register_forward_pre_hook(hooks.begin).remove)
            block.enter_context(self._layer.hooked(hooks.change))
            yield
        if hooks.passes and not hooks.changes:
            reason = not_reached(self._layer.choice, hooks.most_calls)
            warn(f"nothing was ablated: {reason}", RuntimeWarning)

    def sweep(
        self,
        images: Any,
        *,
        mode: Mode = "drop",
        channels: Iterable[Name] | None = None,
        fill: Fill = "zero",
        chunk: int | None = None,
        seed: Seed = 0,
        progress: bool = True,
    ) -> AblationResult:
        """Return the output without each channel, or with only that channel.

        Parameters
        ----------
        images
            One batch of finite inputs, usually `(N, C, H, W)`, as a tensor or an array; or as it comes from a loader: a
            dict, or inputs and labels, ``((a, b), labels)`` or ``(a, b, labels)`` for a model of two inputs. Labels are ignored.
        mode, channels
            "drop" ablates one of `channels` at a time, "keep" all channels but that one; by default every channel.
        fill, seed
            As for `ablated`; "mean" is over these images.
        chunk
            How many variants run at once; by default, their largest tensor has 2^21 elements (2^26 on a GPU).
        progress
            Show a progress bar; without a terminal, write a line every ten seconds.

        Raises
        ------
        TypeError, ValueError, LookupError, RuntimeError
            If an argument is wrong or does not fit the layer, the layer is never called, or the model fails.
        """
        check_choice(mode, masks.MODES, argument="mode")
        check_flag(progress, argument="progress")
        chunk = masks.check_chunk(chunk)
        names = None if channels is None else self._groups.check(channels)
        filler, given, generator = check_fill(fill), self._layer.inputs_in(images), make_generator(seed)
        with following(self._layer, given, filler, generator, self.output, self.decoder) as suffix:
            listed, mask = Variants(self._groups, names, mode).mask(suffix.channels, generator)
            outputs = torch.empty(len(listed), *suffix.baseline.shape, dtype=suffix.baseline.dtype)
            for part, values in suffix.outputs(mask.to(suffix.features.device), chunk, progress=progress):
                outputs[part] = values
        return AblationResult(
            outputs=outputs,
            baseline=suffix.baseline.cpu(),
            images=suffix.images.detach().to("cpu", copy=True),
            channels=tuple(listed),
            layer=self.layer,
            mode=mode,
            fill=filler if isinstance(filler, str) else "tensor",
            noun=self._groups.noun,
            notes=suffix.notes + not_finite(int((~torch.isfinite(outputs)).sum()), outputs.numel()),
        )

    def importance(
        self,
        loader: Iterable[Any],
        *,
        metric: Metric = "accuracy",
        ignore_index: int = -100,
        mode: Mode = "drop",
        channels: Iterable[Name] | None = None,
        fill: Fill = "zero",
        chunk: int | None = None,
        seed: Seed = 0,
        progress: bool = True,
    ) -> ImportanceResult:
        """Measure how much the metric drops without each channel, over all images and for each class.

        A decoder is not used.

        Parameters
        ----------
        loader
            Yields batches ``(images, labels)``, or dicts with both; may also be a single batch. Models of several inputs
            take tuples or dicts of them in the place of images.
        metric
            "accuracy"; "loss", the increase of the cross-entropy in nats; or a function ``(outputs, labels) -> (N,)``
            that scores every image, higher being better. For the two names, labels are classes `(N,)` for outputs
            `(N, classes)`, or of every pixel, `(N, H, W)` for `(N, classes, H, W)`; or they are 0 or 1 for each output:
            `(N,)` for a single logit, `(N, K)` for K labels that may hold together. Where an image has several labels,
            all labels count alike. Outputs that are probabilities (they sum to 1, or a sigmoid makes them) are noted.
        ignore_index
            Labels of this value do not count.
        mode
            "drop" ablates the channel, "keep" all others.
        channels
            Which channels; by default all.
        fill
            As for `ablated`, but "mean" is the channel's mean over the whole loader, which is then read twice: first
            for the means, and then for the scores. Any other fill, including a tensor, reads it once.
        chunk, seed, progress
            As for `sweep`.

        Raises
        ------
        TypeError, ValueError, LookupError, RuntimeError
            As for `sweep`; ValueError also if the loader is empty, or its labels do not fit the outputs.
        """
        check_choice(mode, masks.MODES, argument="mode")
        names = None if channels is None else self._groups.check(channels)
        how, variants = scorer(metric, ignore_index), Variants(self._groups, names, mode)
        scores = score(self._layer, self.output, loader, how, variants, fill, chunk, seed, progress)
        return scores.importance(self.layer, mode)

    def curve(
        self,
        loader: Iterable[Any],
        *,
        order: ImportanceResult | Iterable[Name] | Literal["random"] = "random",
        metric: Metric = "accuracy",
        ignore_index: int = -100,
        fill: Fill = "zero",
        chunk: int | None = None,
        seed: Seed = 0,
        progress: bool = True,
    ) -> AblationCurve:
        """Measure the metric as more and more channels are dropped.

        Parameters
        ----------
        order
            The channels in the order in which to drop them. A result of `importance` drops the least important first
            (pass ``worth.order("most")`` for the reverse); "random" drops all in an order drawn from `seed`.
        loader, metric, ignore_index, fill, chunk, progress
            As for `importance`.
        seed
            For the random order and "resample".

        Raises
        ------
        TypeError, ValueError, LookupError, RuntimeError
            As for `importance`; ValueError also if `order` belongs to another layer.
        """
        if isinstance(order, ImportanceResult):
            if order.layer != self.layer:
                raise ValueError(
                    f"order is the importance of layer {order.layer!r}; this ablator is for {self.layer!r}"
                )
            order = order.order("least")
        if isinstance(order, str):
            further = ", a sequence or a result of importance"
            check_choice(order, ("random",), argument="order", further=further)
        names = None if isinstance(order, str) else self._groups.check(order, argument="order")
        how, variants = scorer(metric, ignore_index), Variants(self._groups, names, "drop", cumulative=True)
        scores = score(self._layer, self.output, loader, how, variants, fill, chunk, seed, progress)
        return scores.curve(self.layer)
