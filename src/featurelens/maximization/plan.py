"""From objectives to numbers: which layers are looked at, and all terms of a kind evaluated in one go."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, final

import torch
from torch import nn

from featurelens._checks import count, describe
from featurelens._hooks import named_modules
from featurelens._structure import first_tensor, has_channels_first, tensors
from featurelens.layers import Choice, Selector, choose
from featurelens.maximization.objective import Objective
from featurelens.maximization.terms import ChannelTerm, Diversity, LayerTerm, Term

MOST_VALUES = 2**25
"""How many activations `Plan.matrix` may look at in one go."""


@final
class Layers:
    """The layers that objectives look at."""

    def __init__(self, model: nn.Module, selectors: Iterable[Selector]) -> None:
        choices = {selector: one_layer(model, selector) for selector in dict.fromkeys(selectors)}
        self.keys = {selector: name_of(choice) for selector, choice in choices.items()}
        self.keys |= {name: name for name in self.keys.values()}
        modules = named_modules(model, all_names=True)
        self.modules = {name_of(choice): modules[choice.name] for choice in choices.values()}

    @property
    def names(self) -> list[str]:
        """The layers, each once."""
        return list(dict.fromkeys(self.keys.values()))

    def only_calls(self, activations: Mapping[str, Any]) -> list[str] | None:
        """The layers by their only calls (``"conv#1"``), at which a pass may end; None if one is called several times."""
        if list(activations) != self.names:
            return None
        return [name if "#" in name else f"{name}#1" for name in self.names]

    def observed(self, term: Term, activations: Mapping[str, Any], images: torch.Tensor) -> torch.Tensor:
        """Return what `term` looks at."""
        if not isinstance(term, LayerTerm):
            return images
        output = self.output(term.layer, activations)
        if len(output) != len(images):
            raise ValueError(
                f"layer {self.keys[term.layer] or 'the output'!r} returned {describe(output)} for "
                f"{count(len(images), 'image')}: its first axis must be that of the images"
            )
        return output

    def output(self, selector: Selector, activations: Mapping[str, Any]) -> torch.Tensor:
        """Return what the layer that `selector` names gave."""
        name = self.keys[selector]
        called = [key for key in activations if key == name or key.startswith(f"{name}#")]
        if len(called) > 1:
            raise ValueError(
                f"layer {name!r} is called {len(called)} times; say which call: {', '.join(called)}"
            )
        found = activations[called[0]]
        if not name and sum(1 for _ in tensors(found)) > 1:
            raise ValueError(
                f"the model returns {describe(found)}: say which of them by the name of the layer that makes it, as in "
                "fl.objectives.channel('head', 3); fl.list_layers(model) lists the names"
            )
        return single_tensor(found, name)

    def check_axis(self, selector: Selector, shape: tuple[int, ...], wanted: str = "channel") -> None:
        """Raise an error if only the user can tell which axis of `shape` holds the channels."""
        name = self.keys[selector]
        if len(shape) == 3 and not has_channels_first(self.modules[name]):
            raise ValueError(
                f"layer {name or 'the output'!r} returns {shape}, which may be (N, L, D) or (N, C, L): say "
                f"fl.objectives.{wanted}({name!r}, {'' if wanted == 'diversity' else 'index, '}axis=-1) for the features of tokens, axis=1 for channels"
            )

    def named(self, objective: Objective) -> Objective:
        """Return `objective` with names where layers were chosen by module, type or predicate."""
        return _with_layers(objective, lambda s: s if isinstance(s, str) else self.keys[s])

    def identity(self, objective: Objective) -> str:
        """Return a text that is the same for objectives that are, however their layers are called."""
        exact = _with_layers(objective, lambda selector: self.keys[selector])
        return repr(
            [
                (w, replace(term, axis=term.channel_axis) if isinstance(term, ChannelTerm) else term)
                for w, term in exact.terms
            ]
        )


def _with_layers(objective: Objective, name: Callable[[Selector], str]) -> Objective:
    return Objective(
        tuple(
            (w, replace(term, layer=name(term.layer)) if isinstance(term, LayerTerm) else term)
            for w, term in objective.terms
        )
    )


def selectors_of(objectives: Iterable[Objective]) -> list[Selector]:
    """Return what names the layers in `objectives`."""
    return [
        term.layer for objective in objectives for _, term in objective.terms if isinstance(term, LayerTerm)
    ]


def one_layer(model: nn.Module, selector: Selector) -> Choice:
    """Return the only layer that `selector` means."""
    choices = choose(model, [selector])
    if len(choices) > 1:
        listed = ", ".join(choice.name for choice in choices[:4]) + (", ..." if len(choices) > 4 else "")
        raise ValueError(
            f"an objective looks at one layer; {selector!r} means {count(len(choices), 'layer')}: {listed}"
        )
    return choices[0]


def name_of(choice: Choice) -> str:
    """Return the selector that means just this layer, or call of a layer."""
    return choice.name if choice.call is None else f"{choice.name}#{choice.call}"


def single_tensor(output: Any, layer: str) -> torch.Tensor:
    """Return what a layer gave if it is a tensor, and else the first tensor in it."""
    first = first_tensor(output)
    if first is None or first.ndim < 2:
        raise ValueError(
            f"layer {layer or 'the output'!r} must return a tensor (N, C, ...); got {describe(output)}"
        )
    return first


@final
@dataclass(frozen=True)
class _Group:
    """Terms of one kind on one layer, and where their values go."""

    terms: list[Term]
    weights: torch.Tensor  # (K,)
    rows: torch.Tensor  # (K,) which objective each belongs to


@final
class Plan:
    """Evaluates objectives: each on an image of its own, or all of them on every image."""

    def __init__(
        self,
        layers: Layers,
        objectives: Sequence[Objective],
        device: torch.device,
        *,
        labels: Sequence[str] | None = None,
    ) -> None:
        self.layers = layers
        self.objectives = list(objectives)
        self.labels = [str(objective) for objective in objectives] if labels is None else list(labels)
        parts: dict[Any, list[tuple[float, Term, int]]] = {}
        for row, objective in enumerate(self.objectives):
            for weight, term in objective.terms:
                key: tuple[Any, ...] = (term.kind,)
                if isinstance(term, LayerTerm):
                    key += (layers.keys[term.layer],)
                if isinstance(term, Diversity):
                    key += (objective,)  # only images of one objective are compared
                parts.setdefault(key, []).append((weight, term, row))
        self.groups = [
            _Group(
                [term for _, term, _ in part],
                torch.tensor([weight for weight, _, _ in part], device=device),
                torch.tensor([row for _, _, row in part], device=device),
            )
            for part in parts.values()
        ]

    def check(self, activations: Mapping[str, Any], images: torch.Tensor) -> None:
        """Raise an error unless every term fits its layer's output and depends on the images."""
        for group in self.groups:
            observed = self.layers.observed(group.terms[0], activations, images)
            for term in group.terms:
                if isinstance(term, ChannelTerm) and term.axis is None:
                    wanted = "diversity" if isinstance(term, Diversity) else "channel"
                    self.layers.check_axis(term.layer, tuple(observed.shape), wanted)
                if isinstance(term, LayerTerm):
                    term.check(tuple(observed.shape))
            objective = self.objectives[int(group.rows[0])]
            if not observed.requires_grad:
                raise ValueError(
                    f"objective {objective} does not depend on the image: its layer "
                    f"returned {describe(observed)} without a gradient, as under torch.no_grad or with integers"
                )
            value = type(group.terms[0]).values(group.terms[:1], observed, torch.zeros_like(group.rows[:1]))
            if not value.requires_grad:
                raise ValueError(
                    f"objective {objective} passes no gradient to the image: its function detaches it"
                )

    def diagonal(self, activations: Mapping[str, Any], images: torch.Tensor) -> torch.Tensor:
        """Return ``(N,)``: the value of objective k for image k."""
        total = torch.zeros(len(self.objectives), device=images.device)
        for group in self.groups:
            observed = self.layers.observed(group.terms[0], activations, images)
            values = type(group.terms[0]).values(group.terms, observed, group.rows)
            total = total.index_add(0, group.rows, group.weights * values.float())
        return total

    def matrix(self, activations: Mapping[str, Any], images: torch.Tensor) -> torch.Tensor:
        """Return ``(N, B)``: the value of every objective for every image; diversity has no place here."""
        total = torch.zeros(len(self.objectives), len(images), device=images.device)
        every = torch.arange(len(images), device=images.device)
        for group in self.groups:
            observed = self.layers.observed(group.terms[0], activations, images)
            step = max(1, MOST_VALUES // observed.numel())
            for start in range(0, len(group.terms), step):
                part = slice(start, start + step)
                terms = [term for term in group.terms[part] for _ in range(len(images))]
                values = type(terms[0]).values(terms, observed, every.repeat(len(group.terms[part])))
                weighted = group.weights[part, None] * values.float().view(-1, len(images))
                total.index_add_(0, group.rows[part], weighted)
        return total
