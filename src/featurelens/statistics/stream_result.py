"""Results of one pass: the statistics of every layer, which can be saved, loaded and merged."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Self, final

from featurelens._checks import as_list, check_type, count, describe
from featurelens._html import Shown
from featurelens._lookup import find
from featurelens._saving import read, write
from featurelens._structure import plain
from featurelens.statistics.base import State, Statistic, kinds, name_of, settings

FORMAT = "featurelens statistics 1"

Span = tuple[int, int]
"""Rows of the data set, from the first up to the second, which is excluded."""


@final
class LayerStatistics:
    """One layer's results, each under the name of its statistic: ``.moments``, ``.top_k``, ``.joint_counts``.

    A `StreamResult` holds one for each `layer`, made of the `statistics` measured there.
    """

    def __init__(self, statistics: Sequence[Statistic], *, layer: str) -> None:
        self._layer = layer
        self._statistics = {name_of(type(statistic)): statistic for statistic in statistics}
        self._results: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        if name not in self._statistics:
            known = ", ".join(self._statistics)
            raise AttributeError(f"layer {self._layer!r} has no statistic {name!r}; it has {known}")
        if name not in self._results:
            result = self._statistics[name].compute()
            if dataclasses.is_dataclass(result) and getattr(result, "layer", "") is None:
                record: Any = result
                result = dataclasses.replace(record, layer=self._layer)
            self._results[name] = result
        return self._results[name]

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self._statistics]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._layer!r}: {', '.join(self._statistics)})"


@final
class StreamResult(Shown, Mapping[str, LayerStatistics]):
    """The statistics of each layer, in the order of the forward pass: ``result["conv1"].moments.mean``.

    Made by `ActivationRecorder.stream` from `layers` and their statistics, with the `aliases` that lookup accepts. The
    result of a share keeps its `origin`: its model, settings and order of the data.

    Attributes
    ----------
    rows : int
        Number of images (rows of the data set) measured.
    spans : tuple
        Which rows: pairs of a first row and the row after the last.

    Examples
    --------
    >>> import torch
    >>> import featurelens as fl
    >>> recorder = fl.ActivationRecorder(torch.nn.Conv2d(1, 4, 3), "")
    >>> result = recorder.stream([torch.rand(2, 1, 8, 8)], fl.statistics.Moments())
    >>> result
    StreamResult(2 rows; '': moments)
    >>> result[""].moments
    MomentsResult(4 channels, 72 values each)
    """

    def __init__(
        self,
        layers: Mapping[str, Sequence[Statistic]],
        *,
        spans: Iterable[Span],
        aliases: Mapping[str, str] | None = None,
        origin: Mapping[str, Any] | None = None,
    ) -> None:
        self.spans = _joined(spans)
        self.statistics = {layer: tuple(statistics) for layer, statistics in layers.items()}
        self._aliases, self._origin = dict(aliases or {}), dict(origin or {})
        self._layers = {name: LayerStatistics(found, layer=name) for name, found in self.statistics.items()}

    @property
    def rows(self) -> int:
        """Number of rows of the data set measured."""
        return sum(stop - start for start, stop in self.spans)

    def __getitem__(self, name: str) -> LayerStatistics:
        return self._layers[find(name, self._layers, self._aliases)]

    def __iter__(self) -> Iterator[str]:
        return iter(self._layers)

    def __len__(self) -> int:
        return len(self._layers)

    def __repr__(self) -> str:
        layers = [f"{name!r}: {', '.join(names)}" for name, names in self._names().items()]
        return f"{type(self).__name__}({'; '.join([self._rows_in_words(), *layers])})"

    def __str__(self) -> str:
        kinds_of_any = dict.fromkeys(name for names in self._names().values() for name in names)
        listed = ", ".join(kinds_of_any).replace("_", " ")
        return f"Statistics of {count(len(self), 'layer')} over {self._rows_in_words()}: {listed}"

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write everything to one file that `load` and ``torch.load(path, weights_only=True)`` read.

        The file holds the statistics' internal state rather than their results, so that files can be merged.

        Raises
        ------
        TypeError
            If `path` is not a path, or a user's statistic holds anything but tensors, numbers, text and containers of
            them.
        """
        layers = {name: [_plain(statistic) for statistic in found] for name, found in self.statistics.items()}
        rest = {"spans": list(self.spans), "aliases": self._aliases, "origin": self._origin}
        write(path, type(self), {"format": FORMAT, "layers": layers, **rest})

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read from `path` what `save` wrote; nothing but tensors and plain containers is ever unpickled.

        Raises
        ------
        TypeError
            If `path` is not a path.
        ValueError
            If `save` did not write the file, or no imported module defines one of its statistics.
        """
        content: dict[str, Any] = read(path, cls, dict)
        if (version := content.pop("format", None)) != FORMAT:
            raise ValueError(f"{os.fspath(path)} was written by another version: {version!r}")
        layers = {
            name: [_restored(**saved) for saved in found] for name, found in content.pop("layers").items()
        }
        return cls(layers, **content)

    @classmethod
    def merge(cls, parts: Iterable[Self | str | os.PathLike[str]]) -> Self:
        """Combine results, or files of them, that cover parts of one data set.

        The result is bitwise that of one pass, whatever the parts and their order. A missing part is not an error, as
        it can be added later: `spans` lists the rows present, and a printed result mentions gaps.

        Raises
        ------
        TypeError
            If a part is neither a result nor the path of one.
        ValueError
            If there is no part, or if parts have rows in common or differ in layers, statistics, model, settings or
            order of the data.
        """
        if isinstance(parts, os.PathLike | StreamResult):
            raise TypeError(f"parts must be a list of results or of paths; got {describe(parts)}")
        listed = as_list(parts, argument="parts", expected="a list of results or of paths")
        results = [cls.load(part) if isinstance(part, str | os.PathLike) else part for part in listed]
        for result in results:
            check_type(result, StreamResult, argument="a part", expected="a StreamResult or a path")
        seen = [result for result in results if result.rows] or results
        if not seen:
            raise ValueError("there are no parts to merge")
        first = seen[0]
        layers = {
            name: [statistic.fresh() for statistic in found] for name, found in first.statistics.items()
        }
        for result in seen:
            _check_alike(first, result)
            for name, statistics in layers.items():
                for statistic, other in zip(statistics, result.statistics[name], strict=True):
                    statistic.merge(other)
        spans = [span for result in seen for span in result.spans]
        return cls(layers, spans=spans, aliases=first._aliases, origin=first._origin)

    def _names(self) -> dict[str, list[str]]:
        return {name: [name_of(type(kind)) for kind in found] for name, found in self.statistics.items()}

    def _rows_in_words(self) -> str:
        return count(self.rows, "row") + (" with gaps between them" if len(self.spans) > 1 else "")


def _plain(statistic: Statistic) -> dict[str, Any]:
    return {
        "statistic": type(statistic).__name__,
        "settings": plain(settings(statistic)),
        "state": plain(statistic.state),
        "rows": statistic.rows,
    }


def _restored(statistic: str, settings: Mapping[str, Any], state: State, rows: int) -> Statistic:
    kind = kinds().get(statistic)
    if kind is None:
        raise ValueError(
            f"the file holds a statistic {statistic!r} that is not defined: import its module first"
        )
    restored = kind(**settings)
    restored.state, restored.rows = state, rows
    return restored


def _check_alike(first: StreamResult, other: StreamResult) -> None:
    if list(first) != list(other):
        raise ValueError(f"parts must have the same layers; got {list(first)} and {list(other)}")
    for name, statistics in first.statistics.items():
        if list(map(repr, statistics)) != list(map(repr, other.statistics[name])):
            raise ValueError(
                f"parts must have the same statistics; layer {name!r} has {list(statistics)} and "
                f"{list(other.statistics[name])}"
            )
    for name in first._origin.keys() & other._origin.keys():
        values = first._origin[name], other._origin[name]
        if values[0] != values[1] and "" not in values:  # "": it could not be seen
            raise ValueError(
                f"parts must be of one model, with the same settings and the same order of the data; {name} differs: "
                + " and ".join(f"{value!r:.40}" for value in values)
            )


def _joined(spans: Iterable[Span]) -> tuple[Span, ...]:
    """Return spans in order, with neighbours joined; raise if two have rows in common."""
    joined: list[Span] = []
    for start, stop in sorted((int(start), int(stop)) for start, stop in spans if stop > start):
        if joined and start < joined[-1][1]:
            raise ValueError(f"parts must not have rows in common; row {start} is in two parts")
        if joined and start == joined[-1][1]:
            joined[-1] = (joined[-1][0], stop)
        else:
            joined.append((start, stop))
    return tuple(joined)
