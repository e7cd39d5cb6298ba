"""The path to an objective: through which channels of each layer its value comes, and whether real images share it.

What a channel contributes to an objective is its activation times the objective's gradient, summed over positions. Two
images go by the same path through a layer if the same channels contribute, in the same proportions. Geirhos et al., "Don't
trust your eyes: on the (un)reliability of feature visualizations", ICML 2024, compare activations; contributions leave out
what the image excites besides the objective.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import nn
from torch.autograd.graph import get_gradient_edge

from featurelens._channels import ChannelAxes
from featurelens._hooks import hooked, named_modules
from featurelens._html import Shown
from featurelens._structure import first_tensor
from featurelens.maximization.evaluation import Evaluation, Layers, differentiating
from featurelens.maximization.objective import Objective

SHARED = 0.2
"""The least that the strongest real images must have in common for a layer to tell a path from another."""

DETOUR = 0.4
"""Below this share of what real images have in common, an optimized image goes by another path."""

AT_A_TIME = 8
"""Objectives whose contributions are in memory together."""

REARRANGING = (
    "Identity",
    "Dropout",
    "Flatten",
    "Unflatten",
    "Pool",
    "Pad",
    "Shuffle",
    "Upsample",
    "Fold",
    "DropPath",
)
"""Parts of the names of modules that pass on what they are given, shares of it, or zeros."""

Drives = dict[str, torch.Tensor]
"""Shares ``(B, C)`` of the channels of layers in the values of objectives for B images."""


@final
@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class PathSimilarity(Shown):
    """How much images have in common in the channels through which they drive objectives, layer by layer.

    The similarity of two images at a layer is the overlap of the shares that its channels have in the objective's
    value: 1 if these are the same, 0 if no channel contributes in both. Layers that an objective looks at or does not
    pass have NaN, and so have optimized images that no channel drives.

    Attributes
    ----------
    layers : tuple of str
        The L layers on the way to the objectives.
    optimized : torch.Tensor
        ``(N, L)``: similarity of the optimized image to the strongest real ones, of which at most 8 are looked at.
    strongest : torch.Tensor
        ``(N, L)``: similarity of the strongest real images to each other.
    random : torch.Tensor
        ``(N, L)``: similarity of random real images to the strongest ones.
    seeds : torch.Tensor
        ``(N, L)``: similarity of the optimized image to those of other seeds, if they were given.
    """

    layers: tuple[str, ...]
    optimized: torch.Tensor
    strongest: torch.Tensor
    random: torch.Tensor
    seeds: torch.Tensor

    @property
    def relative(self) -> torch.Tensor:
        """``(N, L)``: `optimized` as a multiple of `strongest`; NaN where the strongest have hardly a path in common."""
        return torch.where(self.strongest >= SHARED, self.optimized / self.strongest, torch.nan)

    @property
    def detours(self) -> torch.Tensor:
        """``(N,)`` bool: at some layer the image has less than 0.4 of what the strongest real images have in common."""
        return (self.relative < DETOUR).any(1)

    @property
    def agreement(self) -> torch.Tensor:
        """``(N,)``: mean of `seeds` over the layers; NaN without other seeds."""
        return self.seeds.nanmean(1)

    def __repr__(self) -> str:
        return f"PathSimilarity({len(self.optimized)} objectives, {len(self.layers)} layers)"


@final
class Paths:
    """Finds the shares that channels have in objectives, for the images of one comparison.

    Parameters
    ----------
    layers
        The layers of the objectives, with their model.
    prepare
        From images in [0, 1] to what the model takes.
    size
        How many images the model takes at a time.
    """

    def __init__(self, layers: Layers, prepare: Callable[[torch.Tensor], torch.Tensor], size: int) -> None:
        self.layers, self.prepare, self.size = layers, prepare, size
        self.axes = ChannelAxes(layers.model)
        self.on_the_way = {
            name: module
            for name, module in named_modules(layers.model).items()
            if all(child == "parametrizations" for child, _ in module.named_children())  # of weights
            and not any(part in type(module).__name__ for part in REARRANGING)
        }

    def similarity(
        self,
        objectives: Sequence[Objective],
        pictures: torch.Tensor,
        strongest: torch.Tensor,
        random: torch.Tensor,
        others: Sequence[torch.Tensor] = (),
    ) -> PathSimilarity:
        """Compare the paths of `pictures` ``(N, ...)`` with those of real ones: `strongest` ``(N, K, ...)``, and `random`.

        `others` are pictures ``(N, ...)`` of the same objectives.
        """
        parts: list[tuple[slice, dict[str, torch.Tensor]]] = []
        with differentiating([self.layers.model]):
            for start in range(0, len(objectives), AT_A_TIME):
                rows = slice(start, start + AT_A_TIME)
                chosen = objectives[rows]
                drives = [
                    self.drives(chosen, images)
                    for images in (
                        pictures[rows, None],
                        strongest[rows],
                        random.expand(len(chosen), *random.shape),
                        *(each[rows, None] for each in others),
                    )
                ]
                every = [name for name in drives[0] if all(name in each for each in drives)]
                parts.append((rows, {name: _compare(*(each[name] for each in drives)) for name in every}))
        names = list(dict.fromkeys(name for _, part in parts for name in part))
        table = torch.full((5, len(objectives), len(names)), torch.nan, dtype=torch.float32)
        for rows, part in parts:
            for name, columns in part.items():
                table[:, rows, names.index(name)] = columns
        for row, objective in enumerate(objectives):
            own = {self.layers.names[layer] for layer in objective.layers}
            own |= {name.removesuffix("#1") for name in own}  # a module that is called once has no number
            table[:, row, [name in own for name in names]] = torch.nan
        passed = ~table[2].isnan().all(0)
        optimized, among, usual, again, driven = table[:, :, passed]
        optimized[~(driven > 0).any(1)] = torch.nan  # no channel of any layer does anything for the objective
        layers = tuple(name for name, some in zip(names, passed.tolist(), strict=True) if some)
        return PathSimilarity(layers=layers, optimized=optimized, strongest=among, random=usual, seeds=again)

    def drives(self, objectives: Sequence[Objective], images: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the shares ``(N, K, C)`` of channels in the value of objective n for each of its images ``(N, K, ...)``."""
        n, k = images.shape[:2]
        every = [objective for objective in objectives for _ in range(k)]
        parts: list[Drives] = []
        for start in range(0, n * k, self.size):
            stop = min(start + self.size, n * k)
            parts.append(self._drives(every[start:stop], images.flatten(0, 1)[start:stop]))
        shared = [name for name in parts[0] if all(name in part for part in parts)]
        return {name: torch.cat([part[name] for part in parts]).view(n, k, -1) for name in shared}

    def _drives(self, objectives: Sequence[Objective], images: torch.Tensor) -> Drives:
        images = images.to(self.layers.device).clone().requires_grad_()  # they may be inference tensors
        taken: dict[str, list[tuple[torch.Tensor, Any]]] = {}

        def listener(name: str) -> Callable[..., None]:
            def listen(module: nn.Module, args: Any, output: Any) -> None:
                first: Any = first_tensor(output)
                if first is None or not (first.is_floating_point() and first.requires_grad):
                    return
                if first.ndim > 1 and len(first) == len(images):
                    # Later code may change the output in place.
                    taken.setdefault(name, []).append((first.detach().clone(), get_gradient_edge(first)))

            return listen

        with hooked({module: listener(name) for name, module in self.on_the_way.items()}):
            outputs = self.layers.outputs(self.prepare(images))
        values = Evaluation(self.layers, objectives).diagonal(outputs, images)
        calls = {
            f"{name}#{index}" if len(several) > 1 else name: (name, output, edge)
            for name, several in taken.items()
            for index, (output, edge) in enumerate(several, start=1)
        }
        gradients: Sequence[Any] = [None] * len(calls)
        if calls and values.requires_grad:  # diversity alone has no value here
            edges = [edge for *_, edge in calls.values()]
            gradients = torch.autograd.grad(values.sum(), edges, allow_unused=True)
        drives: Drives = {}
        for (label, (name, output, _)), gradient in zip(calls.items(), gradients, strict=True):
            axis = self.axes.of(self.on_the_way[name], tuple(output.shape))
            if axis is not None:
                # Without a gradient no objective of this batch passes the layer; those of other batches may.
                each = (output * (0 if gradient is None else gradient)).float().movedim(axis, 1)
                by_channel = each.reshape(*each.shape[:2], -1).sum(2)
                drives[label] = nn.functional.normalize(by_channel.clamp(min=0), p=1, dim=1).cpu()
        return drives


def _compare(
    optimized: torch.Tensor, strongest: torch.Tensor, random: torch.Tensor, *seeds: torch.Tensor
) -> torch.Tensor:
    """Return ``(5, N)``: the columns of a `PathSimilarity` for one layer, from shares ``(N, images, C)``.

    The last one says whether the optimized image has shares.
    """
    answering = strongest.sum(2)  # 1, or 0 for a real image without any effect on the objective
    number = answering.sum(1)
    own = torch.minimum(strongest[:, :, None], strongest[:, None]).sum(3)
    among = (own.sum((1, 2)) - number) / (number * (number - 1))  # each has all in common with itself
    again = torch.stack([_overlap(optimized, each) for each in seeds]).mean(0) if seeds else among * torch.nan
    driven = optimized.sum((1, 2))
    return torch.stack([_overlap(strongest, optimized), among, _overlap(strongest, random), again, driven])


def _overlap(real: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Return ``(N,)``: what shares ``(N, K, C)`` and ``(N, L, C)`` have in common, as the mean over all pairs.

    Of the first only images that have shares count; with none of them it is NaN.
    """
    common = torch.minimum(real[:, :, None], other[:, None]).sum(3).mean(2)
    return common.sum(1) / real.sum((1, 2))
