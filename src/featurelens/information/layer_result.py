"""The information of several layers, by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, final

from featurelens._checks import count
from featurelens._html import table
from featurelens._lookup import find
from featurelens._saving import read, write
from featurelens.information.results import MutualInformationResult, Units

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@final
@dataclass(frozen=True, eq=False, repr=False)
class LayerInformationResult(Mapping[str, MutualInformationResult]):
    """A mapping from layer names to `MutualInformationResult`, in the order of selection; made by `layer_information`.

    Attributes
    ----------
    layers : Mapping
        The same, as a plain dict; all results are in one unit.

    Examples
    --------
    >>> one, two = (MutualInformationResult(value=v, method="KSG(k=5)", n=100, dim_x=1, dim_y=4) for v in (0.2, 0.5))
    >>> found = LayerInformationResult({"conv1": one, "conv2": two})
    >>> found
    LayerInformationResult(2 layers, 0.2000 to 0.5000 nats, KSG(k=5), n=100)
    >>> found["conv2"].value
    0.5
    """

    layers: Mapping[str, MutualInformationResult]

    def to(self, units: Units) -> Self:
        """Return the same results in other `units`, "nats" or "bits"."""
        return type(self)({name: result.to(units) for name, result in self.items()})

    def plot(self, *, title: str | None = None, ax: Axes | None = None) -> Figure:
        """Draw a bar for each layer, with its interval, null and upper bound; see `plotting.layer_bars`."""
        from featurelens import plotting

        return plotting.layer_bars(self, title=title, ax=ax)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the results to one file, `path`, that `load` and ``torch.load(path, weights_only=True)`` read.

        Raises
        ------
        TypeError
            If `path` is not a path.
        """
        write(path, type(self), {"layers": {name: vars(result) for name, result in self.items()}})

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read results that `save` wrote to `path`.

        Raises
        ------
        TypeError
            If `path` is not a path.
        ValueError
            If `save` did not write the file.
        """
        return read(path, cls, cls._of)

    @classmethod
    def _of(cls, layers: dict[str, dict[str, Any]]) -> Self:
        return cls({name: MutualInformationResult(**fields) for name, fields in layers.items()})

    def __getitem__(self, name: str) -> MutualInformationResult:
        return self.layers[find(name, self.layers, {})]

    def __iter__(self) -> Iterator[str]:
        return iter(self.layers)

    def __len__(self) -> int:
        return len(self.layers)

    def __repr__(self) -> str:
        values, first = [result.value for result in self.values()], next(iter(self.values()))
        return (
            f"{type(self).__name__}({count(len(self), 'layer')}, {min(values):.4f} to {max(values):.4f} "
            f"{first.units}, {first.method}, n={first.n})"
        )

    def __str__(self) -> str:
        return "\n".join(f"{name}: {result}" for name, result in self.items())

    def _repr_html_(self) -> str:
        rows: list[tuple[str, ...]] = [("layer", next(iter(self.values())).units, "interval", "null", "p")]
        for name, result in self.items():
            interval = "" if result.interval is None else "{:.4f} to {:.4f}".format(*result.interval)
            null = "" if result.null_mean is None else f"{result.null_mean:.4f}"
            p = "" if result.p_value is None else f"{result.p_value:.2g}"
            rows.append((name, f"{result.value:.4f}", interval, null, p))
        return table(rows)
