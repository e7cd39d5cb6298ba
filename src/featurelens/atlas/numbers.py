"""Figures as they stand in the files: six digits, and null for what is not known."""

from __future__ import annotations

import json
import math
from typing import Any

import torch

DIGITS = 6


def rounded(value: float | None) -> float | None:
    """Return a figure with six digits; None for NaN and infinite values.

    >>> rounded(3.14159265), rounded(float("nan"))
    (3.14159, None)
    """
    if value is None or not math.isfinite(value):
        return None
    return float(f"{value:.{DIGITS}g}")


def column(values: torch.Tensor) -> list[Any]:
    """Return one figure for each channel; of a whole number, as it is."""
    listed: list[Any] = values.tolist()
    return [_figure(value) for value in listed]


def plain_json(content: Any) -> str:
    """Return JSON that is the same for the same content, and may stand in a script."""
    text = json.dumps(content, allow_nan=False, ensure_ascii=True, separators=(",", ":"))
    return text.replace("<", "\\u003c")


def _figure(value: Any) -> Any:
    if isinstance(value, list):
        return [_figure(each) for each in value]
    return rounded(value) if isinstance(value, float) else value
