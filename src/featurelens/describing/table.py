"""A table with one row for each channel."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Self, final

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from featurelens._checks import as_list, check_flag, check_type, check_whole, count, describe, near_misses
from featurelens._html import paragraph, table
from featurelens._saving import whole_file

SHOWN = 20
"""Rows that printing shows."""
WIDTH = 120
"""Characters in a line; columns beyond are named below the table."""

Column = NDArray[Any]


class NoSuchColumn(KeyError):
    """A KeyError whose message is shown without quotes."""

    def __str__(self) -> str:
        return str(self.args[0])


@final
@dataclass(frozen=True, repr=False, eq=False)
class ChannelTable:
    """Channels and what was measured of them, one row for each; made by `channel_table`.

    ``table["sparseness"]`` is a column, ``table.row("conv1:3")`` a row. `sort`, `where`, `head` and `select` return another
    table.

    Attributes
    ----------
    columns : Mapping
        Name to NumPy array ``(rows,)``, the first two being ``"layer"`` and ``"channel"``. Missing numbers are NaN, missing
        text is ``""``.
    notes : tuple of str
        What a column means beyond its name, such as the units of the information.

    Examples
    --------
    >>> table = ChannelTable({"layer": np.array(["a", "a"]), "channel": np.arange(2), "max": np.array([1.5, np.nan])})
    >>> print(table)
    channel  max
    a:0      1.5
    a:1        -
    >>> table.where(table["max"] > 1).channels
    ['a:0']
    >>> table.row("a:0")["max"]
    1.5
    """

    columns: Mapping[str, Column]
    notes: tuple[str, ...] = ()

    @property
    def channels(self) -> list[str]:
        """Every row's name, ``"layer:channel"``."""
        pairs = zip(self.columns["layer"], self.columns["channel"], strict=True)
        return [f"{layer}:{channel}" for layer, channel in pairs]

    def __getitem__(self, name: str) -> Column:
        check_type(name, str, argument="name", expected="the name of a column")
        if name not in self.columns:
            raise NoSuchColumn(f"the table has no column {describe(name)}; it has {', '.join(self.columns)}")
        return self.columns[name]

    def __len__(self) -> int:
        return len(self.columns["layer"])

    def row(self, channel: str) -> dict[str, Any]:
        """Return everything about one channel, ``"layer:channel"``, by the names of the columns.

        Raises
        ------
        TypeError, LookupError
            If `channel` is not text, or the table has no such channel.
        """
        check_type(channel, str, argument="channel", expected="text such as 'conv1:7'")
        if channel not in self.channels:
            known = near_misses(channel, self.channels, noun="channel")
            raise LookupError(f"the table has no channel {describe(channel)}{known}")
        place = self.channels.index(channel)
        return {name: values[place].item() for name, values in self.columns.items()}

    def sort(self, by: str, *, descending: bool = True) -> Self:
        """Return the rows in the order of a column, largest first by default; missing values come last.

        Raises
        ------
        KeyError, TypeError
            If there is no such column, or `descending` is not True or False.
        """
        check_type(by, str, argument="by", expected="the name of a column")
        values = self[by]
        if values.dtype.kind in "UO":
            values = np.unique(values, return_inverse=True)[1]
        numbers = values.astype(np.float64)
        order = -numbers if check_flag(descending, argument="descending") else numbers
        return self._rows(order.argsort(kind="stable"))

    def where(self, mask: ArrayLike) -> Self:
        """Return the rows where `mask` ``(rows,)`` is True: ``table.where(table["sparseness"] > 0.9)``.

        Raises
        ------
        TypeError, ValueError
            If `mask` is not one True or False for each row.
        """
        expected = "True or False for each row"
        given: Any = mask
        try:
            array = given.cpu() if isinstance(given, torch.Tensor) else given
            listed = (
                array if hasattr(array, "__array__") else as_list(array, argument="mask", expected=expected)
            )
            chosen = np.asarray(listed)
        except (TypeError, ValueError, RuntimeError):  # ragged lists, sparse tensors, endless ranges
            raise TypeError(f"mask must be {expected}; got {describe(mask)}") from None
        if chosen.dtype != np.bool_:
            raise TypeError(f"mask must be True or False for each row; got {describe(chosen)}")
        if chosen.shape != (len(self),):
            raise ValueError(f"mask must have one value for each of {len(self)} rows; got {describe(chosen)}")
        return self._rows(chosen.nonzero()[0])

    def head(self, rows: int = 10) -> Self:
        """Return the first `rows` rows.

        Raises
        ------
        TypeError, ValueError
            If `rows` is not a whole number of at least 0.
        """
        return self._rows(np.arange(len(self))[: check_whole(rows, argument="rows", least=0)])

    def select(self, *names: str) -> Self:
        """Return the columns `names` only, beside those that name the channel.

        Raises
        ------
        KeyError, TypeError
            If there is no such column.
        """
        wanted = {name: self[name] for name in ("layer", "channel", *names)}
        return replace(self, columns=wanted)

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write the table to `path` as comma-separated values in UTF-8, numbers in full, missing values empty.

        Raises
        ------
        TypeError, ValueError
            If `path` is not a path.
        OSError
            If the file cannot be written.
        """
        with whole_file(path) as unfinished, unfinished.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(self.columns)
            for row in zip(*(values.tolist() for values in self.columns.values()), strict=True):
                writer.writerow("" if _missing(value) else value for value in row)

    def _rows(self, places: NDArray[np.intp]) -> Self:
        return replace(self, columns={name: values[places] for name, values in self.columns.items()})

    def _cells(self) -> Iterator[list[str]]:
        """Yield the heading and the first rows, as text."""
        shown = self.head(SHOWN)
        rest = {name: values for name, values in shown.columns.items() if name not in ("layer", "channel")}
        yield ["channel", *rest]
        for name, *row in zip(shown.channels, *(values.tolist() for values in rest.values()), strict=True):
            yield [name, *map(_text, row)]

    def _below(self) -> list[str]:
        more = len(self) - SHOWN
        return [f"... and {count(more, 'more channel')}", *self.notes] if more > 0 else list(self.notes)

    def __str__(self) -> str:
        columns = list(zip(*self._cells(), strict=True))
        text = [True, *(values.dtype.kind == "U" for values in list(self.columns.values())[2:])]
        aligned = []
        for cells, left in zip(columns, text, strict=True):
            width = max(map(len, cells))
            aligned.append([cell.ljust(width) if left else cell.rjust(width) for cell in cells])
        ends = np.cumsum([len(cells[0]) + 2 for cells in aligned])
        fitting = max(2, int((ends <= WIDTH).sum()))
        lines = ["  ".join(row).rstrip() for row in zip(*aligned[:fitting], strict=True)]
        hidden = [cells[0] for cells in columns[fitting:]]
        more = [f"more columns, to select: {', '.join(hidden)}"] if hidden else []
        return "\n".join([*lines, *self._below(), *more])

    def __repr__(self) -> str:
        layers = len(set(self.columns["layer"].tolist()))
        return (
            f"{type(self).__name__}({count(len(self), 'channel')} of {count(layers, 'layer')}: "
            f"{', '.join(list(self.columns)[2:])})"
        )

    def _repr_html_(self) -> str:
        return table(self._cells()) + paragraph(*self._below())


def _missing(value: Any) -> bool:
    return value == "" or (isinstance(value, float) and math.isnan(value))


def _text(value: Any) -> str:
    if _missing(value):
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
