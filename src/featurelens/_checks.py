"""Checks of arguments, and one wording for errors: what was expected, and what was given."""

from __future__ import annotations

import difflib
import inspect
import operator
import os
import warnings
from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path
from traceback import walk_stack
from types import UnionType
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader


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
    if isinstance(value, torch.Tensor | np.ndarray) or value not in choices:  # arrays compare by element
        expected = ", ".join(repr(choice) for choice in choices) + further
        raise ValueError(f"{argument} must be one of {expected}; got {describe(value)}")


def describe(value: object, *, depth: int = 4) -> str:
    """Describe `value` in a few words: shapes of tensors, names of everything else; `depth` containers in each other.

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
    if isinstance(value, Mapping | list | tuple) and depth == 0:
        return "..."
    if isinstance(value, Mapping):
        items = [f"{describe(key)}: {describe(value[key], depth=depth - 1)}" for key in islice(value, 9)]
        return "{" + listing(items, most=8) + "}"
    if isinstance(value, list | tuple):
        inner = listing([describe(item, depth=depth - 1) for item in value[:5]], most=4)
        return f"[{inner}]" if isinstance(value, list) else f"({inner})"
    if value is None or isinstance(value, bool | int | float | str | torch.dtype | torch.device):
        return shortened(value)
    if isinstance(value, type):
        return f"the class {value.__name__}"
    return f"an object of type {type(value).__name__}"


def shortened(value: object) -> str:
    """Return the repr of a value, or its ends if it is long.

    >>> shortened("a" * 1000)
    "'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa...aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa'"
    """
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:40]}...{text[-40:]}"


def near_misses(name: str, known: Iterable[str], *, noun: str = "layer") -> str:
    """Return ``"; did you mean 'conv2'? (12 layers: conv1, conv2, ...)"`` for the end of a LookupError."""
    known = list(known)
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
    hint = f"; did you mean {' or '.join(repr(match) for match in close)}?" if close else ""
    listed = listing(known, most=6)
    return f"{hint} ({count(len(known), noun)}: {listed})"


def count(number: int, noun: str) -> str:
    """Return ``"1 layer"`` or ``"3 layers"``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def listing(items: Iterable[object], *, most: int) -> str:
    """Return the first items in words.

    >>> listing([3, 4], most=2), listing([3, 4, 5], most=2)
    ('3, 4', '3, 4, ...')
    """
    words = list(map(str, items))
    return ", ".join(words[:most]) + (", ..." if len(words) > most else "")


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message."""
    return next(iter(str(error).strip().splitlines()), "no message")


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn at the line of the user's code from which featurelens was called, however deep this is."""
    frames = [frame for frame, _ in walk_stack(inspect.currentframe())]
    packages = [frame.f_globals.get("__name__", "").partition(".")[0] for frame in frames]
    level = max(place for place, package in enumerate(packages) if package == "featurelens") + 1
    # Between the user and us are those who run our blocks and hooks.
    while level < len(packages) - 1 and packages[level] in ("contextlib", "torch"):
        level += 1
    warnings.warn(message, category, stacklevel=level + 1)


def check_type(
    value: Any, kind: type | tuple[type, ...] | UnionType, *, argument: str, expected: str
) -> None:
    """Raise a TypeError unless `value` is of `kind`."""
    if not isinstance(value, kind):
        raise TypeError(f"{argument} must be {expected}; got {describe(value)}")


def check_dense(value: torch.Tensor, *, argument: str) -> None:
    """Raise a TypeError unless a tensor holds each of its values, as sparse, quantized and meta tensors do not."""
    kind = "quantized" if value.is_quantized else "meta" if value.is_meta else str(value.layout)
    kind = "nested" if value.is_nested else kind.removeprefix("torch.")
    if kind != "strided":
        raise TypeError(f"{argument} must be a dense tensor; got a {kind} {describe(value)}")


def to_tensor(data: object, argument: str) -> torch.Tensor:
    """Return a dense tensor of real numbers, of any shape; arrays are copied.

    >>> to_tensor(np.ones((2, 3), dtype=np.uint16), "x").dtype
    torch.int64
    """
    if isinstance(data, np.ndarray):
        if data.dtype.kind not in "biuf":
            text = data.ndim == 1 and data.dtype.kind in "OSU"
            advice = f"; for labels pass numpy.unique({argument}, return_inverse=True)[1]" if text else ""
            raise TypeError(f"{argument} must hold numbers; got an array of dtype {data.dtype}{advice}")
        if data.dtype.kind == "u" and data.dtype.itemsize > 1:
            data = data.astype(np.int64)
        if data.dtype.itemsize > 8:  # long double
            data = data.astype(np.float64)
        # A copy, since torch warns of arrays that are read-only, and refuses negative strides and swapped bytes.
        data = torch.from_numpy(np.array(data, dtype=data.dtype.newbyteorder("="), order="C"))
    if not isinstance(data, torch.Tensor):
        raise TypeError(f"{argument} must be a torch tensor or a numpy array; got {describe(data)}")
    if data.is_complex():
        raise TypeError(f"{argument} must hold real numbers; got {describe(data)}")
    check_dense(data, argument=argument)
    return data.detach()


def to_numbers(values: object, *, argument: str, expected: str) -> torch.Tensor:
    """Return numbers, in a list or an array of any kind, as a dense tensor in double precision."""
    array = to_tensor(values, argument) if isinstance(values, np.ndarray | torch.Tensor) else values
    try:
        return torch.as_tensor(array, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        raise TypeError(f"{argument} must be {expected}; got {describe(values)}") from None


def as_list(values: Any, *, argument: str, expected: str) -> list[Any]:
    """Return several values as a list, or raise an error; text is one value, and a million are too many to be meant.

    A loader is refused unread, since reading it would draw random numbers.
    """
    if isinstance(values, torch.Tensor | np.ndarray):
        values = to_tensor(values, argument).tolist() if isinstance(values, torch.Tensor) else values.tolist()
    one = isinstance(values, str | bytes | Mapping | nn.Module | DataLoader)
    if one or not isinstance(values, Iterable):
        raise TypeError(f"{argument} must be {expected}; got {describe(values)}")
    listed = list(islice(values, 10**6))
    if len(listed) == 10**6:
        raise ValueError(f"{argument} must be {expected}; got a million or more")
    return listed


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
        return float(value.detach() if isinstance(value, torch.Tensor) else value)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        raise TypeError(f"{argument} must be {expected}; got {describe(value)}") from None


def keep_whole(settings: Any, name: str, *, least: int) -> None:
    """Make an attribute of a frozen dataclass an int, or raise as `check_whole` does."""
    object.__setattr__(settings, name, check_whole(getattr(settings, name), argument=name, least=least))


def check_path(path: Any, *, argument: str = "path", expected: str = "a file's path") -> Path:
    """Return a path, or raise a TypeError or a ValueError that describes `path`."""
    check_type(path, str | os.PathLike, argument=argument, expected=expected)
    try:
        usable = b"\0" not in os.fsencode(path) and path != ""
    except UnicodeEncodeError:  # half a character
        usable = False
    if not usable:
        raise ValueError(f"{argument} must be {expected}; got {describe(os.fspath(path))}")
    return Path(path)


def check_whole(value: Any, *, argument: str, least: int | None = None, most: int | None = None) -> int:
    """Return a whole number of any kind, also numpy's, as an int; raise if it is not one, below `least` or above `most`."""
    words = f"{argument} must be a whole number; got {describe(value)}"
    if isinstance(value, bool):
        raise TypeError(words)
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(words) from None
    if least is not None and number < least:
        raise ValueError(f"{argument} must be at least {least}; got {shortened(number)}")
    if number > (most := 2**63 - 1 if most is None else most):  # torch has no larger ones
        raise ValueError(f"{argument} must be at most {most}; got {shortened(number)}")
    return number
