"""How well a linear probe tells the labels from each layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, final

import torch

from featurelens._checks import count
from featurelens._html import paragraph, table
from featurelens._saving import SavedResult

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@final
@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class LinearProbeResult(SavedResult):
    """What a linear probe predicts from each layer, on images that it was not fitted to; made by `linear_probe`.

    Attributes
    ----------
    layers : tuple of str
        The L layers, in the order of `ActivationRecorder.record`.
    accuracy, accuracy_error : torch.Tensor
        ``(L,)`` float64: share of images whose label is predicted, and its standard error.
    nats, nats_error : torch.Tensor
        ``(L,)`` float64: label entropy minus cross-entropy in nats, a lower bound on the mutual information of the layer and
        the label, and its standard error.
    null_accuracy, null_nats : torch.Tensor or None
        ``(L,)`` float64: means over probes that were fitted to shuffled labels.
    p_value : torch.Tensor or None
        ``(L,)`` float64: fraction of shuffled labels (and the true ones) whose nats reach the value.
    columns : tuple of int
        How many numbers the probe had of each layer.
    majority : float
        Share of the commonest label: the accuracy without looking at the images.
    label_entropy : float
        In nats: the nats of perfect predictions.
    n, folds : int
        Number of images; number of parts, each of which was predicted from the others.

    Examples
    --------
    >>> result = LinearProbeResult(
    ...     layers=("conv1", "conv2"), accuracy=torch.tensor([0.4, 0.7]), accuracy_error=torch.tensor([0.02, 0.02]),
    ...     nats=torch.tensor([0.5, 1.1]), nats_error=torch.tensor([0.03, 0.04]), columns=(16, 32), majority=0.1,
    ...     label_entropy=2.3, n=500, folds=5)
    >>> print(result)
    layer  accuracy   nats
    conv1     0.400  0.500
    conv2     0.700  1.100
    on 500 images in 5 held-out parts; commonest label: 0.100; label entropy: 2.300 nats
    """

    layers: tuple[str, ...]
    accuracy: torch.Tensor
    accuracy_error: torch.Tensor
    nats: torch.Tensor
    nats_error: torch.Tensor
    columns: tuple[int, ...]
    majority: float
    label_entropy: float
    n: int
    folds: int
    null_accuracy: torch.Tensor | None = None
    null_nats: torch.Tensor | None = None
    p_value: torch.Tensor | None = None

    def plot(
        self,
        measure: Literal["accuracy", "nats"] = "accuracy",
        *,
        title: str | None = None,
        ax: Axes | None = None,
    ) -> Figure:
        """Draw the accuracy or the nats of each layer, with the null; see `plotting.probe_curve`."""
        from featurelens import plotting

        return plotting.probe_curve(self, measure, title=title, ax=ax)

    def __len__(self) -> int:
        return len(self.layers)

    def __repr__(self) -> str:
        best = int(self.accuracy.argmax())
        return (
            f"{type(self).__name__}({count(len(self), 'layer')}, best accuracy {self.accuracy[best]:.3f} "
            f"({self.layers[best]!r}), n={self.n})"
        )

    def __str__(self) -> str:
        rows = list(self._cells())
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows]
        return "\n".join([*lines, self._below()])

    def _repr_html_(self) -> str:
        return table(self._cells()) + paragraph(self._below())

    def _cells(self) -> Iterator[list[str]]:
        columns = {"accuracy": self.accuracy, "its null": self.null_accuracy}
        columns |= {"nats": self.nats, "their null": self.null_nats, "p": self.p_value}
        known = {name: values.tolist() for name, values in columns.items() if values is not None}
        yield ["layer", *known]
        for layer, *values in zip(self.layers, *known.values(), strict=True):
            yield [layer, *(f"{value:.3f}" for value in values)]

    def _below(self) -> str:
        data = f"on {count(self.n, 'image')} in {self.folds} held-out parts"
        return f"{data}; commonest label: {self.majority:.3f}; label entropy: {self.label_entropy:.3f} nats"
