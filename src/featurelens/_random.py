"""Random numbers: a generator for each call, and how the state of the global generators is kept."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from featurelens._checks import check_whole, describe

Seed = int | torch.Generator | None

STRIDE, OFFSET = 0x9E3779B97F4A7C15, 0x1F123BB5
"""Keep seed 0 apart from the stream of ``torch.manual_seed(0)``: otherwise data drawn from that stream would be combined
with their own numbers as noise."""


def check_seed(seed: Seed) -> Seed:
    """Return a valid seed, whole numbers of any kind as an int."""
    if seed is None or isinstance(seed, torch.Generator):
        return seed
    try:
        return check_whole(seed, argument="seed", most=2**64 - 1)
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


def random_state() -> dict[str, Any]:
    """Return the state of every global generator that a forward pass may draw from."""
    return {name: read() for name, (read, _) in _generators().items()}


def set_random_state(state: dict[str, Any]) -> None:
    """Set every global generator to the state that `random_state` returned; one that came later is left alone."""
    for name, (_, write) in _generators().items():
        if name in state:
            write(state[name])


def same_random_state(one: Any, other: Any) -> bool:
    """Return whether nothing was drawn between two calls of `random_state`."""
    if isinstance(one, dict):
        return all(same_random_state(one[key], other[key]) for key in one if key in other)
    if isinstance(one, list | tuple) and not {int, float, str, type(None)}.issuperset(map(type, one)):
        return all(map(same_random_state, one, other))
    same = one == other
    return bool(same if isinstance(same, bool) else same.all())


def _generators() -> dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]]:
    """Return how to read and to set each global generator that a forward pass may draw from."""
    found: dict[str, Any] = {"torch": (torch.get_rng_state, torch.set_rng_state)}
    found["random"] = random.getstate, random.setstate
    found["numpy"] = np.random.get_state, np.random.set_state
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        found["cuda"] = torch.cuda.get_rng_state_all, torch.cuda.set_rng_state_all
    if torch.backends.mps.is_available():
        found["mps"] = torch.mps.get_rng_state, torch.mps.set_rng_state
    return found


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
