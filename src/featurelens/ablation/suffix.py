"""What comes after a layer: it turns variants of the layer's output into outputs of the model, or of a decoder."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeAlias, final

import torch
from torch import nn

from featurelens._checks import describe, first_line
from featurelens._failure import explain
from featurelens._guard import Undo
from featurelens._hooks import device_of, visiting
from featurelens.ablation.decoder import DeconvDecoder
from featurelens.ablation.masks import AblatedLayer, Filler, Replacement, ablate
from featurelens.ablation.replay import Change, Diverged, PlainPass

Output: TypeAlias = str | int | Callable[[Any], torch.Tensor] | None
"""Which part of the model's output is measured."""

# Of the largest tensor in a chunk. On the CPU 4 MiB of float32 already make up for what a replay costs; with 16 MiB, the
# allocator returns the memory of a chunk to the system, and the next chunk pays for every page again.
ELEMENTS = {"cpu": 2**20}
ELEMENTS_ELSEWHERE = 2**26
ROUNDING = {torch.float64: (1e-12, 1e-9), torch.float32: (1e-5, 1e-3)}
"""How far two runs may differ, relative to the largest output: normally, and in reduced precision at worst."""
ROUNDING_ELSEWHERE = (0.02, 0.1)


@contextmanager
def following(
    layer: AblatedLayer,
    images: torch.Tensor,
    fill: Filler | Mapping[int, torch.Tensor],
    generator: torch.Generator,
    *,
    output: Output = None,
    decoder: nn.Module | None = None,
) -> Iterator[Suffix]:
    """Visit the model, run a batch up to the layer, and give the block what comes after it, or the decoder."""
    images = images.detach().to(device_of(layer.model) or images.device)
    replacement = Replacement(fill, layer.channel_axis, len(images), generator)
    with ExitStack() as stack:
        rewind = stack.enter_context(visiting(layer.model))
        if decoder is None:
            yield ModelSuffix(layer, images, replacement, rewind, output)
            return
        if isinstance(decoder, DeconvDecoder):
            stack.enter_context(visiting(decoder.encoder))
        rewind = stack.enter_context(visiting(decoder))
        yield DecoderSuffix(layer, images, replacement, rewind, decoder)


@dataclass
class Suffix(ABC):
    """Everything that follows a layer, for one batch of `images`, inside a visit to the model.

    Attributes
    ----------
    features
        The layer's output, `(N, C, ...)`.
    baseline
        The selected output with nothing ablated, `(N, ...)`.
    largest
        Elements of the largest tensor after the layer.
    notes
        What a reader of the results should know.
    """

    one_by_one: ClassVar[str]
    layer: AblatedLayer
    images: torch.Tensor
    replacement: Replacement
    rewind: Undo  # before every run but the first, as a model may remember what it did
    features: torch.Tensor = field(init=False)
    baseline: torch.Tensor = field(init=False)
    largest: int = field(init=False)
    notes: tuple[str, ...] = field(init=False, default=())

    @property
    def axis(self) -> int:
        """The axis of the channels in `features`."""
        return self.layer.channel_axis % self.features.ndim

    @property
    def channels(self) -> int:
        """How many channels the layer has."""
        return self.features.shape[self.axis]

    def outputs(
        self, mask: torch.Tensor, chunk: int | None = None, *, progress: bool = False
    ) -> Iterator[tuple[slice, torch.Tensor]]:
        """Yield the outputs `(V, N, ...)` of the variants in `mask` `(..., C)`, `chunk` of them at a time."""
        from tqdm import tqdm

        if chunk is None:
            budget = ELEMENTS.get(self.features.device.type, ELEMENTS_ELSEWHERE)
            chunk = max(1, budget // max(self.largest, 1))
        parts = [slice(start, start + chunk) for start in range(0, len(mask), chunk)]
        for part in tqdm(parts, desc="ablating", unit="chunk", disable=None if progress else True):
            yield part, self._run(mask[part])

    def _run(self, mask: torch.Tensor) -> torch.Tensor:
        outputs = None if self.notes else self._attempt(lambda: self._together(mask))
        return torch.stack([self._alone(row) for row in mask]) if outputs is None else outputs

    @abstractmethod
    def _together(self, mask: torch.Tensor) -> torch.Tensor:
        """Return the outputs `(V, N, ...)` of the variants that the rows of `mask` `(V, C)` make, from one batch."""

    @abstractmethod
    def _alone(self, row: torch.Tensor) -> torch.Tensor:
        """Return the outputs `(N, ...)` of one variant, whose images have the batch to themselves."""

    @abstractmethod
    def _behind_strong(self) -> torch.Tensor:
        """Return the outputs `(2, N, ...)` of strong features and, behind them in one batch, of the plain ones."""

    def _note(self, reason: str) -> None:
        self.notes = (f"{self.one_by_one} ({reason})",)

    def _attempt(self, run: Callable[[], torch.Tensor]) -> torch.Tensor | None:
        """Return what `run` returns, or None and a note if variants cannot share a batch."""
        try:
            return run()
        except Exception as error:  # noqa: BLE001  anything that the model's own code raises on the larger batch
            reason = first_line(error)
            self._note(reason if isinstance(error, Diverged) else f"{type(error).__name__}: {reason}")
            return None

    def _probe(self) -> torch.Tensor:
        """Run the plain features before ones with nothing left, and behind strong ones of other images.

        They must give both times what they gave alone. Between them the two batches show what the first images of
        a batch do to later ones, later ones to the first, and large values and small ones to all.
        """
        nothing_and_all = torch.tensor([[False], [True]], device=self.features.device)
        outputs = self._together(nothing_and_all.expand(2, self.channels))
        check_same(outputs[0], self.baseline, outputs[1])
        check_same(self._behind_strong()[1], self.baseline, outputs[1])
        return outputs


@final
@dataclass
class ModelSuffix(Suffix):
    """The rest of the model's own forward: replayed or, if that fails, run in full for each variant."""

    one_by_one = "the whole model ran for every variant"
    output: Output

    def __post_init__(self) -> None:
        self.plain = plain = PlainPass(self.layer, self.images)
        self.features = next(iter(plain.features.values()))
        plain.check_channels_agree()
        self.largest = plain.largest
        self.fills = {call: self.replacement.values(found, call) for call, found in plain.features.items()}
        self.baseline = self._selected(plain.output, len(self.images))
        if plain.reads_values:
            self._note("forward depends on the values of tensors")
        elif plain.draws:
            self._note("forward draws random numbers")
        elif plain.mixes_images:
            self._note("images of a batch affect each other")
        else:
            self._attempt(self._probe)

    def _together(self, mask: torch.Tensor) -> torch.Tensor:
        size, times = len(self.features), len(mask)

        def change(output: torch.Tensor, call: int) -> torch.Tensor:
            shape = (times, size, *output.shape[1:])
            plain = output is self.features  # in a later call, the variants differ already
            variants = output.expand(shape) if plain else output.reshape(shape)
            return ablate(variants, mask, self.fills[call], self.axis).flatten(0, 1)

        return self._replayed(times, change)

    def _behind_strong(self) -> torch.Tensor:
        return self._replayed(
            2, lambda output, call: behind_strong(output) if output is self.features else output
        )

    def _replayed(self, times: int, change: Change) -> torch.Tensor:
        self.rewind()
        size = len(self.features)
        outputs = self._selected(self.plain.replay(times, change), size * times)
        return outputs.reshape(times, size, *outputs.shape[1:])

    def _alone(self, row: torch.Tensor) -> torch.Tensor:
        call = 0

        def receive(output: torch.Tensor) -> torch.Tensor | None:
            nonlocal call
            call += 1
            if self.layer.choice.call not in (None, call):
                return None
            fill = self.fills[call] if call in self.fills else self.replacement.values(output, call)
            return ablate(output[None], row[None], fill, self.axis)[0]

        self.rewind()
        with self.layer.hooked(receive):
            return self._selected(self.layer.model(self.images.clone()), len(self.images))

    def _selected(self, returned: Any, size: int) -> torch.Tensor:
        value = select_output(returned, self.output)
        if value.ndim == 0 or len(value) != size:
            raise ValueError(
                f"the output must be (N, ...) with the batch of {size} in axis 0; got {describe(value)}"
            )
        return value


@final
@dataclass
class DecoderSuffix(Suffix):
    """A decoder, which makes images of the layer's output; the rest of the model does not run."""

    one_by_one = "the decoder ran once for every variant"
    decoder: nn.Module

    def __post_init__(self) -> None:
        self.decode: Callable[[torch.Tensor], Any] = self.decoder
        if isinstance(decoder := self.decoder, DeconvDecoder):
            try:
                encoding = decoder.encode(self.images, layer=self.layer.module)
            except Exception as error:
                raise RuntimeError(explain(error, decoder.encoder, "a batch", (self.images,), {})) from error
            self.features = self.layer.check(encoding.features, len(self.images))
            self.decode = lambda features: decoder.decode(encoding, features=features)
        else:
            (self.features, *more) = PlainPass(self.layer, self.images).features.values()
            if more:
                name = self.layer.choice.name
                raise ValueError(
                    f"layer {name!r} is called {len(more) + 1} times, but a decoder decodes one call: "
                    f"choose one, such as {name + '#1'!r}"
                )
        self.fill = self.replacement.values(self.features, self.layer.choice.call or 1)
        self.largest = 4 * max(self.features.numel(), self.images.numel())
        self.baseline = self._alone(self.features.new_zeros(self.channels, dtype=torch.bool))
        self._attempt(self._probe)

    def _together(self, mask: torch.Tensor) -> torch.Tensor:
        variants = self.features.expand(len(mask), *self.features.shape)
        return self._decoded(ablate(variants, mask, self.fill, self.axis).flatten(0, 1))

    def _alone(self, row: torch.Tensor) -> torch.Tensor:
        return self._together(row[None])[0]

    def _behind_strong(self) -> torch.Tensor:
        return self._decoded(behind_strong(self.features))

    def _decoded(self, batch: torch.Tensor) -> torch.Tensor:
        """Return the decoder's output `(V, N, ...)` for V variants one after the other."""
        self.rewind()
        try:
            decoded = self.decode(batch)
        except Exception as error:
            raise RuntimeError(
                f"the decoder failed on the output of layer {self.layer.name!r} ({describe(batch)}): "
                f"{type(error).__name__}: {first_line(error)}"
            ) from error
        if not isinstance(decoded, torch.Tensor) or decoded.ndim == 0 or len(decoded) != len(batch):
            raise ValueError(
                f"the decoder must return images (N, ...) for {describe(batch)}; it returned {describe(decoded)}"
            )
        return decoded.reshape(-1, len(self.features), *decoded.shape[1:])


def behind_strong(features: torch.Tensor) -> torch.Tensor:
    """Return a batch of stronger features followed by `features`."""
    # Neither the same images nor mere multiples of them, as a normalization would undo that.
    strong = 3 * features.roll(1, 0) + features.flip(list(range(1, features.ndim)))
    return torch.cat([strong if strong.any() else strong + 1, features])


def select_output(returned: Any, output: Output) -> torch.Tensor:
    """Return the part of the model's output that `output` names.

    Raises
    ------
    TypeError, LookupError
        If it is not a tensor, or not there.
    """
    value = returned
    if callable(output):
        value = output(returned)
    elif output is not None:
        indexed = isinstance(returned, Mapping) or isinstance(output, int)
        try:
            value = returned[output] if indexed else getattr(returned, str(output))
        except (LookupError, TypeError, AttributeError):
            raise LookupError(f"the model returns {describe(returned)}; it has no {output!r}") from None
    if not isinstance(value, torch.Tensor):
        hint = f"output={output!r} is not a tensor"
        if output is None:
            hint = "choose a tensor with output="
        raise TypeError(f"the model returns {describe(returned)}: {hint}")
    return value


def check_same(outputs: torch.Tensor, baseline: torch.Tensor, emptied: torch.Tensor) -> None:
    """Raise `Diverged` unless the plain features gave the same outputs in a larger batch as alone.

    They may differ by rounding, and by a hundredth of the effect of ablating all channels (`emptied`) as long as
    rounding in reduced precision may be the reason.
    """
    if outputs.shape != baseline.shape or not baseline.is_floating_point():
        same = torch.equal(outputs, baseline)
    else:
        scale, effect = _largest(baseline), _largest(emptied - baseline)
        least, most = (factor * scale for factor in ROUNDING.get(baseline.dtype, ROUNDING_ELSEWHERE))
        tolerance = min(max(0.01 * effect, least), most)
        same = torch.allclose(outputs, baseline, rtol=0, atol=tolerance, equal_nan=True)
    if not same:
        raise Diverged("images of a batch affect each other, or change in place what is read again")


def _largest(values: torch.Tensor) -> float:
    finite = values[torch.isfinite(values)]
    return float(finite.abs().max()) if finite.numel() else 0.0
