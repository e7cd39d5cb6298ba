"""From objectives to numbers: the layers they look at, and all terms of a kind evaluated in one go."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import Any, TypeAlias, final

import torch
from torch import nn

from featurelens._channels import ChannelAxes
from featurelens._checks import count, describe, listing
from featurelens._failure import explained
from featurelens._hooks import StopForward, check_weights, hooked, submodule, visiting
from featurelens._structure import first_tensor, tensors
from featurelens.layers import Selector, choose
from featurelens.maximization.objective import Objective
from featurelens.maximization.terms import ChannelTerm, Diversity, LayerTerm, Term
from featurelens.recording import ActivationRecorder

MOST_VALUES = 2**25
"""How many activations `Evaluation.matrix` looks at in one go."""

Outputs: TypeAlias = Mapping[tuple[str, int], torch.Tensor]
"""What layers returned, by name and number of the call."""


@contextmanager
def differentiating(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Run modules inside the block with gradients for what they are given, not for their parameters; then restore them."""
    with torch.inference_mode(False), torch.enable_grad(), ExitStack() as stack:
        for module in modules:
            stack.enter_context(visiting(module, autograd=True))
            for parameter in module.parameters():
                if parameter.requires_grad and not parameter.is_inference():
                    parameter.requires_grad_(False)
        yield


@final
class Layers:
    """The layers of a model that objectives look at: what they are called, and what they return."""

    def __init__(self, model: nn.Module, selectors: Iterable[Selector]) -> None:
        check_weights(model)
        self.model, self._axes = model, ChannelAxes(model)
        first = next(
            (p for p in model.parameters() if p.is_floating_point() and not p.is_meta), torch.zeros(())
        )
        self.device, self.dtype = first.device, first.dtype
        self.names: dict[Selector, str] = {}
        self.calls: dict[str, tuple[str, int]] = {}
        for selector in dict.fromkeys(selectors):
            choices = choose(model, [selector])
            if len(choices) > 1:
                listed = listing((choice.name for choice in choices), most=4)
                raise ValueError(
                    f"an objective uses one layer; {selector!r} matches {count(len(choices), 'layer')}: {listed}"
                )
            name, call = choices[0].name, choices[0].call
            exact = name if call is None else f"{name}#{call}"
            self.names[selector] = self.names[exact] = exact
            self.calls[exact] = (name, call or 1)  # `check` makes sure that it is called once

    def check(self, images: torch.Tensor, *, may_fail: bool = False) -> None:
        """Run the whole model once; raise an error unless each layer is called once and returns a tensor.

        If it `may_fail`, it may do so behind the layers, which does not run again: it may need images of another size.
        """
        recorder = ActivationRecorder(self.model, list(self.calls), detach=False)
        images = images.to(self.device, self.dtype)
        try:
            activations: Mapping[str, Any] = recorder(images)
        except RuntimeError:
            before = _before_failure(recorder, images) if may_fail else None
            if before is None:
                raise
            activations = before
        for name in self.calls:
            if called := [key for key in activations if key.startswith(f"{name}#")]:
                raise ValueError(
                    f"layer {name!r} is called {len(called)} times; choose one call: {', '.join(called)}"
                )
        for name, found in activations.items():
            if not name and len(tensors(found)) > 1:
                raise ValueError(
                    f"the model returns {describe(found)}: choose one by the name of the layer that returns it, as in "
                    "fl.objectives.channel('head', 3); fl.list_layers(model) lists the names"
                )
            first = first_tensor(found)
            if first is None or first.ndim < 2:
                raise ValueError(
                    f"layer {name or 'the output'!r} must return a tensor (N, C, ...); got {describe(found)}"
                )

    def outputs(self, images: torch.Tensor) -> Outputs:
        """Run the model on what it takes, as far as the last of the layers, and return what each returned.

        The recorder can do more, and would take another tenth of the time of a small model's step.
        """
        images, wanted = images.to(self.device, self.dtype), set(self.calls.values())
        found: dict[tuple[str, int], Any] = {}
        calls: Counter[str] = Counter()

        def listen(module: nn.Module, args: Any, output: Any, *, name: str) -> None:
            calls[name] += 1
            if (name, calls[name]) not in wanted:
                return
            last = len(found) == len(wanted) - 1
            first: Any = first_tensor(output)
            # Later code may change the output in place, or an input that the layer passes on.
            found[name, calls[name]] = first if last else first.clone()
            if last:
                raise StopForward

        with hooked({submodule(self.model, name): partial(listen, name=name) for name, _ in wanted}):
            try:
                self.model(images)
            except StopForward:
                pass
            except Exception as error:
                if len(found) < len(wanted):
                    raise explained(error, self.model, "a batch", (images,), {}) from error
        if missing := wanted - found.keys():
            name, call = missing.pop()
            raise LookupError(f"this forward pass did not reach call {call} of layer {name!r}")
        return found

    def observed(self, term: Term, outputs: Outputs, images: torch.Tensor) -> torch.Tensor:
        """Return what `term` looks at."""
        if not isinstance(term, LayerTerm):
            return images
        name = self.names[term.layer]
        output = outputs[self.calls[name]].to(self.device)  # a model may be spread over several
        if len(output) != len(images):
            raise ValueError(
                f"layer {name or 'the output'!r} returned {describe(output)} for "
                f"{count(len(images), 'image')}: its first axis must be that of the images"
            )
        return output

    def channels(self, selector: Selector, outputs: Outputs) -> int:
        """Return how many channels a layer has."""
        shape = outputs[self.calls[self.names[selector]]].shape
        return int(shape[self.axis(selector, outputs)])

    def axis(self, selector: Selector, outputs: Outputs, call: str = "channel({!r}, index, axis=-1)") -> int:
        """Return the axis of a layer's channels, or raise an error if only the user can tell which one it is.

        The error says how `call` names an axis.
        """
        name = self.names[selector]
        shape = tuple(outputs[self.calls[name]].shape)
        axis = self._axes.of(submodule(self.model, self.calls[name][0]), shape)
        if axis is None:
            kinds, features = "(N, L, D) or (N, C, L)", "the features of tokens"
            if len(shape) > 3:
                kinds, features = "(N, H, W, C) or (N, C, H, W)", "channels in the last axis"
            raise ValueError(
                f"layer {name or 'the output'!r} returns {shape}, which may be {kinds}: use "
                f"fl.objectives.{call.format(name)} for {features}, axis=1 for channels"
            )
        return axis

    def with_axes(self, objective: Objective, outputs: Outputs) -> Objective:
        """Return `objective` with the axis of its channels where that is not axis 1."""
        terms = []
        for weight, term in objective.terms:
            if isinstance(term, ChannelTerm) and term.axis is None:
                calls = ["diversity({!r}, axis=-1)"] if isinstance(term, Diversity) else []
                if (axis := self.axis(term.layer, outputs, *calls)) != 1:
                    term = replace(term, axis=axis)  # noqa: PLW2901
            terms.append((weight, term))
        return Objective(tuple(terms))

    def renamed(self, objective: Objective, *, exact: bool = False) -> Objective:
        """Return `objective` with names for modules, types and predicates.

        With `exact`, it is the same for equal objectives: names replace ordinal aliases, too, and axes are explicit.
        """
        terms = []
        for weight, term in objective.terms:
            if isinstance(term, LayerTerm) and (exact or not isinstance(term.layer, str)):
                term = replace(term, layer=self.names[term.layer])  # noqa: PLW2901
            if exact and isinstance(term, ChannelTerm):
                term = replace(term, axis=term.channel_axis)  # noqa: PLW2901
            terms.append((weight, term))
        return Objective(tuple(terms))


def _before_failure(recorder: ActivationRecorder, images: torch.Tensor) -> Mapping[str, Any] | None:
    """Return what a model's layers return until it fails; None if it does not reach them."""
    try:
        with recorder as activations, suppress(Exception):
            recorder.model(images)
    except LookupError:
        return None
    return activations


@final
class Evaluation:
    """Evaluates objectives: each on an image of its own, or all of them on every image."""

    def __init__(self, layers: Layers, objectives: Sequence[Objective]) -> None:
        self.layers, self.objectives = layers, list(objectives)
        parts: dict[Any, list[tuple[Term, float, int]]] = {}
        for row, objective in enumerate(self.objectives):
            for weight, term in objective.terms:
                layer = layers.names[term.layer] if isinstance(term, LayerTerm) else None
                # Only images of one objective are compared with each other.
                compared = objective if isinstance(term, Diversity) else None
                parts.setdefault((term.kind, layer, compared), []).append((term, weight, row))
        self.groups: list[tuple[Sequence[Term], torch.Tensor, torch.Tensor]] = []
        for part in parts.values():
            terms, weights, rows = zip(*part, strict=True)
            self.groups.append(
                (
                    terms,
                    torch.tensor(weights, device=layers.device, dtype=torch.float32),
                    torch.tensor(rows, device=layers.device),
                )
            )

    def check(self, outputs: Outputs, images: torch.Tensor) -> None:
        """Raise an error unless every term fits its layer's output and depends on the images."""
        for terms, _, rows in self.groups:
            observed = self.layers.observed(terms[0], outputs, images)
            for term in terms:
                if isinstance(term, ChannelTerm):
                    term.check(tuple(observed.shape))
            objective = self.objectives[int(rows[0])]
            if not observed.requires_grad:
                raise ValueError(
                    f"objective {objective} does not depend on the image: its layer "
                    f"returned {describe(observed)} without a gradient, as under torch.no_grad or with integers"
                )
            value = terms[0].values(terms[:1], observed, torch.zeros_like(rows[:1]))
            if not value.requires_grad:
                raise ValueError(
                    f"objective {objective} passes no gradient to the image: its function detaches it"
                )

    def diagonal(self, outputs: Outputs, images: torch.Tensor) -> torch.Tensor:
        """Return ``(N,)``: the value of objective k for image k."""
        total = torch.zeros(len(self.objectives), device=images.device, dtype=torch.float32)
        for terms, weights, rows in self.groups:
            values = terms[0].values(terms, self.layers.observed(terms[0], outputs, images), rows)
            total = total.index_add(0, rows, weights * values.float())
        return total

    def matrix(self, outputs: Outputs, images: torch.Tensor) -> torch.Tensor:
        """Return ``(N, B)``: the value of every objective for every image; diversity has no place here."""
        shape = len(self.objectives), len(images)
        total = torch.zeros(shape, device=images.device, dtype=torch.float32)
        every = torch.arange(len(images), device=images.device)
        for terms, weights, rows in self.groups:
            observed = self.layers.observed(terms[0], outputs, images)
            size = max(1, MOST_VALUES // observed.numel())
            for part in (slice(start, start + size) for start in range(0, len(terms), size)):
                repeated = [term for term in terms[part] for _ in range(len(images))]
                values = terms[0].values(repeated, observed, every.repeat(len(terms[part])))
                total.index_add_(0, rows[part], weights[part, None] * values.float().view(-1, len(images)))
        return total
