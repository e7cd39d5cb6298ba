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

    def key(self, args: tuple[Any, ...], kwargs: dict[str, Any], *, modes: bool) -> str:
        """Return what passes with the same number of calls have in common."""
        return f"{outline((args, kwargs))} {[m.training for m in all_modules(self.model)] if modes else ''}"

    def count(self, key: str, calls: dict[str, int]) -> None:
        """Remember the calls of a whole pass."""
        self._counted = {key: calls, **dict(list(self._counted.items())[:_MOST_STRUCTURES])}

    def last_calls(self, key: str) -> dict[str, int] | None:
        """Return the number of each layer's last call; None if a whole pass must count them or the model is recorded."""
        counted = self._counted.get(key, {})
        by_number = all(choice.call is not None for choice in self.choices)
        if self.is_caught or any(not c.name for c in self.choices) or not (counted or by_number):
            return None
        last: dict[str, int] = {}
        for choice in self.choices:
            calls = counted.get(choice.name, 0) if choice.call is None else choice.call
            if calls:
                last[choice.name] = max(calls, last.get(choice.name, 0))
        return last
