"""Information between the pixels of an image and the activations above them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Self, final

import torch

from featurelens._checks import check_choice, check_flag, check_whole, count, describe
from featurelens._random import Seed, check_seed, make_generator
from featurelens.information._discretize import STRATEGIES, Strategy
from featurelens.information._entropy import CORRECTIONS, Correction
from featurelens.information._pairs import PairScorer
from featurelens.information._resampling import permutation_p_value, t_quantile
from featurelens.information._variables import to_tensor
from featurelens.information.base import check_confidence
from featurelens.information.result import NATS_PER_UNIT, Units, describe_certainty, rescaled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from featurelens.information._variables import ArrayLike

SpatialNull = Literal["cross_image"]

LEGACY_BINS = 255
MEASURED = (
    "value",
    "per_pair",
    "per_image",
    "standard_error",
    "interval",
    "null_mean",
    "null_per_pair",
    "ceiling",
)


@final
@dataclass(frozen=True, kw_only=True)
class SpatialMutualInformationResult:
    """Information between image pixels and the activations at the same place, per pair of channels.

    Attributes
    ----------
    value : float
        Mean over images and pairs of channels, in `units`.
    per_pair : torch.Tensor
        ``(C1, C2)`` float64: mean over images, per image channel and activation channel.
    per_image : torch.Tensor
        ``(N,)`` float64: mean over pairs of channels, per image.
    null_mean : float or None
        The same mean when every image is paired with the activations of *another* image: what the recipe
        reports where there is nothing to report. Read :attr:`excess`, not `value`.
    null_per_pair : torch.Tensor or None
        ``(C1, C2)``: the null, per pair.
    p_value : float or None
        Share of pairings, the true one counted, with a mean of at least `value`.
    standard_error, interval
        Scatter over images: of the excess over the null if there is one, else of the value. `interval` is
        around the same.
    units, method, n, dim_x, dim_y, ceiling, noise_model, notes
        As in :class:`MutualInformationResult`; `n` counts images, `dim_x` and `dim_y` channels.
    """

    value: float
    per_pair: torch.Tensor
    per_image: torch.Tensor
    method: str
    n: int
    dim_x: int
    dim_y: int
    units: Units = "nats"
    standard_error: float | None = None
    interval: tuple[float, float] | None = None
    null_mean: float | None = None
    null_per_pair: torch.Tensor | None = None
    p_value: float | None = None
    ceiling: float | None = None
    noise_model: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def excess(self) -> float | None:
        """What is left of the value once the null is taken off, None without a null."""
        return None if self.null_mean is None else self.value - self.null_mean

    def plot(self, *, limit: int = 64, title: str | None = None, ax: Axes | None = None) -> Figure:
        """Draw a heat map over the pairs of channels; see `plotting.pair_matrix`."""
        from featurelens import plotting

        return plotting.pair_matrix(self, limit=limit, title=title, ax=ax)

    def to(self, units: Units) -> Self:
        """Return the same result in ``"nats"`` or ``"bits"``."""
        return rescaled(self, units, MEASURED)

    def __float__(self) -> float:
        return self.value

    def __repr__(self) -> str:
        null = "" if self.null_mean is None else f", null {self.null_mean:.4f}"
        return (
            f"{type(self).__name__}({self.value:.4f} {self.units}{null}, {self.method}, n={self.n}, "
            f"pairs={self.dim_x}x{self.dim_y})"
        )

    def __str__(self) -> str:
        sure = describe_certainty(None, None, self.excess, self.null_mean, self.p_value)
        text = (
            f"{self.value:.4f} {self.units}{sure} by {self.method}, from {count(self.n, 'image')} and "
            f"{self.dim_x} x {self.dim_y} pairs of channels"
        )
        if self.interval is not None:
            what = "value" if self.null_mean is None else "excess over the null"
            text += f"; {what} between {self.interval[0]:.4f} and {self.interval[1]:.4f}"
        return "; ".join([text, *self.notes])


def spatial_mutual_information(
    images: ArrayLike,
    activations: ArrayLike,
    *,
    bins: int | None = None,
    null: SpatialNull | Literal["default"] | None = "default",
    legacy: bool = False,
    strategy: Strategy = "quantile",
    correction: Correction = "grassberger",
    pairings: int = 20,
    confidence: float | None = None,
    units: Units = "nats",
    seed: Seed = None,
) -> SpatialMutualInformationResult:
    """Estimate how much a pixel tells of the activation at its place, within one image.

    Each activation map is resized to its image (bilinear), both are cut into bins over that map's or image's
    own pixels, and the mutual information over the pixels is averaged over images, per pair of channels. This
    is a measure of registration *within* an image, at a random pixel; it is not the information that a layer
    has of its input.

    Smooth maps share information with any image by chance, and short maps fill few bins of many. Both show in
    the null: image i with the maps of image j, which keeps what pixels of one map have in common with their
    neighbours (shuffled pixels would not, and give a null that is too low). A map that is the same everywhere
    shares exactly nothing, and a note counts such maps.

    Parameters
    ----------
    images : torch.Tensor or numpy.ndarray
        ``(N, C1, H, W)``, of at least 2 pixels.
    activations : torch.Tensor or numpy.ndarray
        ``(N, C2, h, w)``, of the same images in the same order.
    bins : int, optional
        Bins per map, at least 2: 16 unless given, 255 for `legacy`.
    null : {"cross_image", None}
        Pair images with the activations of others, shifted by up to `pairings` different numbers of places.
        The default is ``"cross_image"``, and None for `legacy`.
    legacy : bool
        The common recipe to the digit: 255 bins of equal width and no correction. Nearly all of what it
        returns is bias (3.90 nats for two independent 32x32 images); it is here for comparison.
    strategy : {"quantile", "uniform"}
        Bins of equal count or equal width; legacy implies ``"uniform"``.
    correction : {"grassberger", "miller-madow", "none"}
        As in :class:`BinnedMutualInformation`; legacy implies ``"none"``.
    pairings : int
        Number of shifts tried for the null, at most N - 1; the smallest p-value is ``1 / (1 + pairings)``.
    confidence : float, optional
        Level of a confidence interval over images, such as 0.95.
    units : {"nats", "bits"}
        Unit of all values.
    seed : int, torch.Generator or None
        Chooses the shifts when there are more than `pairings`.

    Returns
    -------
    SpatialMutualInformationResult

    Raises
    ------
    TypeError
        If images or activations are neither a tensor nor an array of real numbers, or an option is of another type.
    ValueError
        If shapes do not fit, values are not finite, an image has one pixel only, the null is asked of a single
        image, or an option is not one of the above.

    Examples
    --------
    >>> images = torch.rand(8, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    >>> result = spatial_mutual_information(images, images.square(), seed=0)
    >>> result.per_pair.shape, result.value > 1.0, abs(result.null_mean) < 0.1
    (torch.Size([1, 1]), True, True)
    """
    check_flag(legacy, argument="legacy")
    check_seed(seed)
    if legacy:
        strategy, correction = "uniform", "none"
    if bins is None:
        bins = LEGACY_BINS if legacy else 16
    if null == "default":
        null = None if legacy else "cross_image"
    check_whole(bins, argument="bins", least=2)
    check_whole(pairings, argument="pairings", least=1)
    check_choice(null, (None, "cross_image"), argument="null")
    check_choice(strategy, STRATEGIES, argument="strategy")
    check_choice(correction, CORRECTIONS, argument="correction")
    check_choice(units, NATS_PER_UNIT, argument="units")
    check_confidence(confidence)
    image_maps, maps = _as_maps(images, "images"), _as_maps(activations, "activations")
    if len(image_maps) != len(maps):
        raise ValueError(
            f"images and activations must pair up; got {len(image_maps)} and {len(maps)} of them"
        )
    if null is not None and len(maps) < 2:
        raise ValueError("null='cross_image' needs at least 2 images; got 1: give more, or null=None")
    if image_maps[0, 0].numel() < 2:
        raise ValueError(f"images must have at least 2 pixels; got {describe(images)}")
    scorer = PairScorer.of(image_maps, maps.to(image_maps.device), bins, strategy, correction, legacy)
    true = scorer.scores(0)
    shuffled = None
    if null is not None:
        shifts = torch.randperm(len(maps) - 1, generator=make_generator(seed))[:pairings] + 1
        shuffled = torch.stack([scorer.scores(int(shift)) for shift in shifts])
    name = f"spatial(bins={bins}, strategy={strategy!r}, correction={correction!r})"
    return _summary(true, shuffled, confidence, bins, name, scorer.notes()).to(units)


def _as_maps(data: ArrayLike, name: str) -> torch.Tensor:
    data = to_tensor(data, name)
    if data.ndim != 4 or 0 in data.shape:
        raise ValueError(f"{name} must have shape (N, C, H, W), none of them 0; got {describe(data)}")
    if not data.is_floating_point() or data.dtype in {torch.float16, torch.bfloat16}:
        data = data.float()
    # One number that is not finite makes the sum so, and a sum is much faster than a test of each.
    if not math.isfinite(float(data.sum())) and not bool(torch.isfinite(data).all()):
        raise ValueError(
            f"{name} must be finite; got {int((~torch.isfinite(data)).sum())} NaN or infinite values"
        )
    return data


def _summary(
    true: torch.Tensor,
    shuffled: torch.Tensor | None,
    confidence: float | None,
    bins: int,
    name: str,
    notes: tuple[str, ...],
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
        method=name,
        n=n,
        dim_x=dim_x,
        dim_y=dim_y,
        standard_error=error,
        interval=interval,
        null_mean=null_mean,
        null_per_pair=null_per_pair,
        p_value=p_value,
        ceiling=math.log(bins),
        notes=notes,
    )
