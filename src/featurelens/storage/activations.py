"""What was recorded: an ordered mapping from layer names to what the layers returned."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal, Self, final

import torch

from featurelens._checks import check_type
from featurelens._html import table
from featurelens._lookup import find
from featurelens._saving import read, write
from featurelens._structure import plain, shapes, tensors

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@final
class Activations(Mapping[str, Any]):
    """What each recorded layer returned, in the order in which the layers were asked for.

    The keys are exact module names; a module that was called several times has one key for each call, counted
    from 1: ``act#1``, ``act#2``. Lookup also takes ordinal aliases (``acts["conv_2"]``). The
    values are tensors, `(N, C, H, W)` for a convolution, or whatever structure of tensors the layer returns.

    Made by a recorder. `layers` maps exact names to outputs, and `aliases` maps ordinal aliases to exact names.

    Attributes
    ----------
    output
        What the model returned, or None if the forward pass was stopped early.

    Raises
    ------
    TypeError
        If `layers` or `aliases` is not a mapping.

    Examples
    --------
    >>> from torch import nn
    >>> import featurelens as fl
    >>> acts = fl.ActivationRecorder(nn.Sequential(nn.Conv2d(1, 4, 3)), "conv_1")(torch.rand(2, 1, 8, 8))
    >>> acts
    Activations(0: (2, 4, 6, 6))
    >>> acts["conv_1"] is acts["0"]
    True
    """

    def __init__(
        self,
        layers: Mapping[str, Any] | None = None,
        *,
        output: Any = None,
        aliases: Mapping[str, str] | None = None,
        _live: Callable[[], dict[str, Any]] | None = None,
    ) -> None:
        self.output = output
        for argument, given in (("layers", layers), ("aliases", aliases)):
            check_type(given, Mapping | None, argument=argument, expected="a mapping from names")
        self._layers: dict[str, Any] = dict(layers or {})
        self._aliases = dict(aliases or {})
        self._live = _live  # returns the layers so far, while they are being recorded

    def freeze(self) -> None:
        """End the recording; the contents no longer change."""
        self._layers, self._live = dict(self._current()), None

    def __getitem__(self, name: str) -> Any:
        layers = self._current()
        return layers[find(name, layers, self._aliases)]

    def __iter__(self) -> Iterator[str]:
        return iter(self._current())

    def __len__(self) -> int:
        return len(self._current())

    def __repr__(self) -> str:
        return (
            f"Activations({', '.join(f'{name}: {shapes(value)}' for name, value in self._current().items())})"
        )

    def _repr_html_(self) -> str:
        rows: list[tuple[object, ...]] = [("layer", "shape", "dtype")]
        for name, value in self._current().items():
            dtypes = sorted({str(tensor.dtype).removeprefix("torch.") for tensor in tensors(value)})
            rows.append((name, shapes(value), ", ".join(dtypes)))
        return table(rows)

    def plot(
        self,
        layer: str,
        *,
        image: int = 0,
        scale: Literal["map", "shared"] = "map",
        limit: int = 64,
        title: str | None = None,
        ax: Axes | None = None,
    ) -> Figure:
        """Draw the feature maps of `layer` for one image of the batch; see `plotting.feature_maps`.

        `(N, C, L)` and `(N, L, D)` are drawn as one picture, with axis 1 downwards and axis 2 across.
        """
        from featurelens import plotting

        values, heading = self[layer], layer
        if isinstance(values, torch.Tensor) and values.ndim == 3:
            values, heading = values[:, None], f"{layer}: axis 1 downwards, axis 2 across"
        title = heading if title is None else title
        return plotting.feature_maps(values, image=image, scale=scale, limit=limit, title=title, ax=ax)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write everything to one file that `load` and ``torch.load(path, weights_only=True)`` read.

        Named tuples and dataclasses are written as plain tuples and dicts.

        Raises
        ------
        TypeError
            If `path` is not a path.
        """
        layers = {name: plain(value) for name, value in self.items()}
        write(path, type(self), {"layers": layers, "output": plain(self.output), "aliases": self._aliases})

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read what `save` wrote to `path`; nothing but tensors and plain containers is ever unpickled.

        Raises
        ------
        TypeError
            If `path` is not a path.
        ValueError
            If `save` did not write the file.
        """
        return read(path, cls, cls)

    def _current(self) -> Mapping[str, Any]:
        return self._live() if self._live is not None else self._layers
