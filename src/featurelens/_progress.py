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
        if hasattr(self.stream, "flush"):  # a logger in its place may only write
            self.stream.flush()


def progress_bar(
    items: Iterable[Any] | None = None, *, what: str, unit: str, progress: bool, **more: Any
) -> Any:
    """Return a tqdm bar over `items`, or one to be updated, under the title `what`.

    Without a terminal or a notebook with widgets, work of more than ten seconds writes a line every ten seconds and one at
    its end; shorter work writes nothing.
    """
    kind, settings = _kind_of_bar()
    nowhere = sys.stderr is None or getattr(sys.stderr, "closed", False)  # as in a program without a console
    return kind(items, desc=what, unit=unit, disable=nowhere or not progress, **settings, **more)


def _kind_of_bar() -> tuple[Any, dict[str, Any]]:
    """Return the class of bar for where this program runs, and its settings."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a notebook lacks widgets: it gets lines
        # Not tqdm.auto: elsewhere than in notebooks its bar begins an iteration of its own, which starts a loader's workers.
        from tqdm.autonotebook import tqdm
        from tqdm.std import TqdmDefaultWriteLock

    # tqdm's thread, which looks after bars whose pace changes, may hold a lock while a program forks, and a bar in the fork
    # would wait for it forever; a bar that looks at the time at every step needs no thread. A fork that is killed would
    # leave tqdm's lock between processes locked for all others; the one between threads suffices.
    kind: Any = type("Bar", (tqdm,), {"monitor_interval": 0})
    kind.set_lock(TqdmDefaultWriteLock.th_lock)
    if any(base.__module__ == "tqdm.notebook" for base in tqdm.__mro__):
        return kind, {"miniters": 1, "delay": BRIEF}
    if _is_terminal(sys.stderr):
        return kind, {"miniters": 1}
    return kind, {"miniters": 1, "delay": SILENT, "mininterval": SILENT, "file": Lines(sys.stderr)}


def _is_terminal(stream: Any) -> bool:
    try:
        return bool(stream.isatty())
    except (AttributeError, ValueError):  # a logger in its place, or one that is closed
        return False
