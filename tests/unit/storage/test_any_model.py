"""Stores of models whose weights, inputs, names and places are unusual."""

import functools
import os
import pathlib
import resource
import subprocess
import sys
import textwrap
import warnings

import numpy as np
import pytest
import torch
from torch import nn

import featurelens as fl
from featurelens.storage.fingerprints import batch_digest, model_digest
from tests.nets import images, plain, seeded


class Holder:
    """A helper object of a model in this file."""

    def __init__(self, value):
        self.value = value


class Holds(nn.Module):
    """Keeps what decides its output somewhere else than in parameters and buffers."""

    def __init__(self, value):
        super().__init__()
        self.layer, self.own = nn.Linear(3, 2), value

    def forward(self, x):
        return self.layer(x)


class Extra(Holds):
    def get_extra_state(self):
        return {"scale": 2.0}

    def set_extra_state(self, state):
        pass


class OtherExtra(Extra):
    def get_extra_state(self):
        return {"scale": 3.0}


OtherExtra.__qualname__ = OtherExtra.__name__ = "Extra"


def digest(model):
    return model_digest(model)[0]


def holding(value):
    return seeded(lambda: Holds(value))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (torch.zeros(2), torch.ones(2)),
        ([torch.zeros(2)], [torch.ones(2)]),
        ({"a": (torch.zeros(2),)}, {"a": (torch.ones(2),)}),
        (Holder(torch.zeros(2)), Holder(torch.ones(2))),
        (2.0, 3.0),
        ({"a", "b"}, {"a", "c"}),
        (torch.eye(2).to_sparse(), (2 * torch.eye(2)).to_sparse()),
        (torch.zeros(2).numpy(), torch.ones(2).numpy()),
        (np.zeros((2, 2)), np.zeros(4)),
        (np.zeros(2, dtype=np.int64), np.zeros(2)),
        (np.array([{"a": 1}], dtype=object), np.array([{"a": 2}], dtype=object)),
        ({"a": 1}, {"b": 1}),
        (lambda x: x + 1, lambda x: x - 1),
        (lambda x: x + 1, lambda x: x + 2),
        (functools.partial(max, 1), functools.partial(max, 2)),
        ([1, 2], [2, 1]),
    ],
    ids=range(16),
)
def test_models_that_compute_different_things_are_told_apart(one, other):
    assert digest(holding(one)) != digest(holding(other))
    assert digest(holding(one)) == digest(holding(one))


def test_names_count_and_what_torch_does_inside_its_classes_does_not(monkeypatch):
    one, other = (nn.Sequential() for _ in range(2))
    one.add_module("first", nn.ReLU())
    other.add_module("second", nn.ReLU())
    assert digest(one) != digest(other)
    before = digest(holding(nn.ReLU)), digest(holding(Holder))
    monkeypatch.setattr(nn.ReLU, "extra_repr", lambda self: "another")
    monkeypatch.setattr(Holder, "__init__", lambda self: None)
    assert (digest(holding(nn.ReLU)) == before[0], digest(holding(Holder)) == before[1]) == (True, False)


def test_of_a_long_row_every_so_many_values_are_read():
    long = torch.zeros(2, 4096)
    changed = long.clone()
    changed[:, 1] = 1.0  # of 4096 values, each fifth is read
    assert batch_digest(changed) == batch_digest(long)
    assert batch_digest({"image": changed, "n": 1}) != batch_digest({"image": long, "n": 2})
    changed[1, 5] = 1.0
    assert batch_digest(changed) != batch_digest(long)
    assert batch_digest("some words") != batch_digest("other words")


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_extra_state_and_packed_weights_count():
    assert digest(seeded(lambda: Extra(0))) != digest(seeded(lambda: OtherExtra(0)))

    def quantized(seed):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch would rather have torchao
            return torch.ao.quantization.quantize_dynamic(
                seeded(lambda: nn.Sequential(nn.Linear(3, 2)), seed), {nn.Linear}
            )

    if "x86" not in torch.backends.quantized.supported_engines:
        pytest.skip("this build has no quantized operators")
    assert digest(quantized(0)) == digest(quantized(0))
    assert digest(quantized(0)) != digest(quantized(1))


def test_a_digest_is_the_same_in_another_process():
    program = """
        import torch
        from featurelens.storage.fingerprints import model_digest
        from tests.unit.storage.test_any_model import Holder, holding
        print(model_digest(holding({"a": {"x", "y", "z"}, "b": [Holder((1, 2.0, torch.ones(3)))]}))[0])
    """
    found = {
        subprocess.run(
            [sys.executable, "-c", textwrap.dedent(program)],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    }
    assert len(found) == 1


KINDS = {
    "sparse": lambda x: x.to_sparse(),
    "csr": lambda x: x.to_sparse_csr(),
    "csc": lambda x: x.to_sparse_csc(),
    "bsr": lambda x: x.to_sparse_bsr((1, 1)),
    "jagged": lambda x: torch.nested.nested_tensor(list(x), layout=torch.jagged),
    "nested": lambda x: torch.nested.nested_tensor([x[0], x[1, :1]]),
    "conjugated": lambda x: torch.complex(x, x).conj(),
    "negated": torch._neg_view,
    "half complex": lambda x: torch.complex(x, x).to(torch.complex32),
    "quantized": lambda x: torch.quantize_per_tensor(x, 0.1, 0, torch.quint8),
    "per channel": lambda x: torch.quantize_per_channel(x, torch.ones(2), torch.zeros(2), 0, torch.quint8),
    "bfloat16": lambda x: x.bfloat16(),
    "meta": lambda x: x.to("meta"),
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kind", KINDS)
def test_tensors_of_any_kind_have_a_digest(kind):
    one, other = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[1.0, 2.0], [3.0, 5.0]])
    if kind == "nested":
        one, other = other.flip(0), one.flip(0)
    make = KINDS[kind]
    assert batch_digest(make(one)) == batch_digest(make(one))
    assert kind == "meta" or batch_digest(make(one)) != batch_digest(make(other))
    assert kind == "meta" or digest(holding(make(one))) != digest(holding(make(other)))


@pytest.mark.parametrize("wrap", [lambda value: value, lambda value: {value}], ids=["alone", "in a set"])
def test_what_cannot_be_inspected_cannot_be_resumed(tmp_path, wrap):
    model = holding(wrap(torch.Generator()))
    recorder = fl.ActivationRecorder(model, "layer")
    recorder.record([torch.rand(2, 3)], to=tmp_path)
    with pytest.raises(
        ValueError, match=r"cannot be resumed: .* because own, a Generator, cannot be inspected"
    ):
        recorder.record([torch.rand(2, 3)], to=tmp_path, resume=True)


class Wide(nn.Module):
    """Very many layers, one with a very long name."""

    def __init__(self, layers):
        super().__init__()
        names = [
            *(f"layer{n}" for n in range(layers)),
            "x" * 300,
            "con",
            "Con",
            "ends.".rstrip(".") + "_",
            "a:b",
        ]
        self.layers = nn.ModuleDict({name: nn.Identity() for name in names})

    def forward(self, x):
        for layer in self.layers.values():
            x = layer(x)
        return x


@pytest.mark.skipif(sys.platform == "win32", reason="limits of processes")
def test_many_layers_need_few_open_files(tmp_path):
    model, batches = Wide(120), [images(2), images(3)]
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    opened = len(list(pathlib.Path("/proc/self/fd").iterdir())) if sys.platform == "linux" else 40
    resource.setrlimit(resource.RLIMIT_NOFILE, (opened + 64, limits[1]))
    try:
        store = fl.ActivationRecorder(model, "layers.*").record(batches, to=tmp_path)
        assert all(torch.equal(layer[:], torch.cat(batches)) for layer in store.values())
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    store.verify()
    folders = [path.name for path in tmp_path.iterdir()]
    assert max(map(len, folders)) <= 100
    assert len({folder.lower() for folder in folders}) == len(folders)
    assert not any(folder.lower().partition(".")[0] in {"con", "nul"} or ":" in folder for folder in folders)


def test_a_store_outlives_the_working_directory_and_a_dtype_that_torch_does_not_know(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = plain()
    store = fl.ActivationRecorder(model, ["0", "3"]).record([images()], to="here")
    opened = fl.ActivationStore("here")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    rows = opened["0"][:]
    assert torch.equal(store["0"][:], rows)
    (tmp_path / "here").rename(tmp_path / "moved")
    moved = fl.ActivationStore(tmp_path / "moved")
    assert torch.equal(moved["0"][:], rows)
    unknown = moved["3"]
    object.__setattr__(unknown._layer, "dtype", "float3_e1m1")
    assert "float3_e1m1" in repr(unknown)
    with pytest.raises(
        ValueError,
        match=r"'3' was recorded as float3_e1m1, which torch .* does not support; the store's other",
    ):
        unknown[:]
    assert moved["0"].dtype is torch.float32


def test_decorated_methods_are_compared_by_their_own_code_and_can_be_resumed():
    class Plain(nn.Module):
        @torch.no_grad()
        def forward(self, x):
            return x * 2

    class Other(nn.Module):
        @torch.no_grad()
        def forward(self, x):
            return x * 3

    Other.__qualname__ = Plain.__qualname__
    assert digest(Plain()) != digest(Other())
    assert model_digest(Plain()) == (digest(Plain()), "")
