"""`insert_extractors`: a copy of the model with extractor modules after the chosen layers and operations."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, final

import torch
from torch import nn

from featurelens import _tracing
from featurelens._checks import check_module, near_misses
from featurelens._guard import preserved
from featurelens._hooks import check_materialized, on_device_of, unwrap, visiting
from featurelens._lookup import NoSuchLayer
from featurelens._structure import map_tensors
from featurelens._tracing import Trace
from featurelens.layers import Selector, aliases_of, choose
from featurelens.recording.insertion import insert, trace_for_rewriting
from featurelens.recording.program import Program
from featurelens.recording.rewrite import check_called


@final
class FeatureExtractor(nn.Module):
    """Identity module that stores the last value passed through it.

    Attributes
    ----------
    layer
        The name of the layer or operation it follows, with ``#k`` for the k-th of several calls.
    feature
        A copy of the last value; None before the first. Part of the autograd graph if gradients are recorded. It is
        not pickled or copied with the module.
    """

    def __init__(self, layer: str) -> None:
        super().__init__()
        self.layer = layer
        self.feature: Any = None

    def forward(self, value: Any) -> Any:
        """Store `value` and return it; one of the two is a copy, so in-place changes do not reach the stored value.

        If gradients are recorded the copy is returned, so that the stored value is on their path.
        """
        copied = map_tensors(torch.Tensor.clone, value)
        if torch.is_grad_enabled():
            self.feature = value
            return copied
        self.feature = copied
        return value

    def extra_repr(self) -> str:
        """Name the layer, in the `repr` of a model."""
        return repr(self.layer)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "feature": None}


@final
class TappedModule(nn.Module):
    """A rewritten model with extractor modules after some of its layers; made by `insert_extractors`.

    It has the original's parameters and submodules under their original names, so that a `state_dict` loads
    both ways, and it can be trained, compiled, copied and pickled like any module.
    """

    def __init__(
        self,
        model: nn.Module,
        programs: Mapping[bool, Program],
        taps: Iterable[nn.Module],
        aliases: Mapping[str, str],
    ) -> None:
        super().__init__()
        own = vars(self)
        for name, value in vars(model).items():
            if name == "_modules":
                own[name].update(value)
            else:
                own[name] = value  # hooks on the model, too
        self._taps = nn.ModuleList(taps)
        self._programs = dict(programs)
        self._original = type(model)
        self._aliases = dict(aliases)

    @property
    def extractors(self) -> Mapping[str, FeatureExtractor]:
        """The extractors by layer name, in order; lookup also accepts the selectors you passed (``"conv_2"``)."""
        return _Extractors(self)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the original's forward, with the extractors.

        For inputs of a new shape, the original runs first, and both outputs must match.

        Raises
        ------
        RuntimeError
            If the outputs differ.
        TypeError
            If an input cannot be copied, so that they cannot be compared.
        """
        original = self._original.__new__(self._original)
        # Its code, with the members of this module.
        modules = {name: module for name, module in self._modules.items() if name != "_taps"}
        object.__setattr__(original, "__dict__", {**vars(self), "_modules": modules})
        return self._programs[self.training].checked(original, self, args, kwargs)


class _Extractors(Mapping[str, FeatureExtractor]):
    def __init__(self, tapped: TappedModule) -> None:
        self._by_name = {tap.layer: tap for tap in tapped._taps if isinstance(tap, FeatureExtractor)}
        self._aliases = tapped._aliases

    def __getitem__(self, name: str) -> FeatureExtractor:
        base, sign, call = name.partition("#")
        name = self._aliases.get(base, base) + sign + call
        if name not in self._by_name:
            raise NoSuchLayer(f"no extractor follows {name!r}{near_misses(name, self._by_name)}")
        return self._by_name[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name)

    def __len__(self) -> int:
        return len(self._by_name)

    def __repr__(self) -> str:
        return f"extractors({', '.join(self._by_name)})"


def insert_extractors(
    model: nn.Module, layers: Selector | Iterable[Selector], *, sample: Any = None
) -> TappedModule:
    """Return a copy of `model` with an extractor after each of the chosen layers.

    Parameters
    ----------
    model
        An `nn.Sequential` or any module that `torch.fx` can trace. The copy shares nothing with it, and fixes arguments
        of forward with a plain default to that default.
    layers
        Selectors as for `ActivationRecorder`. Functions and methods that the model calls outside its modules can also
        be selected, by the names that `list_operations` shows (``"relu"``, ``"add_1"``).
    sample
        The model's input, usually one batch of images `(N, C, H, W)`, or a tuple of arguments, on which to compare the
        copy with the model at once. When called on inputs of a new shape, the copy is always compared.

    Returns
    -------
    TappedModule
        After a call, ``tapped.extractors["conv_2"].feature`` is what that layer returned, `(N, C, H, W)` for a
        convolution. Works in train and eval mode; frozen parts stay frozen.

    Raises
    ------
    RuntimeError
        If the model cannot be traced, usually because its control flow depends on the data, or if the copy's output
        differs. The hooks backend of `ActivationRecorder` still works for such models.
    LookupError, TypeError, ValueError
        As for `ActivationRecorder`.

    Examples
    --------
    >>> model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3))
    >>> tapped = insert_extractors(model, ["conv_1", "conv_2"])
    >>> output = tapped(torch.rand(1, 1, 8, 8))
    >>> tapped.extractors["conv_1"].feature.shape
    torch.Size([1, 4, 6, 6])
    """
    model = unwrap(check_module(model))
    check_materialized(model)
    if clash := {"_taps", "_aliases", "_programs", "extractors"} & {*model._modules, *vars(model)}:
        raise ValueError(
            f"the model has an attribute named {clash.pop()!r}, a name that the inserted extractors need"
        )
    tapped = _tapped(model, layers)
    if sample is not None:
        sample = on_device_of(model, sample)
        for evaluate in {True, not model.training}:
            with visiting(tapped, evaluate=evaluate):
                tapped(*(sample if isinstance(sample, tuple) else (sample,)))
    return tapped


def _tapped(model: nn.Module, layers: Selector | Iterable[Selector]) -> TappedModule:
    try:
        duplicate = copy.deepcopy(model)
    except Exception as error:
        raise RuntimeError(f"the model cannot be copied: {type(error).__name__}: {error}") from error
    traces = {training: _trace_in_mode(duplicate, training) for training in (False, True)}
    choices = choose(model, layers, traces[False].operations | traces[True].operations)
    names = list(dict.fromkeys(choice.name for choice in choices))
    chosen = {(choice.name, choice.call) for choice in choices}
    extractors: dict[str, FeatureExtractor] = {}

    def target(name: str, call: int, calls: int) -> str | None:
        if chosen.isdisjoint({(name, None), (name, call)}):
            return None
        key = name if (name, None) in chosen and calls == 1 else f"{name}#{call}"
        extractors.setdefault(key, FeatureExtractor(key))
        return f"_taps.{list(extractors).index(key)}"

    for found in traces.values():
        insert(found, names, target)
    check_called(duplicate, choices, list(traces.values()))
    programs = {training: Program(found) for training, found in traces.items()}
    return TappedModule(duplicate, programs, extractors.values(), aliases_of(choices))


def _trace_in_mode(model: nn.Module, training: bool) -> Trace:
    """Trace in train or eval mode, as what forward does may depend on it; frozen parts stay frozen."""
    with preserved(model):
        if training != model.training:
            for module in model.modules():
                vars(module)["training"] = training
        found = trace_for_rewriting(model, _tracing.defaults(model))
    vars(model).update(found.constants)  # so that the next trace gives its own constants other names
    return found
