"""The files of TensorBoard's projector: vectors, labels, sprites, and the configuration that lists them."""

from __future__ import annotations

import hashlib
import math
import pathlib
import re
from collections.abc import Sequence

import numpy as np
from google.protobuf import text_format
from PIL import Image
from tensorboard.plugins.projector.projector_config_pb2 import EmbeddingInfo, ProjectorConfig

from featurelens._checks import count
from featurelens.plotting.arrays import Array, check_array, check_labels, to_floats
from featurelens.plotting.pictures import as_pictures
from featurelens.tensorboard.run import Run, check_tag

LARGEST_SHEET = 8192  # pixels; browsers draw no larger texture


def write_embedding(
    run: Run, tag: str, vectors: Array, labels: Sequence[object] | Array | None, sprites: Array | None
) -> None:
    """Write ``(N, D)`` vectors with a label and a sprite for each, in place of what `tag` was before.

    torch's own ``add_embedding`` fails on sprites higher than wide and lists an embedding again each time.
    """
    check_tag(tag)
    rows = to_floats(check_array(vectors, {2: "(N, D)"}, argument="vectors"))
    if not np.isfinite(rows).all():
        raise ValueError("vectors must be finite: the projector cannot place NaN or infinite values")
    names = None if labels is None else check_labels(labels, len(rows), "vector")
    if sprites is not None and len(check_array(sprites, {4: "(N, C, H, W)"}, argument="sprites")) != len(
        rows
    ):
        raise ValueError(
            f"sprites must have one image for each of {count(len(rows), 'vector')}; got {count(len(sprites), 'image')}"
        )
    folder = run.log_dir / "projector" / _folder_name(tag)
    folder.mkdir(parents=True, exist_ok=True)
    np.savetxt(folder / "vectors.tsv", rows, fmt="%.7g", delimiter="\t")
    if names is not None:  # a line for each, so a name has to be one line that is not empty
        lines = [" ".join(name.split()) or "-" for name in names]
        (folder / "labels.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    side = None if sprites is None else _write_sheet(folder / "sprites.png", sprites)
    _register(run.log_dir, tag, folder, labelled=names is not None, side=side)


def _folder_name(tag: str) -> str:
    """Return a name that any file system takes, another one for every tag: ``a/b`` is not ``a_b``."""
    readable = re.sub(r"[^a-z0-9]+", "-", tag.lower()).strip("-")[:40]
    return f"{readable}-{hashlib.sha256(tag.encode()).hexdigest()[:8]}".lstrip("-")


def _write_sheet(path: pathlib.Path, sprites: Array) -> int:
    """Write all images into one square picture of square tiles, as the projector cuts it, and return their side.

    Images that are not square get a white margin; many or large ones are shrunk until browsers can draw them.
    """
    pictures = as_pictures(sprites).rgb()
    columns = math.ceil(math.sqrt(len(pictures)))
    side: int = min(max(pictures.shape[1], pictures.shape[2]), LARGEST_SHEET // columns)
    sheet = Image.new("RGB", (columns * side, columns * side), "white")
    for index, picture in enumerate(pictures):
        tile = Image.fromarray(picture)
        tile.thumbnail((side, side))  # only ever shrinks
        row, column = divmod(index, columns)
        sheet.paste(tile, (column * side + (side - tile.width) // 2, row * side + (side - tile.height) // 2))
    sheet.save(path, compress_level=1)  # twice as fast, a little larger
    return side


def _register(
    log_dir: pathlib.Path, tag: str, folder: pathlib.Path, *, labelled: bool, side: int | None
) -> None:
    """Enter an embedding into the configuration that the projector reads, in place of one of the same name."""
    path = log_dir / "projector_config.pbtxt"
    config = text_format.Parse(path.read_text(encoding="utf-8") if path.exists() else "", ProjectorConfig())
    others = [entry for entry in config.embeddings if entry.tensor_name != tag]
    place = folder.relative_to(log_dir).as_posix()
    entry = EmbeddingInfo(tensor_name=tag, tensor_path=f"{place}/vectors.tsv")
    if labelled:
        entry.metadata_path = f"{place}/labels.tsv"
    if side is not None:
        entry.sprite.image_path = f"{place}/sprites.png"
        entry.sprite.single_image_dim.extend([side, side])
    merged = ProjectorConfig(embeddings=[*others, entry])
    path.write_text(text_format.MessageToString(merged), encoding="utf-8")
