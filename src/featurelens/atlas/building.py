"""The work of an atlas, in the order in which its parts need each other."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import torch

from featurelens._checks import first_line
from featurelens._sharding import Share
from featurelens.atlas.effects import Loader, effect, probes, sample_loader
from featurelens.atlas.examples import cut, maps_sheet
from featurelens.atlas.gathered import Gathered
from featurelens.atlas.pages import blocks, folder_of, number_of
from featurelens.atlas.parts import Parts
from featurelens.atlas.pictures import Painter
from featurelens.atlas.seen import Seen
from featurelens.atlas.site_folder import AtlasSite
from featurelens.atlas.survey import LayerSurvey, Survey, merged, survey_blocks
from featurelens.atlas.thumbnails import View, encoded
from featurelens.atlas.writing import write_site

if TYPE_CHECKING:
    from featurelens.atlas.atlas import Atlas

FOR_VIEW = 256
"""Images from which colours and ranges are learned."""


@final
class Build:
    """One build of an atlas in a folder, or a worker's share of it; everything that is finished is a file."""

    def __init__(self, atlas: Atlas, folder: Path, share: Share) -> None:
        self.atlas, self.share = atlas, share
        self.parts, self.work = Parts(folder), Parts(folder / "parts")
        images = atlas.source.first_images()
        self.recorder = atlas.called(images)
        self.plan = self._plan(images)
        # A build goes on with the same data only; whoever reads a finished atlas may read them another way.
        plan: Any = [self.plan, atlas.source.number_of_batches, atlas.source.number_of_images]
        self.finished = (folder / "data" / "manifest.js").exists() and not self.work.folder.exists()
        if self.finished:
            made, plan = AtlasSite(folder).manifest["plan"], self.plan
        elif folder.exists() and any(folder.iterdir()) and not self.work.folder.exists():
            raise FileExistsError(f"{folder} holds other files: choose another folder")
        else:
            made = self.work.json("plan.json", lambda: plan)
        if made != plan:
            raise FileExistsError(
                f"{folder} holds an atlas of another model, of other images or with other settings: choose another folder, "
                "or delete it"
            )

    def run(self, *, write: bool = True) -> None:
        """Do what is not done yet, and `write` the pages when everything is."""
        if self.finished:
            return
        with self.share.together():
            files = survey_blocks(self.atlas, self.recorder, self.work, self.share)
        self.share.gather(None)
        if not all(file.exists() for file in files):
            return  # other workers are not ready
        found = merged(files)
        folders = {name: folder_of(number, name) for number, name in enumerate(found.layers)}
        with self.share.together():
            sample = self.atlas.source.take(found.rows[:FOR_VIEW].tolist()).images
            tasks = dict(self._tasks(found, folders, sample))
            for number, (name, task) in enumerate(tasks.items()):
                if number % self.share.count == self.share.index:
                    self.work.json(name, task)
        self.share.gather(None)
        if not write or self.share.index:
            return
        results = {name: self.work.json(name, task) for name, task in tasks.items()}
        write_site(Gathered(self.atlas, found, folders, sample, results), self.parts, self.plan)
        shutil.rmtree(self.work.folder)

    def _tasks(
        self, found: Survey, folders: dict[str, str], sample: torch.Tensor
    ) -> Iterator[tuple[str, Callable[[], Any]]]:
        """Yield what remains after the survey, by the file that each task makes; tasks do not need each other."""
        atlas = self.atlas
        yield "examples.json", partial(self._examples, found, folders, View.of(sample))
        loader = sample_loader(atlas, found.rows[: atlas.ablation]) if atlas.ablation else None
        if loader:
            yield "probe.json", partial(probes, atlas, list(found.layers), found.rows)
        see = partial(self._see, found, sample)
        yield "seen.json", see
        look = partial(self.work.json, "seen.json", see)
        painter = Painter(atlas.model, atlas.source, sample, atlas.steps, atlas.seed, atlas.progress)
        for name, layer in found.layers.items():
            if loader:
                yield f"{folders[name]}/effect.json", partial(self._effect, name, loader)
            for channels in blocks(layer.channels) if atlas.steps else ():
                place = f"{folders[name]}/{number_of(channels)}"
                paint = partial(self._paint, painter, name, layer, channels, look, f"images/{place}")
                yield f"{place}-pictures.json", partial(_attempt, "optimized", paint)

    def _see(self, found: Survey, sample: torch.Tensor) -> dict[str, Any]:
        maps = [name for name, layer in found.layers.items() if layer.strongest.positions.shape[2] == 2]
        seen = Seen.by(self.atlas.model, maps, self.atlas.source, sample)
        return {name: seen.get(name, Seen()).saved for name in found.layers}

    def _paint(
        self,
        painter: Painter,
        layer: str,
        survey: LayerSurvey,
        channels: range,
        look: Callable[[], Any],
        folder: str,
    ) -> Any:
        return painter.paint(layer, survey, channels, Seen.of(look()[layer]), self.parts, folder)

    def _effect(self, layer: str, loader: Loader) -> Any:
        atlas = self.atlas
        measure = partial(effect, atlas.model, layer, loader, seed=atlas.seed, progress=atlas.progress)
        return _attempt("ablated", measure)

    def _examples(self, found: Survey, folders: dict[str, str], view: View) -> dict[str, Any]:
        atlas = self.atlas
        maps, labels = cut(atlas.model, atlas.source, view, found.layers, self.parts, progress=atlas.progress)
        tiles = {}
        for name, drawn in maps.items():
            if not found.layers[name].strongest.positions.shape[2]:
                continue  # one value an image has no place in it
            tiles[name] = [drawn.shape[3], drawn.shape[2]]
            for channels in blocks(len(drawn)):
                sheet = maps_sheet(drawn[channels.start : channels.stop])
                self.parts.write(f"images/{folders[name]}/{number_of(channels)}-maps.webp", encoded(sheet))
        return {"labels": {str(row): label for row, label in labels.items()}, "tiles": tiles}

    def _plan(self, images: torch.Tensor) -> str:
        """Return a hash of what must be the same for a build to go on: weights, the first images, and settings."""
        atlas = self.atlas
        digest = hashlib.sha256()
        for name, value in [*atlas.model.state_dict().items(), ("images", images)]:
            digest.update(name.encode())
            if isinstance(value, torch.Tensor):
                digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
        settings = {
            "layers": list(self.recorder.layers),
            "classes": None if atlas.classes is None else list(atlas.classes),
            "title": atlas.title,
            "sample": atlas.sample,
            "ablation": atlas.ablation,
            "steps": atlas.steps,
            "seed": atlas.seed,
        }
        digest.update(json.dumps(settings).encode())
        return digest.hexdigest()


def _attempt(what: str, make: Callable[[], Any]) -> Any:
    """Return what is made of a layer, or why it cannot be: its page says so."""
    try:
        return make()
    except torch.OutOfMemoryError:  # of the machine and the moment, not of the layer
        raise
    except (ValueError, TypeError, LookupError, RuntimeError) as error:
        return {"failed": f"This layer cannot be {what}: {first_line(error)}"}
