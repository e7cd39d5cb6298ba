"""Loss, accuracy and other numbers of a training, as scalars."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from featurelens._checks import check_type
from featurelens.tensorboard._run import check_number, check_tag

if TYPE_CHECKING:
    from featurelens.tensorboard._run import Charts, Run


def write_training(run: Run, epoch: int, values: Mapping[str, Any]) -> None:
    """Write ``{"loss": {"train": 0.4, "test": 0.5}, "learning rate": 0.1}``, all of it or nothing."""
    check_type(
        values, Mapping, argument="values", expected="a mapping from names to numbers, or to parts of them"
    )
    points: dict[str, float] = {}
    charts: Charts = {}
    for name, value in values.items():
        group = check_tag(name, argument="a name in values")
        if isinstance(value, Mapping):
            parts = {
                f"{group}/{check_tag(part, argument=f'a name in values[{name!r}]')}": each
                for part, each in value.items()
            }
            charts[group] = list(parts)
        else:
            parts = {group: value}
        for tag, each in parts.items():
            if tag in points:
                raise ValueError(f"two of the values are called {tag!r}")
            points[tag] = check_number(each, tag)
    run.scalars(epoch, points)
    run.chart("training", charts)
