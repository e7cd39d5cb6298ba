"""The event files of a run: scalars with charts over them, and pictures."""

from __future__ import annotations

import io
import pathlib
import re
from collections.abc import Mapping
from typing import Any, TypeAlias, final

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image
from torch.utils.tensorboard import SummaryWriter

from featurelens._checks import check_type

Charts: TypeAlias = dict[str, list[str]]  # title -> tags of the curves
FLUSH_SECONDS = 5  # so that a training can be watched


@final
class Run:
    """The open files of one run."""

    def __init__(self, log_dir: pathlib.Path, layout: dict[str, Charts]) -> None:
        self.log_dir = log_dir
        self.events: Any = SummaryWriter(str(log_dir), flush_secs=FLUSH_SECONDS)
        self._layout = layout

    def scalars(self, epoch: int, values: Mapping[str, Any]) -> None:
        """Write a point of each curve, by tag."""
        for tag, value in values.items():
            self.events.add_scalar(tag, float(value), epoch)

    def chart(self, category: str, charts: Charts) -> None:
        """Draw the curves of each chart's tags over each other, on TensorBoard's page *Custom Scalars*.

        That page reads a parenthesis as the beginning of the run's name and draws an empty chart, so tags with one have
        no chart.
        """
        known = self._layout.get(category, {})
        drawn = [(title, tag) for title, tags in charts.items() for tag in tags if "(" not in tag]
        fresh = [(title, tag) for title, tag in drawn if tag not in known.get(title, [])]
        if not fresh:
            return
        for title, tag in fresh:
            known.setdefault(title, []).append(tag)
        self._layout[category] = known
        layout = {
            group: {
                title: ["Multiline", [f"^{re.escape(tag)}$" for tag in tags]] for title, tags in shown.items()
            }
            for group, shown in self._layout.items()
        }
        self.events.add_custom_scalars(layout)  # TensorBoard reads the last one

    def figures(self, epoch: int, figures: Mapping[str, Figure]) -> None:
        """Write figures as pictures by tag; their canvas stays their own (a window's, perhaps)."""
        for tag, figure in figures.items():
            buffer = io.BytesIO()
            figure.savefig(buffer, format="png")
            self.pixels(epoch, tag, np.asarray(Image.open(buffer).convert("RGB")))

    def pixels(self, epoch: int, tag: str, pixels: NDArray[np.uint8]) -> None:
        """Write a picture of ``(H, W, 3)`` bytes."""
        self.events.add_image(tag, pixels, epoch, dataformats="HWC")


def check_tag(tag: object, *, argument: str = "tag") -> str:
    """Return `tag` if it is a name that can be read; it becomes a heading, and the projector's a folder."""
    check_type(tag, str, argument=argument, expected="text")
    if not any(character.isalnum() for character in str(tag)):
        raise ValueError(f"{argument} must be a name with a letter or a digit; got {tag!r}")
    return str(tag)


def join(*names: str) -> str:
    """Return a tag of several names; a model that is recorded as a whole has none."""
    return "/".join(name for name in names if name)
