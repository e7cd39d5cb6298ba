"""Made-up atlases in the format of docs/reference/atlas_format.md, for tests of the pages."""

from __future__ import annotations

import json
import math
import pathlib
import shutil

import numpy as np
from PIL import Image

import featurelens

PAGES = pathlib.Path(featurelens.__file__).parent / "atlas" / "site"
HOSTILE = [
    "<img src=x onerror=alert(1)>",
    "</script><script>alert(2)</script>",
    "\"quoted\" & 'single' \\ \u2028 ${alert(3)}",
    "constructor",
    "sand and sea, Tinca tinca",
]
CLASSES = [*HOSTILE, "cat", "dog", "ship", "truck", "a name that goes on and on and on and on"]
BLOCK = 64


def figure(key, title, unit="", help="", signed=False, link=None, **more):
    text = help or f"{title}: what it means, in a sentence."
    return {"key": key, "title": title, "unit": unit, "help": text, "signed": signed, "link": link, **more}


FIGURES = [
    figure("active", "Active", "share of images"),
    figure("dead", "Dead"),
    figure("sparseness", "Sparseness", link="https://example.org/sparseness"),
    figure("information", "Information", "nats", null="information_null", link="javascript:alert(4)"),
    figure("information_null", "Information by chance", "nats"),
    figure("p_value", "p-value"),
    figure("best_class", "Best class", help="Class with the largest mean, <b>not</b> bold."),
    figure("selectivity", "Selectivity"),
    figure("importance", "Importance", "loss of accuracy", signed=True),
]
LAYER_FIGURES = [
    figure("dead", "Dead channels"),
    figure("effective_rank", "Effective rank", link="https://example.org/rank"),
    figure("probe_accuracy", "Probe accuracy", null="probe_null"),
    figure("probe_null", "Probe by chance"),
]
PICTURE_FIGURES = [
    figure("path", "Path"),
    figure("agreement", "Agreement of seeds"),
    figure("plain", "Plain picture"),
]


def receive(root, name, content):
    """Write one data file."""
    path = root / "data" / f"{name}.js"
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(content, allow_nan=False, separators=(",", ":"))
    path.write_text(f"atlas.receive({json.dumps(name)}, {text});\n")


def copy_pages(root):
    root.mkdir(parents=True, exist_ok=True)
    shutil.copytree(PAGES, root / "site", ignore=shutil.ignore_patterns("index.html"), dirs_exist_ok=True)
    shutil.copy(PAGES / "index.html", root / "index.html")


def texture(size, number, channels=3):
    """Waves of a direction and a colour that depend on the number: (size, size, channels) of bytes."""
    rng = np.random.default_rng(number)
    y, x = np.mgrid[:size, :size] * (2 * math.pi / size)
    phase = rng.uniform(0, 6, channels)
    fx, fy = rng.integers(1, 5, 2)
    waves = np.sin(fx * x[..., None] + fy * y[..., None] * rng.choice([-1, 1]) + phase)
    return np.uint8(127 + 100 * waves)


def sheet(path, tiles, columns):
    """A sheet of square tiles, row by row."""
    size = tiles[0].shape[0]
    rows = -(-len(tiles) // columns)
    whole = np.zeros((rows * size, columns * size, tiles[0].shape[2]), np.uint8)
    for index, each in enumerate(tiles):
        row, column = divmod(index, columns)
        whole[row * size : (row + 1) * size, column * size : (column + 1) * size] = each
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(whole).save(path, quality=70, method=0)


def feature_map(number):
    """A spot of colour whose opacity is the activation: (16, 16, 4) of bytes."""
    rng = np.random.default_rng(number)
    y, x = np.mgrid[:16, :16]
    spot = np.exp(-((y - rng.uniform(2, 14)) ** 2 + (x - rng.uniform(2, 14)) ** 2) / 10)
    return np.dstack([np.full((16, 16, 3), (253, 231, 37), np.uint8), np.uint8(200 * spot)])


def examples(rng, quantiles=None):
    count = 8 if quantiles is None else len(quantiles)
    values = sorted(rng.uniform(0, 4, count), reverse=quantiles is None)
    for index, value in enumerate(values):
        top, left = rng.uniform(0, 0.5, 2)
        one = {
            "row": int(rng.integers(20)),
            "value": value,
            "label": int(rng.integers(10)),
            "box": [top, top + 0.4, left, left + 0.4],
        }
        yield one if quantiles is None else {**one, "quantile": quantiles[index]}


def details(layer, channel, layers, rng):
    counts = np.int64(3000 * np.exp(-np.arange(30) / 4))
    known = channel % 7 != 3
    weights = {"layer": layer - 1, "channels": [0, 3, 5], "weights": [0.4, -0.3, 0.1]} if layer else None
    pictures = {
        "pixels": None if channel % 2 else [36, 48],
        "score": 3.9,
        "others": [3.1, 3.5, 2.9],
        "minimum": -2.0,
        "strongest": 3.2,
        "plain": 1.1,
        "judgement": "stronger than any real image",
        "trusted": channel % 2 == 0,
        "path": 0.61,
        "path_real": 0.72,
        "path_random": 0.3,
        "agreement": 0.8,
    }
    return {
        "channel": channel,
        "histogram": {"edges": list(np.linspace(-0.5, 4, 31)), "counts": counts.tolist()},
        "classes": {
            "mean": list(rng.uniform(0, 2, 10)),
            "effect": list(rng.normal(0, 0.02, 10)) if known else None,
            "error": [0.006] * 10 if known else None,
        },
        "strongest": list(examples(rng)),
        "range": list(examples(rng, [0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0])),
        "neighbours": [
            {"layer": int(rng.integers(layers)), "channel": c, "correlation": 0.9 - c / 5} for c in range(6)
        ],
        "inputs": weights,
        "outputs": {"layer": None, "channels": [1, 2], "weights": [0.2, -0.1]},
        "pictures": pictures if known else None,
        "notes": [] if known else [f"This channel could not be optimized: {HOSTILE[0]}"],
    }


def columns(count, rng):
    dead = rng.uniform(size=count) < 0.06
    drawn = {
        "active": rng.uniform(size=count),
        "sparseness": rng.uniform(size=count),
        "information": rng.gamma(2, 0.15, count),
        "information_null": rng.uniform(0, 0.02, count),
        "p_value": rng.uniform(0, 0.1, count),
        "selectivity": rng.uniform(size=count),
        "importance": rng.normal(0.004, 0.01, count),
    }
    values = {
        key: [None if d else round(float(v), 4) for v, d in zip(drawn[key], dead, strict=True)]
        for key in drawn
    }
    best = [None if d else int(c) for c, d in zip(rng.integers(0, 10, count), dead, strict=True)]
    return values | {"dead": dead.tolist(), "best_class": best, "active": drawn["active"].round(4).tolist()}


def write_layer(root, entry, index, layers, rng, with_details):
    """Tables, details and sheets of one layer; its columns."""
    count, folder = entry["channels"], entry["folder"]
    table = columns(count, rng)
    receive(root, f"{folder}/table", {"channels": count, "columns": table})
    for first in range(0, count if with_details else 0, BLOCK):
        block = range(first, min(first + BLOCK, count))
        name = f"{first // BLOCK:04d}"
        content = {"first": first, "channels": [details(index, c, layers, rng) for c in block]}
        receive(root, f"{folder}/{name}", content)
        for kind, tiles in pictures_of(block, index).items():
            if kind in entry["sheets"]:
                path = root / "images" / folder / f"{name}-{kind}.webp"
                sheet(path, tiles, entry["sheets"][kind]["columns"])
    return table


def pictures_of(block, index):
    seeds = [1000 * index + channel for channel in block]
    return {
        "best": [texture(64, s) for s in seeds],
        "others": [texture(64, s + k) for s in seeds for k in range(4)],
        "frames": [(texture(48, s) // 8 * (k + 1)).astype(np.uint8) for s in seeds for k in range(8)],
        "maps": [feature_map(16 * s + k) for s in seeds for k in range(16)],
        "filters": [texture(32, s) for s in seeds],
    }


SHEETS = {
    "best": {"tile": [64, 64], "columns": 8},
    "others": {"tile": [64, 64], "columns": 4},
    "frames": {"tile": [48, 48], "columns": 8},
    "maps": {"tile": [16, 16], "columns": 16},
    "filters": {"tile": [32, 32], "columns": 8},
}


def layer_entry(index, name, channels, sheets):
    kinds = {k: v for k, v in SHEETS.items() if k in sheets and (k != "filters" or index == 0)}
    return {
        "name": name,
        "folder": f"{index:03d}-{name.replace('#', '%23')}",
        "kind": "Conv2d",
        "shape": [channels, 32 >> (index // 5), 32 >> (index // 5)],
        "channels": channels,
        "notes": [f"A note on the layer: {HOSTILE[1]}"] if index == 1 else [],
        "figures": {
            "dead": index % 4,
            "effective_rank": 3 + channels / (2 + index % 5),
            "probe_accuracy": 0.3 + 0.6 * index / 20,
            "probe_null": 0.1,
        },
        "sheets": kinds,
    }


def front(root, layers, tables):
    """The sheet of the first page, and what is in it."""
    shown = [list(range(min(8, layer["channels"]))) for layer in layers]
    ranked = sorted(
        (
            (value, index, channel)
            for index, table in enumerate(tables)
            for channel, value in enumerate(table["importance"])
            if value is not None
        ),
        reverse=True,
    )[:16]
    tiles = []
    for index, channels in enumerate(shown):
        row = [texture(48, 1000 * index + c) for c in channels]
        tiles += row + [np.zeros_like(row[0])] * (8 - len(row))
    tiles += [texture(48, 1000 * index + channel) for _, index, channel in ranked]
    sheet(root / "images" / "front.webp", tiles, 8)
    largest = [[index, channel, value] for value, index, channel in ranked]
    return {"tile": [48, 48], "columns": 8, "layers": shown, "figure": "importance", "largest": largest}


def write_atlas(
    root,
    widths=(16, 70, 96),
    *,
    sheets=tuple(SHEETS),
    with_details=True,
    with_front=True,
    seed=0,
    title="Digits & <i>more</i>",
):
    """An atlas of layers of these widths; names of layers hold what names can hold."""
    root = pathlib.Path(root)
    rng = np.random.default_rng(seed)
    copy_pages(root)
    names = ["stem.conv", "block:1 <b>", "relu#1", *(f"layer{i}.conv" for i in range(3, len(widths)))]
    layers = [layer_entry(i, names[i], width, sheets) for i, width in enumerate(widths)]
    tables = [write_layer(root, each, i, len(layers), rng, with_details) for i, each in enumerate(layers)]
    distance = np.abs(np.subtract.outer(range(len(layers)), range(len(layers))))
    for row in range(20):
        path = root / "images" / "real" / f"{row}.webp"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(texture(64, 5000 + row)[:48]).save(path)
    manifest = {
        "format": 1,
        "title": title,
        "images": 10000,
        "sample": 2048,
        "input": {"shape": [3, 32, 32], "kind": "image"},
        "thumbnail": [64, 48],
        "classes": CLASSES,
        "block": BLOCK,
        "ablation": {"metric": "accuracy", "baseline": 0.93, "images": 256},
        "figures": FIGURES,
        "layers": layers,
        "layer_figures": LAYER_FIGURES,
        "picture_figures": PICTURE_FIGURES,
        "similarity": np.exp(-distance / 6).round(3).tolist(),
        "front": front(root, layers, tables) if with_front else None,
    }
    receive(root, "manifest", manifest)
    return manifest


def write_comparison(root, prefixes, manifests):
    """The comparison of two atlases: channels of the first layer are matched in reverse, the others by number."""
    root = pathlib.Path(root)
    copy_pages(root)
    entries = []
    for index, layer in enumerate(manifests[0]["layers"]):
        count = layer["channels"]
        matched = index == 0
        correlation = [round(channel / count, 3) for channel in range(count)]
        entries.append(
            {
                "name": layer["name"],
                "similarity": 0.9,
                "match": list(range(count))[::-1] if matched else None,
                "correlation": correlation if matched else None,
            }
        )
    compared = [{"title": f"seed {i}", "prefix": prefix} for i, prefix in enumerate(prefixes)]
    receive(root, "manifest", {"format": 1, "title": "Two seeds", "compared": compared, "layers": entries})
