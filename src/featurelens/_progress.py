"""Progress of long work: a bar on a terminal and in a notebook, elsewhere a line now and then."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable
from typing import Any, TextIO

SILENT = 10.0  # seconds without a line where nobody may be watching
BRIEF = 1.0  # seconds; shorter work leaves no bar in a notebook


class Lines:
    """A stream that writes each state of a bar as a line of its own, for files and pipes."""

    def __init__(self, stream: TextIO) -> None:
        self.stream, self.last = stream, ""

    def write(self, text: str) -> None:
        """Write `text` without what moves a terminal's cursor; the same count at the same time only once."""
        state = text.strip("\r\n ")
        reached = state.partition("<")[0]
        if state and reached != self.last:
            self.stream.write(f"{state}\n")
            self.last = reached

    def flush(self) -> None:
        """Let the line be read."""
        self.stream.flush()


def progress_bar(
    items: Iterable[Any] | None = None, *, what: str, unit: str, progress: bool, **more: Any
) -> Any:
    """Return a tqdm bar over `items`, or one to be updated, under the title `what`.

    Without a terminal or a notebook with widgets, work of more than ten seconds writes a line every ten seconds and one at
    its end; shorter work writes nothing.
    """
    kind, settings = _kind_of_bar()
    return kind(items, desc=what, unit=unit, disable=not progress, **settings, **more)


def _kind_of_bar() -> tuple[Any, dict[str, Any]]:
    """Return the class of bar for where this program runs, and its settings."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a notebook lacks widgets: it gets lines
        # Not tqdm.auto: elsewhere than in notebooks its bar begins an iteration of its own, which starts a loader's workers.
        from tqdm.autonotebook import tqdm

    if any(base.__module__ == "tqdm.notebook" for base in tqdm.__mro__):
        return tqdm, {"delay": BRIEF}
    if sys.stderr.isatty():
        return tqdm, {}
    # miniters: otherwise a thread of tqdm also writes what is ten seconds old.
    return tqdm, {"delay": SILENT, "mininterval": SILENT, "miniters": 1, "file": Lines(sys.stderr)}
