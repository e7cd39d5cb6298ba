"""The steps of a chain of convolutions, and how to go back through each: from its output to its input."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any, Self, TypeAlias, final

import torch
import torch.nn.functional as F
from torch import fx, nn
from torch.nn.grad import conv2d_input

from featurelens import _tracing
from featurelens._checks import near_misses
from featurelens._hooks import visiting

Size: TypeAlias = tuple[int, int]

MIRRORED = "Conv2d, BatchNorm2d, ReLU, PReLU, LeakyReLU, MaxPool2d and Dropout, one after the other"
_HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")
_POOLING = ("kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")  # of F.max_pool2d


@dataclass(frozen=True, eq=False)
class Step(ABC):
    """One step of the encoder; a function is represented by a module of its own."""

    module: Any
    name: str

    def run(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Go forward; also return the switches, where the step has some."""
        return self.module(x), None

    @abstractmethod
    def back(self, x: torch.Tensor, size: Size, switches: torch.Tensor | None) -> torch.Tensor:
        """Go back to an input of `size`; `x` may hold V times as many images as there are switches."""

    def learned(self) -> Step:
        """Return the step with weights of its own on the way back, drawn from the global generator."""
        return self


@final
@dataclass(frozen=True, eq=False)
class Convolution(Step):
    """A convolution; goes back through a transposed one, with the same weights or with its own."""

    own: nn.ConvTranspose2d | None = None

    def back(self, x: torch.Tensor, size: Size, switches: torch.Tensor | None) -> torch.Tensor:
        conv: nn.Conv2d = self.module
        padding, extra = padding_of(conv)
        target = [size[0] + extra[0], size[1] + extra[1]]
        if self.own is not None:
            maps: torch.Tensor = self.own(x, output_size=target)
        else:  # the adjoint of the convolution is its gradient
            shape, geometry = [len(x), conv.in_channels, *target], (conv.stride, padding, conv.dilation)
            maps = conv2d_input(shape, conv.weight, x, *geometry, conv.groups)  # type: ignore[no-untyped-call]
        return maps[..., : size[0], : size[1]]

    def learned(self) -> Self:
        conv = self.module
        own = nn.ConvTranspose2d(
            conv.out_channels,
            conv.in_channels,
            conv.kernel_size,
            conv.stride,
            padding_of(conv)[0],
            groups=conv.groups,
            dilation=conv.dilation,
            device=conv.weight.device,
            dtype=conv.weight.dtype,
        )
        return replace(self, own=own)


@final
class Normalization(Step):
    """BatchNorm in eval mode, an affine map of each channel; only its scale applies on the way back."""

    def back(self, x: torch.Tensor, size: Size, switches: torch.Tensor | None) -> torch.Tensor:
        norm: nn.BatchNorm2d = self.module
        assert norm.running_var is not None  # checked where the step is made
        scale = (norm.running_var + norm.eps).rsqrt()
        return x * (scale * norm.weight if norm.affine else scale)[:, None, None]

    def learned(self) -> Step:
        return Unchanged(self.module, self.name)  # learned weights include the scale


@final
class Rectifier(Step):
    """ReLU both ways: feature maps are non-negative on the way back as well."""

    def back(self, x: torch.Tensor, size: Size, switches: torch.Tensor | None) -> torch.Tensor:
        return F.relu(x)


@final
class LeakyRectifier(Step):
    """PReLU or LeakyReLU both ways, with the same slopes: the way back is rectified as the way forward is."""

    def back(self, x: torch.Tensor, size: Size, switches: torch.Tensor | None) -> torch.Tensor:
        if isinstance(self.module, nn.PReLU):
            return F.prelu(x, self.module.weight)
        return F.leaky_relu(x, self.module.negative_slope)


@final
class Unchanged(Step):
    """A step that the way back skips, such as dropout, which does nothing in eval mode."""

    def back(self, x: torch.Tensor, size: Size, switches: torch.Tensor | None) -> torch.Tensor:
        return x


@final
class Pooling(Step):
    """Max pooling; on the way back, each value returns to where its window had the maximum.

    Of equal maxima the first counts, as for max_pool2d's indices. A place where several overlapping windows have their
    maximum gets the sum of their values, as in the gradient; MaxUnpool2d would keep an arbitrary one of them.
    """

    def run(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        options = {name: getattr(self.module, name) for name in _POOLING} | {"return_indices": True}
        values, switches = F.max_pool2d(x, **options)
        if any(vars(self.module)[hooks] for hooks in _HOOKS):
            values = self.module(x)  # so that the user's hooks run as usual
        return values, switches

    def back(self, x: torch.Tensor, size: Size, switches: torch.Tensor | None) -> torch.Tensor:
        assert switches is not None
        return unpool(x, switches, size)


def unpool(x: torch.Tensor, switches: torch.Tensor, size: Size) -> torch.Tensor:
    """Return maps of `size` with the values of `x` `(V * N, C, h, w)` added up where `switches` `(N, C, h, w)` point.

    >>> unpool(torch.ones(1, 1, 1, 1), torch.tensor([[[[2]]]]), (2, 2))
    tensor([[[[0., 0.],
              [1., 0.]]]])
    """
    images, channels = switches.shape[:2]
    values = x.reshape(-1, images, channels, x.shape[2] * x.shape[3])
    places = switches.flatten(2).expand(values.shape)
    maps = values.new_zeros(*values.shape[:3], size[0] * size[1]).scatter_add(3, places, values)
    return maps.view(len(x), channels, *size)


def padding_of(conv: nn.Conv2d) -> tuple[Size, Size]:
    """Return the padding before each axis, and how much more there is after it (padding="same")."""
    if isinstance(conv.padding, tuple):
        return conv.padding, (0, 0)  # type: ignore[return-value]
    if conv.padding == "valid":
        return (0, 0), (0, 0)
    total = [conv.dilation[axis] * (conv.kernel_size[axis] - 1) for axis in (0, 1)]
    return (total[0] // 2, total[1] // 2), (total[0] % 2, total[1] % 2)


@final
class _FunctionalDropout(nn.Module):
    """Dropout by a function that `owner` calls, in the owner's mode."""

    def __init__(self, function: Any, owner: nn.Module, p: float) -> None:
        super().__init__()
        self.function, self.p = function, p
        self._owner = (owner,)  # in a tuple it is not a submodule

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        dropped: torch.Tensor = self.function(x, self.p, self._owner[0].training)
        return dropped


def read_chain(encoder: nn.Module, layer: str | None) -> list[Step]:
    """Return the steps from the encoder's input to the output of `layer`, or of the encoder.

    Raises
    ------
    ValueError
        If a step has no mirror, or the steps are not a chain; the message names the step.
    RuntimeError
        If forward cannot be traced.
    """
    try:
        with visiting(encoder):
            found = _tracing.trace_or_explain(encoder, _tracing.defaults(encoder))
    except _tracing.Untraceable as error:
        raise RuntimeError(
            f"{type(encoder).__name__} cannot be traced ({error}): pass the decoder a part of it that is a chain of layers"
        ) from error
    calls = found.calls.get(layer or "", [])
    if not calls:
        raise LookupError(
            f"layer {layer!r} is never called, or not as a separate step{near_misses(layer or '', found.calls)}"
        )
    if len(calls) > 1:
        raise ValueError(
            f"layer {layer!r} is called {len(calls)} times; the decoder needs a layer that is called once"
        )
    last = node = calls[0].returned
    if not isinstance(last, fx.Node):
        named = "the encoder" if layer is None else f"layer {layer!r}"
        raise TypeError(f"{named} must return a tensor to be decoded")
    steps: list[Step] = []
    while node.op != "placeholder":
        try:
            steps.append(_step(encoder, node))
        except ValueError as error:
            hint = "; choose the layer to decode from with layer=" if layer is None and node is last else ""
            raise ValueError(f"{error}{hint}") from None
        node = node.all_input_nodes[0]
    return steps[::-1]


def _step(encoder: nn.Module, node: fx.Node) -> Step:
    if node.op == "call_module":
        name = str(node.target)
        module: nn.Module | None = encoder.get_submodule(name)
        title = f"layer {name!r}, {module}".partition("\n")[0]
    else:
        name, module = node.name, _as_module(encoder, node)
        title = f"the operation {name!r}"
    if len(node.all_input_nodes) != 1:
        raise ValueError(f"there is no mirror of {title}: it takes {len(node.all_input_nodes)} tensors")
    unsuitable = (
        getattr(module, "padding_mode", "zeros") != "zeros"
        or getattr(module, "return_indices", False)
        or getattr(module, "running_var", 0) is None
    )
    for kind, step in _STEPS.items():
        if isinstance(module, kind) and type(module).forward is kind.forward and not unsuitable:
            return step(module, name)
    raise ValueError(f"there is no mirror of {title}: only these can be mirrored: {MIRRORED}")


_STEPS: dict[type[nn.Module], type[Step]] = {
    nn.Conv2d: Convolution,
    nn.BatchNorm2d: Normalization,
    nn.ReLU: Rectifier,
    nn.PReLU: LeakyRectifier,
    nn.LeakyReLU: LeakyRectifier,
    nn.MaxPool2d: Pooling,
    nn.Dropout: Unchanged,
    nn.Dropout2d: Unchanged,
    nn.Identity: Unchanged,
    _FunctionalDropout: Unchanged,
}


def _as_module(encoder: nn.Module, node: fx.Node) -> nn.Module | None:
    """Return a module that does what a function in the graph does, if that can be mirrored."""
    called = str(node.target) if node.op == "call_method" else getattr(node.target, "__name__", "")
    if called in {"relu", "relu_"}:
        return nn.ReLU()
    if called == "max_pool2d" and node.op == "call_function":
        return nn.MaxPool2d(**_options(node, _POOLING))
    if node.target in {F.dropout, F.dropout2d}:
        options = _options(node, ("p", "training", "inplace"))
        if options["training"]:  # torch always writes it into the graph
            raise ValueError(
                f"there is no mirror of the operation {node.name!r}, which draws random numbers in eval mode too: "
                "pass it self.training"
            )
        owner = next(reversed(node.meta.get("nn_module_stack", {"": None})))
        return _FunctionalDropout(node.target, encoder.get_submodule(owner), options.get("p", 0.5))
    return None


def _options(node: fx.Node, names: tuple[str, ...]) -> dict[str, Any]:
    """Return the arguments of a function in the graph by name, but for its input."""
    options: dict[str, Any] = dict(zip(names, node.args[1:], strict=False))
    return options | {name: value for name, value in node.kwargs.items() if name != "input"}
