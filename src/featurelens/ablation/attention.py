"""Attention heads: what an attention layer joins, side by side, before its output projection."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from featurelens._checks import describe
from featurelens._hooks import hooked

_COUNTS = ("num_heads", "num_attention_heads", "n_heads")  # of the layer itself or of its `config`
_PROJECTIONS = ("proj", "out_proj", "o_proj", "to_out", "c_proj", "out_lin", "o")
"""Names of the last layer of attention layers that call it."""


def heads_of(module: nn.Module) -> int:
    """Return how many heads an attention layer has.

    >>> heads_of(nn.MultiheadAttention(8, 2))
    2

    Raises
    ------
    TypeError
        If it is neither torch's nor one with a number of heads and a linear output projection, such as those of timm and of
        most models of transformers.
    """
    owners = (module, getattr(module, "config", None))
    counts = (getattr(owner, name, None) for owner in owners for name in _COUNTS)
    heads = next((number for number in counts if isinstance(number, int)), None)
    if heads is None or (not isinstance(module, nn.MultiheadAttention) and _projection(module) is None):
        raise TypeError(
            "the heads of nn.MultiheadAttention can be ablated, and those of layers with a number of heads "
            f"({', '.join(_COUNTS)}) and a linear output projection ({', '.join(_PROJECTIONS)}); got {describe(module)}. If "
            "the layer itself returns the joined heads, as BertSelfAttention does: ChannelAblator(model, layer, part=0, "
            "axis=-1, groups=HEADS)"
        )
    return heads


@contextmanager
def heads_hooked(module: nn.Module, receive: Callable[[Any], Any]) -> Iterator[None]:
    """Pass the joined heads `(N, L, D)` to `receive` inside the block; what it returns replaces them, unless it is None."""
    if not isinstance(module, nn.MultiheadAttention):
        projection = _projection(module)
        assert projection is not None  # checked by heads_of

        def before(module: nn.Module, args: Any, kwargs: Any) -> Any:
            found = receive(args[0])
            return None if found is None else ((found, *args[1:]), kwargs)

        with hooked({}, {projection: before}):
            yield
        return
    own = vars(module)
    with ExitStack() as stack:
        saved = own.get("forward")
        stack.callback(lambda: own.update(forward=saved) if saved else own.pop("forward"))
        stack.enter_context(
            hooked({module: lambda *_: None})
        )  # torch then leaves its fast path, which skips forward
        own["forward"] = lambda *args, **kwargs: _attend(module, receive, *args, **kwargs)
        yield


def _projection(module: nn.Module) -> nn.Module | None:
    found = [getattr(module, name, None) for name in _PROJECTIONS]
    layers = (layer for layer in found if isinstance(layer, nn.Module))
    # GPT-2 has a class of its own for a linear layer, with a matrix as well.
    return next((layer for layer in layers if getattr(getattr(layer, "weight", None), "ndim", 0) == 2), None)


def _attend(
    module: nn.MultiheadAttention,
    receive: Callable[[Any], Any],
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    key_padding_mask: torch.Tensor | None = None,
    need_weights: bool = True,
    attn_mask: torch.Tensor | None = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Do what nn.MultiheadAttention does, in eval mode, with what `receive` makes of the heads."""
    if module.bias_k is not None or module.add_zero_attn or query.ndim != 3:
        raise ValueError("heads cannot be ablated with add_bias_kv, add_zero_attn or inputs without a batch")
    if not module.batch_first:
        query, key, value = (tensor.transpose(0, 1) for tensor in (query, key, value))
    sizes, heads = (len(query), -1, module.num_heads, module.head_dim), module.num_heads
    q, k, v = (each.reshape(sizes).transpose(1, 2) for each in _projected(module, query, key, value))
    weights = q @ k.transpose(-2, -1) * module.head_dim**-0.5
    if attn_mask is not None:
        mask = attn_mask.reshape(-1, heads, *attn_mask.shape[1:]) if attn_mask.ndim == 3 else attn_mask
        weights = weights.masked_fill(mask, -torch.inf) if mask.dtype is torch.bool else weights + mask
    if key_padding_mask is not None:
        padded = key_padding_mask[:, None, None]
        weights = weights.masked_fill(padded, -torch.inf) if padded.dtype is torch.bool else weights + padded
    weights = weights.softmax(-1)
    joined = (weights @ v).transpose(1, 2).flatten(2)
    changed = receive(joined)
    output = module.out_proj(joined if changed is None else changed)
    output = output if module.batch_first else output.transpose(0, 1)
    return output, (weights.mean(1) if average_attn_weights else weights) if need_weights else None


def _projected(
    module: nn.MultiheadAttention, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor
) -> list[torch.Tensor]:
    own: dict[str, Any] = module._parameters
    matrices = [own["q_proj_weight"], own["k_proj_weight"], own["v_proj_weight"]]
    if own["in_proj_weight"] is not None:
        matrices = list(own["in_proj_weight"].chunk(3))
    biases = [None] * 3 if own["in_proj_bias"] is None else list(own["in_proj_bias"].chunk(3))
    return [F.linear(x, w, b) for x, w, b in zip((query, key, value), matrices, biases, strict=True)]
