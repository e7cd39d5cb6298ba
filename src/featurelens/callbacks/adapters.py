"""The observer as a callback in other libraries' training loops."""

from __future__ import annotations

import importlib
from typing import Any

from featurelens._checks import check_type
from featurelens.callbacks.observer import Observer


def lightning_callback(observer: Observer) -> Any:
    """Return a PyTorch Lightning ``Callback`` that calls an observer.

    Steps are Lightning's ``global_step``. Only the process of rank 0 looks and logs.

    Parameters
    ----------
    observer
        An `Observer` of the ``LightningModule``, or of a module inside it.

    Raises
    ------
    TypeError
        If `observer` is not an `Observer`.
    ImportError
        If neither ``lightning`` nor ``pytorch_lightning`` is installed.

    Examples
    --------
    .. code-block:: python

        observer = fl.callbacks.Observer(module.net, "conv*", images, labels, log=trainer_logger.log_metrics)
        Trainer(callbacks=[fl.callbacks.lightning_callback(observer)], logger=trainer_logger).fit(module, loader)
    """
    _check(observer)
    base = _imported(("lightning.pytorch", "pytorch_lightning"), "lightning").Callback

    class ObserverCallback(base):  # type: ignore[misc, valid-type]
        def __reduce__(self) -> Any:
            return lightning_callback, (observer,)

        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            if trainer.is_global_zero:
                observer.on_batch_end(step=trainer.global_step)

        def on_train_epoch_end(self, trainer: Any, *_: Any) -> None:
            if trainer.is_global_zero:
                observer.on_epoch_end(step=trainer.global_step, epoch=trainer.current_epoch + 1)

    return ObserverCallback()


def trainer_callback(observer: Observer) -> Any:
    """Return a ``TrainerCallback`` of Hugging Face transformers that calls an observer.

    Batches are the trainer's optimization steps, and steps its ``global_step``. Only the process of rank 0 looks and logs.

    Parameters
    ----------
    observer
        An `Observer` of the trainer's model, or of a module inside it.

    Raises
    ------
    TypeError
        If `observer` is not an `Observer`.
    ImportError
        If ``transformers`` is not installed.

    Examples
    --------
    .. code-block:: python

        observer = fl.callbacks.Observer(model, "*.intermediate", batch, log=wandb.run, reduce=lambda z: z.movedim(-1, 1))
        Trainer(model, args, train_dataset=data, callbacks=[fl.callbacks.trainer_callback(observer)]).train()
    """
    _check(observer)
    base = _imported(("transformers",), "transformers").TrainerCallback

    class ObserverCallback(base):  # type: ignore[misc, valid-type]
        def __reduce__(self) -> Any:
            return trainer_callback, (observer,)

        ended = 0

        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.ended = int(state.epoch or 0)  # more than 0 if training goes on from a checkpoint

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.is_world_process_zero:
                observer.on_batch_end(step=state.global_step)

        def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.ended += 1  # `state.epoch` is a guess where the length of an epoch is not known
            if state.is_world_process_zero:
                observer.on_epoch_end(step=state.global_step, epoch=self.ended)

    return ObserverCallback()


def _check(observer: object) -> None:
    check_type(observer, Observer, argument="observer", expected="a featurelens.callbacks.Observer")


def _imported(modules: tuple[str, ...], extra: str) -> Any:
    """Return the first module that is installed."""
    for module in modules:
        try:
            return importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name is None or not module.startswith(error.name):
                raise  # installed, but something that it needs is not
    raise ImportError(f"this callback needs the package {modules[0]}: pip install 'featurelens[{extra}]'")
