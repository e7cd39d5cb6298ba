"""Random numbers: one generator per call; the global state is neither read nor advanced."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from featurelens._checks import check_whole, describe
from featurelens._guard import random_state, set_random_state

Seed = int | torch.Generator | None

STRIDE, OFFSET = 0x9E3779B97F4A7C15, 0x1F123BB5
"""Keep seed 0 apart from the stream of ``torch.manual_seed(0)``: otherwise data drawn from that stream would be combined
with their own numbers as noise."""


def check_seed(seed: Seed) -> Seed:
    """Return a valid seed, whole numbers of any kind as an int."""
    if seed is None or isinstance(seed, torch.Generator):
        return seed
    try:
        return check_whole(seed, argument="seed")
    except TypeError:
        raise TypeError(f"seed must be an int, a torch.Generator or None; got {describe(seed)}") from None


def make_generator(seed: Seed) -> torch.Generator:
    """Return the generator that `seed` stands for; None means fresh entropy from the operating system.

    Numbers are drawn on the CPU, whatever the data's device, so that one seed means one result everywhere.

    >>> torch.equal(torch.rand(2, generator=make_generator(7)), torch.rand(2, generator=make_generator(7)))
    True
    """
    seed = check_seed(seed)
    if isinstance(seed, torch.Generator):
        if seed.device.type != "cpu":
            raise ValueError(
                f"seed must be a CPU generator, whatever the data's device; got one on {seed.device}"
            )
        return seed
    generator = torch.Generator()
    if seed is None:
        generator.seed()
    else:
        generator.manual_seed((seed * STRIDE + OFFSET) % 2**63)
    return generator


@contextmanager
def random_state_kept() -> Iterator[None]:
    """Restore the global random state when the block ends: a DataLoader draws from it whenever it is read."""
    state = random_state()
    try:
        yield
    finally:
        set_random_state(state)


def permutation(n: int, generator: torch.Generator, device: torch.device) -> torch.Tensor:
    """Return a random order of ``range(n)`` as an index tensor on `device`."""
    return torch.randperm(n, generator=generator).to(device)


def normal(
    shape: tuple[int, ...],
    generator: torch.Generator,
    device: torch.device,
    dtype: torch.dtype = torch.float64,
) -> torch.Tensor:
    """Return standard normal numbers on `device`, drawn on the CPU."""
    return torch.randn(shape, generator=generator, dtype=dtype).to(device)
