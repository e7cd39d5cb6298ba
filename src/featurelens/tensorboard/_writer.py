"""One run of TensorBoard, written from results."""

from __future__ import annotations

import contextlib
import io
import os
import pathlib
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self, final

import numpy as np
import torch
from torch import nn

from featurelens._checks import check_module, check_type, describe
from featurelens._hooks import eager, evaluating, preserved, unwrap
from featurelens._structure import tensors
from featurelens.tensorboard._ablation import AblationSummaries
from featurelens.tensorboard._projector import write_embedding

if TYPE_CHECKING:
    from types import TracebackType

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from featurelens.information import MutualInformationResult, SpatialMutualInformationResult

    Array = torch.Tensor | NDArray[Any]
    Information = MutualInformationResult | SpatialMutualInformationResult

FLUSH_SECONDS = 5  # so that a training can be watched


@final
class TensorBoardWriter(AblationSummaries):
    """Writes results to one run of TensorBoard; nothing is written outside the ``with`` block.

    What changes while a network trains takes the epoch first. TensorBoard merges what a directory holds
    already with what is added: give each training a directory of its own.

    Parameters
    ----------
    log_dir
        The directory of the run; it is made when the block is entered. TensorBoard shows all runs under the
        directory that it is given.

    Raises
    ------
    ImportError
        If the package ``tensorboard`` is not installed.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder, TensorBoardWriter(folder) as board:
    ...     board.training(1, {"loss": {"train": 0.4, "test": 0.5}})
    """

    def __init__(self, log_dir: str | os.PathLike[str]) -> None:
        try:
            import torch.utils.tensorboard  # noqa: F401
        except ImportError as error:
            raise ImportError(
                "TensorBoardWriter needs the package tensorboard: pip install featurelens[tensorboard]"
            ) from error
        self.log_dir = pathlib.Path(log_dir)
        self._writer: Any = None
        self._charts: dict[str, dict[str, list[str]]] = {}

    def __enter__(self) -> Self:
        from torch.utils.tensorboard import SummaryWriter

        if self._writer is not None:
            raise RuntimeError(f"{self!r} is open already")
        self._writer = SummaryWriter(str(self.log_dir), flush_secs=FLUSH_SECONDS)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        writer, self._writer = self._writer, None
        writer.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.log_dir)!r})"

    def training(self, epoch: int, values: Mapping[str, float | Mapping[str, float]]) -> None:
        """Write scalars, as ``{"loss": {"train": 0.41, "test": 0.52}, "learning rate": 1e-3}``.

        The tags are ``loss/train``, ``loss/test``, ``learning rate``; *Custom Scalars* has a chart for each
        group.
        """
        self._check(epoch)
        check_type(
            values,
            Mapping,
            argument="values",
            expected="a mapping from names to numbers, or to parts of them",
        )
        charts: dict[str, list[str]] = {}
        for name, value in values.items():
            if isinstance(value, Mapping):
                parts = {f"{name}/{part}": each for part, each in value.items()}
                charts[name] = list(parts)
            else:
                parts = {name: value}
            self._scalars(epoch, parts)
        self._overlay("training", charts)

    def information(self, epoch: int, results: Mapping[str, Information]) -> None:
        """Write the information of each layer, its null and its interval, as far as they are known.

        The tags are ``information (nats)/conv1/value``, ``.../null``, ``.../low`` and ``.../high``; *Custom
        Scalars* has a chart for each layer and one for all.
        """
        from featurelens.plotting._estimates import Estimate, interval_of

        self._check(epoch)
        expected = "a mapping from layers to results of estimators"
        check_type(results, Mapping, argument="results", expected=expected)
        charts: dict[str, dict[str, list[str]]] = {}
        for layer, result in results.items():
            check_type(result, Estimate, argument=f"results[{layer!r}]", expected="a result of an estimator")
        for layer, result in results.items():
            interval = interval_of(result)
            low, high = (None, None) if interval is None else interval
            group = f"information ({result.units})"
            known = {"value": result.value, "null": result.null_mean, "low": low, "high": high}
            parts = {f"{group}/{layer}/{part}": value for part, value in known.items() if value is not None}
            self._scalars(epoch, parts)
            shown = charts.setdefault(group, {"all layers": []})
            shown["all layers"].append(f"{group}/{layer}/value")
            shown[layer] = list(parts)
        for group, shown in charts.items():
            self._overlay(group, shown)

    def confusion(
        self, epoch: int, matrix: Array | tuple[Array, Array], classes: Sequence[object] | None = None
    ) -> None:
        """Draw which classes are taken for which: counts ``(K, K)``, or ``(labels, predictions)``.

        See `plotting.confusion_matrix`.
        """
        from featurelens import plotting

        self.figure(epoch, "confusion", plotting.confusion_matrix(matrix, classes=classes))

    def feature_maps(self, epoch: int, activations: Mapping[str, Any], *, image: int = 0) -> None:
        """Draw what every recorded layer made of one image, a grid ``feature maps/LAYER`` for each.

        Raises
        ------
        ValueError
            If what a layer returned is not ``(N, C, H, W)``; then nothing is drawn.
        """
        from featurelens import plotting

        self._check(epoch)
        check_type(activations, Mapping, argument="activations", expected="what a recorder returns")
        for layer, maps in activations.items():
            if not isinstance(maps, torch.Tensor) or maps.ndim != 4:
                raise ValueError(
                    f"feature maps are (N, C, H, W), but layer {layer!r} returned {describe(maps)}: "
                    "record other layers for this picture"
                )
        for layer, maps in activations.items():
            title = f"Feature maps of {layer}, epoch {epoch}"
            self.figure(epoch, f"feature maps/{layer}", plotting.feature_maps(maps, image=image, title=title))

    def filters(self, epoch: int, model: nn.Module | Array) -> None:
        """Draw the filters of every 2-d convolution in `model`, or of one weight ``(out, in, kh, kw)``.

        Raises
        ------
        ValueError
            If the model has no such convolution.
        """
        from featurelens import plotting

        if not isinstance(model, nn.Module):
            self.figure(epoch, "filters", plotting.filters(model, title=f"Filters, epoch {epoch}"))
            return
        self._check(epoch)
        convolutions = {
            name: module
            for name, module in unwrap(check_module(model)).named_modules()
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d)
        }
        if not convolutions:
            raise ValueError(f"{type(model).__name__} has no 2-d convolution whose filters could be drawn")
        for name, module in convolutions.items():
            tag, of = (f"filters/{name}", f" of {name}") if name else ("filters", "")
            self.figure(epoch, tag, plotting.filters(module, title=f"Filters{of}, epoch {epoch}"))

    def figure(self, epoch: int, tag: str, figure: Figure | Axes) -> None:
        """Write any matplotlib figure, or the one that an Axes lies on, as a picture; it stays the caller's."""
        from matplotlib.axes import Axes
        from matplotlib.figure import Figure

        writer = self._check(epoch)
        check_type(figure, (Figure, Axes), argument="figure", expected="a matplotlib Figure or Axes")
        whole = figure.figure.figure if isinstance(figure, Axes) else figure  # also from a sub-figure
        writer.add_image(tag, _pixels(whole), epoch, dataformats="HWC")

    def image(self, tag: str, image: Array) -> None:
        """Write one image ``(C, H, W)``, pixel by pixel, with the colours of `plotting.image_grid`."""
        from featurelens.plotting._arrays import check_array
        from featurelens.plotting._images import as_pictures

        check_array(image, {3: "(C, H, W)"}, argument="image")
        self._check(0).add_image(tag, as_pictures(image[None]).rgb()[0], 0, dataformats="HWC")

    def graph(self, model: nn.Module, sample: torch.Tensor | tuple[torch.Tensor, ...]) -> None:
        """Write the graph of operations that a `sample` of the input goes through.

        It is traced by ``torch.jit.trace``: where the model decides by its data, the graph shows the way that
        `sample` took.

        Raises
        ------
        RuntimeError
            If the model cannot be traced, or fails on `sample`.
        """
        writer = self._check(0)
        inner = unwrap(check_module(model))
        # torch prints why it failed and that no graph was saved; the error says both.
        quiet = contextlib.redirect_stdout(io.StringIO())
        with quiet, _silent_tracing(), torch.no_grad(), evaluating(inner), preserved(inner), eager():
            inner.register_forward_hook(_only_tensors)
            try:
                writer.add_graph(inner, sample, use_strict_trace=False)
            except Exception as error:
                reason = str(error).strip().partition("\n")[0]
                raise RuntimeError(
                    f"no graph of {type(inner).__name__} could be traced with {describe(sample)}: {reason}"
                ) from error

    def embedding(
        self,
        vectors: Array,
        *,
        labels: Sequence[object] | Array | None = None,
        sprites: Array | None = None,
        tag: str = "embedding",
    ) -> None:
        """Write vectors for the projector, which turns them into a cloud of points in three dimensions.

        An embedding of the same tag that was written before is replaced.

        Parameters
        ----------
        vectors
            ``(N, D)``, one for each sample.
        labels
            The class name of each sample.
        sprites
            ``(N, C, H, W)``, a small image to be shown for each point, coloured as by `plotting.image_grid`.
        tag
            The name of this cloud.

        Raises
        ------
        ValueError
            If shapes do not fit each other.
        """
        self._check(0)
        write_embedding(self.log_dir, tag, vectors, labels, sprites)

    def _check(self, epoch: object) -> Any:
        """Return the open writer, having checked the epoch."""
        if self._writer is None:
            raise RuntimeError(
                f"{self!r} is not open: write inside 'with {type(self).__name__}(...) as board:'"
            )
        if isinstance(epoch, bool) or not isinstance(epoch, int) or epoch < 0:
            raise ValueError(f"epoch must be a whole number from 0; got {describe(epoch)}")
        return self._writer

    def _scalars(self, epoch: int, values: Mapping[str, Any]) -> None:
        for tag, value in values.items():
            try:
                number = float(value)
            except (TypeError, ValueError, RuntimeError):  # the last for a tensor of several numbers
                raise TypeError(f"{tag!r} must be a number; got {describe(value)}") from None
            self._writer.add_scalar(tag, number, epoch)

    def _overlay(self, category: str, charts: Mapping[str, list[str]]) -> None:
        """Draw the curves of each chart's tags over each other, on TensorBoard's page *Custom Scalars*."""
        known = self._charts.get(category, {})
        both = {**known, **charts}
        if both == known:
            return
        self._charts[category] = both
        layout = {
            group: {
                title: ["Multiline", [f"^{re.escape(tag)}$" for tag in tags]] for title, tags in shown.items()
            }
            for group, shown in self._charts.items()
        }
        self._writer.add_custom_scalars(layout)  # TensorBoard reads the last one


def _only_tensors(module: nn.Module, inputs: Any, output: Any) -> Any:
    """Let a model be traced that returns what a trace cannot: dataclasses, or dicts of different things."""
    return output if isinstance(output, torch.Tensor) else tuple(tensors(output))


def _pixels(figure: Any) -> NDArray[np.uint8]:
    """Return ``(H, W, 3)`` bytes of a figure, whose canvas stays its own (a window's, perhaps)."""
    from PIL import Image

    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return np.asarray(Image.open(buffer).convert("RGB"))


@contextlib.contextmanager
def _silent_tracing() -> Iterator[None]:
    """Keep back what torch says of tracing in general, and of values that a trace makes constant."""
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message=r"`torch\.jit\."
        )  # deprecated; TensorBoard has no other way
        warnings.filterwarnings("ignore", category=torch.jit._trace.TracerWarning)
        yield
