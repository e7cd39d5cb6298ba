"""Ablation in TensorBoard: what channels rebuild, what they are worth, what is left without them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from featurelens.ablation import AblationCurve, AblationResult, ImportanceResult


class AblationSummaries(ABC):
    """The methods of a writer that take results of a `ChannelAblator`."""

    @abstractmethod
    def figure(self, epoch: int, tag: str, figure: Figure | Axes) -> None:
        """Write a figure."""

    @abstractmethod
    def _check(self, epoch: object) -> Any: ...

    @abstractmethod
    def _scalars(self, epoch: int, values: Mapping[str, Any]) -> None: ...

    def reconstructions(self, epoch: int, result: AblationResult, *, image: int = 0) -> None:
        """Draw what every channel makes of one image, and write the errors over all images.

        The picture is ``reconstructions/LAYER``; the scalars ``reconstruction error/LAYER/all channels`` and
        ``.../one channel``, the mean over channels. See `plotting.reconstructions`.
        """
        from featurelens import plotting

        self._check(epoch)
        picture = plotting.reconstructions(result, image=image)
        self.figure(epoch, f"reconstructions/{result.layer}", picture)
        if result.error is not None and result.baseline_error is not None:
            group = f"reconstruction error/{result.layer}"
            means = {"all channels": result.baseline_error.mean(), "one channel": result.error.mean()}
            self._scalars(epoch, {f"{group}/{name}": value for name, value in means.items()})

    def importance(
        self, epoch: int, result: ImportanceResult, *, classes: Sequence[object] | None = None
    ) -> None:
        """Draw what the task loses without each channel, overall and by class, and write mean and largest drop.

        The pictures are ``importance/LAYER`` and ``importance by class/LAYER``; the scalars
        ``importance (METRIC)/LAYER/mean`` and ``.../largest``. See `plotting.importance`.
        """
        from featurelens import plotting

        self._check(epoch)
        self.figure(epoch, f"importance/{result.layer}", plotting.importance(result))
        if result.per_class is not None:
            picture = plotting.class_importance(result, classes=classes)
            self.figure(epoch, f"importance by class/{result.layer}", picture)
        group = f"importance ({result.metric})/{result.layer}"
        self._scalars(epoch, {f"{group}/mean": result.drop.mean(), f"{group}/largest": result.drop.max()})

    def ablation_curves(self, epoch: int, curves: AblationCurve | Mapping[str, AblationCurve]) -> None:
        """Draw how well the model does with more and more channels removed, and write it as scalars.

        The picture is ``channels removed``; the scalars ``channels removed/NAME, epoch 3`` have the number of
        channels removed in the place of the epoch. See `plotting.ablation_curves`.
        """
        from featurelens import plotting
        from featurelens.ablation import AblationCurve

        self._check(epoch)
        self.figure(epoch, "channels removed", plotting.ablation_curves(curves))
        named = {curves.layer: curves} if isinstance(curves, AblationCurve) else curves
        for name, curve in named.items():
            for removed, value in enumerate(curve.values.tolist()):
                self._scalars(removed, {f"channels removed/{name}, epoch {epoch}": value})
