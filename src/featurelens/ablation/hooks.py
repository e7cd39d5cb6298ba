"""Hooks that ablate channels in the user's own forward pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

import torch

from featurelens.ablation.layer import AblatedLayer
from featurelens.ablation.masks import Filler, Groups, Mode, Name, Replacement


@final
@dataclass
class ChannelHooks:
    """Hooks that ablate channels in every forward pass, and count passes, calls of the layer and changes."""

    layer: AblatedLayer
    groups: Groups
    names: list[Name]
    mode: Mode
    fill: Filler
    generator: torch.Generator
    passes: int = 0
    calls: int = 0
    most_calls: int = 0
    changes: int = 0

    def begin(self, module: Any, args: Any) -> None:
        """Count calls of the layer anew for each forward pass."""
        self.passes += 1
        self.calls = 0

    def change(self, output: Any) -> Any:
        """Return the layer's output with channels ablated; None for calls that were not selected."""
        self.calls += 1
        self.most_calls = max(self.most_calls, self.calls)
        if self.layer.choice.call not in (None, self.calls):
            return None
        self.changes += 1
        features, axis = self.layer.check(output), self.layer.channel_axis
        total = features.shape[axis]
        named = self.groups.members(self.groups.check(self.names, total), total).any(0, keepdim=True)
        mask = (named if self.mode == "drop" else ~named).to(features.device)
        fill = Replacement(self.fill, axis, len(features), self.generator).values(features, self.calls)
        return self.layer.put(output, self.layer.ablate(features[None], mask, fill)[0])
