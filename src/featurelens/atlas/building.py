"""The work of an atlas, in the order in which parts need each other."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import torch

from featurelens._checks import first_line
from featurelens.ablation import ImportanceResult
from featurelens.atlas.effects import effect, sample_loader
from featurelens.atlas.examples import cut, maps_sheet
from featurelens.atlas.pages import blocks, folder_of, number_of, write_pages
from featurelens.atlas.parts import Parts
from featurelens.atlas.pictures import Painter
from featurelens.atlas.survey import LayerSurvey, survey
from featurelens.atlas.thumbnails import View, encoded
from featurelens.atlas.writing import Writing

if TYPE_CHECKING:
    from featurelens.atlas.atlas import Atlas

FOR_VIEW = 256
"""Images from which colours and ranges are learned."""


@final
class Build:
    """One build of an atlas in a folder; everything that is finished is a file."""

    def __init__(self, atlas: Atlas, folder: Path, *, resume: bool) -> None:
        self.atlas, self.parts, self.work = atlas, Parts(folder), Parts(folder / "parts")
        if folder.exists() and any(folder.iterdir()) and not resume:
            raise FileExistsError(f"{folder} is not empty: choose another folder, or pass resume=True")
        if folder.exists() and any(folder.iterdir()) and not (folder / "parts").exists():
            if (folder / "data" / "manifest.js").exists():
                raise FileExistsError(f"{folder} holds a finished atlas: choose another folder, or delete it")
            raise FileExistsError(f"{folder} holds other files: choose another folder")
        self.notes: dict[str, list[str]] = {name: [] for name in atlas.recorder.layers}

    def run(self) -> None:
        """Do what is not done yet."""
        atlas = self.atlas
        plan = self.work.json("plan.json", self._plan)
        if plan != json.loads(json.dumps(self._plan())):
            raise ValueError(
                f"{self.parts.folder} holds an unfinished atlas of another model or with other settings: choose "
                "another folder, or delete it"
            )
        found, images = survey(
            atlas.recorder, atlas.source, self.work, sample=atlas.sample, seed=atlas.seed, progress=atlas.progress
        )
        folders = {name: folder_of(number, name) for number, name in enumerate(found)}
        first = next(iter(found.values())).sample
        sample = atlas.source.take(first.rows[:FOR_VIEW].tolist()).images
        examples = self.work.json("examples.json", lambda: self._examples(found, folders, View.of(sample)))
        effects = self._effects(found, folders, first.rows)
        pictures = self._pictures(found, folders, sample)
        Writing(
            atlas=atlas,
            parts=self.parts,
            found=found,
            folders=folders,
            images=images,
            shape=tuple(sample.shape[1:]),
            labels={int(row): label for row, label in examples["labels"].items()},
            tiles=examples["tiles"],
            effects=effects,
            pictures=pictures,
            notes=self.notes,
        ).run()
        write_pages(self.parts)
        shutil.rmtree(self.work.folder)

    def _plan(self) -> dict[str, Any]:
        """Return what must be the same for a build to go on."""
        atlas = self.atlas
        digest = hashlib.sha256()
        for name, value in atlas.model.state_dict().items():
            digest.update(name.encode())
            if isinstance(value, torch.Tensor):
                digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
        return {
            "model": digest.hexdigest(),
            "layers": list(atlas.recorder.layers),
            "classes": None if atlas.classes is None else list(atlas.classes),
            "title": atlas.title,
            "sample": atlas.sample,
            "ablation": atlas.ablation,
            "steps": atlas.steps,
            "seed": atlas.seed,
        }

    def _examples(self, found: dict[str, LayerSurvey], folders: dict[str, str], view: View) -> dict[str, Any]:
        atlas = self.atlas
        maps, labels = cut(atlas.recorder, atlas.source, view, found, self.parts, progress=atlas.progress)
        tiles = {}
        for name, drawn in maps.items():
            tiles[name] = [drawn.shape[3], drawn.shape[2]]
            for channels in blocks(len(drawn)):
                sheet = maps_sheet(drawn[channels.start : channels.stop])
                self.parts.write(f"images/{folders[name]}/{number_of(channels)}-maps.webp", encoded(sheet))
        return {"labels": {str(row): label for row, label in labels.items()}, "tiles": tiles}

    def _effects(
        self, found: dict[str, LayerSurvey], folders: dict[str, str], rows: torch.Tensor
    ) -> dict[str, ImportanceResult]:
        atlas, effects = self.atlas, {}
        loader = sample_loader(atlas.source, rows[: atlas.ablation]) if atlas.ablation else None
        for name in found if loader else ():
            result = self._attempt(
                name,
                "ablated",
                lambda name=name: effect(
                    atlas.model, name, loader or [], self.work, folders[name], seed=atlas.seed, progress=atlas.progress
                ),
            )
            if result is not None:
                effects[name] = result
        return effects

    def _pictures(
        self, found: dict[str, LayerSurvey], folders: dict[str, str], sample: torch.Tensor
    ) -> dict[str, list[Any]]:
        atlas, pictures = self.atlas, {}
        painter = Painter(atlas.model, atlas.source, sample, atlas.steps, atlas.seed, atlas.progress)
        for name, layer in found.items() if atlas.steps else ():
            listed = self._attempt(
                name, "optimized", lambda name=name, layer=layer: self._painted(painter, name, layer, folders[name])
            )
            if listed is not None:
                pictures[name] = listed
        return pictures

    def _painted(self, painter: Painter, name: str, layer: LayerSurvey, folder: str) -> list[Any]:
        return [
            self.work.json(
                f"{folder}/{number_of(channels)}-pictures.json",
                lambda channels=channels: painter.paint(
                    name, layer, channels, self.parts, f"images/{folder}/{number_of(channels)}"
                ),
            )
            for channels in blocks(layer.channels)
        ]

    def _attempt(self, layer: str, what: str, make: Callable[[], Any]) -> Any:
        """Return what is made of a layer, or None with a note: a page says what a layer does not allow."""
        try:
            return make()
        except (ValueError, TypeError, LookupError, RuntimeError) as error:
            self.notes[layer].append(f"This layer cannot be {what}: {first_line(error)}")
            return None
