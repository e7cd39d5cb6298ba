"""The fuzzing session: ``python -m tests.fuzz.session --calls 10000 --seed 0``.

Every call is a valid one of `calls` with one or two arguments changed. It must end in a result or in an error of
featurelens that names an argument that was changed, and leave everything as it was. A call is determined by the seed and its
number: ``--only 123`` repeats one.
"""

import argparse
import faulthandler
import gc
import os
import random
import re
import shutil
import sys
import tempfile
import time
from collections import Counter, defaultdict
from inspect import Parameter
from pathlib import Path

import numpy as np
import torch
from torch import nn

from tests.fuzz import outcome
from tests.fuzz.calls import base, parameters
from tests.fuzz.further_calls import CALLS
from tests.fuzz.kinds import draw

SIMPLE = re.compile(r"\.(save|load|to|plot\w*|merge|__getitem__)$|^plotting")
"""Calls with little behind them, made less often than others."""


class Attempt:
    """One call: a valid one, with one or two arguments changed."""

    def __init__(self, seed, number):
        chance = random.Random(f"{seed}-{number}")
        self.name = chance.choices(list(CALLS), [1 if SIMPLE.search(name) else 4 for name in CALLS])[0]
        call = CALLS[self.name]
        self.function = call.function()
        self.may_leave_files = call.may_leave_files
        known = parameters(self.function)
        makers = base(call, self.function)
        names = [
            name
            for name in {**makers, **known}
            if name not in ("args", "kwargs", "keywords", "settings") and not name.startswith("_")
        ]
        self.changed = {}
        for name in chance.sample(names, min(len(names), chance.choice([1, 1, 2]))):
            self.changed[name], makers[name] = draw(name, chance)
        self.arguments = {name: make() for name, make in makers.items()}
        self.names = [name.lstrip("*") for name in self.changed]
        self.known = [name.lstrip("*") for name in names]
        self.given = {name.lstrip("*"): self.arguments[name] for name in self.changed}

    def texts(self):
        """The text in the arguments, layers and paths for example, by which a message may name them."""
        values = [
            item
            for value in self.arguments.values()
            for item in (value if isinstance(value, list | tuple) else [value])
        ]
        return [str(value) for value in values if isinstance(value, str | Path)]

    def run(self):
        spread = [name for name in self.arguments if name.startswith("*")]
        if not spread:
            return self.function(**self.arguments)
        named = {name: value for name, value in self.arguments.items() if name not in spread}
        first = [
            named.pop(name)
            for name, p in parameters(self.function).items()
            if name in named and p.kind is Parameter.POSITIONAL_OR_KEYWORD
        ]
        return self.function(*first, *(item for name in spread for item in self.arguments[name]), **named)

    def fingerprint(self):
        """Return what the user gave, now, and before to the object whose method this is; a module is run as it is."""
        owner = getattr(self.function, "__self__", None)
        models = {} if isinstance(owner, nn.Module) else {"owner": getattr(owner, "model", None)}
        return outcome.fingerprint({**self.arguments, **models})

    def __str__(self):
        return f"{self.name}({', '.join(f'{name}=<{what}>' for name, what in self.changed.items())})"


def prepare(folder):
    """Make the files that arguments name."""
    folder.mkdir()
    (folder / "existing.txt").write_text("the user's")
    (folder / "folder").mkdir()
    (folder / "device").symlink_to("/dev/null")
    for name in ("full", "locked"):
        (folder / name).mkdir()
        (folder / name / "file.txt").write_text("the user's")


def attempt(seed, number, root):
    """Make one call in a fresh folder; return it, its error, and what is wrong."""
    folder, scratch = root / str(number), root / "scratch"
    prepare(folder)
    scratch.mkdir(exist_ok=True)
    os.chdir(folder)
    tempfile.tempdir = str(scratch)
    torch.manual_seed(number)
    np.random.seed(number)
    random.seed(number)
    try:
        call = Attempt(seed, number)
        error, _, wrong = outcome.run(call, str(folder), str(scratch))
        if error is not None and (said := outcome.judge_error(error, call.given, call.known, call.texts())):
            wrong.append(said)
        return call, error, wrong
    finally:
        os.chdir(root)
        tempfile.tempdir = None
        shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(scratch, ignore_errors=True)


def session(numbers, seed, report=lambda number, call, error, wrong: None):
    """Make calls; return failures, by function, argument and kind, and how the calls ended."""
    gc.freeze()  # collections, which tracing a model asks for, then pass over what is there already
    failures, ends = defaultdict(list), Counter()
    here = Path.cwd()
    with tempfile.TemporaryDirectory() as root:
        try:
            for number in numbers:
                call, error, wrong = attempt(seed, number, Path(root))
                ends[type(error).__name__ if error is not None else "a result"] += 1
                for text in wrong:
                    failures[call.name, " ".join(call.names), text.partition(":")[0]].append(
                        (number, call, text)
                    )
                report(number, call, error, wrong)
        except KeyboardInterrupt:
            pass  # what was found so far is told
        finally:
            os.chdir(here)
            gc.unfreeze()
    return failures, ends


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, nargs="*", help="numbers of calls to repeat")
    parser.add_argument("--verbose", action="store_true", help="print every call")
    options = parser.parse_args()
    faulthandler.enable()
    sys.stdout.reconfigure(errors="backslashreplace")
    began = time.monotonic()

    def report(number, call, error, wrong):
        if options.verbose or options.only:
            print(f"{number} {call}: {type(error).__name__}: {str(error)[:300]}", flush=True)

    failures, ends = session(options.only or range(options.calls), options.seed, report)
    for (name, argument, _), found in sorted(failures.items(), key=str):
        number, call, text = found[0]
        print(f"{len(found)} x {name}, {argument}: {call}, number {number}\n    {text}")
    print(
        f"{sum(ends.values())} calls in {time.monotonic() - began:.0f} s ended in {dict(ends.most_common())}"
    )
    print(f"{sum(map(len, failures.values()))} failures of {len(failures)} kinds")
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
