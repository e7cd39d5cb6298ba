"""Memory, time and reading of recorded data sets: pooled layers of ResNet-18, compared with the bare forward pass and peers.

    python benchmarks/streaming.py            # 1,000 to 50,000 images, a store of 1 GB
    python benchmarks/streaming.py --quick    # 200 and 1,000 images, a store of 64 MB

Memory: each number of images runs in a separate process. Resident memory is read after every batch; the table gives its
value after the first twentieth of the batches, and the largest rise after that. Time: each round runs all contenders once
over the same loader, in random order; the table gives the median over rounds of a contender's time divided by that of the
bare forward pass of the same round. Peers come from the `bench` dependency group; those not installed are skipped.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import importlib.util
import io
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.models import resnet18

import featurelens as fl

LAYERS = ["layer1", "layer2", "layer3", "layer4"]
BATCH = 64
WAYS = ("record to files", "stream")
ROW = 4096  # numbers per row of the store used for reading
READ = 200


class Images(Dataset[tuple[Tensor, int]]):
    """Images generated on access, so the data set itself takes no memory."""

    def __init__(self, count: int, size: int) -> None:
        self.count, self.size = count, size

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        generator = torch.Generator().manual_seed(index)
        return torch.rand(3, self.size, self.size, generator=generator), index % 10


class Rows(Dataset[Tensor]):
    """Rows of numbers; the first number is the row's index."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.values = torch.rand(ROW, generator=torch.Generator().manual_seed(0))

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Tensor:
        row = self.values.clone()
        row[0] = index
        return row


def subject() -> nn.Module:
    torch.manual_seed(0)
    return resnet18(weights=None).eval()


def loader_of(images: int, size: int) -> DataLoader[tuple[Tensor, int]]:
    return DataLoader(Images(images, size), batch_size=BATCH)


def analyses() -> list[fl.statistics.Statistic]:
    return [
        fl.statistics.Moments(),
        fl.statistics.Histogram(),
        fl.statistics.TopK(9),
        fl.statistics.JointCounts(classes=10),
    ]


# ---------------------------------------------------------------- memory


def memory(way: str, images: int) -> tuple[float, float]:
    """Return resident memory in MiB after a twentieth of the batches, and its largest rise after that."""
    import psutil

    process, seen = psutil.Process(), []

    def watched(loader: DataLoader[Any]) -> Iterator[Any]:
        for batch in loader:
            yield batch
            seen.append(process.memory_info().rss / 2**20)

    recorder = fl.ActivationRecorder(subject(), LAYERS, reduce="mean")
    with tempfile.TemporaryDirectory() as folder:
        batches = watched(loader_of(images, 32))
        if way == "stream":
            recorder.stream(batches, analyses(), progress=False)
        else:
            recorder.record(batches, to=Path(folder) / "store", progress=False)
    start = max(len(seen) // 20, 2)
    return seen[start], max(seen[start:]) - seen[start]


def compare_memory(counts: list[int]) -> None:
    print("\nresident memory (MiB) after a twentieth of the batches, and its largest rise after that")
    print(f"{'images':>10}" + "".join(f"{way:>28}" for way in WAYS))
    for images in counts:
        cells = []
        for way in WAYS:
            command = [sys.executable, __file__, "--memory", way, str(images)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            words = done.stdout.split()
            cells.append(
                f"{float(words[-2]):.0f} + {float(words[-1]):.1f}" if words else f"failed: {done.returncode}"
            )
        print(f"{images:>10,}" + "".join(f"{cell:>28}" for cell in cells), flush=True)


# ---------------------------------------------------------------- time


def contenders(model: nn.Module, loader: DataLoader[Any], folder: Path) -> dict[str, Callable[[], Any]]:
    """Return all ways to run once over the loader; those that write get an empty folder."""
    recorder = fl.ActivationRecorder(model, LAYERS, reduce="mean")
    whole = fl.ActivationRecorder(model, LAYERS)

    def bare() -> None:
        with torch.no_grad():
            for images, _ in loader:
                model(images)

    runs: dict[str, Callable[[], Any]] = {
        "bare forward": bare,
        "featurelens, record to files": lambda: recorder.record(loader, to=folder / "store", progress=False),
        "featurelens, stream, pooled": lambda: recorder.stream(loader, analyses(), progress=False),
        "featurelens, stream, whole maps": lambda: whole.stream(loader, analyses(), progress=False),
        "chunk files, hooks by hand": lambda: chunk_files(model, loader, folder),
    }
    if installed("captum"):
        runs["captum AV (whole maps, in files)"] = with_captum(copy.deepcopy(model), loader, folder)
    if installed("torchlens"):
        runs["torchlens extract_dataset, mean"] = with_torchlens(copy.deepcopy(model), loader, folder)
    return runs


def chunk_files(model: nn.Module, loader: DataLoader[Any], folder: Path) -> None:
    """Write a file for each batch and layer and join them at the end, as hand-written feature extractors do."""
    found: dict[str, Tensor] = {}

    def hook_for(name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Tensor) -> None:
            found[name] = output.mean((2, 3))

        return hook

    handles = [model.get_submodule(name).register_forward_hook(hook_for(name)) for name in LAYERS]
    with torch.no_grad():
        for number, (images, _) in enumerate(loader):
            model(images)
            for name, values in found.items():
                np.save(folder / f"{name}_{number:06d}.npy", values.numpy())
    for handle in handles:
        handle.remove()
    for name in LAYERS:
        np.save(
            folder / f"{name}.npy",
            np.concatenate([np.load(file) for file in sorted(folder.glob(f"{name}_*"))]),
        )


def with_captum(model: nn.Module, loader: DataLoader[Any], folder: Path) -> Callable[[], Any]:
    from captum._utils.av import AV

    return lambda: AV.generate_dataset_activations(str(folder), model, "resnet", LAYERS, loader)


def with_torchlens(model: nn.Module, loader: DataLoader[Any], folder: Path) -> Callable[[], Any]:
    import torchlens

    def run() -> Any:
        images = (image for batch, _ in loader for image in batch)
        return torchlens.extract_dataset(
            model,
            images,
            LAYERS,
            batch_size=BATCH,
            output_dir=folder / "lens",
            progress=False,
            pool="spatial_mean",
        )

    return run


def installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def timed(run: Callable[[], Any], folder: Path) -> float:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    quiet = io.StringIO()
    with contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        start = time.perf_counter()
        run()
        return time.perf_counter() - start


def compare_time(images: int, size: int, rounds: int) -> None:
    loader = loader_of(images, size)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "output"
        working = contenders(subject(), loader, folder)
        for name, run in list(working.items()):
            try:
                timed(run, folder)
            except Exception as error:  # noqa: BLE001  report a peer that fails, and continue
                print(f"{name}: {type(error).__name__}: {str(error).splitlines()[0][:100]}")
                del working[name]
        times: dict[str, list[float]] = {name: [] for name in working}
        order = random.Random(0)
        for _ in range(rounds):
            names = list(working)
            order.shuffle(names)
            for name in names:
                times[name].append(timed(working[name], folder))
    bare = times["bare forward"]
    rate = images / statistics.median(bare)
    print(f"\ntime over {images:,} images of {size} x {size}; the bare forward runs {rate:.0f} images/s")
    print(f"{'':36}{'time / bare':>14}{'spread':>18}")
    for name, mine in times.items():
        ratios = sorted(a / b for a, b in zip(mine, bare, strict=True))
        print(f"{name:36}{statistics.median(ratios):14.3f}{f'{ratios[0]:.3f} to {ratios[-1]:.3f}':>18}")


# ---------------------------------------------------------------- reading


def compare_reading(gigabytes: float, rounds: int = 9) -> None:
    count = int(gigabytes * 1e9 / (4 * ROW))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "store"
        batches = DataLoader(Rows(count), batch_size=512)
        fl.ActivationRecorder(nn.Identity(), "").record(batches, to=path, progress=False)
        generator = torch.Generator().manual_seed(0)
        warm, cold = [], []
        for _ in range(rounds):
            rows = torch.randperm(count, generator=generator)[:READ].tolist()
            for times, forget in ((cold, True), (warm, False)):
                if forget:
                    forget_files(path)
                store = fl.ActivationStore(path)
                start = time.perf_counter()
                found = store[""][rows]
                times.append(1000 * (time.perf_counter() - start))
                assert found[:, 0].long().tolist() == rows
    size = count * ROW * 4 / 1e9
    print(
        f"\n{READ} random rows of {4 * ROW // 1024} KiB from a store of {size:.2f} GB, median of {rounds}, in ms"
    )
    print(f"{'pages in the file cache':36}{statistics.median(warm):14.1f}")
    print(f"{'pages dropped from the cache first':36}{statistics.median(cold):14.1f}")


def forget_files(folder: Path) -> None:
    """Ask the system to drop a folder's files from its cache; some file systems ignore this."""
    if not hasattr(os, "posix_fadvise"):
        return
    for file in folder.rglob("*.npy"):
        descriptor = os.open(file, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--memory", nargs=2, metavar=("WAY", "IMAGES"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.memory:
        print(*memory(options.memory[0], int(options.memory[1])))
        return
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, ResNet-18, batches of {BATCH}")
    quick = options.quick
    compare_time(1024, 64 if quick else 224, options.rounds or (2 if quick else 5))
    compare_memory([200, 1000] if quick else [1000, 5000, 20_000, 50_000])
    compare_reading(0.064 if quick else 1.0)


if __name__ == "__main__":
    main()
