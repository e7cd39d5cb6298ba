"""Results in files: the one way to save and load them."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Self, TypeVar

import torch

from featurelens._checks import check_path
from featurelens._html import Shown

T = TypeVar("T")

UNREADABLE = (
    pickle.UnpicklingError,
    LookupError,
    TypeError,
    AttributeError,
    ValueError,
    RuntimeError,
    EOFError,
    IsADirectoryError,
    NotADirectoryError,
)


def write(path: str | os.PathLike[str], kind: type, content: Mapping[str, Any]) -> None:
    """Write tensors, numbers, text and containers of these to one file.

    A file that is already there stays until the new one is complete.
    """
    path = check_path(path)
    unfinished = path.with_name(f"{path.name}.tmp")
    try:
        torch.save({"kind": kind.__name__, **content}, unfinished)
        unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


def read(path: str | os.PathLike[str], kind: type, make: Callable[..., T]) -> T:
    """Return ``make(**content)`` for what `write` wrote to a file; nothing but plain values is ever unpickled."""
    path = check_path(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        if content.pop("kind") != kind.__name__:
            raise TypeError
        return make(**content)
    except UNREADABLE as error:
        raise ValueError(f"{path} was not written by {kind.__name__}.save") from error


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class SavedResult(Shown):
    """A result that can be saved and loaded; its fields are tensors, numbers, text or containers of these."""

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the result to one file, `path`, that `load` and ``torch.load(path, weights_only=True)`` read.

        Raises
        ------
        TypeError
            If `path` is not a path.
        """
        write(path, type(self), {field.name: getattr(self, field.name) for field in fields(self)})

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a result that `save` wrote to `path`.

        Raises
        ------
        TypeError
            If `path` is not a path.
        ValueError
            If `save` did not write the file.
        """
        return read(path, cls, cls)
