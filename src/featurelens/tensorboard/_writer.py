"""One run of TensorBoard, written from results."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self, final

from featurelens._checks import check_path, describe
from featurelens.tensorboard._ablation import write_curves, write_importance, write_reconstructions
from featurelens.tensorboard._graph import write_graph
from featurelens.tensorboard._information import write_information
from featurelens.tensorboard._maximization import write_maximization
from featurelens.tensorboard._pictures import (
    write_confusion,
    write_feature_maps,
    write_figure,
    write_filters,
    write_image,
)
from featurelens.tensorboard._projector import write_embedding
from featurelens.tensorboard._run import Run
from featurelens.tensorboard._training import write_training

if TYPE_CHECKING:
    from types import TracebackType

    import torch
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray
    from torch import nn

    from featurelens.ablation import AblationCurve, AblationResult, ImportanceResult
    from featurelens.maximization import MaximizationResult
    from featurelens.tensorboard._information import Information
    from featurelens.tensorboard._run import Charts

    Array = torch.Tensor | NDArray[Any]


@final
class TensorBoardWriter:
    """Writes results to one run of TensorBoard; nothing is written outside the ``with`` block.

    What changes while a network trains takes the epoch first, a whole number from 0. A call that is refused
    writes nothing. *Custom Scalars* cannot draw tags with a parenthesis; those get no chart there, and are found
    under *Scalars* like all others. TensorBoard merges what a directory holds already with what is added: give each training a
    directory of its own.

    Parameters
    ----------
    log_dir
        The directory of the run; it is made when the block is entered. TensorBoard shows all runs under the
        directory that it is given.

    Raises
    ------
    TypeError
        If `log_dir` is not a path.
    ImportError
        If the package ``tensorboard`` is not installed.
    RuntimeError
        By every method, outside the ``with`` block.
    ValueError
        By every method that takes an epoch, if it is not a whole number from 0.

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
        self.log_dir = check_path(log_dir, argument="log_dir", expected="a folder's path")
        self._run: Run | None = None
        self._layout: dict[str, Charts] = {}

    def __enter__(self) -> Self:
        if self._run is not None:
            raise RuntimeError(f"{self!r} is open already")
        self._run = Run(self.log_dir, self._layout)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        run, self._run = self._open(), None
        run.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.log_dir)!r})"

    def training(self, epoch: int, values: Mapping[str, float | Mapping[str, float]]) -> None:
        """Write scalars, as ``{"loss": {"train": 0.41, "test": 0.52}, "learning rate": 1e-3}``.

        The tags are ``loss/train``, ``loss/test``, ``learning rate``; *Custom Scalars* has a chart for each
        group.

        Parameters
        ----------
        epoch
            When.
        values
            Name to number (also a tensor of one), or to a mapping from parts to numbers.

        Raises
        ------
        TypeError
            If a name is no text or a value no number.
        ValueError
            If two values would have the same tag.
        """
        write_training(self._open(epoch), epoch, values)

    def information(
        self, epoch: int, results: Mapping[str, Information], *, tag: str = "information"
    ) -> None:
        """Write the information of each layer, its null and its interval, as far as they are known.

        The tags are ``information in nats/conv1/value``, ``.../null``, ``.../low`` and ``.../high``; *Custom
        Scalars* has a chart for each layer and one for all. Of a result by channel these are ``.../mean`` and
        ``.../best`` over the channels and the mean ``.../null``, with a picture of the bars.

        Parameters
        ----------
        epoch
            When.
        results
            Layer to the result of an estimator, of `spatial_mutual_information` or of `channel_information`.
        tag
            What was measured, for the heading: ``"label information"`` keeps it apart from ``"input information"``
            of the same layers.

        Raises
        ------
        TypeError
            If one of `results` is something else.
        ValueError
            If `tag` has neither letter nor digit.
        """
        write_information(self._open(epoch), epoch, results, tag)

    def confusion(
        self,
        epoch: int,
        matrix: Array | tuple[Array, Array],
        *,
        classes: Sequence[object] | None = None,
    ) -> None:
        """Draw which classes are taken for which, as `plotting.confusion_matrix` does.

        Parameters
        ----------
        epoch
            When.
        matrix
            ``(K, K)`` counts, or a pair ``(labels, predictions)`` of class numbers, ``(N,)`` each.
        classes
            The name of each class; by default its number.

        Raises
        ------
        TypeError, ValueError
            As by `plotting.confusion_matrix`.
        """
        write_confusion(self._open(epoch), epoch, matrix, classes)

    def feature_maps(self, epoch: int, activations: Mapping[str, Any], *, image: int = 0) -> None:
        """Draw what every recorded layer made of one image, a grid ``feature maps/LAYER`` for each.

        Parameters
        ----------
        epoch
            When.
        activations
            Layer to feature maps ``(N, C, H, W)``, as a recorder returns them.
        image
            Which image of the batch.

        Raises
        ------
        TypeError, ValueError
            If a layer returned something else, or if the batch has no such image.
        """
        write_feature_maps(self._open(epoch), epoch, activations, image)

    def filters(self, epoch: int, model: nn.Module | Array) -> None:
        """Draw filters, as `plotting.filters` does: a grid ``filters/LAYER`` for each convolution.

        Parameters
        ----------
        epoch
            When.
        model
            Any module, all 2-d convolutions of which are drawn; or one weight ``(out, in, kh, kw)``.

        Raises
        ------
        TypeError, ValueError
            If `model` is neither, or has no such convolution.
        """
        write_filters(self._open(epoch), epoch, model)

    def figure(self, epoch: int, tag: str, figure: Figure | Axes) -> None:
        """Write any matplotlib figure, or the one that an Axes lies on, as a picture; it stays the caller's.

        Raises
        ------
        TypeError
            If `figure` is neither.
        ValueError
            If `tag` has neither letter nor digit.
        """
        write_figure(self._open(epoch), epoch, tag, figure)

    def image(self, tag: str, image: Array) -> None:
        """Write one image ``(C, H, W)``, pixel by pixel, with the colours of `plotting.image_grid`.

        Raises
        ------
        TypeError
            If `image` is not a tensor or array of real numbers.
        ValueError
            If it has another number of dimensions, or `tag` has neither letter nor digit.
        """
        write_image(self._open(), tag, image)

    def maximization(self, epoch: int, result: MaximizationResult, *, tag: str = "maximization") -> None:
        """Draw the images that an `ActivationMaximizer` found, and write the mean of their scores.

        The picture is `tag`, the scalar ``TAG/mean score``.

        Raises
        ------
        TypeError
            If `result` is something else.
        ValueError
            If `tag` has neither letter nor digit.
        """
        write_maximization(self._open(epoch), epoch, result, tag)

    def reconstructions(self, epoch: int, result: AblationResult, *, image: int = 0) -> None:
        """Draw what every channel makes of one image, and write the errors over all images.

        The picture is ``reconstructions/LAYER``; the scalars ``reconstruction error/LAYER/all channels`` and
        ``.../one channel``, the mean over channels.

        Parameters
        ----------
        epoch
            When.
        result
            From `ChannelAblator.sweep`, with outputs that are images.
        image
            Which image is drawn.

        Raises
        ------
        TypeError, ValueError
            If `result` is not what `plotting.reconstructions` takes.
        """
        write_reconstructions(self._open(epoch), epoch, result, image)

    def importance(
        self, epoch: int, result: ImportanceResult, *, classes: Sequence[object] | None = None
    ) -> None:
        """Draw what the task loses without each channel, overall and by class, and write mean and largest loss.

        The pictures are ``importance/LAYER`` and, with class labels, ``importance by class/LAYER``; the scalars
        ``importance in METRIC/LAYER/mean`` and ``.../largest``.

        Parameters
        ----------
        epoch
            When.
        result
            From `ChannelAblator.importance`.
        classes
            The name of each class; by default its number.

        Raises
        ------
        TypeError, ValueError
            If `result` or `classes` are not what `plotting.class_importance` takes.
        """
        write_importance(self._open(epoch), epoch, result, classes)

    def ablation_curves(self, epoch: int, curves: AblationCurve | Mapping[str, AblationCurve]) -> None:
        """Draw how well the model does with more and more channels removed, and write it as scalars.

        The picture is ``channels removed``; the scalars ``channels removed/NAME, epoch 3`` have the number of
        channels removed in the place of the epoch.

        Parameters
        ----------
        epoch
            When.
        curves
            From `ChannelAblator.curve`, one or several by name.

        Raises
        ------
        TypeError, ValueError
            If `curves` are not what `plotting.ablation_curves` takes.
        """
        write_curves(self._open(epoch), epoch, curves)

    def graph(self, model: nn.Module, sample: torch.Tensor | tuple[torch.Tensor, ...]) -> None:
        """Write the graph of operations that a `sample` of the input goes through.

        It is traced by ``torch.jit.trace``: where the model decides by its data, the graph shows the way that
        `sample` took.

        Parameters
        ----------
        model
            Any module; it comes back as it was.
        sample
            A batch as the model takes it, ``(N, C, H, W)`` for images; or a tuple of several arguments.

        Raises
        ------
        TypeError
            If `model` is not a module.
        RuntimeError
            If the model cannot be traced, or fails on `sample`.
        """
        write_graph(self._open(), model, sample)

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
            The class name of each sample, ``(N,)``.
        sprites
            ``(N, C, H, W)``, a small image to be shown for each point, coloured as by `plotting.image_grid`.
        tag
            The name of this cloud.

        Raises
        ------
        TypeError
            If `vectors` or `sprites` are not tensors or arrays of real numbers.
        ValueError
            If shapes do not fit each other, vectors are not finite, or `tag` has neither letter nor digit.
        """
        write_embedding(self._open(), tag, vectors, labels, sprites)

    def _open(self, epoch: object = 0) -> Run:
        """Return the open run, having checked the epoch."""
        if self._run is None:
            raise RuntimeError(
                f"{self!r} is not open: write inside 'with {type(self).__name__}(...) as board:'"
            )
        if isinstance(epoch, bool) or not isinstance(epoch, int) or epoch < 0:
            raise ValueError(f"epoch must be a whole number from 0; got {describe(epoch)}")
        return self._run
