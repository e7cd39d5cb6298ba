"""Nested blocks that change one model: they end in order."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from weakref import WeakKeyDictionary

from torch import nn

from featurelens._checks import count

_blocks: WeakKeyDictionary[nn.Module, list[ExitStack]] = WeakKeyDictionary()


@contextmanager
def closed_in_order(model: nn.Module) -> Iterator[ExitStack]:
    """Close a stack of guards at the end of the block, together with those opened after it.

    Each guard restores what it found, so an outer one that ended first would have its work undone by an inner one.
    """
    blocks, block = _blocks.setdefault(model, []), ExitStack()
    blocks.append(block)
    try:
        yield block
    finally:
        inner = blocks[blocks.index(block) + 1 :] if block in blocks else []
        while block in blocks:
            blocks.pop().close()
        if inner:
            raise RuntimeError(
                f"a block of `ablated` ended before {count(len(inner), 'block')} opened inside it: all were closed, "
                "and the model was restored; close the innermost first"
            )
