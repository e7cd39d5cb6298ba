"""The information plane: how informative layers are about input and label while a network trains."""

from __future__ import annotations

import dataclasses
import hashlib
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self, final

import torch

from featurelens._checks import check_module, check_whole, count, describe
from featurelens._html import Shown
from featurelens._random import random_state_kept
from featurelens._saving import read, write
from featurelens._structure import tensors
from featurelens.information.chunks import shown
from featurelens.information.estimator import MutualInformation, Options
from featurelens.information.layers import (
    DEFAULT,
    PERMUTATIONS,
    Given,
    check_estimator,
    estimate_layer,
    given_as,
)
from featurelens.information.probe_set import (
    as_batches,
    check_labels,
    check_lengths,
    inputs_in,
    joined,
    labels_in,
    record_rows,
)
from featurelens.information.results import NATS_PER_UNIT, MutualInformationResult, Units
from featurelens.information.variables import entropy, label_codes
from featurelens.recording import ActivationRecorder

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from torch import nn

    from featurelens.information.estimator import Null
    from featurelens.information.variables import ArrayLike
    from featurelens.layers import Selector
    from featurelens.recording.reductions import Reduction

Results = dict[str, list[MutualInformationResult]]


@final
class InformationPlane(Shown):
    """I(X; T) and I(T; Y) of chosen layers at each epoch, with noise of a stated size added to T.

    ::

        plane = fl.InformationPlane(model, ["conv1", "conv2"], images, labels)
        for epoch in range(1, 21):
            train_one_epoch(model)
            plane.update(epoch)
        plane.plot()

    A deterministic layer has infinite information about a continuous input, and log N about N distinct samples,
    whatever it has learned (Amjad & Geiger 2018; Saxe et al. 2018). This class measures the information in T + noise
    (Goldfeld et al. 2019). The noise is a fixed multiple of the layer's standard deviation, so that a mere change of
    scale is not mistaken for information.

    Parameters
    ----------
    model
        The network; every `update` uses its current weights. It is restored afterwards.
    layers
        Selectors as for `ActivationRecorder`.
    loader, labels
        The probe set: one tensor or array `(N, C, H, W)`, or batches as for `ActivationRecorder.record`, which are kept
        in memory; and integer labels `(N,)`, by default those in the batches. With 1000 images the ceiling is log N =
        6.9 nats; the cost grows with the square of N.
    estimator
        By default `NoisyChannelMutualInformation(sigma=1.0, relative=True)`.
    reduce
        As for `ActivationRecorder`; by default feature maps are reduced to their means, one number for each channel.
    units
        "nats" or "bits".
    confidence
        Level of the confidence intervals, or None for none. Most estimators compute them from disjoint parts of the
        probe set, which needs at least 50 images.
    null, permutations
        "permutation" also measures I(T; Y) for `permutations` random orders of the labels: with many channels and few
        images a layer seems informative about *any* labels. `plot` draws it beside the layer's path. None skips it.
    seed
        Seed of the noise and the permutations, the same in every epoch.

    Attributes
    ----------
    epochs : list of int
        The epochs measured so far.
    inputs, labels : dict
        Layer name to the list of `MutualInformationResult` of I(X; T), and of I(T; Y), one for each epoch.

    Raises
    ------
    TypeError, ValueError, LookupError
        If the model, a layer or the probe set is wrong, before anything runs.

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
        loader: ArrayLike | Iterable[Any],
        labels: ArrayLike | None = None,
        *,
        estimator: MutualInformation | None = None,
        reduce: Reduction | Mapping[Selector, Reduction] = "mean",
        units: Units = "nats",
        confidence: float | None = 0.95,
        null: Null | None = "permutation",
        permutations: int = PERMUTATIONS,
        seed: int = 0,
    ) -> None:
        self.model: nn.Module | None = check_module(model)
        with random_state_kept():
            self._batches = list(as_batches(loader, caller="InformationPlane"))
        if not self._batches:
            raise ValueError(f"the loader yielded no batch; got {describe(loader)}")
        if labels is None:
            self._targets = joined([labels_in(batch) for batch in self._batches])
        else:
            self._targets = check_labels(labels, argument="labels", loader=loader)
        self._estimator = DEFAULT if estimator is None else check_estimator(estimator)
        if isinstance(seed, bool) or not isinstance(seed, int):
            raise TypeError(f"seed must be an int, the same for every epoch; got {describe(seed)}")
        self._options = Options(
            units=units, confidence=confidence, null=null, permutations=permutations, seed=seed
        )
        self.layers = ActivationRecorder(model, layers, reduce=reduce).layers
        self._selectors, self._reduce = layers, reduce
        self.epochs: list[int] = []
        self.inputs: Results = {}
        self.labels: Results = {}
        self._label_entropy = entropy(label_codes(self._targets[:, None]))
        self._settings: dict[str, Any] = {
            "layers": list(self.layers),
            "reduce": _in_words(reduce),
            "samples": len(self._targets),
            "probe set": _digest([*self._batches, self._targets]),
            "estimator": self._estimator.method,
            **vars(self._options),
        }

    def update(self, epoch: int, *, progress: bool = True) -> None:
        """Measure every layer now, and record the results under `epoch`, which must be later than earlier ones.

        `progress` shows a progress bar, or writes a line every ten seconds where there is no terminal.

        Raises
        ------
        TypeError, ValueError
            If `epoch` is not a later whole number, the plane was loaded without a model, or the estimator rejects a
            layer; its message names the layer.
        """
        epoch = check_whole(epoch, argument="epoch", least=0)
        if self.model is None:
            raise ValueError(
                "a plane from InformationPlane.load has no model: create a plane with the model and call resume(path)"
            )
        if self.epochs and epoch <= self.epochs[-1]:
            raise ValueError(
                f"epoch must be later than those measured, the last of which is {self.epochs[-1]}; got {epoch}"
            )
        rows = record_rows(self.model, self._selectors, self._batches, self._reduce, progress)
        without_null = dataclasses.replace(self._options, null=None)
        measured: dict[str, tuple[MutualInformationResult, MutualInformationResult]] = {}
        for name, values in shown(rows.items(), "measuring", "layer", progress):
            check_lengths(self._targets, len(values), argument="labels")
            measured[name] = (
                estimate_layer(self._estimator, name, self._inputs, values, without_null),
                estimate_layer(self._estimator, name, Given(self._targets, 1), values, self._options),
            )
        for name, (of_inputs, of_labels) in measured.items():  # all layers or, after an error, none
            self.inputs.setdefault(name, []).append(of_inputs)
            self.labels.setdefault(name, []).append(of_labels)
        self.epochs.append(epoch)

    @cached_property
    def _inputs(self) -> Given:
        assert self.model is not None
        return given_as(self._estimator, joined([inputs_in(batch, self.model) for batch in self._batches]))

    def plot(self, *, title: str | None = None, ax: Axes | None = None) -> Figure:
        """Draw each layer's path, I(X; T) to the right and I(T; Y) upwards; see `plotting.information_plane`.

        Raises
        ------
        ValueError
            If nothing has been measured yet.
        """
        from featurelens import plotting

        if not self.epochs:
            raise ValueError("nothing to plot: call update(epoch) first")
        if title is None:
            title = f"T: {self._settings['reduce']} of each layer; {self._settings['estimator']}"
        return plotting.information_plane(
            self.inputs,
            self.labels,
            epochs=self.epochs,
            x_ceiling=next(iter(self.inputs.values()))[-1].ceiling,
            label_entropy=self.label_entropy,
            title=title,
            ax=ax,
        )

    @property
    def units(self) -> Units:
        """Unit of every value."""
        units: Units = self._settings["units"]
        return units

    @property
    def label_entropy(self) -> float:
        """Entropy of the labels in the probe set, in `units`: an upper bound for every I(T; Y)."""
        return self._label_entropy / NATS_PER_UNIT[self.units]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write all measurements, without model and data, to one file that `load` and `resume` read.

        Raises
        ------
        TypeError
            If `path` is not a path.
        """
        sides = {
            side: {name: [vars(result) for result in results] for name, results in found.items()}
            for side, found in (("inputs", self.inputs), ("labels", self.labels))
        }
        content = {"settings": self._settings, "label_entropy": self._label_entropy, "epochs": self.epochs}
        write(path, type(self), {**content, **sides})

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a plane that `save` wrote, to plot it. It has no model and cannot be updated; for that, see `resume`.

        Raises
        ------
        TypeError
            If `path` is not a path.
        ValueError
            If `save` did not write the file.
        """
        return read(path, cls, cls._of)

    @classmethod
    def _of(
        cls,
        settings: dict[str, Any],
        label_entropy: float,
        epochs: list[int],
        inputs: dict[str, list[dict[str, Any]]],
        labels: dict[str, list[dict[str, Any]]],
    ) -> Self:
        plane = cls.__new__(cls)
        plane.model, plane.layers = None, tuple(settings["layers"])
        plane._settings, plane._label_entropy, plane.epochs = settings, label_entropy, epochs
        plane.inputs, plane.labels = (
            {
                name: [MutualInformationResult(**fields) for fields in results]
                for name, results in side.items()
            }
            for side in (inputs, labels)
        )
        return plane

    def resume(self, path: str | os.PathLike[str]) -> None:
        """Continue an interrupted run from the measurements that `save` wrote to `path`.

        Raises
        ------
        TypeError
            If `path` is not a path.
        ValueError
            If `save` did not write the file, or its layers, probe set or estimator differ.
        """
        saved = self.load(path)
        for name, mine in self._settings.items():
            if saved._settings.get(name) != mine:
                raise ValueError(
                    f"{path} was saved with {name} {saved._settings.get(name)!r}; this plane has {mine!r}"
                )
        self.epochs, self.inputs, self.labels = saved.epochs, saved.inputs, saved.labels

    def __repr__(self) -> str:
        return (
            f"InformationPlane({count(len(self.layers), 'layer')}, {count(len(self.epochs), 'epoch')}, "
            f"{count(self._settings['samples'], 'sample')})"
        )

    def __str__(self) -> str:
        last = [
            f"{name}: I(X; T) {self.inputs[name][-1].value:.3f}, I(T; Y) {self.labels[name][-1].value:.3f}"
            for name in self.inputs
        ]
        after = f" after epoch {self.epochs[-1]}" if self.epochs else ", not measured yet"
        samples = count(self._settings["samples"], "sample")
        return f"Information in {self.units} from {samples}{after}" + "".join(f"; {layer}" for layer in last)


def _in_words(reduce: Any) -> str:
    """Return what is measured of a layer, for the title of a figure."""
    if isinstance(reduce, str):
        return f"channel {reduce}s"
    return "the whole output" if reduce is None else "a custom reduction"


def _digest(batches: list[Any]) -> str:
    """Return a short name for the content of the probe set."""
    digest = hashlib.sha256()
    for batch in batches:
        for tensor in tensors(batch):
            digest.update(str((tuple(tensor.shape), tensor.dtype)).encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]
