"""After how many calls of each layer a forward pass may end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

from torch import nn

from featurelens._guard import all_modules
from featurelens._structure import outline
from featurelens.layers import Choice

_MOST_STRUCTURES = 100


@final
class EarlyStop:
    """Counts the calls of whole passes, so that later passes with inputs of the same structure can end after as many.

    Attributes
    ----------
    works, is_caught
        Whether a pass has ended where it should; whether the model has caught the exception that ends it.
    """

    def __init__(self, model: nn.Module, choices: Sequence[Choice]) -> None:
        self.model, self.choices = model, choices
        self.works, self.is_caught = False, False
        self._counted: dict[str, dict[str, int]] = {}

    def structure(self, given: Any, *, modes: bool) -> str:
        """Return what passes with the same number of calls have in common: inputs, and the modes of the modules."""
        return f"{outline(given)} {[m.training for m in all_modules(self.model)] if modes else ''}"

    def count(self, structure: str, calls: dict[str, int]) -> None:
        """Remember the calls of a whole pass."""
        self._counted = {structure: calls, **dict(list(self._counted.items())[:_MOST_STRUCTURES])}

    def last_calls(self, structure: str) -> dict[str, int] | None:
        """Return the number of each layer's last call; None if a whole pass must count them or the model is recorded."""
        counted = self._counted.get(structure, {})
        by_number = all(choice.call is not None for choice in self.choices)
        if self.is_caught or any(not c.name for c in self.choices) or not (counted or by_number):
            return None
        last: dict[str, int] = {}
        for choice in self.choices:
            calls = counted.get(choice.name, 0) if choice.call is None else choice.call
            if calls:
                last[choice.name] = max(calls, last.get(choice.name, 0))
        return last
