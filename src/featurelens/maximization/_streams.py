"""Random numbers: every image has streams of its own, so that no picture depends on what it is batched with."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import torch

from featurelens._random import Seed, check_seed


def root_seed(seed: Seed) -> int:
    """Return the number that all streams of one run come from; None draws one from the operating system."""
    seed = check_seed(seed)
    if isinstance(seed, torch.Generator):
        return int(torch.randint(2**62, (), generator=seed, device=seed.device))
    if seed is None:
        return torch.Generator().seed()
    return seed


def streams(root: int, purpose: str, names: Iterable[str]) -> list[torch.Generator]:
    """Return a CPU generator for each of the images `names`; whatever the device, the numbers are the same."""
    return [torch.Generator().manual_seed(_mixed(f"{root}/{purpose}/{name}")) for name in names]


def _mixed(text: str) -> int:
    # torch's CPU generator uses the lower 32 bits of a seed, so these must differ for neighbouring names.
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest(), "little")
