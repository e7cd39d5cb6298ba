"""Results in files that ``torch.load(path, weights_only=True)`` reads, with their objectives."""

from __future__ import annotations

import os
from dataclasses import fields
from typing import Any

import torch

from featurelens import _saving
from featurelens.maximization import terms
from featurelens.maximization.objective import Objective
from featurelens.maximization.realism import Realism


def write(path: str | os.PathLike[str], result: Any, /, **content: Any) -> None:
    """Write the tensors, numbers and objectives of a result; these as text for people, and term by term for `read`."""
    content |= {
        field.name: value
        for field in fields(result)
        if isinstance(value := getattr(result, field.name), torch.Tensor | int | float)
    }
    parts = [
        [(weight, type(term).__name__, _plain(term)) for weight, term in o.terms] for o in result.objectives
    ]
    texts = [str(objective) for objective in result.objectives]
    _saving.write(path, type(result), {"objectives": texts, "terms": parts, **content})


def read(path: str | os.PathLike[str], kind: type) -> dict[str, Any]:
    """Return what `write` wrote of a result of `kind`; only tensors and plain values are ever unpickled."""

    def make(*, terms: list[Any], **content: Any) -> dict[str, Any]:
        content["objectives"] = tuple(
            Objective(tuple((weight, _term(name, given)) for weight, name, given in parts)) for parts in terms
        )
        return content

    return _saving.read(path, kind, make)


def _plain(term: terms.Term) -> dict[str, Any]:
    return {field.name: getattr(term, field.name) for field in fields(term) if field.name != "function"}


def _term(name: str, given: dict[str, Any]) -> terms.Term:
    kind: Any = Realism if name == Realism.__name__ else getattr(terms, name)
    if not issubclass(kind, terms.Term):
        raise TypeError
    term: terms.Term = kind(**given, function=_lost) if kind is terms.Custom else kind(**given)
    return term


def _lost(activations: torch.Tensor) -> torch.Tensor:
    raise RuntimeError(
        "the function of a custom objective is not saved, so the loaded objective cannot be evaluated"
    )
