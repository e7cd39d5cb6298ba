"""Mutual information between the pixels of an image and the activations at the same position."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, Self, final

import torch
from torch.nn import functional

from featurelens._checks import check_choice, check_flag, check_whole, count, describe, to_tensor
from featurelens._random import Seed, make_generator
from featurelens.information.binned import check_binning
from featurelens.information.chance import ChanceTable
from featurelens.information.chunks import elements_at_a_time, map_threaded, row_slices, shown
from featurelens.information.discretization import Strategy, bin_codes, digitized_codes
from featurelens.information.entropy import (
    Correction,
    information_from_sums,
    pair_sums_and_cells,
    sums_of_counts,
)
from featurelens.information.estimator import check_confidence
from featurelens.information.resampling import permutation_p_value, t_quantile
from featurelens.information.results import NATS_PER_UNIT, SpatialMutualInformationResult, Units
from featurelens.information.variables import with_full_precision

if TYPE_CHECKING:
    from featurelens.information.variables import ArrayLike

SpatialNull = Literal["cross_image"]

LEGACY_BINS = 255
MANY_PIXELS = 2**18
"""Enough work for a thread, and few enough for every thread to have some."""


def spatial_mutual_information(
    images: ArrayLike,
    activations: ArrayLike,
    *,
    bins: int | None = None,
    null: SpatialNull | Literal["default"] | None = "default",
    legacy: bool = False,
    strategy: Strategy = "quantile",
    correction: Correction = "permutation",
    pairings: int = 20,
    confidence: float | None = None,
    units: Units = "nats",
    progress: bool = True,
    seed: Seed = 0,
) -> SpatialMutualInformationResult:
    """Estimate the mutual information between pixels and the activations at the same position, within each image.

    Each map is resized to its image (bilinear), both are binned, and their mutual information is averaged over images,
    for each pair of channels: how well maps and image align, not the information that a layer has about its input.

    Parameters
    ----------
    images, activations
        ``(N, C1, H, W)`` and ``(N, C2, h, w)``, for the same images in the same order.
    bins
        Bins per map, at least 2: 16 by default, 255 for `legacy`.
    null, pairings
        "cross_image" (default) also pairs images with other images' activations, at up to `pairings` different shifts
        along the batch. None is the default for `legacy`.
    legacy, strategy, correction
        `legacy` is exactly the common recipe: `numpy.digitize` over `numpy.histogram_bin_edges(map, 255)`, where the
        largest value has a bin of its own, and no correction. Nearly all of its value is bias (3.90 nats for two
        independent 32x32 images). Otherwise `strategy` and `correction` are as in :class:`BinnedMutualInformation`.
    confidence, units, progress, seed
        As in :func:`channel_information`; `confidence` is the level of an interval over images, such as 0.95.

    Raises
    ------
    TypeError, ValueError
        If shapes do not match, values are not finite, or an option is not one of the above.

    Examples
    --------
    >>> images = torch.rand(8, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    >>> result = spatial_mutual_information(images, images.square())
    >>> result.per_pair.shape, result.value > 1.0, abs(result.null_mean) < 0.1
    (torch.Size([1, 1]), True, True)
    """
    check_choice(units, NATS_PER_UNIT, argument="units")
    check_confidence(confidence)
    check_flag(progress, argument="progress")
    recipe = _Recipe.of(bins, null, legacy, strategy, correction, pairings)
    sides = _checked_maps(images, activations, recipe)
    return _measured(sides, recipe, confidence, make_generator(seed), progress).to(units)


@final
@dataclass(frozen=True)
class _Recipe:
    """How maps are cut into bins and paired."""

    bins: int
    strategy: Strategy
    correction: Correction
    pairings: int
    """Number of shifts for the null, 0 without a null."""
    legacy: bool

    @classmethod
    def of(
        cls,
        bins: int | None,
        null: SpatialNull | Literal["default"] | None,
        legacy: bool,
        strategy: Strategy,
        correction: Correction,
        pairings: int,
    ) -> Self:
        check_flag(legacy, argument="legacy")
        check_binning("auto", strategy, correction)
        if bins is None:
            bins = LEGACY_BINS if legacy else 16
        if isinstance(null, str) and null == "default":
            null = None if legacy else "cross_image"
        bins = check_whole(bins, argument="bins", least=2)
        pairings = check_whole(pairings, argument="pairings", least=1)
        check_choice(null, (None, "cross_image"), argument="null")
        return cls(bins, strategy, "none" if legacy else correction, 0 if null is None else pairings, legacy)

    @property
    def levels(self) -> int:
        """Number of different codes."""
        return self.bins + 1 if self.legacy else self.bins

    @property
    def method(self) -> str:
        if self.legacy:
            return f"spatial(bins={self.bins}, legacy=True)"
        return f"spatial(bins={self.bins}, strategy={self.strategy!r}, correction={self.correction!r})"

    def codes(self, rows: torch.Tensor) -> torch.Tensor:
        """Return the bin of every value of maps ``(M, H * W)``."""
        if self.legacy:
            return digitized_codes(rows, self.bins)
        return bin_codes(rows, self.bins, self.strategy)

    def cut_at_a_time(self, device: torch.device) -> int:
        """Return how many values to cut at a time: quantiles are a dozen calls of torch, which must stay on one core."""
        return MANY_PIXELS if self.legacy else elements_at_a_time(device)


class _Maps(NamedTuple):
    """Bins ``(N, C, H * W)`` of all maps and the counts of each bin ``(N, C, bins)``.

    Also the sums over these counts, and whether each map is constant, ``(N, C)``.
    """

    codes: torch.Tensor
    sizes: torch.Tensor
    sums: torch.Tensor
    constant: torch.Tensor

    @classmethod
    def of(cls, maps: torch.Tensor, size: torch.Size, recipe: _Recipe) -> Self:
        """Cut maps, resized to `size`, into bins."""
        single = maps.reshape(-1, 1, *maps.shape[2:])

        codes = torch.empty(len(single), size.numel(), dtype=torch.int32, device=maps.device)
        sizes = torch.empty(len(single), recipe.levels, dtype=torch.int64, device=maps.device)

        def cut(rows: slice) -> None:
            part = single[rows]
            if part.shape[-2:] != size:
                part = functional.interpolate(part, size=tuple(size), mode="bilinear", align_corners=False)
            codes[rows] = recipe.codes(part.flatten(1))
            sizes[rows] = _bin_sizes(codes[rows], recipe.levels)

        map_threaded(
            cut, row_slices(len(single), size.numel(), recipe.cut_at_a_time(maps.device)), maps.device
        )
        pixels = maps.flatten(2)  # before resizing, which rounds
        return cls(
            codes=codes.reshape(*maps.shape[:2], -1),
            sizes=sizes.reshape(*maps.shape[:2], -1),
            sums=sums_of_counts(sizes, size.numel(), recipe.correction).reshape(maps.shape[:2]),
            constant=(pixels == pixels[..., :1]).all(dim=2),
        )

    def constant_note(self, name: str) -> list[str]:
        constant, total = int(self.constant.sum()), self.constant.numel()
        return [f"{constant} of {count(total, name)} never change"] if constant else []


def _bin_sizes(codes: torch.Tensor, bins: int) -> torch.Tensor:
    """Return the counts ``(..., bins)`` of codes ``(..., P)``."""
    sizes = codes.new_zeros(*codes.shape[:-1], bins, dtype=torch.int64)
    return sizes.scatter_add_(-1, codes.long(), torch.ones_like(codes, dtype=torch.int64))


def _measured(
    sides: list[torch.Tensor],
    recipe: _Recipe,
    confidence: float | None,
    generator: torch.Generator,
    progress: bool,
) -> SpatialMutualInformationResult:
    first, second = (_Maps.of(side, sides[0].shape[-2:], recipe) for side in sides)
    shifts = [0]
    if recipe.pairings:
        order = torch.randperm(len(sides[0]) - 1, generator=generator)
        shifts += (order[: recipe.pairings] + 1).tolist()
    table = None
    if recipe.correction == "permutation":
        table = ChanceTable(first.sizes, second.sizes, first.codes.shape[-1])
    true, *others = [
        _scores(first, second, shift, recipe, table) for shift in shown(shifts, "pairing", "shift", progress)
    ]
    notes = [*first.constant_note("image"), *second.constant_note("map")]
    return _summary(true, torch.stack(others) if others else None, confidence, recipe, notes)


def _scores(
    images: _Maps, maps: _Maps, shift: int, recipe: _Recipe, table: ChanceTable | None
) -> torch.Tensor:
    """Return ``(N, C1, C2)`` in nats, image i with the maps of image ``(i + shift) mod N``."""
    n, channels, pixels = images.codes.shape
    partner = (torch.arange(n, device=images.codes.device) + shift) % n
    joint = images.sums.new_empty(n, channels, maps.codes.shape[1])
    seen = torch.empty_like(joint)

    def fill(part: slice) -> None:
        joint[part], seen[part] = pair_sums_and_cells(
            images.codes[part], maps.codes[partner[part]], recipe.levels, recipe.correction
        )

    map_threaded(fill, row_slices(n, joint[:1].numel() * pixels, MANY_PIXELS), joint.device)
    first, second = images.sums[:, :, None], maps.sums[partner][:, None]
    values = information_from_sums(joint, first, second, n=pixels, correction=recipe.correction)
    if table is not None:
        values = table.of(images.sizes, maps.sizes[partner]).taken_off(values, seen)
    return values.masked_fill_(images.constant[:, :, None] | maps.constant[partner][:, None], 0.0)


def _checked_maps(images: ArrayLike, activations: ArrayLike, recipe: _Recipe) -> list[torch.Tensor]:
    """Return both as floating-point tensors on one device, or raise."""
    sides = []
    for data, name in ((images, "images"), (activations, "activations")):
        side = to_tensor(data, name)
        if side.ndim != 4 or 0 in side.shape:
            raise ValueError(
                f"{name} must have shape (N, C, H, W) with no empty dimension; got {describe(side)}"
            )
        # numpy's edges between integers are float64.
        whole = recipe.legacy and not side.is_floating_point()
        side = side.double() if whole else with_full_precision(side)
        # One value that is not finite makes the sum so, and a sum is much faster than a test of each.
        if not math.isfinite(float(side.sum())) and not bool(torch.isfinite(side).all()):
            bad = int((~torch.isfinite(side)).sum())
            raise ValueError(f"{name} must be finite; got {bad} NaN or infinite values")
        sides.append(side)
    n = len(sides[0])
    if n != len(sides[1]):
        raise ValueError(f"there must be as many images as activations; got {n} and {len(sides[1])}")
    if recipe.pairings and n < 2:
        raise ValueError("null='cross_image' needs at least 2 images; got 1: use more, or null=None")
    if sides[0][0, 0].numel() < 2:
        raise ValueError(f"images must have at least 2 pixels; got {describe(images)}")
    return [sides[0], sides[1].to(sides[0].device)]


def _summary(
    true: torch.Tensor,
    shuffled: torch.Tensor | None,
    confidence: float | None,
    recipe: _Recipe,
    notes: list[str],
) -> SpatialMutualInformationResult:
    n, dim_x, dim_y = true.shape
    per_image = true.mean(dim=(1, 2))
    value = float(true.mean())
    centre, scatter = value, per_image
    null_mean, null_per_pair, p_value = None, None, None
    if shuffled is not None:
        null_mean = float(shuffled.mean())
        null_per_pair = shuffled.mean(dim=(0, 1)).cpu()
        p_value = permutation_p_value(value, shuffled.mean(dim=(1, 2, 3)))
        centre, scatter = value - null_mean, per_image - shuffled.mean(dim=(0, 2, 3))
    error, interval = None, None
    if n > 1:
        error = float(scatter.std()) / math.sqrt(n)
        if confidence is not None:
            half = t_quantile(confidence, n - 1) * error
            interval = (centre - half, centre + half)
    return SpatialMutualInformationResult(
        value=value,
        per_pair=true.mean(dim=0).cpu(),
        per_image=per_image.cpu(),
        method=recipe.method,
        n=n,
        dim_x=dim_x,
        dim_y=dim_y,
        standard_error=error,
        interval=interval,
        null_mean=null_mean,
        null_per_pair=null_per_pair,
        p_value=p_value,
        ceiling=math.log(recipe.levels),
        notes=tuple(notes),
    )
