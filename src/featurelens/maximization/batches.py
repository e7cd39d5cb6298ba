"""The images or latents in a user's batches: checked one batch at a time, under a progress bar."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch

from featurelens._checks import check_dense, check_flag, check_type, describe
from featurelens._progress import progress_bar
from featurelens._structure import first_tensor
from featurelens.maximization.layouts import any_of
from featurelens.recording.inputs import as_loader

BATCH = 64
"""How many images of a tensor make a batch."""


def in_batches(loader: torch.Tensor | Iterable[Any]) -> Iterable[Any]:
    """Return `loader`, or the batches of images that are one tensor or array."""
    batches: Iterable[Any] = as_loader(loader)
    if isinstance(loader, torch.Tensor | np.ndarray) and loader.ndim:
        (whole,) = batches
        check_dense(whole, argument="the loader's images")
        batches = torch.split(whole, BATCH)
    return batches


def tensors_in(
    loader: torch.Tensor | Iterable[Any], noun: str, *shapes: str, title: str, progress: bool
) -> Iterator[torch.Tensor]:
    """Yield the first tensor of each batch of `loader` (which may itself be one batch), on the CPU.

    Each batch must hold what `noun` names, "image" say, and have as many axes as one of `shapes`, "(N, C, H, W)" say.

    Raises
    ------
    TypeError, ValueError
        If `loader` is no tensor and no iterable, or if its batches are empty, differ in shape beyond the first axis,
        or are not finite.
    """
    loader, shape = as_loader(loader), any_of(shapes)
    check_type(loader, Iterable, argument="loader", expected=f"{noun}s {shape} or a loader of them")
    check_flag(progress, argument="progress")
    seen, like = 0, None
    for batch in progress_bar(loader, what=title, unit="batch", progress=progress):
        found = first_tensor(batch)
        if found is not None:
            check_dense(found, argument=f"the loader's {noun}s")
        if found is None or found.ndim not in [each.count(",") + 1 for each in shapes] or 0 in found.shape:
            given = describe(batch if found is None else found)
            raise ValueError(f"the loader must yield {noun}s {shape} with no empty dimension; got {given}")
        like = like or found.shape[1:]
        if found.shape[1:] != like:
            raise ValueError(
                f"the loader must yield {noun}s of one shape; got {tuple(like)} and then, from {noun} {seen}, "
                f"{tuple(found.shape[1:])}"
            )
        broken = ~found.flatten(1).isfinite().all(1)
        if bool(broken.any()):
            place = seen + int(broken.nonzero()[0])
            raise ValueError(
                f"the loader must yield finite {noun}s; {noun} {place} has NaN or infinite values"
            )
        seen += len(found)
        yield found.detach().cpu()
    if not seen:
        raise ValueError(f"the loader yielded no {noun}s; got {describe(loader)}")
