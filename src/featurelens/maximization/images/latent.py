"""Images from a decoder, whose input is optimized, as it is or decorrelated."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Self, final

import torch
from torch import nn

from featurelens._checks import check_module, check_type, check_whole, count, describe
from featurelens._random import random_state_kept
from featurelens._structure import first_tensor
from featurelens.maximization.batches import tensors_in
from featurelens.maximization.images.base import Parametrization, check_spread, normal
from featurelens.maximization.layouts import ANY, is_batch


@final
@dataclass(frozen=True, eq=False, repr=False)
class LatentWhitening:
    """The linear map between latents ``z`` and coordinates ``w`` in which they are uncorrelated with variance 1.

    Attributes
    ----------
    mean : torch.Tensor
        ``(D,)`` float32: the mean latent.
    unwhitening : torch.Tensor
        ``(D, D)`` float32: each row is a principal axis of the latents, scaled to their standard deviation along it, so
        that ``z = w @ unwhitening + mean``.

    Examples
    --------
    >>> latents = torch.randn(500, 3, generator=torch.Generator().manual_seed(0)) @ torch.rand(3, 3)
    >>> whitening = LatentWhitening.fit(latents)
    >>> torch.allclose(whitening.whiten(latents).T.cov(), torch.eye(3), atol=1e-3)
    True
    """

    mean: torch.Tensor
    unwhitening: torch.Tensor

    @classmethod
    @random_state_kept()
    def fit(cls, loader: torch.Tensor | Iterable[Any], *, progress: bool = True) -> Self:
        """Measure mean and covariance of latents ``(N, D)`` in one pass.

        Parameters
        ----------
        loader
            Latents ``(N, D)``, or a loader of batches of them: tensors, or tuples or dicts whose first tensor is one.
        progress
            Show a progress bar; without a terminal, write a line every ten seconds.

        Raises
        ------
        TypeError, ValueError
            If there are fewer than two latents, or they are not ``(N, D)`` and finite.
        """
        n, total, products = 0, torch.zeros(()), torch.zeros(())
        for batch in tensors_in(loader, "latent", "(N, D)", title="measuring", progress=progress):
            rows = batch.double()
            n, total, products = n + len(rows), total + rows.sum(0), products + rows.T @ rows
        if n < 2:
            raise ValueError(f"whitening needs at least 2 latents; got {n}")
        mean = total / n
        variances, axes = torch.linalg.eigh((products - n * mean[:, None] * mean) / (n - 1))
        return cls(mean.float(), (axes * variances.clamp(min=0).sqrt()).T.float())

    def whiten(self, latents: torch.Tensor) -> torch.Tensor:
        """Return the coordinates ``w`` ``(N, D)`` of latents ``(N, D)``; an axis without variance gets 0.

        Raises
        ------
        TypeError, ValueError
            If `latents` are not a tensor ``(N, D)``.
        """
        self._check(latents, "latents")
        inverse: torch.Tensor = torch.linalg.pinv(self.unwhitening.to(latents))
        return (latents - self.mean.to(latents)) @ inverse

    def unwhiten(self, coordinates: torch.Tensor) -> torch.Tensor:
        """Return the latents ``z`` ``(N, D)`` of coordinates ``(N, D)``.

        Raises
        ------
        TypeError, ValueError
            If `coordinates` are not a tensor ``(N, D)``.
        """
        self._check(coordinates, "coordinates")
        return coordinates @ self.unwhitening.to(coordinates) + self.mean.to(coordinates)

    def _check(self, values: torch.Tensor, argument: str) -> None:
        expected = f"(N, {len(self.mean)})"
        check_type(values, torch.Tensor, argument=argument, expected=f"a tensor {expected}")
        if values.ndim != 2 or values.shape[1] != len(self.mean):
            raise ValueError(f"{argument} must be {expected}; got {describe(values)}")

    def __repr__(self) -> str:
        return f"LatentWhitening({count(len(self.mean), 'dimension')})"


@final
class LatentImage(Parametrization):
    """An image from a decoder whose latents are optimized, so that it stays among those the decoder can generate.

    Parameters
    ----------
    decoder
        Takes latents ``(N, latent_dim)``, returns images `(N, C, H, W)` in [0, 1], or signals or volumes. It runs in eval mode and is
        restored afterwards.
    latent_dim
        Number of latents of an image.
    whitening
        Optimize coordinates in which the latents of the user's data are uncorrelated:
        ``LatentWhitening.fit(encoded)``.
    sd
        Standard deviation of the latents (or coordinates) to start from.

    Raises
    ------
    TypeError, ValueError
        If an argument is not one of the above.

    Examples
    --------
    >>> decoder = nn.Sequential(nn.Linear(5, 64), nn.Sigmoid(), nn.Unflatten(1, (1, 8, 8)))
    >>> LatentImage(decoder, 5)
    LatentImage(Sequential, 5)
    """

    def __init__(
        self,
        decoder: nn.Module,
        latent_dim: int,
        *,
        whitening: LatentWhitening | None = None,
        sd: float = 0.1,
    ) -> None:
        self.decoder = check_module(decoder, argument="decoder")
        latent_dim = check_whole(latent_dim, argument="latent_dim", least=1)
        if whitening is not None:
            expected = "a LatentWhitening or None"
            check_type(whitening, LatentWhitening, argument="whitening", expected=expected)
            if len(whitening.mean) != latent_dim:
                raise ValueError(
                    f"whitening is of latents of {len(whitening.mean)}; latent_dim is {latent_dim}"
                )
        self.latent_dim, self.whitening, self.sd = latent_dim, whitening, check_spread(sd)

    @property
    def modules(self) -> tuple[nn.Module, ...]:
        return (self.decoder,)

    def __repr__(self) -> str:
        extra = "" if self.whitening is None else f", whitening={self.whitening!r}"
        return f"LatentImage({type(self.decoder).__name__}, {self.latent_dim}{extra})"

    def start(self, generators: Sequence[torch.Generator]) -> torch.Tensor:
        """Draw latents, or coordinates, ``(N, latent_dim)``."""
        return normal((self.latent_dim,), generators) * self.sd

    def images(self, parameters: torch.Tensor) -> torch.Tensor:
        """Return the decoder's images `(N, C, H, W)` for `parameters` ``(N, latent_dim)``.

        Raises
        ------
        RuntimeError
            If the decoder fails.
        ValueError
            If it returns no images.
        """
        latents = parameters if self.whitening is None else self.whitening.unwhiten(parameters)
        first = next(iter(self.decoder.parameters()), latents)
        try:
            drawn = first_tensor(self.decoder(latents.to(first.device, first.dtype)))
        except Exception as error:
            raise RuntimeError(
                f"the decoder failed on latents {tuple(latents.shape)}: {type(error).__name__}: {error}"
            ) from error
        if not is_batch(drawn) or len(drawn) != len(latents):
            raise ValueError(f"the decoder must return images {ANY}; got {describe(drawn)}")
        return drawn.to(parameters)
