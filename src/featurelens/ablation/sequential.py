"""The quickest way to run what comes after a layer: calling it, where the model is an nn.Sequential.

In eval mode torch's own layers treat every image by itself, so that variants can share a batch without a check if no others
follow. And as long as they treat every channel by itself as well, what is ablated before them can be ablated behind them:
they run once for all variants.
"""

from __future__ import annotations

from typing import Any, final

import torch
from torch import nn

from featurelens._batches import Given
from featurelens._failure import explained
from featurelens._random import random_state, same_random_state
from featurelens.ablation.layer import AblatedLayer
from featurelens.ablation.replay import Change, Watch

_OF_CHANNELS = {
    *(
        nn.ReLU,
        nn.ReLU6,
        nn.LeakyReLU,
        nn.ELU,
        nn.GELU,
        nn.SiLU,
        nn.Hardswish,
        nn.Softplus,
        nn.Sigmoid,
        nn.Tanh,
    ),
    *(nn.Identity, nn.Dropout, nn.Dropout2d, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d),
    *(nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d),
    *(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d),
}
_OF_IMAGES = _OF_CHANNELS | {
    *(nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
    *(nn.Linear, nn.LayerNorm, nn.GroupNorm, nn.Flatten),
}
_HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")


@final
class SequentialPass:
    """One forward pass with nothing ablated, and the layers that follow; see `PlainPass` for the attributes."""

    def __init__(
        self, layer: AblatedLayer, given: Given, before: list[nn.Module], after: list[nn.Module]
    ) -> None:
        self.layer, self.given, self.size = layer, given, given.rows or 0
        self.calls = 0
        self._passed, self._after = list[nn.Module](), after
        with layer.hooked(self._count):
            features = layer.check(self._through(before, given.args[0].clone()), self.size)
            alike = layer.channel_axis % features.ndim == 1
            while alike and after and _keeps_images(after[0]) and _keeps_channels(after[0], features):
                self._passed.append(after.pop(0))
            self.features, self.front = {1: features}, self.advance(features)
            self.independent = all(map(_keeps_images, after))
            self.reads_values = self.mixes_images = self.draws = False
            self.largest = self.front.numel()
            self.output: Any = self._independently() if self.independent else self._watched()

    def _independently(self) -> Any:
        found = self.front.clone()
        for module in self._after:
            found = self._through([module], found)
            self.largest = max(self.largest, found.numel())
        return found

    def _watched(self) -> Any:
        found, watch, before = self.front.clone(), Watch(self.size), random_state()
        watch.follow(found)
        with watch:
            output = self._through(self._after, found)
        self.draws = not same_random_state(before, random_state())
        self.reads_values, self.mixes_images = watch.reads_values, watch.mixes_images
        self.largest = max(self.largest, watch.largest)
        return output

    def _count(self, output: Any) -> None:
        self.calls += 1

    def _through(self, modules: list[nn.Module], found: Any) -> Any:
        try:
            for module in modules:
                found = module(found)
        except Exception as error:
            args, kwargs = self.given.args, self.given.kwargs
            raise explained(error, self.layer.model, "a batch", args, kwargs) from error
        return found

    def check_channels_agree(self) -> None:
        """Do nothing, as the layer is called once."""

    def advance(self, features: torch.Tensor) -> torch.Tensor:
        """Return what `front` would be for other features of the layer."""
        advanced: torch.Tensor = self._through(self._passed, features.clone() if self._passed else features)
        return advanced

    def replay(self, rows: torch.Tensor, change: Change) -> Any:
        """Run what comes after the layer on a batch of other rows, which `change` makes."""
        found = change(self.front, 1)
        for module in self._after:
            found = module(found)
        return found


def sequential_pass(layer: AblatedLayer, given: Given) -> SequentialPass | None:
    """Return a pass through a model that calls the layer as one step of an nn.Sequential, else None."""
    steps, ablated = _steps(layer.model), layer.module
    places = [place for place, step in enumerate(steps) if step is ablated]
    if len(places) != 1 or layer.choice.call not in (None, 1) or layer.part is not None or layer.heads:
        return None
    if len(given.args) != 1 or given.kwargs:
        return None
    found = SequentialPass(layer, given, steps[: places[0] + 1], steps[places[0] + 1 :])
    return found if found.calls == 1 else None  # another step calls the layer, too


def _steps(model: nn.Module) -> list[nn.Module]:
    """Return the steps of nested plain nn.Sequentials, one after the other."""
    plain = type(model).forward is nn.Sequential.forward and "forward" not in vars(model)
    if not plain or any(vars(model)[hooks] for hooks in _HOOKS):
        return [model]
    return [step for child in model.children() for step in _steps(child)]


def _keeps_images(module: nn.Module) -> bool:
    """Whether a module treats every image by itself."""
    own = vars(module)
    if type(module) not in _OF_IMAGES or module.training or "forward" in own or any(own[h] for h in _HOOKS):
        return False
    if isinstance(module, nn.Flatten):
        return module.start_dim >= 1
    return not own.get("return_indices") and own["_buffers"].get("running_mean", 0) is not None


def _keeps_channels(module: nn.Module, features: torch.Tensor) -> bool:
    """Whether a module that treats every image by itself treats every channel of `features` `(N, C, ...)` by itself."""
    name = type(module).__name__
    return type(module) in _OF_CHANNELS and ("Pool" not in name or features.ndim == 2 + int(name[-2]))
