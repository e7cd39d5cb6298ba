"""Progress on a terminal, and in a file or a pipe."""

import io
import sys
import threading

import pytest
from tqdm.std import TqdmDefaultWriteLock

from featurelens._progress import Lines, progress_bar


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    """Return what moves the clock of the bars on by some seconds."""
    now = [1000.0]
    monkeypatch.setattr("tqdm.std.time", lambda: now[0])
    return lambda seconds: now.__setitem__(0, now[0] + seconds)


def work(clock, *, seconds, steps, progress=True):
    for _ in progress_bar(range(steps), what="working", unit="step", progress=progress):
        clock(seconds)


def test_a_terminal_gets_a_bar_at_once(monkeypatch, clock):
    monkeypatch.setattr(sys, "stderr", Terminal())
    work(clock, seconds=0.01, steps=3)
    shown = sys.stderr.getvalue()
    assert shown.startswith("\rworking:   0%")
    work(clock, seconds=100, steps=3, progress=False)
    assert sys.stderr.getvalue() == shown


def test_a_file_gets_nothing_from_short_work(monkeypatch, clock):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    work(clock, seconds=1, steps=9)
    work(clock, seconds=100, steps=3, progress=False)
    assert sys.stderr.getvalue() == ""


def test_a_file_gets_a_line_every_ten_seconds_and_one_at_the_end(monkeypatch, clock):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    work(clock, seconds=1, steps=35)
    lines = sys.stderr.getvalue().splitlines()
    assert [line.split("|")[-1].split()[0] for line in lines] == ["10/35", "20/35", "30/35", "35/35"]
    assert all(line.startswith("working: ") for line in lines)
    assert "\r" not in sys.stderr.getvalue()


class Logger:
    """What many training scripts put in the place of a stream."""

    def __init__(self):
        self.text = ""

    def write(self, text):
        self.text += text


def test_a_logger_in_place_of_the_stream_gets_lines(monkeypatch, clock):
    monkeypatch.setattr(sys, "stderr", Logger())
    work(clock, seconds=1, steps=25, progress=False)
    assert sys.stderr.text == ""
    work(clock, seconds=1, steps=25)
    assert len(sys.stderr.text.splitlines()) == 3


@pytest.mark.parametrize("progress", [True, False])
@pytest.mark.parametrize("closed", [True, False])
def test_a_program_without_a_console_works_in_silence(monkeypatch, clock, closed, progress):
    stream = io.StringIO() if closed else None
    if closed:
        stream.close()
    monkeypatch.setattr(sys, "stderr", stream)
    work(clock, seconds=9, steps=5, progress=progress)


@pytest.mark.parametrize("progress", [True, False])
def test_a_loader_is_gone_over_once(progress):
    """To begin a second time starts a loader's workers, and draws from the global random state."""

    class Loader(list):
        begun = 0

        def __iter__(self):
            self.begun += 1
            return super().__iter__()

    loader = Loader([1, 2])
    assert list(progress_bar(loader, what="working", unit="step", progress=progress)) == [1, 2]
    assert loader.begun == 1


@pytest.mark.parametrize("progress", [True, False])
def test_a_bar_starts_no_thread_whose_lock_a_fork_would_wait_for(progress, monkeypatch):
    monkeypatch.setattr("tqdm.std.tqdm.monitor", None)
    before = threading.active_count()
    list(progress_bar(range(3), what="working", unit="step", progress=progress))
    assert threading.active_count() == before


@pytest.mark.parametrize("progress", [True, False])
def test_a_bar_takes_no_lock_between_processes(progress, monkeypatch):
    """A fork that is killed while it holds such a lock would stop all others for ever."""
    monkeypatch.delattr("tqdm.std.TqdmDefaultWriteLock.mp_lock", raising=False)
    list(progress_bar(range(3), what="working", unit="step", progress=progress))
    assert not hasattr(TqdmDefaultWriteLock, "mp_lock")


def test_lines_drop_what_moves_the_cursor():
    Lines(file := io.StringIO()).write("\r\n")
    assert file.getvalue() == ""


def test_a_bar_may_be_moved_by_hand(monkeypatch, clock):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with progress_bar(total=4, what="working", unit="step", progress=True) as bar:
        for _ in range(4):
            clock(11)
            bar.update()
    lines = sys.stderr.getvalue().splitlines()
    assert [line.split("|")[-1].split()[0] for line in lines] == ["1/4", "2/4", "3/4", "4/4"]


def test_a_notebook_gets_a_widget_for_work_that_lasts(monkeypatch):
    base = type("tqdm_notebook", (), {"__module__": "tqdm.notebook"})
    members = {"__init__": lambda self, items, **settings: vars(self).update(settings), "set_lock": print}
    bar = type("tqdm", (base,), members)
    monkeypatch.setattr("tqdm.autonotebook.tqdm", bar)
    made = progress_bar([1], what="working", unit="step", progress=False)
    assert vars(made) == {"desc": "working", "unit": "step", "disable": True, "delay": 1.0, "miniters": 1}
