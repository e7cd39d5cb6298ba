"""Time on a GPU of recording, streaming, ablation and pictures of ResNet-50, as multiples of what they cannot do without.

    python benchmarks/accelerator.py            # batches of 128 images of 224 x 224
    python benchmarks/accelerator.py --device cpu --batch 4 --size 64 --rounds 1

Each round runs all contenders once, in random order, and waits for the device after each. Images lie on the device already.
The table gives the median over the rounds of a contender's time divided by that of the forward pass in the same round. An
ablation by hand runs the whole network once for each channel.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torchvision.models import resnet50

import featurelens as fl

LAYERS = nn.Conv2d
ABLATED = "layer3.0.conv1"  # 256 channels
FEW = [fl.statistics.Moments()]
MANY = [fl.statistics.Moments(), fl.statistics.Histogram(), fl.statistics.TopK(9)]


def by_hand(model: nn.Module, images: torch.Tensor) -> dict[str, torch.Tensor]:
    """Record with hooks as a person would write them."""
    kept: dict[str, torch.Tensor] = {}
    hooks = [
        module.register_forward_hook(lambda _, __, output, name=name: kept.update({name: output.detach()}))
        for name, module in model.named_modules()
        if isinstance(module, LAYERS)
    ]
    model(images)
    for hook in hooks:
        hook.remove()
    return kept


def contenders(model: nn.Module, images: torch.Tensor) -> dict[str, Callable[[], Any]]:
    labels = torch.arange(len(images)) % 10
    batches = [(images, labels)] * 4
    keeping = fl.ActivationRecorder(model, LAYERS)
    means = fl.ActivationRecorder(model, LAYERS, reduce="mean")
    return {
        "forward": lambda: model(images),
        "53 hooks by hand, kept by reference": lambda: by_hand(model, images),
        "record 53 layers, copies": lambda: keeping(images),
        "record 53 layers, channel means": lambda: means(images),
        "4 forwards": lambda: [model(images) for _ in range(4)],
        "4 batches: stream moments": lambda: means.stream(batches, FEW, progress=False),
        "4 batches: stream moments, histogram, top": lambda: means.stream(batches, MANY, progress=False),
    }


def measure(ways: dict[str, Callable[[], Any]], rounds: int, device: str) -> dict[str, list[float]]:
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(-1, rounds):
        for name in random.Random(number).sample(list(ways), len(ways)):
            begin = time.perf_counter()
            ways[name]()
            if device != "cpu":
                torch.accelerator.synchronize()
            if number >= 0:  # the first round warms up
                seconds[name].append(time.perf_counter() - begin)
    return seconds


def show(seconds: dict[str, list[float]], unit: str) -> None:
    print(f"\n{'':44}{'seconds':>10}{'ratio':>8}")
    for name, taken in seconds.items():
        ratio = statistics.median(a / b for a, b in zip(taken, seconds[unit], strict=True))
        print(f"{name:44}{statistics.median(taken):>10.4f}{ratio:>8.2f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=9)
    asked = parser.parse_args()
    torch.manual_seed(0)
    model = resnet50(weights=None).eval().to(asked.device)
    images = torch.rand(asked.batch, 3, asked.size, asked.size, device=asked.device)
    name = torch.cuda.get_device_name() if asked.device == "cuda" else asked.device
    print(f"torch {torch.__version__}, {name}, {asked.batch} images of {asked.size} x {asked.size}")
    with torch.no_grad():
        show(measure(contenders(model, images), asked.rounds, asked.device), "forward")

    few = images[:16]
    ablator = fl.ChannelAblator(model, ABLATED)
    data = [(few, torch.arange(len(few)) % 10)]
    channels = dict(model.named_modules())[ABLATED].out_channels

    def loop() -> None:
        for channel in range(channels):
            with ablator.ablated(channel), torch.no_grad():
                model(few)

    ways = {
        f"{channels} channels ablated one by one": loop,
        "ChannelAblator.importance": lambda: ablator.importance(data, progress=False),
    }
    show(measure(ways, max(1, asked.rounds // 3), asked.device), next(iter(ways)))

    wanted = [f"{ABLATED}:{channel}" for channel in range(16)]
    parametrization = fl.FourierImage((3, 128, 128))

    def pictures(**options: Any) -> Callable[[], Any]:
        maximizer = fl.ActivationMaximizer(model, parametrization, steps=32, progress=False, **options)
        return lambda: maximizer.run(wanted)

    ways = {"16 pictures, 32 steps": pictures(), "the same, autocast": pictures(autocast=True)}
    show(measure(ways, max(1, asked.rounds // 3), asked.device), next(iter(ways)))


if __name__ == "__main__":
    main()
