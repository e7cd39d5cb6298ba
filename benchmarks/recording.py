"""Time and memory of recording layers, compared with hand-written hooks and other libraries.

    python benchmarks/recording.py                 # ResNet-18: all 20 convolutions, a middle and an early layer
    python benchmarks/recording.py --rounds 40     # then ResNet-50 and the MNIST network, one small image

Each round runs all contenders once, in random order. The table gives the median over rounds of a contender's time divided
by that of the bare forward pass of the same round, so a machine that slows down affects all alike. Peak memory is
measured for one call in a separate process, above what the process used before. Peers come from the `bench` dependency
group; those not installed are skipped.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import importlib.util
import io
import random
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn
from torchvision.models import resnet18, resnet50
from torchvision.models.feature_extraction import create_feature_extractor

import featurelens as fl

Run = Callable[[], Any]
EARLY = ["layer1.1.conv2", "layer1.0.conv1"]


def contenders(model: nn.Module, images: torch.Tensor, layers: list[str]) -> dict[str, Run]:
    """Return all ways to record `layers`; each returns what it recorded."""
    runs = our_own(model, images, layers)
    early = len(layers) == 1
    for clone in (False, True):
        recorder = fl.ActivationRecorder(model, layers, backend="rewrite", clone=clone, stop_early=early)
        name = "featurelens, rewrite" + ", stop_early" * early + ("" if clone else ", clone=False")
        runs[name] = lambda recorder=recorder: recorder(images)
    runs["hand-written hooks"] = lambda: by_hand(model, images, layers, clone=False)
    runs["hand-written hooks, cloning"] = lambda: by_hand(model, images, layers, clone=True)
    extractor = create_feature_extractor(model, layers).eval()
    runs["torchvision FX (no copies)"] = lambda: extractor(images)
    if installed("captum"):
        from captum.attr import LayerActivation

        other = copy.deepcopy(model)  # peers get their own model, because some change it
        attribution = LayerActivation(other, [other.get_submodule(layer) for layer in layers])
        runs["captum"] = lambda: attribution.attribute(images)
    if installed("nnsight"):
        from nnsight import NNsight

        wrapped = NNsight(copy.deepcopy(model))
        runs["nnsight"] = lambda: with_nnsight(wrapped, images, layers)
    if installed("torchlens"):
        traced = copy.deepcopy(model)
        runs["torchlens"] = lambda: with_torchlens(traced, images, layers)
    return runs


def our_own(model: nn.Module, images: torch.Tensor, layers: list[str]) -> dict[str, Run]:
    """Return the bare forward pass and featurelens's ways; a single layer also with ``stop_early=True``."""
    runs: dict[str, Run] = {"bare forward": lambda: model(images)}
    for stop_early in (False, True)[: 2 if len(layers) == 1 else 1]:
        for clone in (False, True):
            recorder = fl.ActivationRecorder(model, layers, clone=clone, stop_early=stop_early)
            name = "featurelens, hooks" + ", stop_early" * stop_early + ("" if clone else ", clone=False")
            runs[name] = lambda recorder=recorder: recorder(images)
    return runs


def small(rounds: int) -> None:
    """Print the cost for one image of at most 64 pixels, where the guard costs relatively most."""
    sys.path.insert(0, "examples")
    from reference.networks import MnistCNN

    torch.manual_seed(0)
    for title, model, images in (
        ("ResNet-50, one image of 64 x 64, all 53 convolutions", resnet50(), torch.rand(1, 3, 64, 64)),
        ("MnistCNN, one image, both convolutions", MnistCNN(), torch.rand(1, 1, 28, 28)),
    ):
        print(f"\n{title}")
        model.eval()
        layers = [name for name, module in model.named_modules() if isinstance(module, nn.Conv2d)]
        with torch.no_grad():
            runs = our_own(model, images, layers)
            for clone in (False, True):
                name = "hand-written hooks" + ", cloning" * clone
                runs[name] = partial(by_hand, model, images, layers, clone=clone)
            ratios = compare(runs, 20 * rounds)
        print(f"{'':36} {'time / bare':>12}")
        for name, ratio in ratios.items():
            print(f"{name:36} {ratio:12.3f}")


def by_hand(
    model: nn.Module, images: torch.Tensor, layers: list[str], *, clone: bool
) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}

    def hook_for(name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: torch.Tensor) -> None:
            found[name] = output.clone() if clone else output

        return hook

    handles = [model.get_submodule(layer).register_forward_hook(hook_for(layer)) for layer in layers]
    model(images)
    for handle in handles:
        handle.remove()
    return found


def with_nnsight(wrapped: Any, images: torch.Tensor, layers: list[str]) -> dict[str, Any]:
    found = {}
    with wrapped.trace(images):
        for layer in layers:
            part = wrapped
            for step in layer.split("."):
                part = part[int(step)] if step.isdigit() else getattr(part, step)
            found[layer] = part.output.save()
    return found


def with_torchlens(model: nn.Module, images: torch.Tensor, layers: list[str]) -> Any:
    import torchlens
    from torchlens.options import CaptureOptions

    return torchlens.trace(model, images, capture=CaptureOptions(layers_to_save=layers))


def installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def compare(runs: dict[str, Run], rounds: int) -> dict[str, float]:
    """Return the median over rounds of each contender's time relative to the bare forward pass."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    working = dict(runs)
    for name, run in runs.items():
        try:
            silently(run)  # warm up: a recorder used more than once plans and traces only the first time
        except Exception as error:  # noqa: BLE001  report a peer that fails, and continue
            print(f"{name}: {type(error).__name__}: {str(error).splitlines()[0][:90]}")
            del working[name]
    order = random.Random(0)
    for _ in range(rounds):
        names = list(working)
        order.shuffle(names)
        # the slowest peer runs only a few times
        for name in names:
            if name == "torchlens" and len(times[name]) >= 3:
                continue
            start = time.perf_counter()
            silently(working[name])
            times[name].append(time.perf_counter() - start)
    bare = times["bare forward"]
    print(f"bare forward: {1000 * statistics.median(bare):.2f} ms")
    return {
        name: statistics.median(a / b for a, b in zip(times[name], bare, strict=False)) for name in working
    }


def silently(run: Run) -> None:
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run()


def resident() -> float:
    with open("/proc/self/statm") as statm:  # noqa: PTH123
        return int(statm.read().split()[1]) * 4096 / 2**20


def peak(name: str, layers: list[str]) -> float:
    """Return the peak growth of the process in MiB while one contender runs once."""
    import resource

    model, images = subject()
    with torch.no_grad():
        runs = contenders(model, images, layers)
        silently(runs["bare forward"])
        before = resident()
        silently(runs[name])
    return max(0.0, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before)


def subject() -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    return resnet18(weights=None).eval(), torch.rand(8, 3, 224, 224)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--time-only", action="store_true", help="skip peak memory, which takes minutes")
    parser.add_argument("--memory", help=argparse.SUPPRESS)
    parser.add_argument("--layers", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    model, images = subject()
    convolutions = [name for name, module in model.named_modules() if isinstance(module, nn.Conv2d)]
    if options.memory:
        print(peak(options.memory, options.layers))
        return
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, ResNet-18, batch 8 at 224 x 224")
    for title, layers in (
        ("all 20 convolutions", convolutions),
        *((f"{name} alone", [name]) for name in EARLY),
    ):
        print(f"\n{title}")
        with torch.no_grad():
            ratios = compare(contenders(model, images, layers), options.rounds)
        print(f"{'':36} {'time / bare':>12} {'peak MiB':>9}")
        for name, ratio in ratios.items():
            if options.time_only:
                print(f"{name:36} {ratio:12.3f}")
                continue
            command = [sys.executable, __file__, "--memory", name, "--layers", *layers]
            memory = subprocess.run(command, capture_output=True, text=True, check=False).stdout.split()
            print(f"{name:36} {ratio:12.3f} {float(memory[-1]) if memory else float('nan'):9.0f}")
    small(options.rounds)


if __name__ == "__main__":
    main()
