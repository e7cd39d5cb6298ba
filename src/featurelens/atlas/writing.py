"""From everything that is known about a network to the data files of its pages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, final

import torch

from featurelens import similarity
from featurelens._hooks import named_modules
from featurelens.ablation import ImportanceResult
from featurelens.atlas import figures
from featurelens.atlas.details import LayerDetails
from featurelens.atlas.neighbours import nearest, strongest, strongest_weights
from featurelens.atlas.numbers import column, rounded
from featurelens.atlas.pages import BLOCK, blocks, number_of, transposed, write_data
from featurelens.atlas.parts import Parts
from featurelens.atlas.pictures import NUMBER_OF_FRAMES, SEEDS
from featurelens.atlas.survey import QUANTILES, STRONGEST, LayerSurvey
from featurelens.recording import receptive_field
from featurelens.recording.receptive import ReceptiveField

if TYPE_CHECKING:
    from featurelens.atlas.atlas import Atlas

KINDS = {2: "signal", 3: "image", 4: "volume"}


@final
@dataclass(frozen=True, kw_only=True)
class Writing:
    """What was gathered about every layer, to be written."""

    atlas: Atlas
    parts: Parts
    found: dict[str, LayerSurvey]
    folders: dict[str, str]
    images: int
    shape: tuple[int, ...]
    labels: dict[int, int]
    tiles: dict[str, list[int]]
    effects: dict[str, ImportanceResult]
    pictures: dict[str, list[Any]]
    notes: dict[str, list[str]]

    def run(self) -> None:
        """Write tables, details and, at last, the manifest."""
        near = nearest({name: layer.sample.values for name, layer in self.found.items()})
        shown: set[str] = set()
        for name, layer in self.found.items():
            table = self._table(name, layer)
            shown |= table.keys()
            content = {"channels": layer.channels, "columns": {key: column(found) for key, found in table.items()}}
            write_data(self.parts, f"{self.folders[name]}/table", content)
            self._write_details(name, layer, near[name])
        listed = [figure.entry() for figure in figures.CHANNEL_FIGURES if figure.key in shown]
        write_data(self.parts, "manifest", self._manifest(listed))

    @cached_property
    def _classes(self) -> int | None:
        """The number of classes, if the data have labels."""
        if self.atlas.classes is not None:
            return len(self.atlas.classes)
        labels = next(iter(self.found.values())).sample.labels
        return None if labels is None or not len(labels) else int(labels.max()) + 1

    def _table(self, name: str, layer: LayerSurvey) -> dict[str, torch.Tensor]:
        table = figures.columns(layer, self._classes, seed=self.atlas.seed)
        effect = self.effects.get(name)
        if effect is not None:
            table |= {"importance": effect.importance, "importance_error": effect.standard_error}
            if effect.q_value is not None:
                table["importance_q"] = effect.q_value
        if name in self.pictures:
            parts = {key: _joined(self.pictures[name], key) for key in ("score", "strongest", "trusted", "agreement")}
            positive = (parts["score"] > 0) & (parts["strongest"] > 0)
            table["score"] = parts["score"]
            table["ratio"] = torch.where(positive, parts["score"] / parts["strongest"], torch.nan)
            table |= {"trusted": parts["trusted"], "agreement": parts["agreement"]}
        return table

    def _write_details(self, name: str, layer: LayerSurvey, near: list[Any]) -> None:
        inputs, outputs = self._weights(name, layer)
        details = LayerDetails(
            survey=layer,
            labels=self.labels,
            classes=self._classes,
            field=self._field(name),
            size=self.shape[1:],
            effect=self.effects.get(name),
            nearest=near,
            inputs=inputs,
            outputs=outputs,
        )
        for number, channels in enumerate(blocks(layer.channels)):
            painted = self.pictures[name][number] if name in self.pictures else None
            entries = []
            for place, channel in enumerate(channels):
                drawn = None if painted is None else transposed(_columns_of(painted), place)
                entries.append(details.of(channel, drawn, ()))
            content = {"first": channels.start, "channels": entries}
            write_data(self.parts, f"{self.folders[name]}/{number_of(channels)}", content)

    def _weights(self, name: str, layer: LayerSurvey) -> tuple[list[Any] | None, list[Any] | None]:
        """Return the strongest inputs of each channel."""
        module = named_modules(self.atlas.model).get(name.partition("#")[0])
        lengths, signs = strongest_weights(module, layer.channels)
        if lengths is None or signs is None:
            return None, None
        inputs = [{"layer": None, **strongest(row, sign)} for row, sign in zip(lengths, signs, strict=True)]
        return inputs, None

    def _field(self, name: str) -> ReceptiveField | None:
        """Return the receptive field of a layer of maps, if it can be found."""
        if len(self.shape) != 3 or self.found[name].strongest.positions.shape[2] != 2 or self.atlas.source.preprocess:
            return None
        try:
            return receptive_field(self.atlas.model, name, self.shape)
        except (ValueError, TypeError, LookupError, RuntimeError):
            return None

    def _manifest(self, channel_figures: list[dict[str, Any]]) -> dict[str, Any]:
        atlas, first = self.atlas, next(iter(self.found.values()))
        classes = list(atlas.classes) if atlas.classes is not None else None
        if classes is None and self._classes is not None:
            classes = [str(label) for label in range(self._classes)]
        ablated = next(iter(self.effects.values()), None)
        return {
            "format": 1,
            "title": atlas.title,
            "images": self.images,
            "sample": len(first.sample.rows),
            "input": {"shape": list(self.shape), "kind": KINDS[len(self.shape)]},
            "classes": classes,
            "block": BLOCK,
            "ablation": None
            if ablated is None
            else {"metric": ablated.metric, "baseline": rounded(ablated.baseline), "images": ablated.n},
            "figures": channel_figures,
            "layer_figures": [figure.entry() for figure in figures.LAYER_FIGURES],
            "layers": [self._layer(name, layer) for name, layer in self.found.items()],
            "similarity": self._similarity(),
        }

    def _layer(self, name: str, layer: LayerSurvey) -> dict[str, Any]:
        module = named_modules(self.atlas.model).get(name.partition("#")[0])
        sheets = {"maps": {"tile": self.tiles[name], "columns": STRONGEST + len(QUANTILES)}}
        if name in self.pictures:
            tile = self.pictures[name][0]["tile"]
            sheets |= {
                "best": {"tile": tile["best"], "columns": 8},
                "others": {"tile": tile["others"], "columns": SEEDS + 1},
                "frames": {"tile": tile["frames"], "columns": NUMBER_OF_FRAMES},
            }
        return {
            "name": name,
            "folder": self.folders[name],
            "kind": type(module).__name__,
            "shape": [layer.channels],
            "channels": layer.channels,
            "notes": self.notes[name],
            "figures": {key: rounded(value) for key, value in figures.layer_figures(layer).items()},
            "sheets": sheets,
        }

    def _similarity(self) -> list[list[float | None]] | None:
        """Return the debiased CKA of all pairs of layers, over the channels' largest values in the sampled images."""
        values = [layer.sample.values.nan_to_num(0) for layer in self.found.values()]
        table: list[list[float | None]] = [[None] * len(values) for _ in values]
        for one, x in enumerate(values):
            for other, y in enumerate(values[: one + 1]):
                try:
                    found = similarity.cka(x, y, null=None, confidence=None).value
                except ValueError:  # a constant layer, or too few images
                    continue
                table[one][other] = table[other][one] = rounded(found)
        return table


def _joined(parts: Sequence[Any], key: str) -> torch.Tensor:
    """Return a column of a layer's pictures from those of its blocks; NaN where a figure is not known."""
    values = [torch.nan if value is None else float(value) for part in parts for value in part[key]]
    return torch.tensor(values, dtype=torch.float64)


def _columns_of(painted: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in painted.items() if key not in {"channels", "tile"}}
