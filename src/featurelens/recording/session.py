"""One recording: counts calls, keeps values, and knows when everything that was asked for is there."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from typing import Any

import torch

from featurelens._checks import count
from featurelens._hooks import StopForward
from featurelens.layers import Choice
from featurelens.recording.activations import Activations
from featurelens.recording.keeping import Keeper, Reduction, Unsuitable, check_axes


class Session:
    """Both backends hand what a layer returned to `capture`; `activations` is the live result."""

    def __init__(
        self,
        choices: Sequence[Choice],
        keeper: Keeper,
        reductions: Mapping[tuple[str, int | None], Reduction],
        channels_first: Container[str] = (),
    ) -> None:
        self.choices = choices
        self.keeper = keeper
        self.reductions = reductions
        self.channels_first = channels_first
        self.wanted: dict[str, set[int | None]] = {}
        for choice in choices:
            self.wanted.setdefault(choice.name, set()).add(choice.call)
        self.counts: dict[str, int] = {}
        self.taken: dict[str, dict[int, Any]] = {}
        self.shared: dict[str, list[tuple[torch.Tensor, int]]] = {}
        self.outstanding: dict[str, int] | None = None
        self.error: Exception | None = None
        self.activations = Activations(aliases=aliases(choices))
        self.activations._live = self._named

    def expect(self, last_calls: Mapping[str, int] | None) -> None:
        """Stop the forward pass once each layer was called as often as this says; None runs it to the end."""
        self.outstanding = dict(last_calls) if last_calls is not None else None

    def capture(self, name: str, output: Any) -> Any:
        """Keep what layer `name` returned; return what the model goes on with, if that is something else.

        Stops the forward pass if nothing more is asked for.
        """
        call = self.counts[name] = self.counts.get(name, 0) + 1
        wanted = self.wanted[name]
        if call in wanted or None in wanted:
            reduction = self.reductions.get((name, call), self.reductions.get((name, None)))
            try:
                if reduction is not None and name not in self.channels_first:
                    check_axes(output, reduction, name)
                value, shared = self.keeper.keep(output, reduction)
            except Unsuitable as error:
                self.error = error
                raise
            except Exception as error:
                task = "reduce" if callable(reduction) else "keeping the output"
                self.error = RuntimeError(f"{task} failed on layer {name!r}: {type(error).__name__}: {error}")
                raise self.error from error
            self.taken.setdefault(name, {})[call] = value
            if shared:
                self.shared.setdefault(name, []).extend(shared)
        if self.outstanding is not None and self.outstanding.get(name) == call:
            del self.outstanding[name]
            if not self.outstanding:
                raise StopForward
        return self.keeper.hand_on(output)

    def finish(self) -> Activations:
        """Check what was recorded, and freeze the result."""
        self._check_reached()
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
            calls = self.taken.get(choice.name, {})
            if choice.call is None and len(calls) == 1:
                named[choice.name] = next(iter(calls.values()))
            elif choice.call is None:
                named |= {f"{choice.name}#{call}": value for call, value in calls.items()}
            elif choice.call in calls:
                named[f"{choice.name}#{choice.call}"] = calls[choice.call]
        return named

    def _check_intact(self) -> None:
        for name, tensors in self.shared.items():
            if any(tensor._version != version for tensor, version in tensors):
                raise RuntimeError(
                    f"layer {name!r} was recorded with clone=False and then changed in place by a later layer, "
                    "such as ReLU(inplace=True); record it with clone=True"
                )

    def _check_reached(self) -> None:
        reached = {id(choice.selector) for choice in self.choices if self._is_reached(choice)}
        for choice in self.choices:
            if not self._is_reached(choice) and (choice.exact or id(choice.selector) not in reached):
                raise LookupError(not_reached(choice, self.counts.get(choice.name, 0)))

    def _is_reached(self, choice: Choice) -> bool:
        calls = self.taken.get(choice.name, {})
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
        f"layer {choice.name!r} was never called in the forward pass: it may be unused in this mode, or "
        "used only through its weights"
    )
