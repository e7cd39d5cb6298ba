"""Checks of arguments, and one wording for errors: what was expected, and what was given."""

from __future__ import annotations

import difflib
import operator
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import UnionType
from typing import Any

import numpy as np
import torch
from torch import nn


def check_module(model: object, *, argument: str = "model") -> nn.Module:
    """Return `model` if it is a module, or raise a TypeError that describes it."""
    if isinstance(model, type) and issubclass(model, nn.Module):
        raise TypeError(f"{argument} must be an nn.Module; got the class {model.__name__}: pass an instance")
    if not isinstance(model, nn.Module):
        raise TypeError(f"{argument} must be an nn.Module; got {describe(model)}")
    return model


def check_choice(value: object, choices: Iterable[object], *, argument: str, further: str = "") -> None:
    """Raise a ValueError unless `value` is one of `choices`; `further` ends the list of choices."""
    choices = list(choices)
    if value not in choices:
        expected = ", ".join(repr(choice) for choice in choices) + further
        raise ValueError(f"{argument} must be one of {expected}; got {describe(value)}")


def describe(value: object) -> str:
    """Describe `value` in a few words: shapes of tensors, names of everything else.

    >>> describe((torch.zeros(2, 3), "cat", 7))
    "(float32 tensor (2, 3), 'cat', 7)"
    """
    if isinstance(value, torch.Tensor) and value.is_nested:
        return f"nested {str(value.dtype).removeprefix('torch.')} tensor of {value.size(0)} rows"
    if isinstance(value, torch.Tensor):
        where = "" if value.device.type == "cpu" else f" on {value.device}"
        return f"{str(value.dtype).removeprefix('torch.')} tensor {tuple(value.shape)}{where}"
    if isinstance(value, np.ndarray):
        return f"{value.dtype} NumPy array {value.shape}"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key!r}: {describe(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        inner = ", ".join(describe(item) for item in value[:4]) + (", ..." if len(value) > 4 else "")
        return f"[{inner}]" if isinstance(value, list) else f"({inner})"
    if value is None or isinstance(value, bool | int | float | str | torch.dtype | torch.device):
        return repr(value)
    if isinstance(value, type):
        return f"the class {value.__name__}"
    return f"an object of type {type(value).__name__}"


def near_misses(name: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'conv2'? (12 layers: conv1, conv2, ...)"`` for the end of a LookupError."""
    known = list(known)
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
    hint = f"; did you mean {' or '.join(repr(match) for match in close)}?" if close else ""
    listed = ", ".join(known[:6]) + (", ..." if len(known) > 6 else "")
    return f"{hint} ({len(known)} layers: {listed})"


def count(number: int, noun: str) -> str:
    """Return ``"1 layer"`` or ``"3 layers"``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message."""
    return next(iter(str(error).strip().splitlines()), "no message")


def check_type(
    value: Any, kind: type | tuple[type, ...] | UnionType, *, argument: str, expected: str
) -> None:
    """Raise a TypeError unless `value` is of `kind`."""
    if not isinstance(value, kind):
        raise TypeError(f"{argument} must be {expected}; got {describe(value)}")


def check_flag(value: Any, *, argument: str) -> bool:
    """Return `value` if it is True or False, or raise a TypeError."""
    check_type(value, bool, argument=argument, expected="True or False")
    return bool(value)


def check_number(value: Any, *, argument: str, expected: str = "a number") -> float:
    """Return a real number of any kind, also numpy's, as a float; raise a TypeError if it is not one.

    >>> check_number("fast", argument="lr", expected="a positive number")
    Traceback (most recent call last):
    TypeError: lr must be a positive number; got 'fast'
    """
    try:
        if isinstance(value, bool | str):
            raise TypeError
        return float(value)
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(f"{argument} must be {expected}; got {describe(value)}") from None


def check_path(path: Any, *, argument: str = "path", expected: str = "a file's path") -> Path:
    """Return a path, or raise a TypeError that describes `path`."""
    check_type(path, str | os.PathLike, argument=argument, expected=expected)
    return Path(path)


def check_whole(value: Any, *, argument: str, least: int | None = None) -> int:
    """Return a whole number of any kind, also numpy's, as an int; raise if it is not one, or below `least`."""
    words = f"{argument} must be a whole number; got {describe(value)}"
    if isinstance(value, bool):
        raise TypeError(words)
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(words) from None
    if least is not None and number < least:
        raise ValueError(f"{argument} must be at least {least}; got {number}")
    return number
