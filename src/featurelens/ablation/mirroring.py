"""The steps of a chain of convolutions, and the mirror of each: how to go back from what it returned to its input."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, TypeAlias, final

import torch
import torch.nn.functional as F
from torch import fx, nn

from featurelens import _tracing
from featurelens._checks import near_misses
from featurelens._hooks import visiting

Size: TypeAlias = tuple[int, int]

MIRRORED = "Conv2d, BatchNorm2d, ReLU, MaxPool2d and Dropout, one after the other"
_HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")
_PASSING = (nn.Dropout, nn.Dropout2d, nn.Identity)


class Step(ABC):
    """One step of the encoder; `module` is None for a function.

    `run` goes forward and also returns the switches, where the step has some. `back` goes back, to an input of
    `size`; it takes V times as many feature maps as there are switches.
    """

    module: nn.Module | None
    name: str

    @abstractmethod
    def run(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]: ...

    @abstractmethod
    def back(self, x: torch.Tensor, size: Size, switches: torch.Tensor | None) -> torch.Tensor: ...


@final
@dataclass(frozen=True, eq=False)
class Convolution(Step):
    """A convolution; its mirror is a transposed one, with the same weights or with its own."""

    module: nn.Conv2d
    name: str
    own: nn.ConvTranspose2d | None = None

    def run(self, x: torch.Tensor) -> tuple[torch.Tensor, None]:
        return self.module(x), None

    def back(self, x: torch.Tensor, size: Size, switches: torch.Tensor | None) -> torch.Tensor:
        conv = self.module
        padding, extra = padding_of(conv)
        asked = [size[axis] + extra[axis] for axis in (0, 1)]
        if self.own is not None:
            returned: torch.Tensor = self.own(x, output_size=asked)
        else:
            smallest = [
                (x.shape[2 + axis] - 1) * conv.stride[axis]
                - 2 * padding[axis]
                + conv.dilation[axis] * (conv.kernel_size[axis] - 1)
                + 1
                for axis in (0, 1)
            ]
            rest = [asked[axis] - smallest[axis] for axis in (0, 1)]
            returned = F.conv_transpose2d(
                x,
                conv.weight,
                None,
                conv.stride,
                padding,
                rest,
                conv.groups,
                conv.dilation,
            )
        return returned[..., : size[0], : size[1]]

    def learned(self) -> Convolution:
        """Return the same step with a mirror of its own, whose weights are drawn from the global generator."""
        conv = self.module
        own = nn.ConvTranspose2d(
            conv.out_channels,
            conv.in_channels,
            conv.kernel_size,  # type: ignore[arg-type]
            conv.stride,  # type: ignore[arg-type]
            padding_of(conv)[0],
            groups=conv.groups,
            dilation=conv.dilation,  # type: ignore[arg-type]
            device=conv.weight.device,
            dtype=conv.weight.dtype,
        )
        return Convolution(conv, self.name, own)


@final
@dataclass(frozen=True, eq=False)
class Normalization(Step):
    """BatchNorm in eval mode, an affine map of each channel; going back, its scale alone."""

    module: nn.BatchNorm2d
    name: str
    tied: bool = True

    def run(self, x: torch.Tensor) -> tuple[torch.Tensor, None]:
        return self.module(x), None

    def back(self, x: torch.Tensor, size: Size, switches: torch.Tensor | None) -> torch.Tensor:
        norm = self.module
        if not self.tied:
            return x  # the weights of a learned mirror take care of scales
        assert norm.running_var is not None  # checked where the step is made
        scale = (norm.running_var + norm.eps).rsqrt()
        scale = scale * norm.weight if norm.affine else scale
        return x * scale[:, None, None]


@final
@dataclass(frozen=True, eq=False)
class Rectifier(Step):
    """ReLU, whose mirror is ReLU: feature maps are non-negative on the way back as well."""

    module: nn.Module | None
    name: str

    def run(self, x: torch.Tensor) -> tuple[torch.Tensor, None]:
        return (F.relu(x) if self.module is None else self.module(x)), None

    def back(self, x: torch.Tensor, size: Size, switches: torch.Tensor | None) -> torch.Tensor:
        return F.relu(x)


@final
@dataclass(frozen=True, eq=False)
class Passing(Step):
    """What does nothing in eval mode; the way back goes straight through."""

    module: nn.Module
    name: str

    def run(self, x: torch.Tensor) -> tuple[torch.Tensor, None]:
        return self.module(x), None

    def back(self, x: torch.Tensor, size: Size, switches: torch.Tensor | None) -> torch.Tensor:
        return x


@final
@dataclass(frozen=True, eq=False)
class Pooling(Step):
    """Max pooling; going back, each value returns to where its window had the maximum.

    Of equal maxima the first counts, as for max_pool2d's indices. Where windows overlap and several have their
    maximum in the same place, that gets the mean of their values; MaxUnpool2d would keep one of them, whichever.
    """

    module: nn.MaxPool2d | None
    name: str
    options: dict[str, Any]

    def run(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        values, switches = F.max_pool2d(x, **self.options, return_indices=True)
        if self.module is not None and any(vars(self.module)[hooks] for hooks in _HOOKS):
            values = self.module(x)  # so that the user's hooks see what they always see
        return values, switches

    def back(self, x: torch.Tensor, size: Size, switches: torch.Tensor | None) -> torch.Tensor:
        assert switches is not None
        return unpool(x, switches, size, overlapping=self.overlapping)

    @property
    def overlapping(self) -> bool:
        """Whether a place can be the maximum of several windows."""
        kernel, stride = _pair(self.options["kernel_size"]), _pair(self.options["stride"])
        dilated = _pair(self.options["dilation"]) != (1, 1)
        return dilated or any(step < wide for step, wide in zip(stride, kernel, strict=True))


def unpool(x: torch.Tensor, switches: torch.Tensor, size: Size, *, overlapping: bool) -> torch.Tensor:
    """Return maps of `size` with every value of `x` `(V * N, C, h, w)` where `switches` `(N, C, h, w)` point.

    >>> unpool(torch.ones(1, 1, 1, 1), torch.tensor([[[[2]]]]), (2, 2), overlapping=False)
    tensor([[[[0., 0.],
              [1., 0.]]]])
    """
    images, channels = switches.shape[:2]
    values = x.reshape(-1, images, channels, x.shape[2] * x.shape[3])
    places = switches.flatten(2).expand(values.shape)
    maps = values.new_zeros(*values.shape[:3], size[0] * size[1])
    if overlapping:
        maps = maps.scatter_reduce(3, places, values, "mean", include_self=False)
    else:
        maps = maps.scatter(3, places, values)
    return maps.view(len(x), channels, *size)


def padding_of(conv: nn.Conv2d) -> tuple[Size, Size]:
    """Return the padding before each axis, and by how much that behind it is larger (padding="same")."""
    if isinstance(conv.padding, tuple):
        return conv.padding, (0, 0)  # type: ignore[return-value]
    if conv.padding == "valid":
        return (0, 0), (0, 0)
    total = [conv.dilation[axis] * (conv.kernel_size[axis] - 1) for axis in (0, 1)]
    return (total[0] // 2, total[1] // 2), (total[0] % 2, total[1] % 2)


def read_chain(encoder: nn.Module, layer: str | None) -> list[Step]:
    """Return the steps from the encoder's input to what `layer` returns, or to the encoder's output.

    Raises
    ------
    ValueError
        If one of them has no mirror, or they are no chain; the message names it.
    RuntimeError
        If forward cannot be traced.
    """
    try:
        with visiting(encoder):
            found = _tracing.trace_or_explain(encoder, _tracing.defaults(encoder))
    except _tracing.Untraceable as error:
        raise RuntimeError(
            f"the way through {type(encoder).__name__} cannot be traced ({error}): give the decoder the part that is a "
            "chain"
        ) from error
    calls = found.calls.get(layer or "", [])
    if not calls:
        raise LookupError(
            f"layer {layer!r} is never called, or not by itself{near_misses(layer or '', found.calls)}"
        )
    if len(calls) > 1:
        raise ValueError(
            f"layer {layer!r} is called {len(calls)} times; the decoder needs a layer that is called once"
        )
    node = calls[0].returned
    if not isinstance(node, fx.Node):
        raise TypeError(f"{_named(layer)} must return a tensor to be decoded")
    steps: list[Step] = []
    last = node
    while node.op != "placeholder":
        try:
            steps.append(_step(encoder, node))
        except ValueError as error:
            hint = "; say which layer to decode from" if layer is None and node is last else ""
            raise ValueError(f"{error}{hint}") from None
        node = node.all_input_nodes[0]
    return steps[::-1]


def _step(encoder: nn.Module, node: fx.Node) -> Step:
    if len(node.all_input_nodes) != 1:
        raise ValueError(
            f"there is no mirror of {_title(encoder, node)}: it takes {len(node.all_input_nodes)} tensors"
        )
    if node.op == "call_module":
        step = _of_module(encoder.get_submodule(str(node.target)), str(node.target))
    else:
        step = _of_function(node)
    if step is None:
        raise ValueError(
            f"there is no mirror of {_title(encoder, node)}: what can be mirrored are {MIRRORED}"
        )
    return step


def _of_module(module: nn.Module, name: str) -> Step | None:
    if _is(module, nn.Conv2d) and module.padding_mode == "zeros":
        return Convolution(module, name)  # type: ignore[arg-type]
    if _is(module, nn.BatchNorm2d) and module.running_var is not None:
        return Normalization(module, name)  # type: ignore[arg-type]
    if _is(module, nn.ReLU):
        return Rectifier(module, name)
    if _is(module, nn.MaxPool2d) and not module.return_indices:
        names = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")
        return Pooling(module, name, {option: getattr(module, option) for option in names})  # type: ignore[arg-type]
    if any(_is(module, kind) for kind in _PASSING):
        return Passing(module, name)
    return None


def _is(module: nn.Module, kind: type[nn.Module]) -> bool:
    """Whether a module is of a kind, and does in forward what that kind does."""
    return isinstance(module, kind) and type(module).forward is kind.forward


def _of_function(node: fx.Node) -> Step | None:
    called = str(node.target) if node.op == "call_method" else getattr(node.target, "__name__", "")
    if called in {"relu", "relu_"}:
        return Rectifier(None, node.name)
    if called == "max_pool2d" and node.op == "call_function":
        names = ("kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")
        options: dict[str, Any] = {"stride": None, "padding": 0, "dilation": 1, "ceil_mode": False}
        options |= dict(zip(names, node.args[1:], strict=False)) | dict(node.kwargs)
        if options.pop("return_indices", False):
            return None
        options["stride"] = options["stride"] or options["kernel_size"]
        return Pooling(None, node.name, options)
    return None


def _title(encoder: nn.Module, node: fx.Node) -> str:
    if node.op != "call_module":
        return f"the operation {node.name!r}"
    return f"layer {str(node.target)!r}, {encoder.get_submodule(str(node.target))}".partition("\n")[0]


def _named(layer: str | None) -> str:
    return "the encoder" if layer is None else f"layer {layer!r}"


def _pair(value: Any) -> tuple[int, int]:
    first, second = value if isinstance(value, tuple | list) else (value, value)
    return int(first), int(second)
