"""`ChannelAblator`: a model without some of a layer's channels, or with one of them alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal, final

import torch
from torch import nn

from featurelens._checks import check_choice, check_module, check_type, describe
from featurelens._hooks import check_materialized, eager, evaluating, exclusively, preserved, unwrap
from featurelens._random import Seed, make_generator
from featurelens.ablation.decoder import DeconvDecoder
from featurelens.ablation.replay import check_features, listening
from featurelens.ablation.result import AblationCurve, AblationResult, ImportanceResult
from featurelens.ablation.scoring import Metric, Score, Tally, check_loader, labelled
from featurelens.ablation.suffix import DecoderSuffix, ModelSuffix, Output, Suffix
from featurelens.ablation.variants import (
    MODES,
    Fill,
    Filling,
    Mode,
    ablate,
    check_channels,
    check_fill,
    one_by_one,
    step_by_step,
    together,
)
from featurelens.layers import Choice, Selector, choose
from featurelens.recording import ActivationRecorder


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
        call of one that is called several times, all of whose calls are ablated otherwise.
    decoder
        Sweeps give what this makes of the layer's output instead of what the model returns: a `DeconvDecoder`, or
        any module that takes the layer's output and returns images `(N, C, H, W)`.
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

    def __init__(
        self,
        model: nn.Module,
        layer: Selector,
        *,
        decoder: nn.Module | None = None,
        output: Output = None,
        axis: int = 1,
    ) -> None:
        self.model = unwrap(check_module(model))
        self._choice = _one_layer(self.model, layer)
        if output is not None and not isinstance(output, str | int) and not callable(output):
            raise TypeError(f"output must be a key, an index, a function or None; got {describe(output)}")
        if isinstance(axis, bool) or not isinstance(axis, int):
            raise TypeError(f"axis must be a whole number; got {describe(axis)}")
        if axis == 0:
            raise ValueError("axis 0 is the batch; the channels must be in another one")
        if decoder is not None:
            decoder = unwrap(check_module(decoder, argument="decoder"))
            _check_fit(decoder, self.model.get_submodule(self._choice.name), self.layer)
        self.decoder, self.output, self.axis = decoder, output, axis

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
            filling = Filling.for_batch(fill, self.axis, len(features), generator).values(features, call)
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
        suffix = self._suffix(images, fill, make_generator(seed), decoded=True)
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
            As for `ablated`, but "mean" is the channel's mean over the whole loader, which is then gone over twice:
            first for the means.
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
        listed = None if channels is None else check_channels(channels)

        def mask_for(total: int, device: torch.device) -> torch.Tensor:
            nonlocal listed
            listed = list(range(total)) if listed is None else check_channels(listed, total)
            return one_by_one(listed, total, mode, device)

        tally, notes = self._scored(loader, mask_for, metric, fill, chunk, seed, progress)
        assert listed is not None
        drop, error = tally.lost()
        return ImportanceResult(
            drop=drop,
            standard_error=error,
            per_class=tally.lost_by_class(),
            baseline=float(tally.plain.sum() / tally.n),
            baseline_per_class=tally.plain / tally.counts if tally.by_class else None,
            counts=tally.counts.long() if tally.by_class else None,
            channels=tuple(listed),
            n=tally.n,
            layer=self.layer,
            metric=tally.score.name,
            mode=mode,
            fill=fill if isinstance(fill, str) else "tensor",
            notes=notes,
        )

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
        generator = make_generator(seed)
        listed = None
        if isinstance(order, str):
            check_choice(order, ("random", "a sequence", "a result of importance"), argument="order")
        else:
            listed = check_channels(order)
        total = 0

        def mask_for(channels: int, device: torch.device) -> torch.Tensor:
            nonlocal listed, total
            total = channels
            if listed is None:
                listed = torch.randperm(total, generator=generator).tolist()
            return step_by_step(check_channels(listed, total), total, device)

        tally, notes = self._scored(loader, mask_for, metric, fill, chunk, generator, progress)
        assert listed is not None
        sums = torch.cat([tally.plain[None], tally.sums])
        return AblationCurve(
            values=sums.sum(1) / tally.n,
            per_class=sums / tally.counts if tally.by_class else None,
            order=tuple(listed),
            total=total,
            n=tally.n,
            layer=self.layer,
            metric=tally.score.name,
            fill=fill if isinstance(fill, str) else "tensor",
            notes=notes,
        )

    def _scored(
        self,
        loader: Iterable[Any],
        mask_for: Callable[[int, torch.device], torch.Tensor],
        metric: Metric,
        fill: Fill,
        chunk: int | None,
        seed: Seed,
        progress: bool,
    ) -> tuple[Tally, tuple[str, ...]]:
        """Score the variants that `mask_for` makes for a number of channels over a data set."""
        from tqdm import tqdm

        check_fill(fill)
        check_chunk(chunk)
        over_loader = isinstance(fill, str) and fill == "mean"
        check_loader(loader, twice=over_loader)
        tally, generator = Tally(Score.of(metric)), make_generator(seed)
        notes: dict[str, None] = {}
        filled = self._means(loader, progress) if over_loader else fill
        mask: torch.Tensor | None = None
        bar = tqdm(loader, desc="ablating", unit="batch", disable=None if progress else True)
        for number, batch in enumerate(bar, 1):
            images, labels = labelled(batch)
            suffix = self._suffix(images, filled, generator, decoded=False, where=f"images of batch {number}")
            if mask is None:
                mask = mask_for(suffix.channels, suffix.features.device)
            tally.add(suffix, mask, labels, chunk)
            notes |= dict.fromkeys(suffix.notes)
        if not tally.n:
            raise ValueError(f"the loader gave no batch; got {describe(loader)}")
        return tally, tuple(notes)

    def _means(self, loader: Iterable[Any], progress: bool) -> dict[int, torch.Tensor]:
        """Return the mean `(C,)` of every channel over a data set, for each of the layer's calls."""

        def by_image(output: Any) -> torch.Tensor:
            features = check_features(output, self.layer, None, self.axis)
            others = [axis for axis in range(1, features.ndim) if axis != self.axis % features.ndim]
            return features.mean(others) if others else features

        recorder = ActivationRecorder(self.model, self.layer, reduce=by_image)
        recorded = recorder.record(loader, progress=progress)
        if self._choice.call is not None or len(recorded) == 1:
            return {self._choice.call or 1: next(iter(recorded.values())).double().mean(0)}
        return {call: values.double().mean(0) for call, values in enumerate(recorded.values(), 1)}

    def _suffix(
        self,
        images: torch.Tensor,
        fill: Fill | Mapping[int, torch.Tensor],
        generator: torch.Generator,
        *,
        decoded: bool,
        where: str = "images",
    ) -> Suffix:
        """Run the model on one batch up to the layer, and return what comes after it."""
        check_type(images, torch.Tensor, argument=where, expected="a tensor (N, ...)")
        if images.ndim == 0 or not len(images):
            raise ValueError(f"{where} must be (N, ...) with N at least 1; got {describe(images)}")
        if images.is_floating_point() and not bool(torch.isfinite(images).all()):
            broken = int((~torch.isfinite(images)).sum())
            raise ValueError(
                f"{where} must be finite; got {describe(images)} with {broken} NaN or infinite values"
            )
        check_materialized(self.model)
        device = next((parameter.device for parameter in self.model.parameters()), images.device)
        images = images.detach().to(device)
        filling = Filling.for_batch(fill, self.axis, len(images), generator)
        if self.decoder is not None and decoded:
            return DecoderSuffix(self.model, self._choice, filling, images, self.decoder)
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


def _check_fit(decoder: nn.Module, layer: nn.Module, name: str) -> None:
    if isinstance(decoder, DeconvDecoder) and not decoder.mirrors(layer):
        raise ValueError(
            f"the decoder does not lead back from layer {name!r}: it mirrors {', '.join(decoder.layers)} of "
            f"{type(decoder.encoder).__name__}, and the layer must be one of these very modules"
        )
