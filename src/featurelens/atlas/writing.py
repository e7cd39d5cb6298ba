"""From everything that is known about a network to the data files of its pages."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, final

import torch

from featurelens import similarity
from featurelens._hooks import named_modules
from featurelens.atlas import figures
from featurelens.atlas.comparing import write_values
from featurelens.atlas.details import LayerDetails
from featurelens.atlas.filters import drawn, filters
from featurelens.atlas.neighbours import nearest
from featurelens.atlas.numbers import column, rounded
from featurelens.atlas.pages import BLOCK, blocks, number_of, transposed, write_data
from featurelens.atlas.parts import Parts
from featurelens.atlas.pictures import NUMBER_OF_FRAMES, SEEDS
from featurelens.atlas.survey import QUANTILES, STRONGEST, LayerSurvey, Survey
from featurelens.atlas.thumbnails import REAL, View, encoded, picture, sheet
from featurelens.atlas.wiring import Wires, wires
from featurelens.recording import ActivationRecorder, receptive_field
from featurelens.recording.receptive import ReceptiveField

if TYPE_CHECKING:
    from featurelens.atlas.atlas import Atlas

KINDS = {2: "signal", 3: "image", 4: "volume"}


@final
@dataclass(frozen=True)
class Writing:
    """What was gathered about every layer, to be written.

    `sample` are images of the user's; `results` holds what the tasks of a build made, by the names of their files.
    """

    atlas: Atlas
    parts: Parts
    survey: Survey
    folders: dict[str, str]
    sample: torch.Tensor
    results: dict[str, Any]
    plan: str

    def run(self) -> None:
        """Write tables, details and, at last, the manifest."""
        near = nearest({name: layer.sample.values for name, layer in self.survey.layers.items()})
        shown: set[str] = set()
        for name, layer in self.survey.layers.items():
            table = self._table(name, layer)
            shown |= table.keys()
            content = {
                "channels": layer.channels,
                "columns": {key: column(found) for key, found in table.items()},
            }
            write_data(self.parts, f"{self.folders[name]}/table", content)
            self._write_details(name, layer, near[name])
            write_values(self.parts, self.folders[name], layer.sample.values)
        listed = [figure.entry() for figure in figures.CHANNEL_FIGURES if figure.key in shown]
        write_data(self.parts, "manifest", self._manifest(listed))

    @cached_property
    def _labels(self) -> dict[int, int]:
        """The label of each image shown."""
        return {int(row): label for row, label in self.results["examples.json"]["labels"].items()}

    @cached_property
    def _probe(self) -> torch.Tensor:
        """Two images as the model takes them."""
        return self.atlas.source.prepared(self.sample[:2])

    def _effect(self, name: str) -> dict[str, Any] | None:
        """Return what ablating a layer gave, if it could be ablated."""
        result: dict[str, Any] = self.results.get(f"{self.folders[name]}/effect.json", {})
        return None if not result or "failed" in result else result

    def _pictures(self, name: str) -> list[dict[str, Any]]:
        """Return the figures of a layer's optimized images, for each block; empty if it could not be optimized."""
        names = [
            f"{self.folders[name]}/{number_of(channels)}-pictures.json"
            for channels in blocks(self.survey.layers[name].channels)
        ]
        found = [self.results[each] for each in names if each in self.results]
        return [] if any("failed" in each for each in found) else found

    def _notes(self, name: str) -> list[str]:
        """Return why a layer could not be ablated or optimized."""
        folder = f"{self.folders[name]}/"
        own = [result for task, result in self.results.items() if task.startswith(folder)]
        return list(dict.fromkeys(result["failed"] for result in own if "failed" in result))

    @cached_property
    def _number(self) -> dict[str, int]:
        return {name: number for number, name in enumerate(self.survey.layers)}

    @cached_property
    def _shapes(self) -> dict[str, list[int]]:
        """The shape of each layer's output for one image."""
        found = ActivationRecorder(self.atlas.model, list(self.survey.layers))(self._probe)
        return {name: list(output.shape[1:]) for name, output in found.items()}

    @cached_property
    def _wires(self) -> dict[str, Wires]:
        return wires(self.atlas.model, list(self.survey.layers), self._probe)

    def _table(self, name: str, layer: LayerSurvey) -> dict[str, torch.Tensor]:
        table = figures.columns(layer, seed=self.atlas.seed)
        effect = self._effect(name)
        if effect is not None:
            for key, title in (
                ("importance", "importance"),
                ("error", "importance_error"),
                ("q", "importance_q"),
            ):
                if effect[key] is not None:
                    table[title] = _joined([effect], key)
        if painted := self._pictures(name):
            parts = {key: _joined(painted, key) for key in ("score", "trusted", "agreement")}
            highest = layer.highest
            positive = (parts["score"] > 0) & (highest > 0)
            table["score"] = parts["score"]
            table["ratio"] = torch.where(positive, parts["score"] / highest, torch.nan)
            table |= {"trusted": parts["trusted"], "agreement": parts["agreement"]}
        return table

    def _write_details(self, name: str, layer: LayerSurvey, near: list[Any]) -> None:
        wires = self._wires.get(name)
        fed = [(self._number[other], each) for other, each in self._wires.items() if each.source == name]
        details = LayerDetails(
            survey=layer,
            labels=self._labels,
            field=self._field(name),
            size=tuple(self.sample.shape[2:]),
            effect=self._effect(name),
            nearest=near,
            inputs=None
            if wires is None
            else [
                wires.inputs(channel, self._number.get(wires.source or ""))
                for channel in range(layer.channels)
            ],
            outputs=[fed[0][1].outputs(channel, fed[0][0]) for channel in range(layer.channels)]
            if fed
            else None,
        )
        pictures, kernels = self._pictures(name), self._filters(name)
        for number, channels in enumerate(blocks(layer.channels)):
            painted = pictures[number] if pictures else None
            entries = []
            for place, channel in enumerate(channels):
                figures = None if painted is None else transposed(_columns_of(painted), place)
                entries.append(details.of(channel, figures, ()))
            content = {"first": channels.start, "channels": entries}
            if kernels is not None:
                tiles = sheet(drawn(kernels[channels.start : channels.stop]), 8)
                file = f"images/{self.folders[name]}/{number_of(channels)}-filters.webp"
                self.parts.write(file, encoded(tiles, exact=True))
            write_data(self.parts, f"{self.folders[name]}/{number_of(channels)}", content)

    def _filters(self, name: str) -> torch.Tensor | None:
        """Return the kernels of a layer that reads the image itself."""
        if name in self._wires and self._wires[name].source is None and not self._number[name]:
            return filters(named_modules(self.atlas.model).get(name), self._probe.shape[1])
        return None

    def _field(self, name: str) -> ReceptiveField | None:
        """Return the receptive field of a layer of maps, if it can be found."""
        maps = self.survey.layers[name].strongest.positions.shape[2] == 2
        channels, height, width = self._probe.shape[1:] if self._probe.ndim == 4 else (0, 0, 0)
        if not maps or self._probe.shape[2:] != self.sample.shape[2:]:
            return None
        try:
            return receptive_field(self.atlas.model, name, (channels, height, width))
        except (ValueError, TypeError, LookupError, RuntimeError):
            return None

    def _manifest(self, channel_figures: list[dict[str, Any]]) -> dict[str, Any]:
        atlas = self.atlas
        ablated = next(filter(None, map(self._effect, self.survey.layers)), None)
        return {
            "format": 1,
            "plan": self.plan,
            "title": atlas.title,
            "images": self.survey.images,
            "sample": len(self.survey.rows),
            "rows": hashlib.sha256(self.survey.rows.numpy().tobytes()).hexdigest()[:16],
            "thumbnail": list(picture(View.of(self.sample).unit(self.sample[0]), REAL).size),
            "input": {"shape": list(self.sample.shape[1:]), "kind": KINDS[self.sample.ndim - 1]},
            "classes": None if atlas.classes is None else list(atlas.classes),
            "block": BLOCK,
            "ablation": None
            if ablated is None
            else {key: ablated[key] for key in ("metric", "baseline", "images")},
            "figures": channel_figures,
            "layer_figures": [figure.entry() for figure in figures.LAYER_FIGURES],
            "layers": [self._layer(name, layer) for name, layer in self.survey.layers.items()],
            "similarity": self._similarity(),
        }

    def _layer(self, name: str, layer: LayerSurvey) -> dict[str, Any]:
        module = named_modules(self.atlas.model).get(name.partition("#")[0])
        sheets = {
            "maps": {
                "tile": self.results["examples.json"]["tiles"][name],
                "columns": STRONGEST + len(QUANTILES),
            }
        }
        if painted := self._pictures(name):
            tile = painted[0]["tile"]
            sheets |= {
                "best": {"tile": tile["best"], "columns": 8},
                "others": {"tile": tile["others"], "columns": SEEDS + 1},
                "frames": {"tile": tile["frames"], "columns": NUMBER_OF_FRAMES},
            }
        if (kernels := self._filters(name)) is not None:
            sheets["filters"] = {"tile": list(drawn(kernels[:1])[0].size), "columns": 8}
        return {
            "name": name,
            "folder": self.folders[name],
            "kind": type(module).__name__,
            "shape": self._shapes[name],
            "channels": layer.channels,
            "notes": self._notes(name),
            "figures": {
                key: rounded(value)
                for key, value in (figures.layer_figures(layer) | self._probed(name)).items()
            },
            "sheets": sheets,
        }

    def _probed(self, name: str) -> dict[str, float]:
        """Return how well a linear probe of the layer predicts the labels, if it was fitted."""
        found: dict[str, dict[str, float]] = self.results.get("probe.json", {})
        return found.get(name, {})

    def _similarity(self) -> list[list[float | None]] | None:
        """Return the debiased CKA of all pairs of layers, over the channels' largest values in the sampled images."""
        values = [layer.sample.values.nan_to_num(0, 0, 0) for layer in self.survey.layers.values()]
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
