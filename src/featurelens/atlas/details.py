"""Everything that a channel's page shows, channel by channel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import torch

from featurelens.atlas.numbers import column, rounded
from featurelens.atlas.survey import QUANTILES, LayerSurvey
from featurelens.recording.receptive import ReceptiveField

BINS = 32


@final
@dataclass(frozen=True)
class LayerDetails:
    """What is known of a layer when its pages are written."""

    survey: LayerSurvey
    labels: dict[int, int]
    field: ReceptiveField | None
    size: tuple[int, ...]
    effect: dict[str, Any] | None
    nearest: Sequence[Any]
    inputs: Sequence[Any] | None
    outputs: Sequence[Any] | None

    def of(self, channel: int, pictures: dict[str, Any] | None) -> dict[str, Any]:
        """Return the entry of one channel."""
        return {
            "channel": channel,
            "histogram": self._histogram(channel),
            "classes": self._classes(channel),
            "strongest": self._strongest(channel),
            "range": self._range(channel),
            "neighbours": self.nearest[channel],
            "inputs": None if self.inputs is None else self.inputs[channel],
            "outputs": None if self.outputs is None else self.outputs[channel],
            "pictures": pictures,
            "notes": [],
        }

    def _histogram(self, channel: int) -> dict[str, Any] | None:
        values = self.survey.sample.values[:, channel]
        values = values[values.isfinite()].double()
        if not len(values) or float(values.min()) == float(values.max()):
            return None
        counts, edges = torch.histogram(values, BINS)
        return {"edges": column(edges), "counts": counts.long().tolist()}

    def _classes(self, channel: int) -> dict[str, Any] | None:
        if self.survey.by_class is None:
            return None
        means = self.survey.by_class.mean[channel]

        def of_classes(key: str) -> list[float | None] | None:
            if self.effect is None or self.effect[key] is None:
                return None
            known: list[float | None] = self.effect[key][channel][: len(means)]
            return known + [None] * (len(means) - len(known))

        return {
            "mean": column(means),
            "effect": of_classes("per_class"),
            "error": of_classes("per_class_error"),
        }

    def _strongest(self, channel: int) -> list[dict[str, Any]]:
        top = self.survey.strongest
        listed = []
        for rank, (row, value) in enumerate(
            zip(top.rows[channel].tolist(), top.values[channel].tolist(), strict=True)
        ):
            if row >= 0:
                box = self._box(top.positions[channel, rank])
                listed.append(
                    {"row": row, "value": rounded(value), "label": self.labels.get(row), "box": box}
                )
        return listed

    def _range(self, channel: int) -> list[dict[str, Any]]:
        sample, places = self.survey.sample, self.survey.range_places[channel].tolist()
        return [
            {
                "row": (row := int(sample.rows[place])),
                "value": rounded(float(sample.values[place, channel])),
                "label": self.labels.get(row),
                "box": None,
                "quantile": quantile,
            }
            for quantile, place in zip(QUANTILES, places, strict=True)
        ]

    def _box(self, position: torch.Tensor) -> list[float | None] | None:
        if self.field is None or len(position) != 2:
            return None
        top, bottom, left, right = self.field.box(position)
        height, width = self.size
        if (top, left) == (0, 0) and (bottom, right) == (height, width):
            return None
        return [
            rounded(top / height),
            rounded(bottom / height),
            rounded(left / width),
            rounded(right / width),
        ]
