"""Every image's channels against every map's, pixel by pixel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self, final

import torch
from torch.nn import functional

from featurelens._checks import count
from featurelens.information._chunks import elements_at_a_time, map_threaded, row_slices
from featurelens.information._discretize import Strategy, bin_codes
from featurelens.information._entropy import Correction, information_from_sums
from featurelens.information._row_counts import row_sums


@final
@dataclass(frozen=True)
class PairScorer:
    """Codes and marginal sums of all maps, computed once and paired in as many ways as the null wants."""

    image_codes: torch.Tensor  # (N, C1, H * W)
    map_codes: torch.Tensor  # (N, C2, H * W)
    image_sums: torch.Tensor  # (N, C1)
    map_sums: torch.Tensor  # (N, C2)
    flat_images: torch.Tensor  # (N, C1) bool: the same everywhere
    flat_maps: torch.Tensor  # (N, C2) bool
    bins: int
    correction: Correction
    legacy: bool

    @classmethod
    def of(
        cls,
        images: torch.Tensor,
        maps: torch.Tensor,
        bins: int,
        strategy: Strategy,
        correction: Correction,
        legacy: bool,
    ) -> Self:
        image_codes, image_sums = _codes(images, images.shape[-2:], bins, strategy, correction)
        map_codes, map_sums = _codes(maps, images.shape[-2:], bins, strategy, correction)
        flat = _flat(images), _flat(maps)
        return cls(image_codes, map_codes, image_sums, map_sums, *flat, bins, correction, legacy)

    def notes(self) -> tuple[str, ...]:
        """Say how many images and maps never change."""
        return tuple(
            f"{int(flat.sum())} of {count(flat.numel(), name)} never change"
            for name, flat in (("image", self.flat_images), ("map", self.flat_maps))
            if bool(flat.any())
        )

    def scores(self, shift: int) -> torch.Tensor:
        """Return ``(N, C1, C2)`` in nats, image i with the maps of image ``(i + shift) mod N``."""
        n, channels, pixels = self.image_codes.shape
        partner = (torch.arange(n, device=self.image_codes.device) + shift) % n
        joint = self.image_sums.new_empty(n, channels, self.map_codes.shape[1])

        def fill(image: int) -> None:
            own, others = self.image_codes[image] * self.bins, self.map_codes[partner[image]]
            for channel in range(channels):
                for maps in row_slices(len(others), pixels, elements_at_a_time(own.device)):
                    keys = own[channel] + others[maps]
                    joint[image, channel, maps] = row_sums(keys, self.bins**2, self.correction)

        map_threaded(fill, range(n), joint.device)
        values = information_from_sums(
            joint,
            self.image_sums[:, :, None],
            self.map_sums[partner][:, None],
            n=pixels,
            correction=self.correction,
        )
        if self.legacy:
            return values
        return values.masked_fill_(self.flat_images[:, :, None] | self.flat_maps[partner][:, None], 0.0)


def _flat(maps: torch.Tensor) -> torch.Tensor:
    """Return ``(N, C)``: whether a map is the same everywhere; asked before resizing, which rounds."""
    pixels = maps.flatten(2)
    return (pixels == pixels[..., :1]).all(dim=2)


def _codes(
    maps: torch.Tensor, size: torch.Size, bins: int, strategy: Strategy, correction: Correction
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return bins ``(N, C, H * W)`` of the maps resized to `size`, and the sums ``(N, C)`` over their counts."""
    single = maps.reshape(-1, 1, *maps.shape[2:])

    def cut(rows: slice) -> tuple[torch.Tensor, torch.Tensor]:
        part = single[rows]
        if part.shape[-2:] != size:
            part = functional.interpolate(part, size=tuple(size), mode="bilinear", align_corners=False)
        codes = bin_codes(part.flatten(1), bins, strategy)
        return codes, row_sums(codes, bins, correction)

    chunks = row_slices(len(single), size.numel(), elements_at_a_time(maps.device))
    codes, sums = zip(*map_threaded(cut, chunks, maps.device), strict=True)
    return torch.cat(codes).reshape(*maps.shape[:2], -1), torch.cat(sums).reshape(maps.shape[:2])
