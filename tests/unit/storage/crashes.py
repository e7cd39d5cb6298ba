"""Run by test_crashes.py in a process of its own: records, is killed, goes on, until the store is complete.

The process is killed at every point at which the files change, one after the other, and then at random times. It
forks, so that torch is imported once.
"""

import os
import random
import shutil
import signal
import sys
import time
import types
from pathlib import Path

import torch

if __name__ == "__main__":
    sys.modules["tests"] = types.ModuleType("tests")  # whatever other package is called so
    sys.modules["tests"].__path__ = [str(Path(__file__).parents[2])]

from featurelens.storage import files as storage_files
from featurelens.storage import layer_files, writer
from tests.stores import files, loader, recorder

DATA = [batch[0] for batch in loader(11)]


def record(folder, kind):
    data = loader(11) if kind == "DataLoader" else DATA
    recorder().record(data, to=folder, resume=True, progress=False)


def counting(function, state):
    """Kill this process right before the state's countdown would let `function` run."""

    def counted(*args, **kwargs):
        state["left"] -= 1
        if state["left"] < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*args, **kwargs)

    return counted


def child(work):
    """Run `work` in a fork; return how it ended, and its id at once."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
            os._exit(0)
        except BaseException as error:  # noqa: BLE001
            sys.stderr.write(f"{type(error).__name__}: {error}\n")
            os._exit(1)
    return pid


def ended(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def killed_at(folder, kind, point):
    def work():
        state = {"left": point}
        for name in ("replace", "unlink", "mkdir"):
            setattr(Path, name, counting(getattr(Path, name), state))
        os.fsync = counting(os.fsync, state)
        torch.Tensor.cpu = counting(torch.Tensor.cpu, state)  # before the rows of a layer are appended
        record(folder, kind)

    return ended(child(work))


def difference(folder, expected):
    """Which files differ. A run killed after its last step leaves its lock behind, which no one holds."""
    found = files(folder)
    found.pop(".lock", None)
    return {name for name in found.keys() | expected if found.get(name) != expected.get(name)}


def everywhere(folder, kind, expected):
    """Kill at every point of a run, and at every point of the run that goes on from there, alternately."""
    point, kills = 0, 0
    while True:
        shutil.rmtree(folder, ignore_errors=True)
        code = killed_at(folder, kind, point)
        if code == 0:
            break
        assert code == -signal.SIGKILL, code
        killed_at(folder, kind, point // 2)
        assert ended(child(lambda: record(folder, kind))) == 0
        assert not difference(folder, expected), (point, difference(folder, expected))
        kills, point = kills + 1, point + 6
    return kills


def at_random(folder, kind, expected, seconds):
    draw, kills, done = random.Random(0), 0, time.monotonic() + seconds
    while time.monotonic() < done:
        shutil.rmtree(folder, ignore_errors=True)
        code = None
        while code != 0:
            pid = child(lambda: record(folder, kind))
            time.sleep(draw.uniform(0, 0.06))
            os.kill(pid, signal.SIGKILL)
            code = ended(pid)
            kills += code != 0
            if time.monotonic() > done:  # then let it come to its end
                code = ended(child(lambda: record(folder, kind)))
        assert not difference(folder, expected), difference(folder, expected)
    return kills


def forks_hold_no_lock(folder):
    """Die with the lock held while a fork lives on, as a DataLoader's worker does; then take the lock."""

    def die():
        with storage_files.only_writer(folder):
            (folder / "fork").write_text(str(child(lambda: time.sleep(60))))
            os.kill(os.getpid(), signal.SIGKILL)

    folder.mkdir(parents=True)
    assert ended(child(die)) == -signal.SIGKILL
    with storage_files.only_writer(folder):
        os.kill(int((folder / "fork").read_text()), signal.SIGKILL)


if __name__ == "__main__":
    layer_files.SHARD_BYTES = 100
    writer.CHECKPOINT_SECONDS = 0.0
    torch.set_num_threads(1)  # a fork of a process with threads would hang
    target = Path(sys.argv[1])
    forks_hold_no_lock(target / "locked")
    record(target / "expected", "DataLoader")
    written = files(target / "expected")
    first = everywhere(target / "store", "DataLoader", written)
    second = at_random(target / "store", "list", written, float(sys.argv[2]))
    sys.stdout.write(f"{first} {second} {len(written)}")
