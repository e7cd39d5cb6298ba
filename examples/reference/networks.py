"""The convolutional networks of the examples; every layer has a name."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Callable

Built = TypeVar("Built")


class MnistCNN(nn.Sequential):
    """Two convolutions for MNIST (study B) and digits: ``(N, 1, 28, 28)`` -> ``(N, classes)``."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__(
            OrderedDict(
                conv1=nn.Conv2d(1, 16, 5, padding=2),
                relu1=nn.ReLU(),
                pool1=nn.MaxPool2d(2),
                conv2=nn.Conv2d(16, 32, 5, padding=2),
                relu2=nn.ReLU(),
                pool2=nn.MaxPool2d(2),
                flatten=nn.Flatten(),
                fc1=nn.Linear(32 * 7 * 7, 128),
                relu3=nn.ReLU(),
                dropout=nn.Dropout(0.4),
                fc2=nn.Linear(128, classes),
            )
        )


class GrayscaleCNN(nn.Sequential):
    """Six 3x3 convolutions of 16 channels and a linear layer at every position (study A).

    ``(N, 1, 32, 32)`` -> ``(N, classes)``. Weights are Xavier-uniform, biases zero.
    """

    def __init__(self, classes: int = 10) -> None:
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        for number in range(1, 7):
            layers[f"conv{number}"] = nn.Conv2d(1 if number == 1 else 16, 16, 3, padding="same")
            layers[f"relu{number}"] = nn.ReLU()
            if number in (2, 4):
                layers[f"pool{number // 2}"] = nn.MaxPool2d(2)
        layers["channels_last"] = ChannelsLast()
        layers["fc1"] = nn.Linear(16, 64)
        layers["relu7"] = nn.ReLU()
        layers["dropout"] = nn.Dropout(0.5)
        layers["flatten"] = nn.Flatten()
        layers["fc2"] = nn.Linear(64 * 8 * 8, classes)
        super().__init__(layers)
        for parameter in self.parameters():
            if parameter.ndim > 1:
                nn.init.xavier_uniform_(parameter)
            else:
                nn.init.zeros_(parameter)


class ChannelsLast(nn.Module):
    """``(N, C, H, W)`` -> ``(N, H, W, C)``, so that a linear layer acts on each position separately."""

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1)


class CifarClassifier(nn.Sequential):
    """Three convolution blocks and two linear layers (study C): ``(N, 3, 32, 32)`` -> ``(N, classes)``."""

    def __init__(self, classes: int = 10) -> None:
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        for number, (before, after) in enumerate([(3, 32), (32, 64), (64, 128)], start=1):
            layers[f"conv{number}"] = nn.Conv2d(before, after, 3, padding=1, bias=False)
            layers[f"norm{number}"] = nn.BatchNorm2d(after)
            layers[f"relu{number}"] = nn.ReLU()
            layers[f"pool{number}"] = nn.MaxPool2d(2)
            layers[f"dropout{number}"] = nn.Dropout(0.2)
        layers["flatten"] = nn.Flatten()
        layers["fc1"] = nn.Linear(128 * 4 * 4, 256, bias=False)
        layers["norm4"] = nn.BatchNorm1d(256)
        layers["relu4"] = nn.ReLU()
        layers["dropout4"] = nn.Dropout(0.5)
        layers["fc2"] = nn.Linear(256, classes)
        super().__init__(layers)


class TutorialCNN(nn.Sequential):
    """Two 5x5 convolutions and three linear layers (study E): ``(N, 3, 32, 32)`` -> ``(N, classes)``."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__(
            OrderedDict(
                conv1=nn.Conv2d(3, 6, 5),
                relu1=nn.ReLU(),
                pool1=nn.MaxPool2d(2),
                conv2=nn.Conv2d(6, 16, 5),
                relu2=nn.ReLU(),
                pool2=nn.MaxPool2d(2),
                flatten=nn.Flatten(),
                fc1=nn.Linear(16 * 5 * 5, 120),
                relu3=nn.ReLU(),
                fc2=nn.Linear(120, 84),
                relu4=nn.ReLU(),
                fc3=nn.Linear(84, classes),
            )
        )


class SmallCNN(nn.Sequential):
    """Three convolutions for images of any size and any number of channels: ``(N, channels, H, W)`` -> ``(N, classes)``."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__(
            OrderedDict(
                conv1=nn.Conv2d(channels, 16, 5, padding=2, bias=False),
                norm1=nn.BatchNorm2d(16),
                relu1=nn.ReLU(),
                pool1=nn.MaxPool2d(2, ceil_mode=True),
                conv2=nn.Conv2d(16, 32, 3, padding=1, bias=False),
                norm2=nn.BatchNorm2d(32),
                relu2=nn.ReLU(),
                pool2=nn.MaxPool2d(2, ceil_mode=True),
                conv3=nn.Conv2d(32, 64, 3, padding=1, bias=False),
                norm3=nn.BatchNorm2d(64),
                relu3=nn.ReLU(),
                pool3=nn.AdaptiveAvgPool2d(4),
                flatten=nn.Flatten(),
                dropout=nn.Dropout(0.3),
                fc=nn.Linear(64 * 4 * 4, classes),
            )
        )


def fitting_network(channels: int, size: tuple[int, int], classes: int, *, seed: int = 0) -> nn.Module:
    """Build a network for images of shape ``(channels, *size)``: the study's network, or `SmallCNN`."""
    own = {(1, 28, 28): MnistCNN, (3, 32, 32): CifarClassifier}
    build = own.get((channels, *size))
    return seeded(lambda: build(classes) if build else SmallCNN(channels, classes), seed=seed)


def seeded(build: Callable[[], Built], *, seed: int = 0) -> Built:
    """Call `build` with random weights that depend on `seed` alone; the global generator is restored.

    >>> from torch import equal
    >>> equal(seeded(MnistCNN, seed=1).fc2.weight, seeded(MnistCNN, seed=1).fc2.weight)
    True
    """
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(seed)  # torch.manual_seed would seed accelerators too
        return build()
