"""Results in files that ``torch.load(path, weights_only=True)`` reads, with their objectives."""

from __future__ import annotations

import os
import pickle
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import torch

from featurelens._checks import check_path
from featurelens.maximization import terms
from featurelens.maximization.objectives import Objective


def write(path: str | os.PathLike[str], kind: str, objectives: Sequence[Objective], **content: Any) -> None:
    """Write tensors, numbers and objectives; these as text for people, and term by term for `read`."""
    plain = [[(weight, type(t).__name__, _fields(t)) for weight, t in o.terms] for o in objectives]
    texts = [str(objective) for objective in objectives]
    torch.save({"kind": kind, "objectives": texts, "terms": plain, **content}, check_path(path))


def read(path: str | os.PathLike[str], kind: str) -> dict[str, Any]:
    """Return what `write` wrote to `path`; only tensors and plain values are ever unpickled."""
    path = check_path(path)
    try:
        content: dict[str, Any] = torch.load(path, weights_only=True)
        if content.pop("kind") != kind:
            raise TypeError
        content["objectives"] = tuple(
            Objective(tuple((weight, _term(name, given)) for weight, name, given in parts))
            for parts in content.pop("terms")
        )
    except (pickle.UnpicklingError, KeyError, TypeError, AttributeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{path} was not written by {kind}.save") from error
    return content


def _fields(term: terms.Term) -> dict[str, Any]:
    # A function cannot be written as plain data.
    assert isinstance(term, terms.LayerTerm | terms.Penalty)
    names = [field.name for field in fields(term)] if isinstance(term, terms.LayerTerm) else []
    return {name: getattr(term, name) for name in names if name != "function"}


def _term(name: str, given: dict[str, Any]) -> terms.Term:
    kind = getattr(terms, name)
    if not issubclass(kind, terms.Term):
        raise TypeError
    term: terms.Term = kind(**given, function=_lost) if kind is terms.Custom else kind(**given)
    return term


def _lost(activations: torch.Tensor) -> torch.Tensor:
    raise RuntimeError(
        "the function of a custom objective is not saved, so that a loaded one cannot be evaluated"
    )
