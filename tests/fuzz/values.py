"""Values by kind of argument: malformed, extreme and adversarial, among them some that are valid."""

import io
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from torch import nn

from tests.fuzz.users import CALLABLES, LOADERS, MODELS, Everything, images, labels

LAYERS = {
    "a name": lambda: "conv1",
    "the last": lambda: "fc",
    "a list": lambda: ["conv1", "relu2"],
    "a call": lambda: "relu1#1",
    "call 0": lambda: "relu1#0",
    "call 99": lambda: "relu1#99",
    "an alias": lambda: "conv_2",
    "alias 0": lambda: "conv_0",
    "a glob": lambda: "conv*",
    "all": lambda: "*",
    "a glob with no match": lambda: "block*",
    "a bad glob": lambda: "[",
    "unknown": lambda: "conv11",
    "the model itself": lambda: "",
    "dots": lambda: "..",
    "blanks": lambda: " conv1 ",
    "a channel": lambda: "conv1:2",
    "channel -1": lambda: "conv1:-1",
    "channel 99": lambda: "conv1:99",
    "channel x": lambda: "conv1:x",
    "not ASCII": lambda: "couche\u0301\u2028\x00",
    "very long": lambda: "conv1." * 3000,
    "duplicates": lambda: ["conv1", "conv1", "conv*"],
    "a class": lambda: nn.Conv2d,
    "a class with no match": lambda: nn.LSTM,
    "another module": nn.ReLU,
    "a predicate": lambda: lambda name, module: True,
    "a predicate of one argument": lambda: lambda name: True,
    "a number": lambda: 3,
    "none": lambda: None,
    "no layers": list,
    "a nested list": lambda: [["conv1"], "relu1"],
    "None in a list": lambda: ["conv1", None],
    "a set": lambda: {"conv1"},
    "a generator": lambda: (name for name in ("conv1", "fc")),
    "an endless text": lambda: b"conv1",
}

ARRAYS = {
    "images": images,
    "one image": lambda: images()[0],
    "three channels": lambda: images(4, channels=3),
    "other size": lambda: images(4, size=7),
    "one pixel": lambda: images(4, size=1),
    "one row": lambda: images(1),
    "no rows": lambda: images()[:0],
    "no pixels": lambda: torch.zeros(4, 1, 0, 8),
    "columns": lambda: images(60).flatten(1)[:, :2],
    "60 images": lambda: images(60),
    "a vector": lambda: images(60).flatten()[:60],
    "a scalar": lambda: torch.tensor(1.0),
    "six axes": lambda: torch.ones(2, 1, 2, 1, 2, 1),
    "NaN": lambda: _with(torch.nan),
    "all NaN": lambda: images() * torch.nan,
    "infinite": lambda: _with(torch.inf),
    "huge": lambda: images() * 1e38,
    "huge doubles": lambda: images().double() * 1e300,
    "tiny": lambda: images() * 1e-40,
    "constant": lambda: torch.ones(12, 1, 8, 8),
    "negative": lambda: -images(),
    "integers": lambda: images().mul(255).to(torch.int32),
    "bytes": lambda: images().mul(255).to(torch.uint8),
    "booleans": lambda: images() > 0.5,
    "complex": lambda: images() * 1j,
    "half": lambda: images().half(),
    "double": lambda: images().double(),
    "bfloat16": lambda: images().bfloat16(),
    "not contiguous": lambda: images().mT,
    "expanded": lambda: torch.ones(1, 1, 1, 1).expand(12, 1, 8, 8),
    "requires gradients": lambda: images().requires_grad_(),
    "with a history": lambda: images().requires_grad_() * 2,
    "sparse": lambda: images().flatten(1).to_sparse(),
    "meta": lambda: images().to("meta"),
    "quantized": lambda: images(2).flatten().int().to(torch.uint16),
    "labels": labels,
    "60 labels": lambda: labels(60),
    "negative labels": lambda: labels() - 2,
    "huge labels": lambda: labels() + 2**62,
    "one class": lambda: labels() * 0,
    "a class each": lambda: torch.arange(12),
    "few labels": lambda: labels(3),
    "probabilities": lambda: torch.full((12, 3), 1 / 3),
    "NumPy": lambda: images().numpy(),
    "NumPy, negative strides": lambda: images().numpy()[::-1],
    "NumPy, read-only": lambda: _read_only(images().numpy()),
    "NumPy, big-endian": lambda: images().numpy().astype(">f4"),
    "NumPy objects": lambda: np.array([1.0, None, "a"], dtype=object),
    "NumPy text": lambda: np.array(["cat", "dog"] * 6),
    "NumPy dates": lambda: np.arange(12).astype("datetime64[s]"),
    "NumPy record": lambda: np.zeros(12, dtype=[("a", "f4")]),
    "NumPy masked": lambda: np.ma.masked_array(np.ones((12, 2)), True),
    "a list": lambda: [1.0, 2.0, 3.0],
    "a nested list": lambda: [[1.0, 2.0]] * 12,
    "a ragged list": lambda: [[1.0], [1.0, 2.0]],
    "text": lambda: "images",
    "none": lambda: None,
    "a number": lambda: 0.5,
    "an empty list": list,
    "a dict": lambda: {"x": images()},
    "a generator": lambda: (row for row in images(3)),
}

NUMBERS = {
    "-1": lambda: -1,
    "0": lambda: 0,
    "1": lambda: 1,
    "2": lambda: 2,
    "7": lambda: 7,
    "0.5": lambda: 0.5,
    "-0.1": lambda: -0.1,
    "1.5": lambda: 1.5,
    "NaN": lambda: float("nan"),
    "infinity": lambda: float("inf"),
    "-infinity": lambda: float("-inf"),
    "1e-320": lambda: 1e-320,
    "True": lambda: True,
    "False": lambda: False,
    "none": lambda: None,
    "NumPy integer": lambda: np.int64(3),
    "NumPy float": lambda: np.float32(0.5),
    "NumPy NaN": lambda: np.float64("nan"),
    "NumPy vector": lambda: np.array([1, 2]),
    "tensor": lambda: torch.tensor(2),
    "float tensor": lambda: torch.tensor(0.25),
    "tensor of two": lambda: torch.tensor([1, 2]),
    "text": lambda: "3",
    "auto": lambda: "auto",
    "complex": lambda: 1j,
    "a list": lambda: [1],
    "a pair": lambda: (0, 2),
    "a bad pair": lambda: (2, 2),
    "three": lambda: (1, 8, 8),
    "minus three": lambda: (-1, -8, -8),
    "empty": lambda: (),
}
HUGE = {
    "2**31": lambda: 2**31,
    "2**63": lambda: 2**63,
    "-2**63 - 1": lambda: -(2**63) - 1,
    "10**400": lambda: 10**400,
    "1e30": lambda: 1e30,
    "1e308": lambda: 1e308,
    "huge shape": lambda: (3, 2**40, 2**40),
    "huge pair": lambda: (0, 2**63),
}

WORDS = {
    word or "empty": (lambda word=word: word)
    for word in (
        *(
            "",
            " ",
            "Mean",
            "mean",
            "max",
            "none",
            "auto",
            "labels",
            "inputs",
            "zero",
            "resample",
            "keep",
            "drop",
        ),
        *("nats", "bits", "permutation", "random", "bootstrap", "channel", "layer", "quantile", "uniform"),
        *(
            "hooks",
            "rewrite",
            "shared",
            "map",
            "accuracy",
            "loss",
            "rbf",
            "linear",
            "ksg",
            "binned",
            "standard",
        ),
        *(
            "tied",
            "learned",
            "most",
            "number",
            "\x00",
            "a\nb",
            "$\\frac{",
            "<b>&amp;",
            "\ud800",
            "x" * 100_000,
        ),
    )
}

PATHS = {
    "new file": lambda: "new.pt",
    "new folder": lambda: Path("new"),
    "a missing folder": lambda: "missing/new.pt",
    "existing file": lambda: "existing.txt",
    "existing folder": lambda: "folder",
    "full folder": lambda: Path("full"),
    "inside a file": lambda: "existing.txt/new.pt",
    "read-only file": lambda: "locked/file.txt",
    "read-only folder": lambda: "locked",
    "the saved": lambda: "saved.npz",
    "empty": lambda: "",
    "here": lambda: ".",
    "odd characters": lambda: "o d\u00e9\n\u2028?*.pt",
    "a null byte": lambda: "a\x00b",
    "half a character": lambda: "\ud800.pt",
    "too long": lambda: "x" * 5000,
    "a device": lambda: "device",
    "bytes": lambda: b"new.pt",
    "a number": lambda: 3,
    "none": lambda: None,
    "a buffer": io.BytesIO,
    "a list": lambda: ["one.png"],
    "three": lambda: [f"{i}.png" for i in range(12)],
}

OTHERS = {
    "an object": object,
    "nothing works": Everything,
    "a namespace": lambda: SimpleNamespace(shape=(1, 2), layers=["conv1"], values=None),
    "a dict": dict,
    "a dict of numbers": lambda: {1: 2},
    "a dict by layer": lambda: {"conv1": "mean"},
    "a dict of arrays": lambda: {"conv1": images()},
    "a dict by class": lambda: {nn.Conv2d: "max"},
    "nested deep": lambda: _nested(200),
    "itself": lambda: [_contains_itself()],
    "bytes": lambda: b"\x00\xff",
    "dtype": lambda: torch.float64,
    "dtype float16": lambda: torch.float16,
    "dtype int": lambda: torch.int64,
    "dtype complex": lambda: torch.complex64,
    "dtype of NumPy": lambda: np.float32,
    "device": lambda: torch.device("cpu"),
    "device meta": lambda: "meta",
    "device cuda": lambda: "cuda:7",
    "a device that is none": lambda: "gpu0",
    "generator": lambda: torch.Generator().manual_seed(1),
    "NumPy generator": lambda: np.random.default_rng(0),
    "a range": lambda: range(3),
    "an endless range": lambda: range(2**62),
    "a list of text": lambda: ["cat", "dog", "hen"],
    "a list of None": lambda: [None, None],
    "a list of numbers": lambda: [0, 1, 2],
    "a list of bad numbers": lambda: [0, -7, 2**70],
    "a list of lists": lambda: [[0, 1], [2]],
    "overlapping lists": lambda: [[0, 1], [1, 99]],
    "groups": lambda: {"first": [0], "second": [1, 2]},
    "an exception": lambda: ValueError,
    "Ellipsis": lambda: ...,
    "NotImplemented": lambda: NotImplemented,
    "slice": lambda: slice(None, None, -1),
}

FLAGS = {
    "True": lambda: True,
    "False": lambda: False,
    "1": lambda: 1,
    "NumPy True": lambda: np.True_,
    "a tensor": lambda: torch.tensor(True),
    "text": lambda: "yes",
    "none": lambda: None,
}

KINDS = {
    "flag": FLAGS,
    "model": MODELS,
    "layers": LAYERS,
    "array": ARRAYS,
    "loader": LOADERS,
    "number": NUMBERS,
    "word": WORDS,
    "path": PATHS,
    "callable": CALLABLES,
    "other": OTHERS,
}


def _with(value):
    array = images()
    array[1, 0, 2, 3] = value
    return array


def _read_only(array):
    array.flags.writeable = False
    return array


def _nested(depth):
    value = []
    for _ in range(depth):
        value = [value]
    return value


def _contains_itself():
    value = []
    value.append(value)
    return value
