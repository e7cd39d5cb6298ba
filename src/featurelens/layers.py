"""Name the layers of a model: list them, and choose some of them.

A *selector* is any of

=============================  ==========================================================================
``"features.3"``               the exact dotted name
``"layer*.conv2"``             a glob over the dotted names; ``*`` also crosses dots
``"conv_2"``                   an ordinal alias: the second convolution in registration order
``"act#1"``                    the first call of a module that forward calls several times
``nn.Conv2d``                  a module type, subclasses included
``model.features[3]``          a module instance
``lambda name, module: ...``   a predicate
=============================  ==========================================================================

An alias numbers the leaf layers of one kind: ``conv``, ``deconv``, ``pool``, ``unpool``, ``norm``, or else the class
name in lower case (``relu_1``, ``linear_2``, ``lstm_1``). A convolution counts even if it has children of its own, such as
a parametrization. `list_layers` shows them. The model itself has the empty name, ``""``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any, TypeAlias, final

from torch import nn

from featurelens._checks import as_list, check_module, count, describe, first_line, near_misses
from featurelens._failure import explained
from featurelens._hooks import hooked, named_modules, on_device_of, unwrap, visiting
from featurelens._layer_table import Layer, LayerTable
from featurelens._structure import nbytes, shapes, tensors

__all__ = ["Layer", "LayerTable", "Selector", "list_layers"]

Selector: TypeAlias = str | nn.Module | type[nn.Module] | Callable[[str, nn.Module], bool]
"""A selector of one or several layers."""

Costs = tuple[int, Any, int]

_LAZY = (nn.UninitializedParameter, nn.UninitializedBuffer)
_WRAPPERS = re.compile(r"\b(_orig_mod|module)\.")
_ALIAS = re.compile(r"([a-z][a-z0-9]*)_(\d+)")
_CALL = re.compile(r"(.*)#(\d+)", re.DOTALL)


@final
@dataclass(frozen=True)
class Choice:
    """One chosen layer: its exact name, and the number of one of its calls (None: all calls).

    `selector` is what the user wrote. If it is `exact`, it names this layer only, and it is an error if forward never
    calls the layer. `alias` is the layer's ordinal alias.
    """

    name: str
    call: int | None
    selector: Selector
    exact: bool
    alias: str | None = None


def list_layers(model: nn.Module, *sample: Any, **keywords: Any) -> LayerTable:
    """List every layer's name, alias, type and number of parameters.

    Parameters
    ----------
    model
        Any module. It is restored afterwards.
    *sample, **keywords
        The model's arguments, usually one batch of images `(N, C, H, W)`. If given, one forward pass in eval mode
        adds each layer's number of calls, its output shape and the memory needed to record it.

    Raises
    ------
    TypeError
        If `model` is not a module.
    RuntimeError
        If the model fails on the sample.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU())
    >>> list_layers(model, torch.rand(1, 3, 8, 8))
    name  alias   type    parameters  calls  output shape   memory
    0     conv_1  Conv2d         224      1  (1, 8, 6, 6)  1.1 KiB
    1     relu_1  ReLU             0      1  (1, 8, 6, 6)  1.1 KiB
    """
    model = unwrap(check_module(model))
    modules = named_modules(model)
    aliases = _aliases(modules)
    sampled = bool(sample or keywords)
    found = _run_sample(model, sample, keywords) if sampled else {}
    layers = []
    for name, module in modules.items():
        if module is model and len(modules) > 1:
            continue
        calls, shape, memory = found.get(id(module), (0, None, 0)) if sampled else (None, None, None)
        parameters = sum(p.numel() for p in module.parameters() if not isinstance(p, _LAZY))
        layers.append(Layer(name, type(module).__name__, aliases.get(name), parameters, calls, shape, memory))
    return LayerTable(layers)


def choose(
    model: nn.Module, selectors: Selector | Iterable[Selector], operations: Iterable[str] = ()
) -> list[Choice]:
    """Turn selectors into choices, in the order given (globs and types in registration order), each once.

    `operations` are the exact names of the graph's functions and methods, accepted besides those of modules.

    Raises
    ------
    LookupError
        If a selector matches nothing; the message names near misses.
    TypeError, ValueError
        If a selector is of another type, or none is given.
    """
    several = isinstance(selectors, Iterable) and not isinstance(selectors, str | type | nn.Module)
    listed = as_list(selectors, argument="layers", expected="a layer or a list") if several else [selectors]
    chosen: dict[tuple[str, int | None], Choice] = {}
    names = _Names(model, operations)
    for selector in listed:
        for match in names.match(selector):
            choice = replace(match, alias=names.aliases.get(match.name))
            key = (choice.name, choice.call)
            if key not in chosen or choice.exact:
                chosen[key] = choice
    if not chosen:
        raise ValueError(f"layers must name at least one layer; got {describe(selectors)}")
    for name, _ in chosen:
        if (parts := _CALL.fullmatch(name)) and (parts[1], None) in chosen:
            raise ValueError(
                f"the name of layer {name!r} looks like a call of layer {parts[1]!r}: record them separately"
            )
    # A layer requested without #k already includes each of its calls.
    return [c for c in chosen.values() if c.call is None or (c.name, None) not in chosen]


@final
class _Names:
    """Every name of a model's layers."""

    def __init__(self, model: nn.Module, operations: Iterable[str]) -> None:
        self.modules = named_modules(model)
        self.operations = tuple(operations)
        first_name = {id(module): name for name, module in self.modules.items()}
        # A module registered twice has two names; both select the first.
        self.exact = {name: first_name[id(m)] for name, m in named_modules(model, all_names=True).items()}
        self.exact |= {name: name for name in self.operations if name not in self.exact}
        self.aliases = _aliases(self.modules)
        self.ordinals = {alias: name for name, alias in self.aliases.items()}
        self.listed = [name for name in self.modules if name or len(self.modules) == 1]

    def match(self, selector: object) -> list[Choice]:
        """Return all choices that `selector` means."""
        if isinstance(selector, str):
            return self._match_text(selector)
        if isinstance(selector, nn.Module):
            layer = unwrap(selector)
            for name, module in self.modules.items():
                if module is layer:
                    return [Choice(name, None, layer, exact=True)]
            listed = count(len(self.listed), "layer")
            raise LookupError(f"the given {type(layer).__name__} is not one of the model's {listed}")
        if isinstance(selector, type):
            names = self._of_type(selector)
        elif callable(selector):
            names = self._of_predicate(selector)
        else:
            raise TypeError(
                "a layer is chosen by name, glob, module, module type or predicate(name, module); "
                f"got {describe(selector)}"
            )
        return [Choice(name, None, selector, exact=False) for name in names]

    def _of_type(self, kind: type) -> list[str]:
        if not issubclass(kind, nn.Module):
            raise TypeError(f"a layer type must be a subclass of nn.Module; got {describe(kind)}")
        names = [name for name in self.listed if isinstance(self.modules[name], kind)]
        if not names:
            kinds = sorted({type(module).__name__ for module in self.modules.values()})
            raise LookupError(f"no layer is a {kind.__name__}; the model has {', '.join(kinds)}")
        return names

    def _of_predicate(self, predicate: Callable[[str, nn.Module], bool]) -> list[str]:
        try:
            names = [name for name in self.listed if predicate(name, self.modules[name])]
        except Exception as error:
            raise TypeError(
                f"a predicate is called as predicate(name, module); {getattr(predicate, '__name__', predicate)} "
                f"fails ({type(error).__name__}: {first_line(error)}). Functions such as F.relu are chosen by name, with "
                "backend='rewrite'"
            ) from error
        if not names:
            raise LookupError(f"the predicate matches no layer{near_misses('', self.listed)}")
        return names

    def _match_text(self, text: str) -> list[Choice]:
        exact, call = text, None
        if text not in self.exact and (parts := _CALL.fullmatch(text)):
            exact, call = parts[1], int(parts[2])
            if call == 0:
                raise ValueError(f"calls are counted from 1; got {text!r}")
        if exact in self.exact or exact in self.ordinals:
            return [Choice(self._resolve(exact), call, text, exact=True)]
        if any(sign in exact for sign in "*?["):
            names = [name for name in (*self.listed, *self.operations) if fnmatchcase(name, exact)]
            if names:
                return [Choice(name, call, text, exact=False) for name in names]
        raise LookupError(f"no layer matches {describe(text)}{self._hint(exact)}")

    def _resolve(self, name: str) -> str:
        if name in self.operations and name in self.ordinals:
            raise LookupError(
                f"{name!r} is both an operation of the graph and the alias of layer {self.ordinals[name]!r}: "
                f"use {self.ordinals[name]!r} for the layer, or the glob '[{name[0]}]{name[1:]}' for the operation"
            )
        return self.exact.get(name) or self.ordinals.get(name, name)

    def _hint(self, name: str) -> str:
        bare = _WRAPPERS.sub("", name)
        if bare != name and bare in self.listed:
            return f"; there is {bare}: names have no prefix of torch.compile or of a parallel wrapper"
        parts = _ALIAS.fullmatch(name)
        known = [alias for alias in self.ordinals if parts and alias.startswith(f"{parts[1]}_")]
        if known:
            return f"; there is {known[0]}" if len(known) == 1 else f"; there are {known[0]} to {known[-1]}"
        return near_misses(name, [*self.listed, *self.operations])


def aliases_of(choices: Sequence[Choice]) -> dict[str, str]:
    """Return other names of the chosen layers: ordinal aliases, and what the user wrote."""
    names = {choice.alias: choice.name for choice in choices if choice.alias}
    for choice in choices:
        if isinstance(choice.selector, str) and choice.exact:
            names[choice.selector.partition("#")[0]] = choice.name
    return {text: name for text, name in names.items() if text != name}


def not_reached(choice: Choice, calls: int) -> str:
    """Return the message for a chosen layer, or call of a layer, that the forward pass did not reach."""
    if choice.call is not None and calls:
        return f"layer {choice.name!r} was called {count(calls, 'time')}, so there is no call {choice.call}"
    return (
        f"layer {choice.name!r} was never called in the forward pass: it may be unused in this mode, used only "
        "through its weights (by fused attention, for example), or called as layer.forward(x), which hooks do not see"
    )


def _aliases(modules: dict[str, nn.Module]) -> dict[str, str]:
    """Return the ordinal alias of every leaf by its name: conv_1, conv_2, relu_1, ... in registration order.

    A convolution counts as a leaf even if its class has added children, such as a parametrization of its weights.
    """
    seen: dict[str, int] = {}
    aliases = {}
    for name, module in modules.items():
        if next(module.children(), None) is None or isinstance(module, nn.modules.conv._ConvNd):
            kind = _kind(module)
            seen[kind] = seen.get(kind, 0) + 1
            if (alias := f"{kind}_{seen[kind]}") not in modules:
                aliases[name] = alias
    return aliases


def _kind(module: nn.Module) -> str:
    """Return the family in which a layer is counted: conv, deconv, pool, norm, or its lower-case class name."""
    name = type(module).__name__
    if isinstance(module, nn.modules.conv._ConvTransposeNd):
        return "deconv"
    if isinstance(module, nn.modules.conv._ConvNd):
        return "conv"
    for family in ("Unpool", "Pool", "Norm"):
        if family in name:
            return family.lower()
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _run_sample(model: nn.Module, sample: tuple[Any, ...], keywords: dict[str, Any]) -> dict[int, Costs]:
    """Return the number of calls, the shape of the last output and the memory of all outputs, by the module's id."""
    found: dict[int, Costs] = {}

    def note(module: nn.Module, _: Any, output: Any) -> None:
        calls, _, memory = found.get(id(module), (0, None, 0))
        memory += sum(nbytes(tensor) for tensor in tensors(output))
        found[id(module)] = (calls + 1, shapes(output), memory)

    with visiting(model), hooked(dict.fromkeys(named_modules(model).values(), note)):
        try:
            args, kwargs = on_device_of(model, (sample, keywords))
            model(*args, **kwargs)
        except Exception as error:
            raise explained(error, model, "the sample", sample, keywords) from error
    return found
