"""Write results to a TensorBoard run."""

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
    """Writes results to one TensorBoard run, inside a ``with`` block.

    A call that raises an error writes nothing. *Custom Scalars* cannot draw tags with a parenthesis; they appear only
    under *Scalars*. TensorBoard merges everything in a directory, so use a separate directory for each training.

    Parameters
    ----------
    log_dir
        The directory of the run, created when the block is entered. TensorBoard shows all runs below the directory it
        is started with.

    Raises
    ------
    TypeError
        If `log_dir` is not a path.
    ImportError
        If the package ``tensorboard`` is not installed.
    RuntimeError
        From every method, outside the ``with`` block.
    TypeError, ValueError
        From every method with an epoch, if it is not a whole number of at least 0.

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
                "TensorBoardWriter needs the package tensorboard: pip install 'featurelens[tensorboard]'"
            ) from error
        self.log_dir = check_path(log_dir, argument="log_dir", expected="a folder's path")
        self._run: Run | None = None
        self._layout: dict[str, Charts] = {}

    def __enter__(self) -> Self:
        from featurelens.tensorboard.run import Run

        if self._run is not None:
            raise RuntimeError(f"{self!r} is already open")
        self._run = Run(self.log_dir, self._layout)
        return self

    def __exit__(self, *exception: object) -> None:
        run, self._run = self._open(), None
        run.events.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.log_dir)!r})"

    def training(self, epoch: int, values: Mapping[str, float | Mapping[str, float]]) -> None:
        """Write scalars, such as ``{"loss": {"train": 0.41, "test": 0.52}, "learning rate": 1e-3}``.

        The tags are ``loss/train``, ``loss/test``, ``learning rate``; *Custom Scalars* has a chart for each
        group.

        Parameters
        ----------
        epoch
            The epoch, a whole number of at least 0.
        values
            Mapping from names to numbers (or scalar tensors), or to mappings from parts to numbers.

        Raises
        ------
        TypeError
            If a name is not text or a value not a number.
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
        """Write a result in the form that suits its type, under these tags.

        - layer -> feature maps ``(N, C, H, W)``: ``feature maps/LAYER`` of one `image`
        - a model: ``filters/LAYER`` of its 2-d convolutions
        - a result of an estimator or of `spatial_mutual_information`, or layer -> these: ``TAG in UNITS/LAYER/value``,
          ``/null``, ``/low``, ``/high``; of `channel_information`: ``/mean``, ``/best``, ``/null``, and the bars
        - `MaximizationResult`: ``TAG``, ``TAG/mean score``
        - `AblationResult`: ``reconstructions/LAYER`` of one `image`, ``reconstruction error/LAYER/...``
        - `ImportanceResult`: ``importance/LAYER``, ``importance by class/LAYER`` with names of `classes`, ``importance in
          METRIC/LAYER/...``
        - `AblationCurve`, or name -> these: ``channels removed``, also as scalars over the number of channels removed
        - `similarity.LayerSimilarityResult`: ``TAG``
        - a matplotlib figure or axes, or one image ``(C, H, W)``, which is written pixel by pixel: ``TAG``

        Parameters
        ----------
        epoch
            The epoch, a whole number of at least 0.
        result
            One of the above. Other results have a ``.plot()``, whose figure can be added.
        tag
            Replaces ``TAG``; required for figures and images, by default ``"information"``, ``"maximization"`` or
            ``"similarity"``.
        image, classes
            Which image of a batch to draw, by default the first; and the name of each class, by default its number.

        Raises
        ------
        TypeError
            If `result` is not one of the above, or an option does not apply to it.
        ValueError
            If `tag` has neither letter nor digit, or the result cannot be drawn, for example because the batch has no
            such image.
        """
        from featurelens.tensorboard.summaries import write_result

        options = {"tag": tag, "image": image, "classes": classes}
        given = {name: value for name, value in options.items() if value is not None}
        write_result(self._open(epoch), epoch, result, given)

    def graph(self, model: nn.Module, sample: torch.Tensor | tuple[torch.Tensor, ...]) -> None:
        """Write the graph of operations that the model applies to `sample`.

        It is traced by ``torch.jit.trace``: where control flow depends on the data, the graph shows the branch that
        `sample` takes.

        Parameters
        ----------
        model
            Any module; it is left unchanged.
        sample
            A batch that the model accepts, ``(N, C, H, W)`` for images; or a tuple of several arguments.

        Raises
        ------
        TypeError
            If `model` is not a module, or `sample` holds no tensor.
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
        """Write vectors for the projector, which shows them as points in three dimensions.

        It replaces an earlier embedding with the same tag.

        Parameters
        ----------
        vectors
            ``(N, D)``, one for each sample.
        labels
            The class name of each sample, ``(N,)``.
        sprites
            ``(N, C, H, W)``, a small image for each point, coloured as by `plotting.image_grid`.
        tag
            The name of the embedding.

        Raises
        ------
        TypeError
            If `vectors` or `sprites` are not tensors or arrays of real numbers.
        ValueError
            If shapes do not match, vectors are not finite, or `tag` has neither letter nor digit.
        """
        from featurelens.tensorboard.projector import write_embedding

        write_embedding(self._open(), tag, vectors, labels, sprites)

    def _open(self, epoch: object = 0) -> Run:
        """Return the open run, having checked the epoch."""
        if self._run is None:
            raise RuntimeError(
                f"{self!r} is not open: write inside 'with {type(self).__name__}(...) as board:'"
            )
        check_whole(epoch, argument="epoch", least=0, most=2**63 - 1)
        return self._run
