"""One function for all estimators, by name."""

from __future__ import annotations

from inspect import signature
from typing import TYPE_CHECKING, Any

from featurelens._checks import check_choice
from featurelens.information.automatic import AutomaticMutualInformation
from featurelens.information.binned import BinnedMutualInformation
from featurelens.information.copula import CopulaMutualInformation
from featurelens.information.corrected_ksg import CorrectedKSGMutualInformation
from featurelens.information.ksg import KSGMutualInformation
from featurelens.information.latent import LatentMutualInformation
from featurelens.information.neural import NeuralMutualInformation
from featurelens.information.noisy_channel import NoisyChannelMutualInformation
from featurelens.information.probe import ProbeMutualInformation
from featurelens.information.renyi import RenyiMutualInformation

if TYPE_CHECKING:
    from featurelens._random import Seed
    from featurelens.information.estimator import MutualInformation, Null
    from featurelens.information.results import MutualInformationResult, Units
    from featurelens.information.variables import ArrayLike

METHODS: dict[str, type[MutualInformation]] = {
    "auto": AutomaticMutualInformation,
    "binned": BinnedMutualInformation,
    "ksg": KSGMutualInformation,
    "copula": CopulaMutualInformation,
    "corrected_ksg": CorrectedKSGMutualInformation,
    "noisy_channel": NoisyChannelMutualInformation,
    "latent": LatentMutualInformation,
    "neural": NeuralMutualInformation,
    "probe": ProbeMutualInformation,
    "renyi": RenyiMutualInformation,
}


def mutual_information(
    x: ArrayLike,
    y: ArrayLike,
    *,
    method: str = "auto",
    units: Units = "nats",
    confidence: float | None = None,
    null: Null | None = None,
    permutations: int = 100,
    seed: Seed = 0,
    **settings: Any,
) -> MutualInformationResult:
    """Estimate the mutual information between `x` and `y` with an estimator chosen by name.

    Parameters
    ----------
    x, y : torch.Tensor or numpy.ndarray
        ``(N,)`` or ``(N, D)``, paired by row; integers are labels.
    method : str
        ``"auto"``, which chooses by held-out samples, ``"binned"``, ``"ksg"``, ``"copula"``, ``"corrected_ksg"``,
        ``"noisy_channel"``, ``"latent"``, ``"neural"``, ``"probe"`` or ``"renyi"``.
    units, confidence, null, permutations, seed
        As in :meth:`MutualInformation.estimate`.
    **settings
        Settings of the estimator, such as ``effort="fast"`` for "auto" or ``k=3`` for KSG.

    Returns
    -------
    MutualInformationResult

    Raises
    ------
    TypeError, ValueError
        If there is no such method, if it has no such setting, or as for :meth:`MutualInformation.estimate`.

    Examples
    --------
    >>> import torch
    >>> x = torch.arange(1000) % 4
    >>> round(mutual_information(x, x, method="binned", units="bits").value, 2)
    2.0
    """
    check_choice(method, METHODS, argument="method")
    known = list(signature(METHODS[method]).parameters)
    if strange := [name for name in settings if name not in known]:
        raise TypeError(f"method {method!r} has no setting {strange[0]!r}; it has {', '.join(known)}")
    estimator = METHODS[method](**settings)
    return estimator.estimate(
        x, y, units=units, confidence=confidence, null=null, permutations=permutations, seed=seed
    )
