"""The similarity of every layer with every layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, final

import torch

from featurelens._checks import count
from featurelens._saving import SavedResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@final
@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class LayerSimilarityResult(SavedResult):
    """The similarity of the layers of one network with each other, or with those of another; made by `compare`.

    Attributes
    ----------
    values : torch.Tensor
        ``(L, L')`` float64: the similarity of each layer (row) with each of the other layers (column). Independent
        layers may be slightly below 0.
    layers, other_layers : tuple of str
        The layers of the rows, and of the columns.
    n : int
        Number of images.
    measure : str
        What was measured.
    notes : tuple of str
        Cautions.

    Examples
    --------
    >>> result = LayerSimilarityResult(
    ...     values=torch.tensor([[1.0, 0.4], [0.4, 1.0]]), layers=("conv1", "fc"), other_layers=("conv1", "fc"), n=500)
    >>> result
    LayerSimilarityResult(2 x 2 layers, debiased linear CKA, n=500)
    >>> print(result)
    Debiased linear CKA of 2 layers with 2 layers from 500 images: 0.4000 to 1.0000
    """

    values: torch.Tensor
    layers: tuple[str, ...]
    other_layers: tuple[str, ...]
    n: int
    measure: str = "debiased linear CKA"
    notes: tuple[str, ...] = ()

    def plot(self, *, title: str | None = None, ax: Axes | None = None) -> Figure:
        """Draw the values as a heat map; see `plotting.layer_similarity`."""
        from featurelens import plotting

        return plotting.layer_similarity(self, title=title, ax=ax)

    def __str__(self) -> str:
        sides = f"{count(len(self.layers), 'layer')} with {count(len(self.other_layers), 'layer')}"
        measure = self.measure[:1].upper() + self.measure[1:]
        low, high = float(self.values.min()), float(self.values.max())
        return "; ".join([f"{measure} of {sides} from {self.n} images: {low:.4f} to {high:.4f}", *self.notes])

    def __repr__(self) -> str:
        size = f"{len(self.layers)} x {len(self.other_layers)} layers"
        return f"{type(self).__name__}({size}, {self.measure}, n={self.n})"
