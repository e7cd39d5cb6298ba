"""The table of a layer: one column for each figure of its channels."""

from __future__ import annotations

from typing import Any

from featurelens.atlas.figures import columns
from featurelens.atlas.gathered import Gathered
from featurelens.atlas.numbers import column, rounded

Columns = dict[str, list[Any]]


def table(gathered: Gathered, name: str) -> Columns:
    """Return the figures of a layer's channels, by key."""
    layer = gathered.layers[name]
    found: Columns = {"dead": gathered.dead(name).tolist()}
    found |= {key: column(values) for key, values in columns(layer, seed=gathered.atlas.seed).items()}
    if effect := gathered.effect(name):
        titles = {"importance": "importance", "error": "importance_error", "q": "importance_q"}
        found |= {title: effect[key] for key, title in titles.items() if effect[key] is not None}
    if painted := gathered.pictures(name):
        joined = {
            key: [value for part in painted for value in part[key]]
            for key in ("score", "trusted", "agreement")
        }
        highest: list[float] = layer.highest.tolist()
        found["score"] = joined["score"]
        found["ratio"] = [_ratio(score, most) for score, most in zip(joined["score"], highest, strict=True)]
        found |= {"trusted": joined["trusted"], "agreement": joined["agreement"]}
    return found


def ranked(found: Columns, key: str) -> list[tuple[int, float]]:
    """Return the channels with their values of a figure, the largest first; those without a value are left out."""
    values = [(channel, value) for channel, value in enumerate(found.get(key, ())) if value is not None]
    return sorted(values, key=lambda pair: -pair[1])


def _ratio(score: float | None, highest: float) -> float | None:
    if score is None or not (score > 0 and highest > 0):
        return None
    return rounded(score / highest)
