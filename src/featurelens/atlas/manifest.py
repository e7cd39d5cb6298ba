"""The manifest: what the first page shows, and what the others need to know."""

from __future__ import annotations

import hashlib
from typing import Any

import torch

from featurelens import similarity
from featurelens._checks import count
from featurelens.atlas import figures
from featurelens.atlas.filters import drawn
from featurelens.atlas.gathered import Gathered
from featurelens.atlas.numbers import rounded
from featurelens.atlas.pages import BLOCK
from featurelens.atlas.pictures import NUMBER_OF_FRAMES, SEEDS
from featurelens.atlas.survey import QUANTILES, STRONGEST
from featurelens.atlas.tables import Columns
from featurelens.atlas.thumbnails import REAL, picture

KINDS = {2: "signal", 3: "image", 4: "volume"}


def manifest(
    gathered: Gathered, tables: dict[str, Columns], front: dict[str, Any], plan: str
) -> dict[str, Any]:
    """Return the content of the manifest."""
    atlas, survey = gathered.atlas, gathered.survey
    shown = {key for table in tables.values() for key in table}
    ablated = next(filter(None, map(gathered.effect, gathered.layers)), None)
    return {
        "format": 1,
        "plan": plan,
        "title": atlas.title,
        "images": survey.images,
        "sample": len(survey.rows),
        "rows": hashlib.sha256(survey.rows.numpy().tobytes()).hexdigest()[:16],
        "input": {"shape": list(gathered.sample.shape[1:]), "kind": KINDS[gathered.sample.ndim - 1]},
        "thumbnail": list(picture(torch.zeros_like(gathered.sample[0]), REAL).size),
        "classes": None if atlas.classes is None else list(atlas.classes),
        "block": BLOCK,
        "ablation": None
        if ablated is None
        else {key: ablated[key] for key in ("metric", "baseline", "images")},
        "figures": [figure.entry() for figure in figures.CHANNEL_FIGURES if figure.key in shown],
        "layer_figures": [figure.entry() for figure in figures.LAYER_FIGURES],
        "picture_figures": [figure.entry() for figure in figures.PICTURE_FIGURES],
        "layers": [_layer(gathered, name) for name in gathered.layers],
        "similarity": _similarity(gathered),
        "front": front,
        "notes": _notes(gathered),
    }


def _notes(gathered: Gathered) -> list[str]:
    """Return what holds for the whole atlas: images whose activations are not finite."""
    broken = [~layer.sample.values.isfinite().all(1) for layer in gathered.layers.values()]
    number = int(torch.stack(broken).any(0).sum())
    if not number:
        return []
    return [
        (
            f"{count(number, 'sampled image')} gave NaN or infinite activations. They count as 0 in information, neighbours and the "
            "similarity of layers, and are left out of other figures."
        )
    ]


def _layer(gathered: Gathered, name: str) -> dict[str, Any]:
    layer = gathered.layers[name]
    return {
        "name": name,
        "folder": gathered.folders[name],
        "kind": type(gathered.module(name)).__name__,
        "shape": gathered.shapes[name],
        "channels": layer.channels,
        "notes": gathered.notes(name),
        "figures": {
            key: rounded(value)
            for key, value in (
                figures.layer_figures(layer, gathered.dead(name)) | gathered.probe(name)
            ).items()
        },
        "sheets": _sheets(gathered, name),
    }


def _sheets(gathered: Gathered, name: str) -> dict[str, Any]:
    """Return the kinds of sheets that a layer has."""
    sheets: dict[str, Any] = {}
    if name in gathered.map_tiles:
        sheets["maps"] = {"tile": gathered.map_tiles[name], "columns": STRONGEST + len(QUANTILES)}
    if painted := gathered.pictures(name):
        columns = {"best": 8, "others": SEEDS + 1, "frames": NUMBER_OF_FRAMES}
        tiles = painted[0]["tile"]
        sheets |= {kind: {"tile": tiles[kind], "columns": number} for kind, number in columns.items()}
    if (kernels := gathered.filters(name)) is not None:
        sheets["filters"] = {"tile": list(drawn(kernels[:1])[0].size), "columns": 8}
    return sheets


def _similarity(gathered: Gathered) -> list[list[float | None]]:
    """Return the debiased CKA of all pairs of layers, over the channels' largest values in the sampled images."""
    values = [layer.sample.values.nan_to_num(0, 0, 0) for layer in gathered.layers.values()]
    table: list[list[float | None]] = [[None] * len(values) for _ in values]
    for one, x in enumerate(values):
        for other, y in enumerate(values[: one + 1]):
            try:
                found = similarity.cka(x, y, null=None, confidence=None).value
            except ValueError:  # a constant layer, or too few images
                continue
            table[one][other] = table[other][one] = rounded(found)
    return table
