"""What comes after a layer: it turns variants of the layer's output into outputs of the model, or of a decoder."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any, ClassVar, TypeAlias, final

import torch

from featurelens._batches import Given
from featurelens._checks import describe, first_line
from featurelens._guard import Undo
from featurelens._progress import progress_bar
from featurelens._structure import map_tensors, tensors
from featurelens.ablation.endings import Probabilities
from featurelens.ablation.layer import AblatedLayer
from featurelens.ablation.masks import Replacement
from featurelens.ablation.replay import Change, Diverged, PlainPass
from featurelens.ablation.sequential import sequential_pass

Output: TypeAlias = str | int | Callable[[Any], torch.Tensor] | None
"""Which part of the model's output is measured."""

# Of the largest tensor in a chunk: on the CPU enough to make up for what a replay costs.
ELEMENTS = {"cpu": 2**21}
ELEMENTS_ELSEWHERE = 2**26
# glibc keeps freed memory for the next chunk, whose pages it would else have to fetch anew, up to twice the largest block that
# it has seen freed; it heeds blocks of at most 32 MiB.
REUSED = 31 * 2**20
ROUNDING = {torch.float64: (1e-12, 1e-9), torch.float32: (1e-5, 1e-3)}
"""How far two runs may differ, relative to the largest output: normally, and in reduced precision at worst."""
ROUNDING_ELSEWHERE = (0.02, 0.1)


@dataclass
class Suffix(ABC):
    """Everything that follows a layer, for one batch of N images, inside a visit to the model.

    Attributes
    ----------
    features
        What is ablated, `(N, C, ...)`: the layer's output, or what later layers make of it, channel by channel.
    baseline
        The selected output with nothing ablated, `(N, ...)`.
    largest
        Elements of the largest tensor after the layer.
    calls
        The layer's output, or the part of it that has channels, by the number of the call.
    fills
        What replaces ablated channels in the layer's output, by the number of its call.
    front
        The layer that ablates `features`, and what replaces ablated channels there.
    notes
        What a reader of the results should know.
    """

    one_by_one: ClassVar[str]
    layer: AblatedLayer
    given: Given
    replacement: Replacement
    rewind: Undo  # before every run but the first, as a model may remember what it did
    features: torch.Tensor = field(init=False)
    baseline: torch.Tensor = field(init=False)
    largest: int = field(init=False)
    calls: dict[int, torch.Tensor] = field(init=False)
    fills: dict[int, torch.Tensor] = field(init=False)
    front: tuple[AblatedLayer, torch.Tensor] = field(init=False)
    notes: tuple[str, ...] = field(init=False, default=())
    checked: bool = field(init=False, default=False)

    @property
    def images(self) -> torch.Tensor:
        """The first of the model's inputs."""
        return tensors([self.given.args, self.given.kwargs])[0]

    @property
    def channels(self) -> int:
        """How many channels the layer has."""
        return self.features.shape[self.layer.channel_axis]

    def outputs(
        self, mask: torch.Tensor, chunk: int | None = None, *, progress: bool = False
    ) -> Iterator[tuple[slice, torch.Tensor]]:
        """Yield the outputs `(V, N, ...)` of the variants in `mask` `(..., C)`, `chunk` of them at a time."""
        if self.features.device.type == "cpu":
            torch.empty(REUSED, dtype=torch.uint8)  # an untouched block costs nothing
        if chunk is None:
            budget = ELEMENTS.get(self.features.device.type, ELEMENTS_ELSEWHERE)
            chunk = max(1, budget // max(self.largest, 1))
        parts = [slice(start, start + chunk) for start in range(0, len(mask), chunk)]
        for part in _with_bar(parts) if progress and len(parts) > 1 else parts:
            yield part, self._run(mask[part])

    def _run(self, mask: torch.Tensor) -> torch.Tensor:
        if not self.notes and not self.checked and len(mask) == 1:  # there may be no room for more
            self._attempt(lambda: self._checked(mask[:0]))
        run = self._together if self.checked else self._checked
        outputs = None if self.notes else self._attempt(lambda: run(mask))
        return torch.stack([self._alone(row) for row in mask]) if outputs is None else outputs

    def _together(self, mask: torch.Tensor) -> torch.Tensor:
        """Return the outputs `(V, N, ...)` of the variants that the rows of `mask` `(V, C)` make, from one batch."""
        times, size = len(mask), len(self.features)

        def change(features: torch.Tensor, call: int) -> torch.Tensor:
            first, shape = features is self.features, (times, size, *features.shape[1:])
            layer, fill = self.front if first else (self.layer, self.fills[call])
            variants = (
                features.expand(shape) if first else features.reshape(shape)
            )  # in a later call they differ already
            return layer.ablate(variants, mask, fill).flatten(0, 1)

        outputs = self._outputs_of(torch.arange(size, device=mask.device).repeat(times), change)
        return outputs.reshape(times, size, *outputs.shape[1:])

    def _checked(self, mask: torch.Tensor) -> torch.Tensor:
        """Do what `_together` does, and run all images again in the same batch, which must not matter.

        They have strong features before them, negative ones behind them, then come the variants, and at the end features with
        nothing left. So every image has other ones at every distance than it had, at the beginning and at the end of the
        batch as well, and there are larger and smaller values than all had.
        """
        edge, images = self._edge(), list(range(len(self.features)))
        blocks = [edge, images, edge, images * len(mask), edge]
        lengths = list(map(len, blocks))
        rows = torch.tensor(list(chain(*blocks)), device=mask.device)
        ablated = torch.zeros(len(rows), self.channels, dtype=torch.bool, device=mask.device)
        *_, variants, emptied = torch.split(ablated, lengths)
        variants.copy_(mask.repeat_interleave(len(images), 0))
        emptied.fill_(True)

        def change(features: torch.Tensor, call: int) -> torch.Tensor:
            first = features is self.features
            layer, fill = self.front if first else (self.layer, self.fills[call])
            if first:
                features = features.index_select(0, rows)
                before, _, behind, *_ = torch.split(features, lengths)
                before.copy_(self._strengthened(edge, len(rows)))
                behind.copy_(before / -2)
            fill = fill[rows][:, None] if fill.ndim and len(fill) == len(images) > 1 else fill
            return layer.ablate(features[:, None], ablated, fill)[:, 0]

        found = self._outputs_of(rows, change)
        _, plain, _, outputs, last = torch.split(found, lengths)
        check_same(plain, self.baseline, last - self.baseline[edge], self.baseline)
        self.checked = True
        return outputs.reshape(len(mask), len(images), *outputs.shape[1:])

    @abstractmethod
    def _edge(self) -> list[int]:
        """Return the images whose strong features are put around the others in a check."""

    def _strengthened(self, images: Sequence[int], times: int) -> torch.Tensor:
        """Return features of some images, mixed with those of others, that are large even in the mean of `times` rows."""
        # Neither the same images nor mere multiples of them, as a normalization would undo that.
        features, before = self.features[list(images)], self.features[[image - 1 for image in images]]
        strong = 2 * times * before.abs() + features.flip(list(range(1, features.ndim)))
        return strong if strong.any() else strong + 1

    @abstractmethod
    def _outputs_of(self, rows: torch.Tensor, change: Change) -> torch.Tensor:
        """Return the outputs `(R, ...)` of a batch of variants of the images `rows` `(R,)`, which `change` makes."""

    @abstractmethod
    def is_squashed(self) -> bool:
        """Return whether a sigmoid makes the outputs."""

    @abstractmethod
    def _alone(self, row: torch.Tensor) -> torch.Tensor:
        """Return the outputs `(N, ...)` of one variant, whose images have the batch to themselves."""

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


@final
@dataclass
class ModelSuffix(Suffix):
    """The rest of the model's own forward: replayed or, if that fails, run in full for each variant."""

    one_by_one = "the whole model ran for every variant"
    output: Output

    def __post_init__(self) -> None:
        self.plain = plain = sequential_pass(self.layer, self.given) or PlainPass(self.layer, self.given)
        plain.check_channels_agree()
        self.features, self.largest, self.calls = plain.front, plain.largest, plain.features
        self.fills = {call: self.replacement.values(found, call) for call, found in self.calls.items()}
        call, found = next(iter(self.calls.items()))
        self.front, self.checked = (self.layer, self.fills[call]), plain.independent
        if plain.front is not found:  # then all that replaces channels goes the same way
            everything = torch.ones(1, self.channels, dtype=torch.bool, device=found.device)
            alike = self.layer.positions is None and (
                self.fills[call].ndim == 0 or len(self.fills[call]) == 1
            )
            filled = self.layer.ablate(
                found[None, :1] if alike else found[None], everything, self.fills[call]
            )[0]
            self.front = replace(self.layer, positions=None), plain.advance(filled)
        self.baseline = self._selected(plain.output, plain.size)
        if plain.reads_values:
            self._note("forward depends on the values of tensors")
        elif plain.draws:
            self._note("forward draws random numbers")
        elif plain.mixes_images:
            self._note("images of a batch affect each other")

    def _edge(self) -> list[int]:
        return [int(self.features.abs().flatten(1).sum(1).argmax())]

    def _outputs_of(self, rows: torch.Tensor, change: Change) -> torch.Tensor:
        if not self.plain.independent:  # torch's own layers remember nothing
            self.rewind()
        return self._selected(self.plain.replay(rows, change), len(rows))

    def _alone(self, row: torch.Tensor) -> torch.Tensor:
        call = 0

        def receive(output: Any) -> Any:
            nonlocal call
            call += 1
            if self.layer.choice.call not in (None, call):
                return None
            features = self.layer.check(output)
            fill = self.fills[call] if call in self.fills else self.replacement.values(features, call)
            return self.layer.put(output, self.layer.ablate(features[None], row[None], fill)[0])

        self.rewind()
        with self.layer.hooked(receive):
            args, kwargs = map_tensors(torch.clone, (self.given.args, self.given.kwargs))
            return self._selected(self.layer.model(*args, **kwargs), self.plain.size)

    def is_squashed(self) -> bool:
        self.rewind()
        with Probabilities() as found:
            args, kwargs = map_tensors(torch.clone, (self.given.args, self.given.kwargs))
            return select_output(self.layer.model(*args, **kwargs), self.output) in found

    def _selected(self, returned: Any, size: int) -> torch.Tensor:
        value = select_output(returned, self.output)
        if value.ndim == 0 or len(value) != size:
            raise ValueError(
                f"the output must be (N, ...) with the batch of {size} in axis 0; got {describe(value)}"
            )
        return value


def _with_bar(parts: list[slice]) -> Iterator[slice]:
    yield from progress_bar(parts, what="ablating", unit="chunk", progress=True)


def check_same(
    outputs: torch.Tensor, expected: torch.Tensor, effect: torch.Tensor, baseline: torch.Tensor
) -> None:
    """Raise `Diverged` unless the plain features gave the `expected` outputs in a larger batch.

    They may differ by rounding, relative to the `baseline` of all images, and by a hundredth of the `effect` of ablating
    all channels as long as rounding in reduced precision may be the reason.
    """
    same = torch.equal(outputs, expected)
    if not same and outputs.shape == expected.shape and baseline.is_floating_point():
        scale = _largest(baseline)
        least, most = (factor * scale for factor in ROUNDING.get(baseline.dtype, ROUNDING_ELSEWHERE))
        tolerance = min(max(0.01 * _largest(effect), least), most)
        same = torch.allclose(outputs, expected, rtol=0, atol=tolerance, equal_nan=True)
    if not same:
        raise Diverged("images of a batch affect each other, or change in place what is read again")


def _largest(values: torch.Tensor) -> float:
    finite = values[torch.isfinite(values)]
    return float(finite.abs().max()) if finite.numel() else 0.0


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


def not_finite(broken: int, total: int) -> tuple[str, ...]:
    """Return the note on outputs that are NaN or infinite, if there are any."""
    return (f"{broken} of {total} outputs are not finite",) if broken else ()
