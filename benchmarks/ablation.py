"""Time and memory of ablating every channel of a layer, compared with a loop of full forward passes and captum.

    python benchmarks/ablation.py                  # three layers of ResNet-18; every layer of the examples' four networks
    python benchmarks/ablation.py --rounds 9 --threads 1 --layers TutorialCNN:conv1

Every contender removes each channel of the layer in turn and returns the model's output, for a batch of 8. Each round runs
all contenders once, in random order. The table gives the shortest time of each over the rounds, and how many times the loop's
that is, so that other work on the machine does little harm; and the largest difference from the loop's output. Peak memory is
measured for one call in a separate process, above what the process used before (Linux); --memory asks for it. captum comes from
the `bench` dependency group and runs on ResNet-18 and on convolutions; if it is not installed, its rows are skipped.
"""

from __future__ import annotations

import argparse
import importlib.util
import random
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

from reference import CifarClassifier, GrayscaleCNN, MnistCNN, TutorialCNN, seeded

Run = Callable[[], torch.Tensor]
RESNET = ("layer2.1.conv2", "layer4.0.conv1", "layer4.1.conv2")
NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "ResNet18": (lambda: resnet18(weights=None), (3, 64, 64)),
    "GrayscaleCNN": (GrayscaleCNN, (1, 32, 32)),  # study A
    "MnistCNN": (MnistCNN, (1, 28, 28)),  # study B
    "CifarClassifier": (CifarClassifier, (3, 32, 32)),  # study C
    "TutorialCNN": (TutorialCNN, (3, 32, 32)),  # study E
}
LOOP = "loop of full forwards"
BATCH = 8


def subject(network: str) -> tuple[nn.Module, torch.Tensor]:
    build, shape = NETWORKS[network]
    return seeded(build).eval(), torch.rand(BATCH, *shape, generator=torch.Generator().manual_seed(0))


def cases() -> list[str]:
    """Return the layers that are measured: "network:layer"."""
    found = [f"ResNet18:{layer}" for layer in RESNET]
    for network in list(NETWORKS)[1:]:
        children = subject(network)[0].named_children()
        found += [
            f"{network}:{n}" for n, m in children if not isinstance(m, nn.Flatten) and n != "channels_last"
        ]
    return found


def channels_of(model: nn.Module, layer: str, images: torch.Tensor) -> tuple[int, int]:
    """Return how many channels the layer has, and their axis: the last one behind GrayscaleCNN's ChannelsLast."""
    names = list(dict(model.named_children()))
    last = "channels_last" in names and names.index(layer) > names.index("channels_last")
    axis = -1 if last and layer != "fc2" else 1
    output = fl.ActivationRecorder(model, layer)(images)[layer]
    return output.shape[axis], axis


def contenders(case: str) -> dict[str, Run]:
    """Return the ways to ablate each channel of a layer; each returns the change of the outputs `(C, N, classes)`."""
    network, _, layer = case.partition(":")
    model, images = subject(network)
    channels, axis = channels_of(model, layer, images)
    with torch.no_grad():
        plain = model(images)
    ablator = fl.ChannelAblator(model, layer, axis=axis)
    runs: dict[str, Run] = {
        LOOP: lambda: plain - loop(model, layer, images, channels, axis),
        "featurelens": lambda: plain - ablator.sweep(images, mode="drop", progress=False).outputs,
    }
    if importlib.util.find_spec("captum") and isinstance(model.get_submodule(layer), nn.Conv2d):
        from captum.attr import LayerFeatureAblation

        attribution = LayerFeatureAblation(model, model.get_submodule(layer))
        mask = torch.arange(channels)[None, :, None, None]

        def with_captum(at_once: int) -> torch.Tensor:  # which explains one class at a time
            found = attribution.attribute(images, target=0, layer_mask=mask, perturbations_per_eval=at_once)
            return found[:, :, 0, 0].T[..., None]

        runs["captum, one at a time"] = lambda: with_captum(1)
        runs["captum, 16 at a time"] = lambda: with_captum(16)
    return runs


def loop(model: nn.Module, layer: str, images: torch.Tensor, channels: int, axis: int) -> torch.Tensor:
    """Run the whole model once for every channel, with a hook that zeroes it."""
    module = model.get_submodule(layer)
    outputs = []
    for channel in range(channels):

        def hook(
            module: nn.Module, inputs: object, output: torch.Tensor, channel: int = channel
        ) -> torch.Tensor:
            output = output.clone()
            output.select(axis, channel).zero_()
            return output

        handle = module.register_forward_hook(hook)
        outputs.append(model(images))
        handle.remove()
    return torch.stack(outputs)


def compare(runs: dict[str, Run], rounds: int) -> dict[str, tuple[float, float, float]]:
    """Return each contender's seconds, its speedup over the loop, and its largest difference."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    expected = runs[LOOP]()
    differences = {}
    for name, run in runs.items():  # also warms up
        found = run()
        differences[name] = (found - expected[..., : found.shape[-1]]).abs().max().item()
    order = random.Random(0)
    for _ in range(rounds):
        names = list(runs)
        order.shuffle(names)
        for name in names:
            start = time.perf_counter()
            runs[name]()
            times[name].append(time.perf_counter() - start)
    fastest = {name: min(spent) for name, spent in times.items()}
    return {name: (spent, fastest[LOOP] / spent, differences[name]) for name, spent in fastest.items()}


def memory(field: str) -> float:
    """Return one memory figure of this process in MiB, as Linux reports it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


def peak(name: str, case: str) -> float:
    """Return the peak growth of the process in MiB while one contender runs once."""
    run = contenders(case)[name]
    Path("/proc/self/clear_refs").write_text("5")  # reset the peak
    before = memory("VmRSS")
    run()
    return max(0.0, memory("VmHWM") - before)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--layers", nargs="+", help="such as ResNet18:layer4.0.conv1")
    parser.add_argument("--memory", action="store_true", help="also measure peak memory")
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    warnings.simplefilter("ignore")
    if options.memory_of:
        with torch.no_grad():
            print(peak(options.memory_of, options.layers[0]))
        return
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, batch {BATCH}")
    print(f"{'':30} {'':24} {'seconds':>8} {'times as fast':>14} {'difference':>11}")
    slowest = (float("inf"), "")
    for case in options.layers or cases():
        with torch.no_grad():
            found = compare(contenders(case), options.rounds)
        slowest = min(slowest, (found["featurelens"][1], case))
        for name, (seconds, ratio, difference) in found.items():
            row = f"{case:30} {name:24} {seconds:8.4f} {ratio:14.2f} {difference:11.1e}"
            if options.memory:
                command = [sys.executable, __file__, "--memory-of", name, "--layers", case]
                command += ["--threads", str(options.threads)]
                said = subprocess.run(command, capture_output=True, text=True, check=False).stdout.split()
                row += f" {float(said[-1]) if said else float('nan'):9.0f} MiB"
            print(row, flush=True)
    print(f"slowest against the loop: {slowest[1]}, {slowest[0]:.2f} times as fast")


if __name__ == "__main__":
    main()
