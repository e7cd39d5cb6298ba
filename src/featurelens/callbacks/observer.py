"""`Observer`: what layers do while a network trains, for a logger."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, final

import torch
from torch import nn

from featurelens._checks import check_dense, check_module, check_type, check_whole, describe, first_line, warn
from featurelens.callbacks.destinations import Destination, Draw, draw_to, log_to
from featurelens.callbacks.map_statistics import MapStatistics
from featurelens.callbacks.measuring import Values, activity, information, similarity
from featurelens.information import channel_information
from featurelens.layers import Selector
from featurelens.maximization import ActivationMaximizer, Objective
from featurelens.recording import ActivationRecorder
from featurelens.recording.reductions import Reduction

STEPS = 64
"""Of the optimization of a picture: enough to see it change from epoch to epoch."""

AT_A_TIME = 64
"""Images, so that a look needs no more memory than a batch of the training."""


@final
class Observer:
    """Logs what chosen layers do on fixed probe images while a network trains, and leaves the training unchanged.

    ::

        observer = fl.callbacks.Observer(model, "conv*", images, labels, log=wandb.run)
        for epoch in range(20):
            for batch in loader:
                train_on(batch)
                observer.on_batch_end()
            observer.on_epoch_end()

    After the first batch, every `every` batches and each epoch it logs, for every layer (``LAYER call 2`` for ``LAYER#2``):

    - ``activation_mean/LAYER``, ``activation_std/LAYER``: over images, channels and positions
    - ``active_share/LAYER``: share of positions at which a channel is positive
    - ``dead_share/LAYER``: share of channels that are positive nowhere in any probe image
    - ``not_finite_share/LAYER``: share of feature maps with a NaN or infinite value; the others leave these out

    After the first batch and each epoch it also logs:

    - ``information_nats/LAYER``, if there are labels: mean over channels of the mutual information between the channel's
      mean over positions and the label, as by `channel_information`; 0 on average where they are independent
    - ``similarity/LAYER``: debiased `similarity.cka` of these means with those after the epoch before, at first with those
      after the first batch
    - ``epochs_ended``, not after the first batch
    - the pictures

    The model runs in eval mode on the probe images and is restored; weights, gradients, buffers, the optimizer and random
    numbers are those of a training without observer. A look costs little more than a forward pass of the probe images:
    with as many as a batch has, looks every 25 batches take less than 5 % of the time of training. If the network diverges, undefined
    values are logged as NaN, and missing pictures are a warning.

    Parameters
    ----------
    model
        The network that is trained; if it is compiled or wrapped, layers have the names of the module inside.
    layers
        Selectors as for `ActivationRecorder`.
    images
        The probe set, one batch: `(N, C, H, W)`, or a dict of the model's arguments.
    labels
        Integer labels `(N,)`, or None for no information.
    log
        A `TensorBoardWriter` that is open; a run of Weights & Biases, ``wandb.run``; or a function called as
        ``log(values, step=step)`` with a dict of floats: ``mlflow.log_metrics``, the ``log_metrics`` of Lightning's
        loggers, or your own.
    every
        Number of batches between two looks.
    reduce
        As for `ActivationRecorder`; needed where it is not known which axis holds the channels.
    pictures
        One or several objectives of an `ActivationMaximizer`, such as ``["conv2:3", "conv2:7"]``; each takes 64 forward
        and backward passes of one image.
    draw
        Function called as ``draw(result, step=step)`` with the `MaximizationResult`; by default pictures go to the
        `TensorBoardWriter`.

    Raises
    ------
    LookupError
        If a selector matches no layer; after the first batch, if a layer of `pictures` does not exist.
    TypeError, ValueError
        If an argument is not one of the above; after the first batch, if a layer's output or an objective is unsuitable.

    Examples
    --------
    >>> model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU())
    >>> observer = Observer(model, "relu_1", torch.rand(8, 1, 6, 6), log=lambda values, step: print(step, *values))
    >>> observer.on_batch_end()
    1 activation_mean/1 activation_std/1 active_share/1 dead_share/1 not_finite_share/1
    """

    def __init__(
        self,
        model: nn.Module,
        layers: Selector | Iterable[Selector],
        images: torch.Tensor | Mapping[str, Any],
        labels: torch.Tensor | None = None,
        *,
        log: Destination,
        every: int = 25,
        reduce: Reduction | Mapping[Selector, Reduction] = None,
        pictures: Objective | str | Sequence[Objective | str] | None = None,
        draw: Draw | None = None,
    ) -> None:
        self.model = check_module(model)
        self._recorder = ActivationRecorder(model, layers, reduce=reduce)
        expected = "one batch: a tensor (N, C, H, W) or a dict of the model's arguments"
        check_type(images, torch.Tensor | Mapping, argument="images", expected=expected)
        if isinstance(images, torch.Tensor) and not images.ndim:
            raise ValueError(f"images must be {expected}; got {describe(images)}")
        self._batches = torch.split(images, AT_A_TIME) if isinstance(images, torch.Tensor) else [images]
        self._labels = None if labels is None else _checked(labels, images)
        self.every = check_whole(every, argument="every", least=1)
        self._log = log_to(log)
        self._pictures = pictures
        if pictures is not None:
            self._draw = draw_to(draw, log)
            if not isinstance(images, torch.Tensor):
                raise TypeError(f"pictures need images as a tensor (N, C, H, W); got {describe(images)}")
            self._maximizer = ActivationMaximizer(model, sample=images, steps=STEPS, progress=False)
        self._before: dict[str, torch.Tensor] | None = None  # channel means at the last close look
        self.batches = self.epochs = 0

    @property
    def layers(self) -> tuple[str, ...]:
        """The names of the chosen layers, in order."""
        return self._recorder.layers

    def __repr__(self) -> str:
        return f"Observer({type(self.model).__name__}, {list(self.layers)}, every={self.every})"

    def on_batch_end(self, *, step: int | None = None) -> None:
        """Look after the first batch, and after every `every` batches.

        Parameters
        ----------
        step
            The step under which values are logged; by default the number of batches so far.

        Raises
        ------
        TypeError, ValueError, LookupError, RuntimeError
            If the layers cannot be measured, or the model fails on the images.
        """
        at = _step(step, self.batches + 1)
        self.batches += 1
        if self.batches == 1:
            self._look_closely(at)
        elif self.batches % self.every == 0:
            self._log(self._look()[0], step=at)

    def on_epoch_end(self, *, step: int | None = None, epoch: int | None = None) -> None:
        """Look at everything after an epoch.

        Parameters
        ----------
        step
            The step under which values are logged; by default the number of batches so far, or of epochs if
            `on_batch_end` is not called.
        epoch
            How many epochs have ended; by default, how often this was called.

        Raises
        ------
        TypeError, ValueError, LookupError, RuntimeError
            As for `on_batch_end`.
        """
        at = _step(step, self.batches or self.epochs + 1)
        ended = (
            self.epochs + 1 if epoch is None else check_whole(epoch, argument="epoch", least=0, most=2**53)
        )
        self.epochs = ended
        self._look_closely(at, {"epochs_ended": float(ended)})

    def _look_closely(self, step: int, more: Values | None = None) -> None:
        values, means = self._look()
        for layer, rows in means.items():
            if self._labels is not None:
                values[_named("information_nats", layer)] = information(rows, self._labels)
            if self._before is not None:
                values[_named("similarity", layer)] = similarity(rows, self._before[layer])
        self._before = means
        self._log({**values, **(more or {})}, step=step)
        self._draw_pictures(step)

    def _look(self) -> tuple[Values, dict[str, torch.Tensor]]:
        """Return the values of all layers, and each layer's channel means ``(N, C)``."""
        # (0, 1): this process alone looks, also where several train
        found = self._recorder.stream(self._batches, MapStatistics(), shard=(0, 1), progress=False)
        values: Values = {}
        means = {}
        for layer, statistics in found.items():
            maps = statistics.map_statistics
            means[layer] = maps.mean
            values |= {_named(measure, layer): value for measure, value in activity(maps).items()}
        return values, means

    def _draw_pictures(self, step: int) -> None:
        if self._pictures is None:
            return
        try:
            result = self._maximizer.run(self._pictures)
        except RuntimeError as error:  # a network that has diverged has no pictures, and may go on training
            warn(f"no pictures at step {step}: {first_line(error)}", RuntimeWarning)
        else:
            self._draw(result, step=step)


def _step(given: int | None, counted: int) -> int:
    return counted if given is None else check_whole(given, argument="step", least=0)


def _named(measure: str, layer: str) -> str:
    layer = layer.replace("#", " call ")  # MLflow accepts no "#" in a name
    return f"{measure}/{layer or 'model'}"


def _checked(labels: torch.Tensor, images: torch.Tensor | Mapping[str, Any]) -> torch.Tensor:
    """Return labels if information about them can be estimated, or raise an error."""
    expected = "an integer tensor (N,)"
    check_type(labels, torch.Tensor, argument="labels", expected=expected)
    if not labels.ndim:
        raise ValueError(f"labels must be {expected}; got {describe(labels)}")
    tensors = [images] if isinstance(images, torch.Tensor) else images.values()
    rows = next((len(tensor) for tensor in tensors if isinstance(tensor, torch.Tensor)), len(labels))
    if labels.ndim == 1 and len(labels) != rows:
        raise ValueError(f"labels must label each image; got {len(labels)} labels for {rows} images")
    check_dense(labels, argument="labels")
    labels, any_rows = labels.cpu(), torch.arange(1.0, 1.0 + rows)[:, None]
    channel_information(any_rows, labels, null=None, progress=False)  # which checks labels
    return labels
