"""What comes after a layer: it turns variants of the layer's output into outputs of the model, or of a decoder."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, TypeAlias, final

import torch
from torch import nn

from featurelens._checks import count, describe
from featurelens._failure import explain
from featurelens._hooks import visiting
from featurelens.ablation.replay import Change, Diverged, Memory, listening
from featurelens.ablation.variants import Filling, ablate
from featurelens.layers import Choice, not_reached

Output: TypeAlias = str | int | Callable[[Any], torch.Tensor] | None
"""Which part of what the model returns is looked at."""

# Of the largest tensor in a chunk. On the CPU 4 MiB of float32 already make up for what a replay costs; with 16 MiB, the
# allocator gives what a chunk frees back to the system, and the next chunk pays for every page again.
ELEMENTS = {"cpu": 2**20}
ELEMENTS_ELSEWHERE = 2**26
ROUNDING = {torch.float64: (1e-12, 1e-9), torch.float32: (1e-5, 1e-3)}
"""What two runs may differ by, relative to the largest output: on a good day, and in reduced precision at worst."""
ROUNDING_ELSEWHERE = (0.02, 0.1)


class Suffix(ABC):
    """All that follows a layer, for one batch.

    Attributes
    ----------
    features
        What the layer returned, `(N, C, ...)`.
    baseline
        What the chosen output is when nothing is ablated, `(N, ...)`.
    notes
        What a reader of the results should know.
    """

    features: torch.Tensor
    baseline: torch.Tensor
    axis: int
    largest: int
    notes: tuple[str, ...] = ()

    @property
    def channels(self) -> int:
        """How many channels the layer has."""
        return self.features.shape[self.axis]

    def outputs(self, mask: torch.Tensor, chunk: int | None = None) -> Iterator[tuple[slice, torch.Tensor]]:
        """Yield the outputs `(V, N, ...)` of the variants in `mask` `(..., C)`, so many at once as `chunk` says."""
        if chunk is None:
            budget = ELEMENTS.get(self.features.device.type, ELEMENTS_ELSEWHERE)
            chunk = max(1, budget // max(self.largest, 1))
        for start in range(0, len(mask), chunk):
            part = slice(start, min(start + chunk, len(mask)))
            yield part, self.run(mask[part])

    @abstractmethod
    def run(self, mask: torch.Tensor) -> torch.Tensor:
        """Return the outputs `(V, N, ...)` of the variants that the rows of `mask` `(V, C)` make."""


@final
class ModelSuffix(Suffix):
    """The rest of the model's own forward: replayed, or after that fails run in full for each variant."""

    def __init__(
        self,
        model: nn.Module,
        choice: Choice,
        axis: int | None,
        filling: Filling,
        images: torch.Tensor,
        output: Output,
    ) -> None:
        self.model, self.filling, self.output = model, filling, output
        self.memory = remember(model, choice, axis, images)
        self.features = next(iter(self.memory.features.values()))
        self.axis = filling.axis % self.features.ndim
        check_channels_agree(self.memory, filling.axis)
        self.largest = self.memory.largest
        self.fills = {call: filling.values(features, call) for call, features in self.memory.features.items()}
        self.baseline = self._chosen(self.memory.output, len(images))
        if self.memory.reads_values:
            self.notes = (_note("forward depends on the values of tensors"),)
        elif self.memory.draws:
            self.notes = (_note("forward draws random numbers"),)
        elif self.memory.mixes_images:
            self.notes = (_note("images of a batch act on each other"),)
        else:
            self._attempt(self._probe)

    def run(self, mask: torch.Tensor) -> torch.Tensor:
        outputs = None if self.notes else self._attempt(lambda: self._replay(mask))
        return torch.stack([self._forward(row) for row in mask]) if outputs is None else outputs

    def _attempt(self, replay: Callable[[], torch.Tensor]) -> torch.Tensor | None:
        """Return what a replay gives, or None and a note if the model cannot be replayed."""
        try:
            return replay()
        except Exception as error:  # noqa: BLE001  whatever the model's own code makes of the larger batch
            reason = str(error).strip().partition("\n")[0]
            self.notes = (
                _note(reason if isinstance(error, Diverged) else f"{type(error).__name__}: {reason}"),
            )
            return None

    def _probe(self) -> torch.Tensor:
        """Run the plain features before ones with nothing left, and behind strong ones of other images.

        They must give both times what they gave alone. Between them the two batches show what the first images of
        a batch do to later ones, later ones to the first, and large values and small ones to all.
        """
        nothing_and_all = torch.tensor([[False], [True]], device=self.features.device)
        outputs = self._replay(nothing_and_all.expand(2, self.channels))
        check_same(outputs[0], self.baseline, outputs[1])
        behind = self._replayed(2, lambda output, call: self._behind_strong(output))
        check_same(behind[1], self.baseline, outputs[1])
        return outputs

    def _behind_strong(self, output: torch.Tensor) -> torch.Tensor:
        return behind_strong(output) if output is self.features else output

    def _replay(self, mask: torch.Tensor) -> torch.Tensor:
        """Run all variants in one batch."""
        size, times = len(self.features), len(mask)

        def change(output: torch.Tensor, call: int) -> torch.Tensor:
            shape = (times, size, *output.shape[1:])
            plain = (
                output is self.features
            )  # else it is that of a later call, in which the variants differ already
            variants = output.expand(shape) if plain else output.reshape(shape)
            return ablate(variants, mask, self.fills[call], self.axis).flatten(0, 1)

        return self._replayed(times, change)

    def _replayed(self, times: int, change: Change) -> torch.Tensor:
        with guarded(self.model):
            returned = self.memory.replay(times, change)
        size = len(self.features)
        outputs = self._chosen(returned, size * times)
        return outputs.reshape(times, size, *outputs.shape[1:])

    def _forward(self, row: torch.Tensor) -> torch.Tensor:
        """Run the whole model on one variant."""
        call, images = 0, self.memory.images

        def receive(output: torch.Tensor) -> torch.Tensor | None:
            nonlocal call
            call += 1
            if self.memory.choice.call not in (None, call):
                return None
            fill = self.fills[call] if call in self.fills else self.filling.values(output, call)
            return ablate(output[None], row[None], fill, self.axis)[0]

        with guarded(self.model), listening(self.memory.layer, receive):
            return self._chosen(self.model(images.clone()), len(images))

    def _chosen(self, returned: Any, size: int) -> torch.Tensor:
        value = choose_output(returned, self.output)
        if value.ndim == 0 or len(value) != size:
            raise ValueError(
                f"the output must be (N, ...) with the batch of {size} in axis 0; got {describe(value)}"
            )
        return value


def behind_strong(features: torch.Tensor) -> torch.Tensor:
    """Return the features of a batch of stronger ones, and then `features`."""
    # Neither the same images nor mere multiples of them, as a normalization would undo that.
    strong = 3 * features.roll(1, 0) + features.flip(list(range(1, features.ndim)))
    return torch.cat([strong if strong.any() else strong + 1, features])


def remember(model: nn.Module, choice: Choice, axis: int | None, images: torch.Tensor) -> Memory:
    """Run one plain forward pass and return what is to be remembered of it."""
    memory = Memory(model, choice, axis, images)
    with guarded(model):
        try:
            memory.remember()
        except Exception as error:
            if error is memory.error:
                raise
            raise RuntimeError(explain(error, model, "a batch", (images,), {})) from error
    if not memory.features:
        raise LookupError(not_reached(choice, memory.calls))
    return memory


def check_channels_agree(memory: Memory, axis: int) -> None:
    """Raise an error unless the calls that are ablated together have as many channels."""
    channels = {call: features.shape[axis] for call, features in memory.features.items()}
    if len(set(channels.values())) > 1:
        name = memory.choice.name
        listed = ", ".join(f"{name}#{call} ({count(number, 'channel')})" for call, number in channels.items())
        raise ValueError(
            f"layer {name!r} is called {len(channels)} times, with different numbers of channels; say which call: {listed}"
        )


def choose_output(returned: Any, output: Output) -> torch.Tensor:
    """Return the part of what the model returned that `output` names.

    Raises
    ------
    TypeError, LookupError
        If that is not a tensor, or not there.
    """
    if output is None:
        value = returned
    elif callable(output):
        value = output(returned)
    elif isinstance(returned, Mapping) or isinstance(output, int):
        try:
            value = returned[output]
        except (LookupError, TypeError):
            raise LookupError(f"the model returns {describe(returned)}; it has no {output!r}") from None
    elif hasattr(returned, output):
        value = getattr(returned, output)
    else:
        raise LookupError(f"the model returns {describe(returned)}; it has no {output!r}")
    if not isinstance(value, torch.Tensor):
        said = (
            "say which tensor to look at with output="
            if output is None
            else f"output={output!r} is not a tensor"
        )
        raise TypeError(f"the model returns {describe(returned)}: {said}")
    return value


def check_same(outputs: torch.Tensor, baseline: torch.Tensor, emptied: torch.Tensor) -> None:
    """Raise `Diverged` unless the plain features gave in a replay what they gave in the plain forward.

    They may differ by rounding, and by a hundredth of what ablating all channels does (`emptied`) as long as rounding
    in reduced precision may be the reason.
    """
    if outputs.shape != baseline.shape:
        raise Diverged(f"an output {tuple(outputs.shape)} instead of {tuple(baseline.shape)}")
    if not baseline.is_floating_point():
        same = torch.equal(outputs, baseline)
    else:
        scale, effect = _largest(baseline), _largest(emptied - baseline)
        least, most = (factor * scale for factor in ROUNDING.get(baseline.dtype, ROUNDING_ELSEWHERE))
        tolerance = min(max(0.01 * effect, least), most)
        same = torch.allclose(outputs, baseline, rtol=0, atol=tolerance, equal_nan=True)
    if not same:
        raise Diverged("images of a batch act on each other, or in place on what is read again")


def _largest(values: torch.Tensor) -> float:
    finite = values[torch.isfinite(values)]
    return float(finite.abs().max()) if finite.numel() else 0.0


@contextmanager
def guarded(*models: nn.Module) -> Iterator[None]:
    """Run the models in eval mode without gradients, and give them back as they were."""
    with ExitStack() as stack:
        for model in models:
            stack.enter_context(visiting(model))
        yield


def _note(reason: str) -> str:
    return f"the whole model ran for every variant ({reason})"
