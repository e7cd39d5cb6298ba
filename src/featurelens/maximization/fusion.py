"""Rewritings of a network in eval mode that leave what it computes as it is, for the many steps of a run.

BatchNorm is folded into the convolution before it, and a ReLU is taken after the max pooling behind it, where there is
less to rectify. Nothing of the model is touched: calls are caught on their way, and only those between which nobody
else has seen the tensors on the way. That is found out by watching the model once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, NoReturn, final
from weakref import WeakValueDictionary, ref

import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import TorchFunctionMode

from featurelens._hooks import all_modules
from featurelens._structure import tensors
from featurelens.maximization.watching import Call, Function, saves_apart

RELUS: set[Function] = {F.relu, torch.relu, torch.relu_, torch.Tensor.relu, torch.Tensor.relu_}
IN_PLACE: set[Function] = {torch.relu_, torch.Tensor.relu_}
QUESTIONS: set[Function] = {torch.Tensor.dim, torch.Tensor.size}
"""What may be asked of a tensor by others: nothing in its answer changes."""
DATA: set[Function] = {torch.Tensor.data.__get__, torch.Tensor.data.__set__}  # type: ignore[attr-defined]
"""How a tensor's values can be changed without its version telling."""


class Surprise(BaseException):
    """The model did not go the way it went when it was watched; a BaseException, so that it does not swallow it."""


@final
@dataclass(frozen=True, eq=False)
class Chain:
    """A convolution with a weight and bias of our own, and the calls that follow it."""

    weight: torch.Tensor
    bias: torch.Tensor | None
    followers: tuple[Function, ...]
    convolution: tuple[Any, ...]  # its own weight and bias
    norm: tuple[Any, ...]  # what was folded
    own: tuple[torch.Tensor, ...]  # the model's tensors among these
    versions: tuple[int, ...]  # of them
    between: tuple[ref[torch.Tensor], ...]  # what was on the way when it was watched


@final
class Fused(TorchFunctionMode):
    """Inside this block the chains of calls in `chains`, by the ``id`` of a convolution's weight, are one step each.

    With `defer` off, ReLUs stay where they are.

    A convolution gives at once what is behind its BatchNorm. So that one is not taken for the other, what the model gets
    on the way is a view each time, and one that has had its turn must not turn up again, nor be kept by anybody.
    """

    def __init__(self, chains: dict[int, Chain]) -> None:
        super().__init__()
        self.chains, self.defer = chains, True
        self.expected: dict[int, tuple[torch.Tensor, torch.Tensor, Chain, Sequence[Function]]] = {}
        self.spent: WeakValueDictionary[int, torch.Tensor] = WeakValueDictionary()
        self.own = {id(tensor) for chain in chains.values() for tensor in chain.own}
        self.surprised = False

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)  # type: ignore[no-untyped-call]
        left = bool(self.expected or self.spent)
        # A model that catches everything may have made another error of it, or none.
        surprised = self.surprised and (error is None or isinstance(error, Exception))
        self.expected.clear()
        self.spent.clear()
        self.surprised = False
        if surprised or (left and error is None):
            raise Surprise

    def __torch_function__(self, func: Function, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if saves_apart() or (func in DATA and id(args[0]) in self.own):
            self._surprise()
        if (self.expected or self.spent) and func not in QUESTIONS:
            for tensor in tensors((args, kwargs)):
                if id(tensor) in self.spent:
                    self._surprise()
                if id(tensor) in self.expected:
                    return self._follow(*self.expected.pop(id(tensor)), func, args, kwargs)
        if func is F.conv2d and len(args) > 2 and (chain := self.chains.get(id(args[1]))) is not None:
            if not _same(args[1:3], chain.convolution) or not _unchanged(chain):
                self._surprise()
            convolved = func(args[0], chain.weight, chain.bias, *args[3:], **kwargs)
            if type(convolved) is not torch.Tensor:
                self._surprise()
            return self._expect(convolved, chain, chain.followers)
        return func(*args, **kwargs)

    def _follow(
        self,
        view: torch.Tensor,
        values: torch.Tensor,
        chain: Chain,
        followers: Sequence[Function],
        func: Function,
        args: Any,
        kwargs: Any,
    ) -> torch.Tensor:
        first, *others = followers
        if func is not first or not args or view is not args[0] or not _unchanged(chain):
            self._surprise()
        # Autograd may keep what a function is given, and nobody is to keep the view.
        if func in RELUS and _in_place(func, args, kwargs):
            if not self.defer:
                func(values, *args[1:], **kwargs)
            self.expected[id(view)] = view, values, chain, others
            return args[0]
        self.spent[id(view)] = view
        if func is F.batch_norm:
            if not _same(_settings(args, kwargs), chain.norm):
                self._surprise()
            return self._expect(values, chain, others)  # it is in the convolution already
        if func in RELUS:
            return self._expect(values if self.defer else func(values, *args[1:], **kwargs), chain, others)
        pooled: torch.Tensor = func(values, *args[1:], **kwargs)
        # A ReLU would save its output, which the model is free to change in place; this saves its input.
        return F.threshold(pooled, 0, 0) if self.defer else pooled

    def _expect(self, values: torch.Tensor, chain: Chain, followers: Sequence[Function]) -> torch.Tensor:
        """Return `values` as the model gets them: under a name of their own as long as a call is to follow."""
        if not followers:
            return values
        view: torch.Tensor = values.view_as(values)
        self.expected[id(view)] = view, values, chain, followers
        return view

    def _surprise(self) -> NoReturn:
        self.surprised = True
        raise Surprise


def _in_place(func: Function, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    """Return whether this call of a ReLU overwrites its input."""
    return func in IN_PLACE or bool(kwargs.get("inplace", args[1:] == (True,)))


def _settings(args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return what decides over the output of F.batch_norm, besides its input."""
    return (*args[1:], *(kwargs.get(name) for name in ("weight", "bias", "training", "eps")))


def _same(found: Sequence[Any], known: Sequence[Any]) -> bool:
    """Return whether these are the very tensors and the same numbers."""
    return len(found) == len(known) and all(
        one is other
        or (not isinstance(one, torch.Tensor) and not isinstance(other, torch.Tensor) and one == other)
        for one, other in zip(found, known, strict=True)
    )


def _unchanged(chain: Chain) -> bool:
    """Return whether what was folded still holds, and gradients go through it."""
    return torch.is_grad_enabled() and _versions(chain.own) == chain.versions


def _versions(own: Iterable[torch.Tensor]) -> tuple[int, ...]:
    return tuple(tensor._version for tensor in own)


def hooked(model: nn.Module) -> bool:
    """Return whether hooks of the user see what the model's layers return."""
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    shared = torch.nn.modules.module
    return any(getattr(module, kind) for module in all_modules(model) for kind in kinds) or any(
        getattr(shared, f"_global{kind}") for kind in kinds
    )


def chains(calls: Sequence[Call], wanted: Any) -> dict[int, Chain]:
    """Return what can be fused in a forward pass that was watched, and whose tensors in `wanted` are looked at."""
    if any(call.saves_apart for call in calls):
        return {}
    convolutions = [call for call in calls if call.function is F.conv2d and _is_plain(call)]
    used = Counter(id(call.args[1]) for call in convolutions)
    trace = _Trace(calls, [tensor for tensor in tensors(wanted) if tensor.grad_fn is not None])
    found = {}
    for convolution in convolutions:
        if used[id(convolution.args[1])] != 1:
            continue
        chain = _chain(trace, convolution)
        if chain is not None:
            found[id(convolution.args[1])] = chain
    return found


def kept(chain: Chain) -> bool:
    """Return whether the model keeps a tensor of the pass that was watched, now that it has been let go."""
    return any(tensor() is not None for tensor in chain.between)


def _is_plain(call: Call) -> bool:
    # A subclass of Tensor may do as it likes.
    return (
        len(call.args) > 2
        and type(call.args[1]) is nn.Parameter
        and type(call.result) is torch.Tensor
        and call.node is not None
    )


def _chain(trace: _Trace, convolution: Call) -> Chain | None:
    weight, bias = convolution.args[1:3]
    last, followers, settings = convolution, list[Function](), tuple[Any, ...]()
    between = [convolution.result]
    norm = trace.only_user(last)
    if norm is not None and _is_frozen_norm(norm):
        weight, bias = folded(weight, bias, norm)
        last, followers, settings = norm, [F.batch_norm], _settings(norm.args, norm.kwargs)
    relu = trace.only_user(last)
    if relu is not None and relu.function in RELUS:
        pool = trace.only_user(relu)
        if pool is not None and pool.function is F.max_pool2d and isinstance(pool.result, torch.Tensor):
            followers += [relu.function, pool.function]
            between += [last.result, relu.result]
    own = tuple(tensors((convolution.args[1:3], settings)))
    if not followers or trace.hidden.intersection(map(id, own)) or any(map(torch.is_inference, own)):
        return None
    return Chain(
        weight.detach(),
        bias if bias is None else bias.detach(),
        tuple(followers),
        convolution.args[1:3],
        settings,
        own,
        _versions(own),
        tuple(map(ref, between)),
    )


class _Trace:
    """Who uses the result of each call: by the calls that were seen, and by the graph of gradients."""

    def __init__(self, calls: Sequence[Call], outputs: Iterable[torch.Tensor]) -> None:
        self.users: dict[int, list[Call]] = {}
        self.place = {id(call): number for number, call in enumerate(calls)}
        self.hidden = {id(call.args[0]) for call in calls if call.function in DATA}
        for call in calls:
            if call.function not in QUESTIONS:
                for key in {id(tensor) for tensor in tensors((call.args, call.kwargs))}:
                    self.users.setdefault(key, []).append(call)
        outputs = list(outputs)
        self.outputs = {id(tensor) for tensor in outputs}
        self.edges = Counter[Any](tensor.grad_fn for tensor in outputs)
        waiting = list(self.edges)
        while waiting:
            following = [node for node, _ in waiting.pop().next_functions if node is not None]
            waiting += [node for node in dict.fromkeys(following) if node not in self.edges]
            self.edges.update(following)

    def only_user(self, call: Call) -> Call | None:
        """Return the call that takes the result of `call` first, if nobody else ever sees that."""
        later = [
            user
            for user in self.users.get(id(call.result), [])
            if self.place[id(user)] > self.place[id(call)]
        ]
        if not later or self.edges[call.node] != 1 or id(call.result) in self.outputs:
            return None
        user = later[0]
        overwritten = user.result is call.result  # by a function that works in place
        return (
            user if user.args and user.args[0] is call.result and (overwritten or len(later) == 1) else None
        )


def _is_frozen_norm(call: Call) -> bool:
    statistics = call.args[1:3]
    return (
        call.function is F.batch_norm
        and len(call.args) == 3
        and call.kwargs.get("training") is False
        and all(isinstance(tensor, torch.Tensor) for tensor in statistics)
    )


@torch.no_grad()
def folded(weight: torch.Tensor, bias: torch.Tensor | None, norm: Call) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the weight and bias of the convolution that gives what `norm` makes of another's output."""
    mean, variance = (statistic.double() for statistic in norm.args[1:3])
    gain, shift = norm.kwargs.get("weight"), norm.kwargs.get("bias")
    factor = (variance + norm.kwargs["eps"]).rsqrt() * (1 if gain is None else gain.double())
    moved = ((0 if bias is None else bias.double()) - mean) * factor + (
        0 if shift is None else shift.double()
    )
    return (weight.double() * factor.view(-1, 1, 1, 1)).to(weight.dtype), moved.to(weight.dtype)
