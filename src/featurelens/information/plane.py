"""The information plane: what layers know of input and label while a network trains."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import torch

from featurelens._checks import check_module, check_whole, count, describe
from featurelens.information._variables import entropy, label_codes
from featurelens.information.base import MutualInformation
from featurelens.information.layerwise import (
    PERMUTATIONS,
    Given,
    Options,
    check_estimator,
    check_images,
    check_labels,
    default_estimator,
    estimate_layer,
    given_inputs,
    layer_rows,
)
from featurelens.information.result import NATS_PER_UNIT, MutualInformationResult, Units
from featurelens.recording import ActivationRecorder

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from matplotlib.axes import Axes
    from torch import nn

    from featurelens.information._variables import ArrayLike
    from featurelens.information.base import Null
    from featurelens.layers import Selector
    from featurelens.recording.reductions import Reduction


@final
class InformationPlane:
    """I(X; T) and I(T; Y) of chosen layers, epoch by epoch, through noise of a stated size.

    ::

        plane = fl.InformationPlane(model, ["conv1", "conv2"], images, labels)
        for epoch in range(1, 21):
            train_one_epoch(model)
            plane.update(epoch)
        plane.plot()

    A deterministic layer has infinite information about a continuous input, and log N about N distinct samples,
    whatever it has learned (Amjad & Geiger 2018; Saxe et al. 2018). What is drawn here is the information through
    T + noise (Goldfeld et al. 2019), the noise being a fixed multiple of the layer's standard deviation, so that a
    mere change of scale does not pass for information.

    Parameters
    ----------
    model
        The network; every `update` reads its present weights and leaves it as it was.
    layers
        Selectors as for `ActivationRecorder`.
    images, labels
        The probe set: `(N, C, H, W)` and `(N,)` of an integer type. About 1000 images give log N = 6.9 nats of
        room; the cost grows with the square of N.
    estimator
        By default `NoisyChannelMutualInformation(sigma=1.0, relative=True)`.
    reduce
        What of a feature map is measured, by default its mean: one number for each channel.
    units
        "nats" or "bits".
    confidence
        Confidence of the intervals, or None for none; estimators without an error of their own take theirs from
        disjoint parts of the probe set, and need 50 images.
    null, permutations
        "permutation" measures I(T; Y) for that many random orders of the labels too: with many channels and few
        images a layer shows information about *any* labels. `plot` draws it beside the layer's path. None leaves
        it out.
    seed
        For noise and orders, the same in every epoch.

    Attributes
    ----------
    epochs : list of int
        The epochs measured so far.
    inputs, labels : dict
        Layer name to the list of `MutualInformationResult` of I(X; T), and of I(T; Y), one for each epoch.

    Raises
    ------
    TypeError, ValueError, LookupError
        If the model, a layer or the probe set is wrong; before anything runs.

    Examples
    --------
    >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 4))
    >>> images = torch.rand(100, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    >>> plane = InformationPlane(model, "linear_1", images, torch.arange(100) % 10)
    >>> plane.update(1)
    >>> plane
    InformationPlane(1 layer, 1 epoch, 100 samples)
    """

    def __init__(
        self,
        model: nn.Module,
        layers: Selector | Iterable[Selector],
        images: ArrayLike,
        labels: ArrayLike,
        *,
        estimator: MutualInformation | None = None,
        reduce: Reduction | Mapping[Selector, Reduction] = "mean",
        units: Units = "nats",
        confidence: float | None = 0.95,
        null: Null | None = "permutation",
        permutations: int = PERMUTATIONS,
        seed: int = 0,
    ) -> None:
        self.model = check_module(model)
        self._images = check_images(images)
        self._targets = check_labels(labels, self._images, argument="labels")
        if estimator is not None:
            check_estimator(estimator)
        if isinstance(seed, bool) or not isinstance(seed, int):
            raise TypeError(f"seed must be an int, the same for every epoch; got {describe(seed)}")
        self._options = Options(units, confidence, null, permutations, seed)
        self._options.check()
        self.layers = ActivationRecorder(model, layers, reduce=reduce).layers
        self._selectors, self._reduce = layers, reduce
        self.estimator = estimator or default_estimator()
        self.epochs: list[int] = []
        self.inputs: dict[str, list[MutualInformationResult]] = {}
        self.labels: dict[str, list[MutualInformationResult]] = {}

    def update(self, epoch: int) -> None:
        """Measure every layer now, and note it under `epoch`, which must be later than those before.

        Raises
        ------
        TypeError, ValueError
            If `epoch` is not a later whole number, or an estimator refuses a layer, which is named.
        """
        epoch = check_whole(epoch, argument="epoch", least=0)
        if self.epochs and epoch <= self.epochs[-1]:
            raise ValueError(
                f"epoch must be later than those measured, the last of which is {self.epochs[-1]}; got {epoch}"
            )
        sides = (
            (self._inputs, dataclasses.replace(self._options, null=None), self.inputs),
            (Given(self._targets, 1), self._options, self.labels),
        )
        measured: list[tuple[dict[str, list[MutualInformationResult]], str, MutualInformationResult]] = []
        for name, values in layer_rows(self.model, self._selectors, self._images, self._reduce).items():
            for given, options, results in sides:
                measured.append((results, name, estimate_layer(self.estimator, name, given, values, options)))
        for results, name, result in measured:  # all or nothing, whatever went wrong above
            results.setdefault(name, []).append(result)
        self.epochs.append(epoch)

    def plot(self, *, title: str | None = None, ax: Axes | None = None) -> Axes:
        """Draw each layer's path, I(X; T) to the right and I(T; Y) upwards; see `plotting.information_plane`.

        Raises
        ------
        ValueError
            If nothing has been measured yet.
        """
        from featurelens import plotting

        if not self.epochs:
            raise ValueError("there is nothing to plot before the first update(epoch)")
        return plotting.information_plane(
            self.inputs,
            self.labels,
            epochs=self.epochs,
            x_ceiling=next(iter(self.inputs.values()))[-1].ceiling,
            label_entropy=self.label_entropy,
            title=f"T: {self._kept} of each layer; {self.estimator.method}" if title is None else title,
            ax=ax,
        )

    @property
    def _kept(self) -> str:
        """What is measured of a layer, in words for the picture."""
        if isinstance(self._reduce, str):
            return f"channel {self._reduce}s"
        return "the whole output" if self._reduce is None else "a reduction of one's own"

    @cached_property
    def _inputs(self) -> Given:
        return given_inputs(self.estimator, self._images)

    @property
    def units(self) -> Units:
        """Unit of every value."""
        return self._options.units

    @property
    def label_entropy(self) -> float:
        """Entropy of the labels in the probe set, in `units`: no layer can know more of them."""
        return entropy(label_codes(self._targets[:, None])) / NATS_PER_UNIT[self.units]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write everything measured so far to a JSON file."""
        content = json.dumps({**self._settings(), "epochs": self.epochs, **self._results()}, indent=1)
        unfinished = Path(path).with_name(f"{Path(path).name}.tmp")
        unfinished.write_text(content)
        unfinished.replace(path)  # so that a full disk costs no earlier epoch

    def load(self, path: str | os.PathLike[str]) -> None:
        """Take over what `save` wrote, so that a run can go on where it stopped.

        Raises
        ------
        ValueError
            If the file comes from other layers, another probe set or another estimator.
        """
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
            epochs, saved = content["epochs"], {name: content[name] for name in self._settings()}
            inputs, labels = (
                {name: [_from_json(result) for result in results] for name, results in content[side].items()}
                for side in ("inputs", "labels")
            )
            if any(len(results) != len(epochs) for side in (inputs, labels) for results in side.values()):
                raise ValueError("its layers have different numbers of epochs")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{os.fspath(path)} is not a saved InformationPlane: {error}") from error
        for name, mine in self._settings().items():
            if saved[name] != mine:
                raise ValueError(
                    f"{os.fspath(path)} was saved with {name} {saved[name]!r}; this plane has {mine!r}"
                )
        self.epochs, self.inputs, self.labels = epochs, inputs, labels

    def __repr__(self) -> str:
        return (
            f"InformationPlane({count(len(self.layers), 'layer')}, {count(len(self.epochs), 'epoch')}, "
            f"{count(len(self._targets), 'sample')})"
        )

    def _settings(self) -> dict[str, Any]:
        return {
            "layers": list(self.layers),
            "samples": len(self._targets),
            "probe set": _digest(self._images, self._targets),
            "estimator": self.estimator.method,
            **vars(self._options),
        }

    def _results(self) -> dict[str, dict[str, list[dict[str, Any]]]]:
        return {
            side: {
                name: [dataclasses.asdict(result) for result in results] for name, results in found.items()
            }
            for side, found in (("inputs", self.inputs), ("labels", self.labels))
        }


def _digest(*tensors: torch.Tensor) -> str:
    """A short name for the content of some tensors."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(str((tuple(tensor.shape), tensor.dtype)).encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def _from_json(fields: dict[str, Any]) -> MutualInformationResult:
    """JSON has no tuples."""
    values: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in fields.items()}
    return MutualInformationResult(**values)
