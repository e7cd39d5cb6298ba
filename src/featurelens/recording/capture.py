"""What one pass records: counts calls, keeps values, and knows when everything that was asked for is there."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from typing import Any, final

import torch

from featurelens._checks import count, describe
from featurelens._hooks import StopForward, is_rehearsal
from featurelens._structure import CannotCopy
from featurelens.layers import Choice
from featurelens.recording.keeping import Keeper, Reduction, Unsuitable, check_axes
from featurelens.storage.activations import Activations


@final
class Capture:
    """Both backends hand what a layer returned to `take`; `activations` is the live result.

    Attributes
    ----------
    calls
        How often each layer was called so far.
    stops, stopped
        Whether the forward pass is to end early, and whether it was told to.
    error
        What was raised from here, and not by the model.
    """

    def __init__(
        self,
        choices: Sequence[Choice],
        keeper: Keeper,
        reductions: Mapping[tuple[str, int | None], Reduction],
        channels_first: Container[str],
        last_calls: Mapping[str, int] | None = None,
    ) -> None:
        self.choices, self.keeper = choices, keeper
        self.calls: dict[str, int] = {}
        self.stops, self.stopped = bool(last_calls), False
        self.error: Exception | None = None
        self.activations = Activations(aliases=aliases(choices))
        self.activations._live = self._named
        self._reductions, self._channels_first = reductions, channels_first
        self._outstanding = dict(last_calls or {})
        self._wanted: dict[str, set[int | None]] = {}
        for choice in choices:
            self._wanted.setdefault(choice.name, set()).add(choice.call)
        self._taken: dict[str, dict[int, Any]] = {}
        self._shared: dict[str, list[tuple[torch.Tensor, int]]] = {}

    @property
    def names(self) -> list[str]:
        """The layers to listen to."""
        return list(self._wanted)

    def take(self, name: str, output: Any) -> Any:
        """Keep what layer `name` returned; return what the model goes on with, if that is something else.

        Ends the forward pass if nothing more is asked for.
        """
        # Checkpointing computes a part again during the backward pass: that is no further call.
        if self.stopped or is_rehearsal() or torch._C._current_graph_task_id() != -1:
            return self.keeper.hand_on(output)
        call = self.calls[name] = self.calls.get(name, 0) + 1
        wanted = self._wanted[name]
        if call in wanted or None in wanted:
            self._keep(name, call, output)
        if self._outstanding.get(name) == call:
            del self._outstanding[name]
            if not self._outstanding:
                self.stopped = True
                raise StopForward
        return self.keeper.hand_on(output)

    def _keep(self, name: str, call: int, output: Any) -> None:
        reduction = self._reductions.get((name, call), self._reductions.get((name, None)))
        try:
            if reduction is not None and name not in self._channels_first:
                check_axes(output, reduction, name)
            value, shared = self.keeper.keep(output, reduction)
        except Unsuitable as error:
            self.error = error
            raise
        except CannotCopy as error:
            self.error = RuntimeError(
                f"layer {name!r} returned {describe(output)}, which cannot be kept: {error}; say what to keep of it with "
                f"reduce={{{name!r}: function}}"
            )
            raise self.error from error
        except Exception as error:
            task = "reduce" if callable(reduction) else "keeping the output"
            self.error = RuntimeError(f"{task} failed on layer {name!r}: {type(error).__name__}: {error}")
            raise self.error from error
        self._taken.setdefault(name, {})[call] = value
        if shared:
            self._shared.setdefault(name, []).extend(shared)

    def finish(self) -> Activations:
        """Check what was recorded, and freeze the result."""
        reached = {id(choice.selector) for choice in self.choices if self._is_reached(choice)}
        for choice in self.choices:
            if not self._is_reached(choice) and (choice.exact or id(choice.selector) not in reached):
                raise LookupError(not_reached(choice, self.calls.get(choice.name, 0)))
        return self.freeze()

    def freeze(self) -> Activations:
        """End the recording: the result no longer refers to it."""
        self.activations._live = None
        self.activations._layers = self._named()
        return self.activations

    def _named(self) -> dict[str, Any]:
        self._check_intact()
        named = {}
        for choice in self.choices:
            calls = self._taken.get(choice.name, {})
            if choice.call is None and len(calls) == 1:
                named[choice.name] = next(iter(calls.values()))
            elif choice.call is None:
                named |= {f"{choice.name}#{call}": value for call, value in calls.items()}
            elif choice.call in calls:
                named[f"{choice.name}#{choice.call}"] = calls[choice.call]
        return named

    def _check_intact(self) -> None:
        for name, tensors in self._shared.items():
            if any(tensor._version != version for tensor, version in tensors):
                raise RuntimeError(
                    f"layer {name!r} was recorded with clone=False and then changed in place by a later layer, "
                    "such as ReLU(inplace=True); record it with clone=True"
                )

    def _is_reached(self, choice: Choice) -> bool:
        calls = self._taken.get(choice.name, {})
        return choice.call in calls if choice.call is not None else bool(calls)


def aliases(choices: Sequence[Choice]) -> dict[str, str]:
    """Other names by which the chosen layers go: ordinal aliases, and what the user wrote."""
    names = {choice.alias: choice.name for choice in choices if choice.alias}
    names |= {
        c.selector.partition("#")[0]: c.name for c in choices if isinstance(c.selector, str) and c.exact
    }
    return {text: name for text, name in names.items() if text != name}


def not_reached(choice: Choice, calls: int) -> str:
    """Return the message for a chosen layer, or call of a layer, that no forward pass came to."""
    if choice.call is not None and calls:
        return f"layer {choice.name!r} was called {count(calls, 'time')}, so there is no call {choice.call}"
    return (
        f"layer {choice.name!r} was never called in the forward pass: it may be unused in this mode, used only "
        "through its weights, or called as layer.forward(x), which hooks do not see"
    )
