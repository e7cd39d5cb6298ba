"""Time and memory of ablating every channel of a layer, compared with a loop of full forward passes and captum.

    python benchmarks/ablation.py                  # a middle and two late layers of ResNet-18; two layers of a small CNN
    python benchmarks/ablation.py --rounds 9 --threads 1

Every contender removes each channel of the layer in turn and returns the model's output, for a batch of 8. Each round
runs all contenders once, in random order. The table gives the median over rounds of the loop's time divided by the
contender's in the same round, so a machine that slows down affects all alike; and the largest difference from the
loop's output. Peak memory is measured for one call in a separate process, above what the process used before (Linux).
captum comes from the `bench` dependency group; if it is not installed, its rows are skipped.
"""

from __future__ import annotations

import argparse
import importlib.util
import random
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn
from torchvision.models import resnet18

import featurelens as fl

sys.path.insert(0, str(Path(__file__).parent.parent / "examples"))

from reference import TutorialCNN, seeded

Run = Callable[[], torch.Tensor]
CASES = ("layer2.1.conv2", "layer4.0.conv1", "layer4.1.conv2", "conv1", "conv2")
SMALL = ("conv1", "conv2")  # of study E's network; the others are ResNet-18's
LOOP = "loop of full forwards"
BATCH = 8
TARGET = 0  # captum explains one class at a time


def contenders(layer: str) -> dict[str, Run]:
    """Return the ways to ablate each channel of `layer`; each returns the change of one class score `(C, N)`."""
    model, images = subject(layer)
    with torch.no_grad():
        plain = model(images)[:, TARGET]
    ablator = fl.ChannelAblator(model, layer)
    runs: dict[str, Run] = {
        LOOP: lambda: plain - loop(model, layer, images)[..., TARGET],
        "featurelens": lambda: plain - ablator.sweep(images, mode="drop").outputs[..., TARGET],
    }
    if importlib.util.find_spec("captum"):
        from captum.attr import LayerFeatureAblation

        attribution = LayerFeatureAblation(model, model.get_submodule(layer))
        channels = model.get_submodule(layer).out_channels
        mask = torch.arange(channels)[None, :, None, None]

        def with_captum(at_once: int) -> torch.Tensor:
            found = attribution.attribute(
                images, target=TARGET, layer_mask=mask, perturbations_per_eval=at_once
            )
            return found[:, :, 0, 0].T

        runs["captum, one at a time"] = lambda: with_captum(1)
        runs["captum, 16 at a time"] = lambda: with_captum(16)
    return runs


def loop(model: nn.Module, layer: str, images: torch.Tensor) -> torch.Tensor:
    """Run the whole model once for every channel, with a hook that zeroes it."""
    module = model.get_submodule(layer)
    outputs = []
    for channel in range(module.out_channels):

        def hook(
            module: nn.Module, inputs: object, output: torch.Tensor, channel: int = channel
        ) -> torch.Tensor:
            output = output.clone()
            output[:, channel] = 0
            return output

        handle = module.register_forward_hook(hook)
        outputs.append(model(images))
        handle.remove()
    return torch.stack(outputs)


def subject(layer: str) -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    if layer in SMALL:
        return seeded(TutorialCNN).eval(), torch.rand(BATCH, 3, 32, 32)
    return resnet18(weights=None).eval(), torch.rand(BATCH, 3, 64, 64)


def compare(runs: dict[str, Run], rounds: int) -> dict[str, tuple[float, float, float]]:
    """Return each contender's seconds, its speedup over the loop, and its largest difference."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    expected = runs[LOOP]()
    differences = {name: (run() - expected).abs().max().item() for name, run in runs.items()}  # also warms up
    order = random.Random(0)
    for _ in range(rounds):
        names = list(runs)
        order.shuffle(names)
        for name in names:
            start = time.perf_counter()
            runs[name]()
            times[name].append(time.perf_counter() - start)
    return {
        name: (
            statistics.median(spent),
            statistics.median(a / b for a, b in zip(times[LOOP], spent, strict=True)),
            differences[name],
        )
        for name, spent in times.items()
    }


def memory(field: str) -> float:
    """Return one memory figure of this process in MiB, as Linux reports it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


def peak(name: str, layer: str) -> float:
    """Return the peak growth of the process in MiB while one contender runs once."""
    run = contenders(layer)[name]
    Path("/proc/self/clear_refs").write_text("5")  # reset the peak
    before = memory("VmRSS")
    run()
    return max(0.0, memory("VmHWM") - before)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--layers", nargs="+", choices=CASES, default=CASES)
    parser.add_argument("--time-only", action="store_true", help="skip peak memory")
    parser.add_argument("--memory", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    warnings.simplefilter("ignore")
    if options.memory:
        with torch.no_grad():
            print(peak(options.memory, options.layers[0]))
        return
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, batch {BATCH}")
    for layer in options.layers:
        model, images = subject(layer)
        channels, size = model.get_submodule(layer).out_channels, images.shape[-1]
        print(f"\n{type(model).__name__}, {layer}, {channels} channels, {size} x {size}")
        with torch.no_grad():
            found = compare(contenders(layer), options.rounds)
        print(f"{'':24} {'seconds':>8} {'times as fast':>14} {'difference':>11} {'peak MiB':>9}")
        for name, (seconds, ratio, difference) in found.items():
            row = f"{name:24} {seconds:8.3f} {ratio:14.2f} {difference:11.1e}"
            if not options.time_only:
                command = [sys.executable, __file__, "--memory", name, "--layers", layer]
                command += ["--threads", str(options.threads)]
                said = subprocess.run(command, capture_output=True, text=True, check=False).stdout.split()
                row += f" {float(said[-1]) if said else float('nan'):9.0f}"
            print(row, flush=True)


if __name__ == "__main__":
    main()
