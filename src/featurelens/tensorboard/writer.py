"""One run of TensorBoard, written from results."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Self, final

import torch
from torch import nn

from featurelens._checks import check_path, check_whole
from featurelens.plotting.arrays import Array

if TYPE_CHECKING:
    from featurelens.tensorboard.run import Charts, Run  # these need the package tensorboard


@final
class TensorBoardWriter:
    """Writes results to one run of TensorBoard; nothing is written outside the ``with`` block.

    A call that is refused writes nothing. *Custom Scalars* cannot draw tags with a parenthesis; those get no chart
    there, and are found under *Scalars* like all others. TensorBoard merges what a directory holds already with what is
    added: give each training a directory of its own.

    Parameters
    ----------
    log_dir
        The directory of the run; it is made when the block is entered. TensorBoard shows all runs below the directory
        that it is started with.

    Raises
    ------
    TypeError
        If `log_dir` is not a path.
    ImportError
        If the package ``tensorboard`` is not installed.
    RuntimeError
        By every method, outside the ``with`` block.
    TypeError, ValueError
        By every method that has an epoch, if it is not a whole number from 0.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder, TensorBoardWriter(folder) as board:
    ...     board.training(1, {"loss": {"train": 0.4, "test": 0.5}})
    ...     board.add(1, torch.nn.Conv2d(1, 8, 3))
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
        from featurelens.tensorboard.run import Run

        if self._run is not None:
            raise RuntimeError(f"{self!r} is open already")
        self._run = Run(self.log_dir, self._layout)
        return self

    def __exit__(self, *exception: object) -> None:
        run, self._run = self._open(), None
        run.events.close()

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
            Name to number (also a tensor of one, a scalar), or to a mapping from parts to numbers.

        Raises
        ------
        TypeError
            If a name is no text or a value no number.
        ValueError
            If two values would have the same tag.
        """
        from featurelens.tensorboard.summaries import write_training

        write_training(self._open(epoch), epoch, values)

    def add(
        self,
        epoch: int,
        result: object,
        *,
        tag: str | None = None,
        image: int | None = None,
        classes: Sequence[object] | None = None,
    ) -> None:
        """Write a result as its type asks for, under these tags.

        - layer -> feature maps ``(N, C, H, W)``: ``feature maps/LAYER`` of one `image`
        - a model: ``filters/LAYER`` of its 2-d convolutions
        - a result of an estimator or of `spatial_mutual_information`, or layer -> these: ``TAG in UNITS/LAYER/value``,
          ``/null``, ``/low``, ``/high``; of `channel_information`: ``/mean``, ``/best``, ``/null``, and the bars
        - `MaximizationResult`: ``TAG``, ``TAG/mean score``
        - `AblationResult`: ``reconstructions/LAYER`` of one `image`, ``reconstruction error/LAYER/...``
        - `ImportanceResult`: ``importance/LAYER``, ``importance by class/LAYER`` with names of `classes`, ``importance in
          METRIC/LAYER/...``
        - `AblationCurve`, or name -> these: ``channels removed``, also as scalars over the number of channels removed
        - a matplotlib figure or axes, or one image ``(C, H, W)``, which is written pixel by pixel: ``TAG``

        Parameters
        ----------
        epoch
            When.
        result
            One of the above. Other results have a ``.plot()``, whose figure can be added.
        tag
            What ``TAG`` stands for; figures and images need it. By default ``"information"``, ``"maximization"``.
        image, classes
            Which image of a batch is drawn, by default the first; and the name of each class, by default its number.

        Raises
        ------
        TypeError
            If `result` is something else, or an option does not go with it.
        ValueError
            If `tag` has neither letter nor digit, or the result cannot be drawn: the batch has no such image, say.
        """
        from featurelens.tensorboard.summaries import write_result

        options = {"tag": tag, "image": image, "classes": classes}
        given = {name: value for name, value in options.items() if value is not None}
        write_result(self._open(epoch), epoch, result, given)

    def graph(self, model: nn.Module, sample: torch.Tensor | tuple[torch.Tensor, ...]) -> None:
        """Write the graph of operations that a `sample` of the input goes through.

        It is traced by ``torch.jit.trace``: where the model decides by its data, the graph shows the branch that
        `sample` took.

        Parameters
        ----------
        model
            Any module; it is left unchanged.
        sample
            A batch that the model accepts, ``(N, C, H, W)`` for images; or a tuple of several arguments.

        Raises
        ------
        TypeError
            If `model` is not a module.
        RuntimeError
            If the model cannot be traced, or fails on `sample`.
        """
        from featurelens.tensorboard.graph import write_graph

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
        from featurelens.tensorboard.projector import write_embedding

        write_embedding(self._open(), tag, vectors, labels, sprites)

    def _open(self, epoch: object = 0) -> Run:
        """Return the open run, having checked the epoch."""
        if self._run is None:
            raise RuntimeError(
                f"{self!r} is not open: write inside 'with {type(self).__name__}(...) as board:'"
            )
        check_whole(epoch, argument="epoch", least=0)
        return self._run
