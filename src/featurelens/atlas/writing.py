"""From everything that is known about a network to the files of its pages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from featurelens.atlas.comparing import write_values
from featurelens.atlas.details import LayerDetails
from featurelens.atlas.filters import drawn
from featurelens.atlas.front import write_front
from featurelens.atlas.gathered import Gathered
from featurelens.atlas.manifest import manifest
from featurelens.atlas.neighbours import nearest
from featurelens.atlas.pages import blocks, number_of, transposed, write_data, write_pages
from featurelens.atlas.parts import Parts
from featurelens.atlas.tables import table
from featurelens.atlas.thumbnails import encoded, sheet


def write_site(gathered: Gathered, parts: Parts, plan: str) -> None:
    """Write tables, details and filters, and at last the manifest and the pages."""
    near = nearest({name: layer.sample.values for name, layer in gathered.layers.items()})
    tables = {name: table(gathered, name) for name in gathered.layers}
    for name, layer in gathered.layers.items():
        folder = gathered.folders[name]
        write_data(parts, f"{folder}/table", {"channels": layer.channels, "columns": tables[name]})
        write_values(parts, folder, layer.sample.values)
        _write_details(gathered, name, near[name], parts)
        _write_filters(gathered, name, parts)
    front = write_front(gathered, tables, parts)
    write_data(parts, "manifest", manifest(gathered, tables, front, plan))
    write_pages(parts)


def _write_details(gathered: Gathered, name: str, near: Sequence[Any], parts: Parts) -> None:
    layer = gathered.layers[name]
    details = LayerDetails(
        survey=layer,
        labels=gathered.labels,
        field=gathered.field(name),
        size=tuple(gathered.sample.shape[2:]),
        effect=gathered.effect(name),
        nearest=near,
        inputs=_inputs(gathered, name),
        outputs=_outputs(gathered, name),
    )
    pictures = gathered.pictures(name)
    for number, channels in enumerate(blocks(layer.channels)):
        painted = {} if not pictures else pictures[number]
        columns = {key: value for key, value in painted.items() if key not in {"channels", "tile"}}
        entries = [
            details.of(channel, transposed(columns, place) if columns else None)
            for place, channel in enumerate(channels)
        ]
        content = {"first": channels.start, "channels": entries}
        write_data(parts, f"{gathered.folders[name]}/{number_of(channels)}", content)


def _write_filters(gathered: Gathered, name: str, parts: Parts) -> None:
    kernels = gathered.filters(name)
    if kernels is None:
        return
    for channels in blocks(len(kernels)):
        tiles = sheet(drawn(kernels[channels.start : channels.stop]), 8)
        file = f"images/{gathered.folders[name]}/{number_of(channels)}-filters.webp"
        parts.write(file, encoded(tiles, exact=True))


def _inputs(gathered: Gathered, name: str) -> list[Any] | None:
    """Return the strongest inputs of each channel."""
    wires = gathered.wires.get(name)
    if wires is None:
        return None
    source = None if wires.source is None else gathered.number[wires.source]
    return [wires.inputs(channel, source) for channel in range(gathered.layers[name].channels)]


def _outputs(gathered: Gathered, name: str) -> list[Any] | None:
    """Return what each channel feeds most strongly in the first layer that reads this one."""
    for other, wires in gathered.wires.items():
        if wires.source == name:
            number = gathered.number[other]
            return [wires.outputs(channel, number) for channel in range(gathered.layers[name].channels)]
    return None
