"""Time to merge the parts of an array job and to open the result.

    python benchmarks/merging.py              # 1,000 parts with 40 files each
    python benchmarks/merging.py --parts 8 --files 160

Only manifests are created, because merging reads and writes nothing else.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import featurelens as fl
from featurelens.storage.manifest import Manifest, Progress, Recipe, Shard, StoredShape
from featurelens.storage.merging import part_name

LAYERS = ("layer1", "layer2", "layer3", "layer4")
ROWS, BYTES = 32_768, 64 * 2**20


def part(index: int, parts: int, files: int) -> Manifest:
    """Return the manifest of a complete part with `files` files; the files themselves do not exist."""
    layers = {}
    for name in LAYERS:
        shards = tuple(
            Shard(f"{name}/{k:06d}.npy", k * ROWS, (k + 1) * ROWS, BYTES + 128, f"{index * files + k:064x}")
            for k in range(files // len(LAYERS))
        )
        layers[name] = StoredShape(name, (512,), "float32", ROWS, shards)
    recipe = Recipe("ResNet", "0" * 64, LAYERS, ("mean",) * len(LAYERS), None, "eval", parts)
    progress = Progress(rows=ROWS * (files // len(LAYERS)), batches=1)
    return Manifest(recipe, (index, parts), progress, layers, complete=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--parts", type=int, default=1000)
    parser.add_argument("--files", type=int, default=40, help="files in each part")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for index in range(options.parts):
            path = Path(folder, part_name(index, options.parts))
            path.mkdir()
            part(index, options.parts, options.files).write(path)
        start = time.perf_counter()
        store = fl.ActivationStore.merge(folder)
        merged = time.perf_counter()
        fl.ActivationStore(folder)
        opened = time.perf_counter()
        size = Path(folder, "manifest.json").stat().st_size
        print(f"{options.parts} parts, {options.parts * options.files} files, {store.rows} rows")
        print(f"merge     {merged - start:8.2f} s")
        print(f"open      {opened - merged:8.2f} s")
        print(f"manifest  {size / 1e6:8.2f} MB, {size / options.parts / options.files:.0f} bytes a file")


if __name__ == "__main__":
    main()
