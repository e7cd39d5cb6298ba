"""What must hold after every call: an own error that names the argument, and a world left as it was."""

import ast
import dataclasses
import hashlib
import linecache
import random
import re
import resource
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.figure import Figure
from torch import nn
from torch.utils.data import DataLoader

import featurelens
from featurelens._checks import shortened
from tests.fuzz import users
from tests.state import snapshot

SOURCE, USER = str(Path(featurelens.__file__).parent), users.__file__
SECONDS, KIBIBYTES = 10, 2 * 2**20
UNFINISHED = (".tmp", ".part", ".partial", ".lock", "~")
MEANT = {
    "classes": ("class",),
    "model": ("layer",),
    "matrix": ("labels", "predictions"),
    "start": ("images",),
    "args": ("batch", "sample"),
    "images": ("batch", "sample"),
    "inputs": ("batch",),
    "rows": ("batch",),
    "sample": ("batch",),
    "size": ("pixels",),
    "first_row": ("image",),
    "objectives": ("layer",),
    "loader": ("batch", "data set", "images", "labels", "rows", "inputs"),
    "layers": ("layer", "predicate"),
    "layer": ("layer", "predicate"),
}
"""Words that name an argument as well as its own name does."""

FUNCTIONS = ("inputs", "rows", "labels", "preprocess")
"""Arguments that are functions of the user's; what they raise is the user's own."""


class TooLong(BaseException):
    """The call took more than its time."""


def fingerprint(value, depth=0):
    """Return a plain structure that differs if a user's value was changed."""
    if depth > 6:
        return id(value)
    if isinstance(value, nn.Module):
        return list(snapshot(value).items())
    if isinstance(value, torch.Tensor):
        return _tensor(value)
    if isinstance(value, np.ndarray):
        return value.shape, value.strides, value.dtype, _digest(value)
    if isinstance(value, Mapping):
        return [(key, fingerprint(item, depth + 1)) for key, item in value.items()]
    if isinstance(value, list | tuple):
        return [fingerprint(item, depth + 1) for item in value]
    if isinstance(value, DataLoader):
        return fingerprint(value.dataset, depth + 1)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [fingerprint(getattr(value, f.name), depth + 1) for f in dataclasses.fields(value)]
    if hasattr(value, "tensors"):
        return fingerprint(value.tensors)
    return id(value)


def _tensor(value):
    about = (
        id(value),
        tuple(value.shape),
        value.dtype,
        value.requires_grad,
        id(value.grad) if value.is_leaf else None,
    )
    if value.is_meta or value.layout != torch.strided:
        return about
    return *about, value.stride(), _digest(value.detach().contiguous().view(-1).view(torch.uint8).numpy())


def _digest(array):
    content = (
        repr(array.tolist()).encode() if array.dtype.hasobject else np.ascontiguousarray(array).tobytes()
    )
    return hashlib.sha1(content).hexdigest()


def surroundings():
    """Return what no call may change in the process."""
    return {
        "the random state of torch": torch.get_rng_state().numpy().tobytes(),
        "the random state of NumPy": np.random.get_state()[1].tobytes(),
        "the random state of Python": random.getstate(),
        "whether gradients are on": (torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
        "the default dtype": torch.get_default_dtype(),
        "the number of threads": torch.get_num_threads(),
        "deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
        "error handling of NumPy": np.geterr(),
        "matplotlib's settings": dict.copy(mpl.rcParams),
        "pyplot's figures": sys.modules["matplotlib.pyplot"].get_fignums()
        if "matplotlib.pyplot" in sys.modules
        else [],
        "global hooks": (
            len(nn.modules.module._global_forward_hooks),
            len(nn.modules.module._global_forward_pre_hooks),
        ),
    }


def files(*folders):
    """Return the contents of folders, by path."""
    return {
        str(path): hashlib.sha1(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        for folder in folders
        for path in Path(folder).rglob("*")
    }


@contextmanager
def limited():
    """Raise TooLong in the block after `SECONDS` of the processor, and once more if that was swallowed."""

    def stop(*_):
        raise TooLong

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, SECONDS, 5)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


@contextmanager
def foreign_warnings():
    """Collect the warnings that neither featurelens nor the user's code gives."""
    found = []

    def note(message, category, filename, lineno, file=None, line=None):
        frame = sys._getframe(1)
        while frame.f_code.co_filename.endswith("warnings.py"):
            frame = frame.f_back
        where = frame.f_code.co_filename
        ours = where.startswith(SOURCE) and "warn" in linecache.getline(where, frame.f_lineno)
        if not ours and not _by_the_user(frame):
            found.append(
                f"{category.__name__}: {str(message)[:100]}\n{_own_line(traceback.extract_stack(frame))}"
            )

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = note
        yield found


def _by_the_user(frame):
    """Whether the user's code, or the model that it called, stands nearer to the frame than featurelens does."""
    while frame is not None:
        name = frame.f_code.co_filename
        if name.startswith(SOURCE):
            return False
        if name == USER or name.endswith("torch/nn/modules/module.py"):
            return True
        frame = frame.f_back
    return True


def _own_line(stack):
    """The last lines of featurelens in a traceback, and its very last line."""
    ours = [entry for entry in stack if entry.filename.startswith(SOURCE)][-3:]
    return "\n".join(f"      {Path(e.filename).name}:{e.lineno} {e.line}" for e in [*ours, stack[-1]])


@cache
def _raises(path):
    """The lines of a file that belong to raise statements."""
    tree = ast.parse(Path(path).read_text())
    return {
        line
        for node in ast.walk(tree)
        if isinstance(node, ast.Raise)
        for line in range(node.lineno, node.end_lineno + 1)
    }


def judge_error(error, changed, known, texts):
    """Return what is wrong with an error, or None.

    `changed` are the values of the arguments that were changed, `known` are the names of all arguments, and `texts` are
    the words given in them, layers for example, which name an argument when they are quoted.
    """
    stack = traceback.extract_tb(error.__traceback__)
    ours = [place for place, entry in enumerate(stack) if entry.filename.startswith(SOURCE)]
    functions = [value for name, value in changed.items() if name in FUNCTIONS]
    users_own = [
        place
        for place, (entry, (frame, _)) in enumerate(
            zip(stack, traceback.walk_tb(error.__traceback__), strict=True)
        )
        if entry.filename == USER or any(frame.f_locals.get("self") is each for each in functions)
    ]
    if users_own and (not ours or users_own[-1] > ours[-1]):
        return None
    kind, said, last = type(error).__name__, str(error), stack[-1]
    if isinstance(error, TypeError) and _refused_by_callable(said, changed.values()):
        return None
    quoted = [
        text for word in texts for text in (shortened(word), repr(word)[1:-1].strip() or repr(word), word)
    ]
    if isinstance(error, OSError) and any(text and text in said for text in quoted):
        return None  # the system's own names the file
    if not last.filename.startswith(SOURCE) or last.lineno not in _raises(last.filename):
        if not ours and isinstance(error, TypeError) and len(stack) <= 3:
            return None  # Python's own: a name that the signature does not have
        return f"{kind} from elsewhere: {said[:200]}\n{_own_line(stack)}"
    if not isinstance(error, Exception):
        return f"{kind}: {error}"
    words = {word for name in known for word in (name, name.removesuffix("s"), *MEANT.get(name, ()))}
    if isinstance(error, ImportError) and "pip install 'featurelens[" in said:
        return None
    if not any(re.search(rf"\b{word}s?\b", said) for word in words) and not any(
        text in said for text in quoted
    ):
        return f"{kind} does not name {' or '.join(changed)}: {said[:300]}\n{_own_line(stack)}"
    if len(said) > 2000:
        return f"{kind} says too much, {len(said)} characters: {said[:200]}"
    return None


def _refused_by_callable(said, values):
    """Whether an error says that the user's callable does not accept its arguments."""
    return any(map(callable, values)) and re.match(r"[\w.<>]+\(\) (missing|takes|got an unexpected) ", said)


def look(result):
    """Look at a result as a user does."""
    text = repr(result)
    if hasattr(result, "_repr_html_") and not isinstance(result, type | nn.Module):
        result._repr_html_()
    if isinstance(result, Figure):
        with warnings.catch_warnings():
            warnings.filterwarnings(
                "ignore", "Glyph .* missing from"
            )  # matplotlib's word on the user's own text
            result.canvas.draw()
    return text


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def run(call, folder, scratch):
    """Call, and return the error if any, the result, and everything that is wrong with how it was left."""
    wrong, error, result = [], None, None
    before, around, memory, there = call.fingerprint(), surroundings(), peak(), files(folder, scratch)
    began = time.process_time()
    with foreign_warnings() as foreign:
        try:
            with limited():
                result = call.run()
        except TooLong:
            wrong.append(f"takes more than {SECONDS} s")
        except KeyboardInterrupt:
            raise
        except BaseException as raised:  # noqa: BLE001  judged below
            error = raised
        if error is None and not wrong:
            try:
                look(result)
            except Exception as raised:  # noqa: BLE001
                wrong.append(
                    f"the result cannot be shown: {type(raised).__name__}: {str(raised)[:150]}\n"
                    + _own_line(traceback.extract_tb(raised.__traceback__))
                )
    if time.process_time() - began > SECONDS and not wrong:
        wrong.append(f"takes {time.process_time() - began:.0f} s")
    if peak() - memory > KIBIBYTES:
        wrong.append(f"takes {(peak() - memory) / 2**20:.1f} GiB")
    wrong += [f"a warning that is not ours: {text}" for text in sorted(set(foreign))]
    if call.fingerprint() != before:
        wrong.append("changes a model or an array of the user")
    wrong += [f"changes {what}" for what, now in surroundings().items() if now != around[what]]
    _restore_surroundings()
    wrong += left_behind(there, files(folder, scratch), error is not None or bool(wrong), call, scratch)
    return error, result, wrong


def left_behind(before, after, failed, call, scratch):
    """Return which files a call left that it should not have left."""
    # torch caches what it compiles.
    new = sorted(path for path in after if path not in before and "torchinductor" not in path)
    wrong = [
        f"leaves {Path(path).name} behind"
        for path in new
        if path.endswith(UNFINISHED) or path.startswith(scratch)
    ]
    if failed and not call.may_leave_files:
        wrong += [f"fails and leaves {Path(path).name}" for path in new if path not in wrong]
        wrong += [f"fails and changes {Path(p).name}" for p in before if p in after and after[p] != before[p]]
        wrong += [f"fails and removes {Path(p).name}" for p in before if p not in after]
    return wrong[:3]


def _restore_surroundings():
    torch.set_grad_enabled(True)
    torch.set_default_dtype(torch.float32)
