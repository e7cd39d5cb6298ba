"""Random numbers: every image has streams of its own, so that no picture depends on what it is batched with."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch

from featurelens._checks import describe

Seed = int | torch.Generator | None


def root_seed(seed: Seed) -> int:
    """Return the number that all streams of one run come from; None draws one from the operating system."""
    if isinstance(seed, torch.Generator):
        return int(torch.randint(2**62, (), generator=seed, device=seed.device))
    if seed is None:
        return torch.Generator().seed()
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise TypeError(f"seed must be an int, a torch.Generator or None; got {describe(seed)}")
    return seed


def streams(root: int, purpose: str, rows: Sequence[int]) -> list[torch.Generator]:
    """Return a CPU generator for each of the images `rows`; whatever the device, the numbers are the same."""
    return [torch.Generator().manual_seed(_mixed(f"{root}/{purpose}/{row}")) for row in rows]


def _mixed(text: str) -> int:
    # torch's CPU generator uses the lower 32 bits of a seed, so these must differ for neighbouring rows.
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest(), "little")
