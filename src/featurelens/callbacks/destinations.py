"""Where an observer's values and pictures go."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, TypeAlias, final

from featurelens._checks import describe
from featurelens.maximization import MaximizationResult
from featurelens.tensorboard import TensorBoardWriter

STEP = "observed_step"


class Log(Protocol):
    """Takes the values of one step, by name: ``mlflow.log_metrics``, or your own."""

    def __call__(self, values: dict[str, float], /, *, step: int) -> object: ...


class Draw(Protocol):
    """Takes the pictures of one step."""

    def __call__(self, result: MaximizationResult, /, *, step: int) -> object: ...


class WandbRun(Protocol):
    """A run of Weights & Biases."""

    def log(self, data: dict[str, float], /) -> object: ...

    def define_metric(self, name: str, /, step_metric: str | None = None) -> object: ...


Destination: TypeAlias = TensorBoardWriter | WandbRun | Log


def log_to(destination: Destination) -> Log:
    """Return the function that logs values to a destination, or raise a TypeError."""
    if isinstance(destination, TensorBoardWriter):
        board = destination
        return lambda values, *, step: board.training(step, _by_group(values))
    run: Any = destination
    if getattr(destination, "__name__", "") == "log":  # of a run, perhaps
        run = getattr(destination, "__self__", destination)
    if callable(getattr(run, "define_metric", None)):
        return _RunLog(run)
    if not callable(destination):
        raise TypeError(
            "log must be a TensorBoardWriter, wandb.run or a function that is called as log(values, step=step), such as "
            f"mlflow.log_metrics; got {describe(destination)}"
        )
    return destination


@final
class _RunLog:
    """Logs to Weights & Biases, which drops values of a step behind its own counter: the step is a value like others."""

    def __init__(self, run: WandbRun) -> None:
        self.run, self.defined = run, set[str]()

    def __call__(self, values: dict[str, float], /, *, step: int) -> None:
        for name in values.keys() - self.defined:
            self.run.define_metric(name, step_metric=STEP)
            self.defined.add(name)
        self.run.log({**values, STEP: step})


def draw_to(draw: Draw | None, destination: Destination) -> Draw:
    """Return the function that takes pictures, by default to the same TensorBoard run as the values."""
    if draw is None and isinstance(destination, TensorBoardWriter):
        board = destination
        return lambda result, *, step: board.add(step, result, tag="optimized images")
    if draw is None:
        raise ValueError(
            "pictures need a place: log to a TensorBoardWriter, or pass draw=, a function that is called as "
            "draw(result, step=step)"
        )
    if not callable(draw):
        raise TypeError(
            f"draw must be a function that is called as draw(result, step=step); got {describe(draw)}"
        )
    return draw


def _by_group(values: Mapping[str, float]) -> dict[str, float | Mapping[str, float]]:
    """Return the values of all layers together, so that TensorBoard draws them in one chart."""
    grouped: dict[str, float | Mapping[str, float]] = {}
    layers: dict[str, dict[str, float]] = {}
    for name, value in values.items():
        group, slash, layer = name.partition("/")
        if slash:
            grouped[group] = layers.setdefault(group, {})
            layers[group][layer] = value
        else:
            grouped[name] = value
    return grouped
