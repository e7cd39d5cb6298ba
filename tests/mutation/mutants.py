"""Change the source in small ways, one at a time, and print the changes that no test notices.

    python -m tests.mutation.mutants --rooms recording storage --sample 100 --seed 1

Every mutant is tried in a copy of the repository, by the tests that run its line. One that takes too long, or ends the
process, counts as noticed. Mutants that change nothing a user could see are listed in equivalent.txt: file, change, a tab,
and the reason.
"""

from __future__ import annotations

import argparse
import compileall
import importlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import suppress
from functools import partial
from multiprocessing import Pipe, get_context
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.mutation.changes import PACKAGE, Mutant, mutants_of

ROOT = Path(__file__).resolve().parents[2]
EQUIVALENT = ROOT / "tests/mutation/equivalent.txt"
WORKER: dict[str, Path] = {}  # the folder with this worker's copy
SLOW = ["matplotlib.pyplot", "PIL.Image", "scipy.stats", "sklearn.linear_model", "torchvision"]
# Rooms whose tests try another room, too:
ALSO = {
    "guard": ["recording"],
    "base": ["recording"],
    "storage": ["recording"],
    "information": ["statistics"],
}
HOUSE = "tests/unit/test_house.py"  # reads the source, and looks at classes
LONGEST = 20  # seconds of computing that the tests of one mutant may take together


def chosen_tests(rooms: set[str]) -> list[list[str]]:
    """Where the tests of some rooms are: files and folders for one process each."""
    base = [[*map(str, Path("tests/unit").glob("test_*.py")), *map(str, PACKAGE.glob("*.py"))]]
    groups = base if rooms & {"guard", "base"} else []
    for room in sorted(rooms.union(*(ALSO.get(each, ()) for each in rooms))):
        places = [f"tests/unit/{room}", f"tests/property/test_{room}.py", f"{PACKAGE}/{room}"]
        groups.append([place for place in places if Path(place).exists()])
    return [group for group in groups if group]


def unseen(room: str) -> list[str]:
    """Tests whose work is not seen by a tracer: of the source as a text, and in other processes."""
    files = Path("tests/unit", room).glob("test_*.py")
    return [HOUSE, *(str(path) for path in files if "subprocess" in path.read_text())]


def in_child(function: Callable[[], Any], seconds: float) -> Any:
    """Call a function in a forked process and end whatever it started; None if it takes too long or dies.

    It stays in the session, so that `nice` holds for all of them.
    """
    here, there = Pipe(duplex=False)
    child = os.fork()
    if child == 0:
        try:
            os.setpgid(0, 0)
            there.send(function())
        except BaseException:  # noqa: BLE001
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(0)
    there.close()
    try:
        return here.recv() if here.poll(seconds) else None
    except EOFError:
        return None
    finally:
        with suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
        os.waitpid(child, 0)


def run_tests(tests: list[str], plugin: Any = None) -> int:
    """Run pytest in this worker's copy; no process that forks has imported anything of featurelens."""
    os.chdir(WORKER["folder"])
    os.environ |= {"PYTHONPATH": str(WORKER["folder"] / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
    sys.dont_write_bytecode = plugin is None  # a mutant's would stay
    sys.path.insert(0, os.environ["PYTHONPATH"])
    with Path("output.txt").open("w") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    quiet = ["-x", "-q", "--tb=line", "--no-header", "--hypothesis-seed=0", "-pno:cacheprovider"]
    return int(pytest.main([*quiet, *tests], plugins=[plugin] if plugin else []))


class Coverage:
    """A plugin of pytest that notes which lines each test runs, and how long it takes."""

    def __init__(self) -> None:
        import coverage

        self.seconds: dict[str, float] = {}
        self.tracer = coverage.Coverage(data_file=None, source=[str(WORKER["folder"] / PACKAGE)])

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        """Run one test."""
        self.tracer.switch_context(item.nodeid)
        begin = time.process_time()
        result = yield
        self.seconds[item.nodeid] = time.process_time() - begin
        return result


def measure(tests: list[str]) -> tuple[dict[str, float], dict[tuple[str, int], list[str]]] | str:
    """Run tests; return the seconds of each, and which of them run a line; or what failed."""
    plugin = Coverage()
    plugin.tracer.start()
    verdict = run_tests(tests, plugin)
    plugin.tracer.stop()
    if verdict:
        return Path("output.txt").read_text()[-2000:]
    data, covered = plugin.tracer.get_data(), {}
    for file in data.measured_files():
        path = str(Path(file).relative_to(WORKER["folder"]))
        for line, contexts in data.contexts_by_lineno(file).items():
            covered[path, line] = [name for name in contexts if name]
    return plugin.seconds, covered


def measured(tests: list[str]) -> Any:
    """Run `measure` where its imports are forgotten."""
    return in_child(partial(measure, tests), 1800) or (WORKER["folder"] / "output.txt").read_text()


def prepare() -> None:
    """Make a worker's own copy of the repository; what is slow to import is imported before any fork."""
    WORKER["folder"] = Path(tempfile.mkdtemp(dir=WORKER["parent"])) / "copy"
    listed = subprocess.check_output(["git", "ls-files", "-co", "--exclude-standard"], text=True)
    for name in listed.splitlines():
        if Path(name).exists():
            (WORKER["folder"] / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(name, WORKER["folder"] / name)
    compileall.compile_dir(WORKER["folder"] / "src", quiet=1)


def attempt(mutant: Mutant, tests: list[str], seconds: float) -> str:
    """Try one mutant; say what became of it."""
    if not tests:
        return "survived"
    path = WORKER["folder"] / mutant.path
    source = path.read_bytes()
    try:
        path.write_bytes(source[: mutant.start] + mutant.text.encode() + source[mutant.end :])
        verdict = in_child(partial(run_tests, tests), 60 + 10 * seconds)
        if verdict == 0:
            verdict = in_child(partial(run_tests, unseen(mutant.room)), 300)
    finally:
        path.write_bytes(source)
        os.utime(path, ns=(path.stat().st_atime_ns, (ROOT / mutant.path).stat().st_mtime_ns))
    return {0: "survived", None: "timed out"}.get(verdict, "killed")


class Map:
    """Which tests run a line, and how long they take."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.by_line: dict[tuple[str, int], set[str]] = defaultdict(set)
        self.by_file: dict[str, set[str]] = defaultdict(set)

    def add(self, seconds: dict[str, float], covered: dict[tuple[str, int], list[str]]) -> None:
        """Add what one process measured."""
        self.seconds |= seconds
        for (path, line), tests in covered.items():
            self.by_line[path, line].update(tests)
            self.by_file[path].update(tests)

    def tests(self, mutant: Mutant) -> tuple[list[str], float]:
        """The tests of a mutant, quickest first, and their seconds; for a line that only imports run, of its file."""
        lines = (
            () if mutant.imported else range(mutant.line, 0, -1)
        )  # of an expression, not every line is noted
        near = next((self.by_line[mutant.path, i] for i in lines if (mutant.path, i) in self.by_line), set())
        total, taken = 0.0, []
        for test in sorted(near or self.by_file[mutant.path], key=self.seconds.__getitem__):
            if total + self.seconds[test] <= LONGEST:
                total += self.seconds[test]
                taken.append(test)
        return taken, total


def sampled(rooms: list[str], size: int, seed: int) -> list[Mutant]:
    """Draw mutants of each room."""
    by_room: dict[str, list[Mutant]] = defaultdict(list)
    for path in sorted(PACKAGE.rglob("*.py")):
        for mutant in mutants_of(path):
            by_room[mutant.room].append(mutant)
    drawn = []
    for room in rooms or sorted(by_room):
        drawn += random.Random(f"{seed} {room}").sample(by_room[room], min(size, len(by_room[room])))
    return drawn


def report(fates: dict[Mutant, str]) -> None:
    """Print a table by room."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for mutant, fate in fates.items():
        for room in (mutant.room, "all"):
            counts[room][fate] += 1
    names = ("room", "mutants", "killed", "timed out", "survived", "equivalent", "share")
    print(("{:14}" + "{:>11}" * 6).format(*names))
    for room, fate in counts.items():
        figures = (fate.total(), fate["killed"], fate["timed out"], fate["survived"], fate["equivalent"])
        share = (figures[1] + figures[2]) / max(1, sum(figures[1:4]))
        print(("{:14}" + "{:11}" * 5 + "{:11.1%}").format(room, *figures, share))


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rooms", nargs="*", default=[], help="folders of the package, guard, base; or all")
    parser.add_argument("--sample", type=int, default=40, help="how many mutants of each room are tried")
    parser.add_argument("--seed", type=int, default=0, help="which mutants are drawn")
    parser.add_argument("--jobs", type=int, default=2, help="how many are tried at once")
    asked = parser.parse_args()
    os.chdir(ROOT)
    for slow in SLOW:
        importlib.import_module(slow)
    torch.set_num_threads(1)
    drawn = sampled(asked.rooms, asked.sample, asked.seed)
    known = {line.split("\t")[0] for line in EQUIVALENT.read_text().splitlines()}
    fates = {mutant: "equivalent" for mutant in drawn if f"{mutant.path}: {mutant.change}" in known}
    drawn = [mutant for mutant in drawn if mutant not in fates]
    with tempfile.TemporaryDirectory() as parent:
        WORKER["parent"] = parent
        with ProcessPoolExecutor(asked.jobs, get_context("fork"), prepare) as pool:
            found = Map()
            for result in pool.map(measured, chosen_tests({mutant.room for mutant in drawn})):
                if isinstance(result, str):
                    sys.exit(f"the tests fail without any change:\n{result}")
                found.add(*result)
            jobs = {pool.submit(attempt, mutant, *found.tests(mutant)): mutant for mutant in drawn}
            for job in as_completed(jobs):
                mutant = jobs[job]
                fates[mutant] = job.result()
                if fates[mutant] == "survived":
                    print(f"{mutant.path}:{mutant.line}\n    {mutant.change}", flush=True)
    report(fates)


if __name__ == "__main__":
    main()
