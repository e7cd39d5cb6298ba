"""Other libraries' estimators of mutual information behind one signature: ``(x, y, seed) -> nats or None``."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable

import numpy as np

Estimator = Callable[[np.ndarray, np.ndarray, int], float | None]

K = 5


def sklearn(x: np.ndarray, y: np.ndarray, seed: int) -> float | None:
    """Estimate with ``mutual_info_regression``, for one column per side."""
    from sklearn.feature_selection import mutual_info_regression

    if x.shape[1] > 1 or y.shape[1] > 1:
        return None
    return float(mutual_info_regression(x, y[:, 0], n_neighbors=K, random_state=seed)[0])


def ennemi(x: np.ndarray, y: np.ndarray, seed: int) -> float | None:
    """Estimate with ``ennemi.estimate_mi``, for one column per side."""
    from ennemi import estimate_mi

    if x.shape[1] > 1 or y.shape[1] > 1:
        return None
    return float(estimate_mi(y[:, 0], x[:, 0], k=K)[0, 0])


def infomeasure(x: np.ndarray, y: np.ndarray, seed: int) -> float | None:
    """Estimate with KSG variant 1 of ``infomeasure``."""
    from infomeasure import mutual_information

    return float(mutual_information(x, y, approach="ksg", k=K, ksg_id=1, noise_level=0))


def torch_mist(x: np.ndarray, y: np.ndarray, seed: int) -> float | None:
    """Estimate with SMILE as ``torch_mist`` trains it by default, evaluated on a fifth of the data."""
    import torch
    from torch_mist.utils import estimate_mi

    torch.manual_seed(seed)
    tensors = [torch.as_tensor(side, dtype=torch.float32) for side in (x, y)]
    cut = len(x) * 4 // 5
    value = estimate_mi(
        (tensors[0][:cut], tensors[1][:cut]),
        estimator="smile",
        hidden_dims=[64, 64],
        test_data=(tensors[0][cut:], tensors[1][cut:]),
        verbose=False,
        max_epochs=50,
        patience=10,
    )
    return float(value[0] if isinstance(value, tuple) else value)


QUICK = {"sklearn": sklearn, "ennemi": ennemi, "infomeasure": infomeasure}
TRAINED = {"torch_mist": torch_mist}


def available(peers: dict[str, Estimator]) -> dict[str, Estimator]:
    """Return the peers that are installed, and print which are not."""
    found = {}
    for name, estimator in peers.items():
        if importlib.util.find_spec(name) is None:
            print(f"{name}: not installed, skipped")
        else:
            found[name] = quiet(estimator)
    return found


def quiet(estimator: Estimator) -> Estimator:
    """Return the same estimator without its warnings and printed advice."""
    import contextlib
    import io

    def estimate(x: np.ndarray, y: np.ndarray, seed: int) -> float | None:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            return estimator(x, y, seed)

    return estimate
