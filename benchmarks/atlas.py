"""What an atlas costs: its passes over the data, its size on disk, and builds that are killed.

    python benchmarks/atlas.py passes     # both passes over the data, against the bare forward passes they contain
    python benchmarks/atlas.py size       # bytes a channel, of two layers with all their pictures
    python benchmarks/atlas.py own        # seconds from the command line to the atlas of one's own network and 300 images
    python benchmarks/atlas.py kills      # builds killed at random moments end with the same bytes

Elsewhere the network is ResNet-18 for 32x32 images, all 20 convolutions with 4,800 channels, with random weights; the images are
random too, or those of a folder with one subfolder a class (``--data``).
"""

from __future__ import annotations

import argparse
import hashlib
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torchvision.models import resnet18

from featurelens._sharding import Share
from featurelens.atlas import Atlas
from featurelens.atlas.examples import cut
from featurelens.atlas.parts import Parts
from featurelens.atlas.survey import merged, survey_blocks
from featurelens.atlas.thumbnails import View

CLASSES = [f"class {label}" for label in range(10)]


def network() -> nn.Module:
    """Return ResNet-18 with a first convolution for small images."""
    torch.manual_seed(0)
    model = resnet18(num_classes=10)
    model.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    model.maxpool = nn.Identity()
    return model.eval()


def images(count: int, folder: Path | None) -> DataLoader:
    """Return a loader of images."""
    if folder is None:
        generator = torch.Generator().manual_seed(0)
        x = torch.rand(count, 3, 32, 32, generator=generator)
        y = torch.randint(10, (count,), generator=generator)
    else:
        from torchvision import transforms
        from torchvision.datasets import ImageFolder

        data = ImageFolder(str(folder), transforms.ToTensor())
        chosen = torch.randperm(len(data), generator=torch.Generator().manual_seed(0))[:count].tolist()
        x, y = torch.stack([data[row][0] for row in chosen]), torch.tensor([data[row][1] for row in chosen])
    return DataLoader(TensorDataset(x, y), batch_size=64)


def atlas_of(loader: DataLoader, layers: object = None, **options: object) -> Atlas:
    """Return the atlas of the network's convolutions."""
    layers = layers or (lambda name, module: isinstance(module, nn.Conv2d))
    return Atlas(network(), loader, layers, classes=CLASSES, progress=False, **options)


def passes(options: argparse.Namespace) -> None:
    """Time both passes, and the bare forward passes over the same images."""
    loader = images(options.images, options.data)
    ratios = []
    for _ in range(options.rounds):
        atlas, folder = atlas_of(loader), Path(tempfile.mkdtemp())
        start = time.perf_counter()
        found = merged(survey_blocks(atlas, atlas.recorder, Parts(folder), Share()))
        surveyed = time.perf_counter()
        wanted = torch.unique(torch.cat([layer.shown_rows.flatten() for layer in found.layers.values()]))
        sample = atlas.source.take(found.rows[:256].tolist()).images
        between = time.perf_counter()
        cut(atlas.model, atlas.source, View.of(sample), found.layers, Parts(folder), progress=False)
        end = time.perf_counter()
        with torch.no_grad():
            for x, _ in loader:
                atlas.model(x)
        bare = time.perf_counter() - end
        again = bare * int((wanted >= 0).sum()) / options.images
        ratios.append(
            (
                (surveyed - start) / bare,
                (end - between) / again,
                (surveyed - start + end - between) / (bare + again),
            )
        )
        shutil.rmtree(folder)
        print(
            "survey {:.2f}, examples {:.2f}, both {:.2f} of the bare forward passes".format(*ratios[-1]),
            flush=True,
        )
    print(
        "median: survey {:.2f}, examples {:.2f}, both {:.2f}".format(
            *tuple(map(statistics.median, zip(*ratios, strict=True)))
        )
    )


def size(options: argparse.Namespace) -> None:
    """Build the atlas of two layers with their pictures, and print bytes a channel."""
    folder = Path(tempfile.mkdtemp()) / "atlas"
    layers = ["layer1.0.conv1", "layer2.0.conv1"]
    site = atlas_of(images(options.images, options.data), layers, steps=options.steps, ablation=32).build(
        folder
    )
    channels = sum(layer["channels"] for layer in site.manifest["layers"])
    for part in ("data", "images/real", "images"):
        total = sum(path.stat().st_size for path in (folder / part).rglob("*") if path.is_file())
        print(f"{part}: {total / channels / 1024:.1f} KiB a channel")
    total = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    print(
        f"all of it: {total / channels / 1024:.1f} KiB a channel, {channels} channels, {options.images} images"
    )
    shutil.rmtree(folder.parent)


NETWORK = """
import torch
from torch import nn

def block(before, after):
    return [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU(), nn.MaxPool2d(2)]

def make():
    torch.manual_seed(0)
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)]
    return nn.Sequential(*block(3, 16), *block(16, 32), *block(32, 64), *head)
"""


def own(options: argparse.Namespace) -> None:
    """Time the command for a network of 122 channels in a file, and random images in ten folders, read at 224x224 pixels."""
    from torchvision.transforms.functional import to_pil_image

    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "mine.py").write_text(NETWORK)
        for number in range(300):
            path = place / "photos" / CLASSES[number % 10] / f"{number}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            to_pil_image(torch.rand(3, 6, 8)).resize((320, 240), 3).save(path)
        start = time.perf_counter()
        command = [sys.executable, "-c", "from featurelens.atlas.command_line import main; main()"]
        subprocess.run(
            [*command, "atlas", "mine:make", "--images", "photos", "--out", "atlas"], cwd=place, check=True
        )
        print(f"{time.perf_counter() - start:.0f} s")


def kills(options: argparse.Namespace) -> None:
    """Kill builds at random moments, let them go on, and compare all files with those of a build left alone."""
    base = Path(tempfile.mkdtemp())
    command = [sys.executable, __file__, "small", "--folder"]
    start = time.perf_counter()
    subprocess.run([*command, str(base / "whole")], check=True)
    whole, seconds = content(base / "whole"), time.perf_counter() - start
    draw, equal = random.Random(options.seed), 0
    for number in range(options.kills):
        folder = base / str(number)
        process = subprocess.Popen([*command, str(folder)])
        try:
            process.wait(draw.uniform(0, seconds))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
        subprocess.run([*command, str(folder)], check=True)
        equal += content(folder) == whole
        print(f"{equal} of {number + 1} killed builds ended with the same bytes", flush=True)
        shutil.rmtree(folder)
    shutil.rmtree(base)


def small(options: argparse.Namespace) -> None:
    """Build a small atlas in a folder."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 24, 3), nn.ReLU(), nn.Conv2d(24, 70, 3), nn.ReLU(), nn.Flatten())
    model.append(nn.Linear(70 * 28 * 28, 10))
    Atlas(model, images(200, None), classes=CLASSES, steps=4, ablation=32, progress=False).build(
        options.folder
    )


def content(folder: Path) -> dict[str, str]:
    """Return the hash of every file."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def main() -> None:
    """Run one of the measurements."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["passes", "size", "own", "kills", "small"])
    parser.add_argument("--images", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data", type=Path, help="folder of images, one subfolder a class")
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    {"passes": passes, "size": size, "own": own, "kills": kills, "small": small}[options.what](options)


if __name__ == "__main__":
    main()
