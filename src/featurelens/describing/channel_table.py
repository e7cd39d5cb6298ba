"""One table of what statistics, information, ablation and real images say about each channel."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, final

import numpy as np
import torch

from featurelens._checks import as_list, check_type
from featurelens.ablation import ImportanceResult
from featurelens.describing.table import ChannelTable, Column
from featurelens.information import ChannelInformationResult
from featurelens.maximization import RealImageComparison
from featurelens.statistics import StreamResult
from featurelens.statistics.base import name_of

CHANNEL = re.compile(r"(.+):(\d+)")
"""How an objective for a single channel is written."""


def channel_table(
    statistics: StreamResult | None = None,
    *,
    information: Mapping[str, ChannelInformationResult] | None = None,
    importance: ImportanceResult | Iterable[ImportanceResult] = (),
    comparison: RealImageComparison | Iterable[RealImageComparison] = (),
) -> ChannelTable:
    """Join what was measured of channels in one table, with one row for each.

    Parameters
    ----------
    statistics
        Made by `ActivationRecorder.stream`. `statistics.Activity` gives the columns active_images, active_positions, dead,
        response, sparseness and max; `ClassSelectivity` preferred_class, selectivity, selectivity_null and selectivity_p;
        `MonoScore` mono_score; `Covariance` nearest and correlation; `Moments` mean and std.
    information
        By layer, as `layer_information` with ``per="channel"`` makes it: information, information_null, information_p.
    importance
        Made by `ChannelAblator.importance`, one result for each layer: importance, importance_error, importance_q.
    comparison
        Made by `MaximizationResult.compare`; objectives for single channels count: optimized (score of the optimized
        image), real (largest value of a real one), judgement.

    Raises
    ------
    TypeError, ValueError
        If nothing is given, or an argument is not one of the above.

    Examples
    --------
    >>> import featurelens as fl
    >>> images, labels = torch.rand(8, 1, 6, 6), torch.arange(8) % 2
    >>> model = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU())
    >>> recorder = fl.ActivationRecorder(model, "relu_1")
    >>> found = recorder.stream([images], [fl.statistics.Activity(), fl.statistics.Moments()])
    >>> table = channel_table(found, information={"1": fl.channel_information(recorder(images)["1"], labels)})
    >>> table.sort("information").select("information", "sparseness", "dead")
    ChannelTable(4 channels of 1 layer: information, sparseness, dead)
    """
    join = _Join(statistics)
    if statistics is not None:
        check_type(statistics, StreamResult, argument="statistics", expected="a StreamResult")
        for layer in statistics:
            join.statistics(layer, statistics)
    if information is not None:
        join.information(information)
    for result in _listed(importance, ImportanceResult, "importance"):
        join.importance(result)
    for compared in _listed(comparison, RealImageComparison, "comparison"):
        join.comparison(compared)
    return join.table()


def _activity(found: Any) -> dict[str, Any]:
    names = ("active_images", "active_positions", "dead", "response", "sparseness", "max")
    return {name: getattr(found, name) for name in names}


def _selectivity(found: Any) -> dict[str, Any]:
    preferred = found.preferred.double()
    return {
        "preferred_class": preferred.masked_fill(preferred < 0, torch.nan),
        "selectivity": found.index,
        "selectivity_null": found.null_mean,
        "selectivity_p": found.p_value,
    }


def _nearest(found: Any) -> dict[str, Any]:
    nearest = found.nearest(1)
    channels = nearest.channels[:, 0].double()
    return {
        "nearest": channels.masked_fill(channels < 0, torch.nan),
        "correlation": nearest.correlation[:, 0],
    }


READERS: Mapping[str, Callable[[Any], dict[str, Any]]] = {
    "activity": _activity,
    "class_selectivity": _selectivity,
    "mono_score": lambda found: {"mono_score": found.score},
    "covariance": _nearest,
    "moments": lambda found: {"mean": found.mean, "std": found.std},
}
"""Which columns a statistic gives, by the name of its results; other statistics give none."""


@final
class _Join:
    """Values by column and channel, in the order in which they come."""

    def __init__(self, statistics: StreamResult | None) -> None:
        self.known = statistics
        self.layers: dict[str, dict[int, None]] = {}
        self.found: dict[str, dict[tuple[str, int], Any]] = {}
        self.notes: dict[str, None] = {}

    def add(self, layer: str, channels: Iterable[int], columns: Mapping[str, Any]) -> None:
        """Add columns of one layer, each with a value for every channel."""
        layer, channels = self._name(layer), list(channels)
        self.layers.setdefault(layer, {}).update(dict.fromkeys(channels))
        for name, values in columns.items():
            if values is not None:
                listed = values.tolist() if isinstance(values, torch.Tensor) else values
                keys = ((layer, channel) for channel in channels)
                self.found.setdefault(name, {}).update(zip(keys, listed, strict=True))

    def statistics(self, layer: str, result: StreamResult) -> None:
        for statistic in result.statistics[layer]:
            if reader := READERS.get(name := name_of(type(statistic))):
                columns = reader(getattr(result[layer], name))
                self.add(layer, range(len(next(iter(columns.values())))), columns)

    def information(self, results: Mapping[str, ChannelInformationResult]) -> None:
        check_type(
            results, Mapping, argument="information", expected="results by layer: {'conv1': result, ...}"
        )
        for layer, result in results.items():
            check_type(
                result,
                ChannelInformationResult,
                argument=f"information of layer {layer!r}",
                expected="a ChannelInformationResult (layer_information with per='channel' makes one for each layer)",
            )
            nats = result.to("nats")
            columns = {"information": nats.values, "information_null": nats.null_mean}
            self.add(layer, range(len(nats)), {**columns, "information_p": nats.p_values})
            self.notes["information in nats"] = None

    def importance(self, result: ImportanceResult) -> None:
        if result.noun != "channel":
            raise ValueError(f"importance must be of single channels; got that of a {result.noun}")
        columns = {"importance": result.importance, "importance_error": result.standard_error}
        channels = [int(channel) for channel in result.channels]
        if again := [
            c for c in channels if (self._name(result.layer), c) in self.found.get("importance", {})
        ]:
            raise ValueError(
                f"importance must be given once for each channel; got {result.layer}:{again[0]} twice"
            )
        self.add(result.layer, channels, {**columns, "importance_q": result.q_value})
        change = "increase of the loss" if result.metric == "loss" else f"decrease of {result.metric}"
        kept = "without the channel" if result.mode == "drop" else "with only this channel"
        self.notes[f"importance: {change} {kept}"] = None

    def comparison(self, result: RealImageComparison) -> None:
        for place, objective in enumerate(result.objectives):
            if match := CHANNEL.fullmatch(str(objective)):
                columns = {"optimized": result.scores, "real": result.data_maximum}
                row: dict[str, Any] = {name: [float(values[place])] for name, values in columns.items()}
                self.add(match[1], [int(match[2])], {**row, "judgement": [result.judgements[place]]})

    def table(self) -> ChannelTable:
        keys = [(layer, channel) for layer, channels in self.layers.items() for channel in channels]
        if not keys:
            raise ValueError("channel_table needs results about channels; got none")
        columns = {"layer": np.array([layer for layer, _ in keys])}
        columns["channel"] = np.array([channel for _, channel in keys])
        for name, values in self.found.items():
            columns[name] = _column([values.get(key) for key in keys])
        return ChannelTable(columns, tuple(self.notes))

    def _name(self, layer: str) -> str:
        """Return the name under which the statistics have a layer that may be called by an alias."""
        if self.known is None or layer in self.layers:
            return layer
        try:
            wanted = self.known[layer]
        except KeyError:
            return layer
        return next(name for name in self.known if self.known[name] is wanted)


def _column(values: list[Any]) -> Column:
    """Return an array of truths, numbers or text; None is a missing value."""
    present = [value for value in values if value is not None]
    if isinstance(present[0], str):
        return np.array(["" if value is None else value for value in values])
    if len(present) == len(values):
        return np.array(values)
    return np.array([np.nan if value is None else float(value) for value in values])


def _listed(given: Any, kind: type, argument: str) -> list[Any]:
    expected = f"one or a list of {kind.__name__}"
    results = [given] if isinstance(given, kind) else as_list(given, argument=argument, expected=expected)
    for result in results:
        check_type(result, kind, argument=argument, expected=expected)
    return results
