"""Results in files: the one way to save and load them."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
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


@contextmanager
def whole_file(path: str | os.PathLike[str], *, argument: str = "path") -> Iterator[Path]:
    """Yield where to write a file that comes to `path` when the block ends; a file that is there stays until then."""
    path = check_path(path, argument=argument)
    if path.is_dir():
        raise IsADirectoryError(f"{argument} must be a file's path; {str(path)!r} is a folder")
    if path.exists() and not path.is_file():  # a device or a pipe, which a file would replace
        raise OSError(f"{argument} must be a file's path; {str(path)!r} is no regular file")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{argument} is {str(path)!r}, but there is no folder {str(path.parent)!r}")
    unfinished = path.with_name(f"{path.name}.tmp")
    try:
        yield unfinished
        unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


def write(path: str | os.PathLike[str], kind: type, content: Mapping[str, Any]) -> None:
    """Write tensors, numbers, text and containers of these to one file."""
    with whole_file(path) as unfinished:
        torch.save({"kind": kind.__name__, **content}, unfinished)


def read(path: str | os.PathLike[str], kind: type, make: Callable[..., T]) -> T:
    """Return ``make(**content)`` for what `write` wrote to a file; nothing but plain values is ever unpickled."""
    path = check_path(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        if content.pop("kind") != kind.__name__:
            raise TypeError
        return make(**content)
    except UNREADABLE as error:
        raise ValueError(
            f"{path} was not written by {kind.__name__}.save of this version, or is damaged"
        ) from error


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class SavedResult(Shown):
    """A result that can be saved and loaded; its fields are tensors, numbers, text or containers of these."""

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the result to one file, `path`, that `load` and ``torch.load(path, weights_only=True)`` read.

        Raises
        ------
        TypeError, ValueError
            If `path` is not a path.
        OSError
            If the file cannot be written.
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
