"""The table that `list_layers` returns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, final, overload

from featurelens._checks import check_whole
from featurelens._html import table


@final
@dataclass(frozen=True)
class Layer:
    """One row of a :class:`LayerTable`: name, type and ordinal alias of a layer, and its costs.

    `calls`, `shape` (of the last call's output, nested like the output) and `memory` (bytes of the outputs of
    one sample batch) are None without a sample. `parameters` counts those of the layer and all inside it.
    """

    name: str
    type: str
    alias: str | None
    parameters: int
    calls: int | None = None
    shape: Any = None
    memory: int | None = None


@final
class LayerTable(Sequence[Layer]):
    """The layers of a model in registration order; prints as a table, reads as a sequence of `Layer`."""

    def __init__(self, layers: Iterable[Layer]) -> None:
        self._layers = tuple(layers)

    @overload
    def __getitem__(self, index: int) -> Layer: ...
    @overload
    def __getitem__(self, index: slice) -> LayerTable: ...
    def __getitem__(self, index: int | slice) -> Layer | LayerTable:
        if isinstance(index, slice):
            return LayerTable(self._layers[index])
        number = check_whole(index, argument="index")
        if not -len(self) <= number < len(self):
            raise IndexError(f"index must be below {len(self)}, the number of layers; got {number}")
        return self._layers[number]

    def __len__(self) -> int:
        return len(self._layers)

    @property
    def names(self) -> tuple[str, ...]:
        """The names, which `ActivationRecorder` accepts."""
        return tuple(layer.name for layer in self._layers)

    def __repr__(self) -> str:
        rows = self._cells()
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        numeric = [heading in {"parameters", "calls", "memory"} for heading in rows[0]]
        return "\n".join(
            "  ".join(
                cell.rjust(width) if right else cell.ljust(width)
                for cell, width, right in zip(row, widths, numeric, strict=True)
            ).rstrip()
            for row in rows
        )

    def _repr_html_(self) -> str:
        return table(self._cells())

    def _cells(self) -> list[list[str]]:
        headings = ["name", "alias", "type", "parameters"]
        if any(layer.calls is not None for layer in self._layers):
            headings += ["calls", "output shape", "memory"]
        rows = [headings]
        for layer in self._layers:
            shape = "" if layer.shape is None else str(layer.shape)
            names = [layer.name or "(model)", layer.alias or "", layer.type]
            numbers = [f"{layer.parameters:,}", str(layer.calls), shape, _size(layer.memory or 0)]
            rows.append([*names, *numbers][: len(headings)])
        return rows


def _size(memory: float) -> str:
    units = ["B", "KiB", "MiB", "GiB"]
    while memory >= 1024 and len(units) > 1:
        memory /= 1024
        del units[0]
    return f"{memory:.0f} B" if units[0] == "B" else f"{memory:.1f} {units[0]}"
