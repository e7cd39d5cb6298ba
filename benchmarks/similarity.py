"""Time, memory and error of comparing every layer with every layer, beside pytorch-cka and torch_cka.

    python benchmarks/similarity.py                       # ResNet-18, 20 convolutions; VGG-16 at 224 x 224
    python benchmarks/similarity.py --images 64 --vgg 16  # shorter

Every contender compares the 20 convolutions of a ResNet-18 with random weights over smooth random images of 64 x 64 pixels,
at batch sizes 4 and 64, in a process of its own. The error is the largest difference from debiased CKA of all images at once,
which a replica of the formula of Song et al. computes in float64 from recorded layers; pytorch-cka and torch_cka average HSIC
over batches. Peak memory is that of the process, of which Python, torch and the network take about 0.5 GiB (Linux). Peers that
are not installed are skipped: `pip install --target FOLDER pytorch-cka torch_cka` and PYTHONPATH=FOLDER. thingsvision compares
recorded arrays, and its release 2.7.3 needs numpy below 2.

A second table is of the 13 convolutions of VGG-16 at 224 x 224 pixels: whole layers of one image hold 13.5 million values.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import resource
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torchvision.models import resnet18, vgg16

import featurelens as fl

sys.path.insert(0, str(Path(__file__).parent.parent / "examples"))

from reference import seeded

Batches = list[tuple[Tensor]]
PEERS = {"pytorch-cka": "cka", "torch_cka": "torch_cka"}
BATCHES = (4, 64)


class Images(torch.utils.data.Dataset[tuple[Tensor]]):
    """Whole batches, for loaders that must have a data set."""

    def __init__(self, batches: Batches) -> None:
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> tuple[Tensor]:
        return self.batches[index]


def smooth(images: int, size: int) -> Tensor:
    """Return random images `(N, 3, size, size)` without fine detail."""
    coarse = torch.randn(images, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    return interpolate(coarse, size=(size, size), mode="bicubic", antialias=False)


def names_of(model: nn.Module) -> list[str]:
    return [name for name, module in model.named_modules() if isinstance(module, nn.Conv2d)]


def featurelens(model: nn.Module, batches: Batches, layers: list[str]) -> Tensor:
    return fl.compare(model, loader=batches, layers=layers, progress=False).values


def pytorch_cka(model: nn.Module, batches: Batches, layers: list[str]) -> Tensor:
    from cka import compute_cka

    loader = torch.utils.data.DataLoader(Images(batches), batch_size=None)
    return compute_cka(model, model, loader, layers=layers, device="cpu", progress=False)[0]


def torch_cka(model: nn.Module, batches: Batches, layers: list[str]) -> Tensor:
    from torch_cka import CKA

    loader = torch.utils.data.DataLoader(Images(batches), batch_size=None)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        found = CKA(model, model, model1_layers=layers, model2_layers=layers)
        found.compare(loader)
    return found.export()["CKA"]


CONTENDERS: dict[str, Callable[[nn.Module, Batches, list[str]], Tensor]] = {
    "featurelens": featurelens,
    "pytorch-cka": pytorch_cka,
    "torch_cka": torch_cka,
}


def song(k: Tensor, l: Tensor) -> Tensor:
    """Return the unbiased HSIC of two kernel matrices, term by term (Song et al., JMLR 2012)."""
    n = len(k)
    k, l = k - k.diag().diag(), l - l.diag().diag()
    terms = (k @ l).trace() + k.sum() * l.sum() / ((n - 1) * (n - 2)) - 2 / (n - 2) * (k.sum(0) @ l.sum(0))
    return terms / (n * (n - 3))


def truth(model: nn.Module, images: Tensor, layers: list[str]) -> Tensor:
    acts = fl.ActivationRecorder(model, layers).record(images.split(32), progress=False)
    grams = []
    for name in layers:
        rows = acts[name].flatten(1).double()
        rows -= rows.mean(0)
        grams.append(rows @ rows.T)
    hsic = torch.stack([torch.stack([song(one, other) for other in grams]) for one in grams])
    own = hsic.diagonal().sqrt()
    return hsic / own / own[:, None]


def measure(task: str, contender: str, images: int, batch: int) -> dict[str, object]:
    """Run one contender here; return its values, seconds and the peak memory of this process in GiB."""
    model = seeded(resnet18 if task == "resnet" else vgg16).eval()
    data = smooth(images, 64 if task == "resnet" else 224)
    batches: Batches = [(part,) for part in data.split(batch)]
    with torch.no_grad():
        model(data[:batch])
        start = time.perf_counter()
        for (part,) in batches:
            model(part)
    forward = time.perf_counter() - start
    start = time.perf_counter()
    try:
        values = CONTENDERS[contender](model, batches, names_of(model)).double().tolist()
    except AssertionError as error:
        values = str(error)
    return {
        "values": values,
        "seconds": time.perf_counter() - start,
        "forward": forward,
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }


def apart(*arguments: object) -> dict[str, object]:
    """Measure in a process of its own."""
    command = [sys.executable, __file__, "--measure", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=int, default=256, help="for ResNet-18")
    parser.add_argument("--vgg", type=int, default=64, help="number of images for VGG-16; 0 leaves it out")
    parser.add_argument("--measure", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        task, contender, images, batch = options.measure
        print(json.dumps(measure(task, contender, int(images), int(batch))))
        return

    there = [name for name in CONTENDERS if name not in PEERS or importlib.util.find_spec(PEERS[name])]
    if missing := set(CONTENDERS) - set(there):
        print(f"not installed: {', '.join(sorted(missing))}")
    model = seeded(resnet18).eval()
    expected = truth(model, smooth(options.images, 64), names_of(model))
    print(
        f"20 convolutions of ResNet-18, {options.images} images of 64 x 64, {torch.get_num_threads()} threads"
    )
    print(f"{'':14}{'batch':>6}{'seconds':>9}{'x forward':>11}{'GiB':>6}  largest error")
    for batch in BATCHES:
        for contender in there:
            found = apart("resnet", contender, options.images, batch)
            values = found["values"]
            error = (
                values
                if isinstance(values, str)
                else f"{float((torch.tensor(values) - expected).abs().max()):.3f}"
            )
            times = f"{found['seconds']:>9.1f}{found['seconds'] / found['forward']:>11.2f}"
            print(f"{contender:14}{batch:>6}{times}{found['memory']:>6.2f}  {error}")
    if options.vgg:
        found = apart("vgg", "featurelens", options.vgg, 4)
        print(f"13 convolutions of VGG-16, {options.vgg} images of 224 x 224, batch size 4")
        print(
            f"{found['seconds']:.1f} s, {found['seconds'] / found['forward']:.2f} x forward, {found['memory']:.2f} GiB"
        )


if __name__ == "__main__":
    main()
