"""What a store holds, and how it is read."""

import json
import pathlib
import pickle

import numpy as np
import pytest
import torch
from torch import nn

import featurelens as fl
from featurelens.storage.layer_files import is_storable
from tests.nets import Nested, Reused, images, seeded
from tests.stores import files, loader, model, recorder, same


@pytest.mark.usefixtures("tiny")
def test_a_store_holds_what_record_returns(tmp_path):
    expected = recorder().record(loader())
    store = recorder().record(loader(), to=tmp_path / "deep" / "store")
    assert same(store, expected)
    assert same(fl.ActivationStore(tmp_path / "deep" / "store"), expected)
    assert same(store.read(), expected)
    assert store.read()["conv_2"] is not None
    assert (store.rows, store.complete, len(store)) == (23, True, 3)
    store.verify()


@pytest.mark.usefixtures("tiny")
def test_shards_are_plain_npy_files_and_the_manifest_lists_them(tmp_path):
    store = recorder().record(loader(), to=tmp_path)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert set(files(tmp_path)) == {"manifest.json"} | {
        shard["file"] for layer in manifest["layers"].values() for shard in layer["shards"]
    }
    for name, layer in manifest["layers"].items():
        parts = [np.load(tmp_path / shard["file"]) for shard in layer["shards"]]
        assert len(parts) > 2
        assert torch.equal(torch.from_numpy(np.concatenate(parts)), store[name][:])
        assert [shard["stop"] - shard["start"] for shard in layer["shards"]] == [len(part) for part in parts]


def test_opening_reads_nothing_but_the_manifest(tmp_path):
    recorder().record(loader(), to=tmp_path)
    for path in tmp_path.rglob("*.npy"):
        path.unlink()
    store = fl.ActivationStore(tmp_path)
    assert store["conv_1"].shape == (23, 3)
    with pytest.raises(FileNotFoundError, match=r"000000.npy' is missing from the store"):
        store["conv_1"][0]


class Returns(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


DTYPES = [
    torch.bfloat16,
    torch.float16,
    torch.float64,
    torch.int64,
    torch.uint8,
    torch.bool,
    torch.complex64,
    torch.float8_e5m2,
]


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_dtype_comes_back_as_it_was(tmp_path, dtype):
    net = nn.Sequential(Returns(lambda x: (x * 3).to(dtype).transpose(1, 2)))
    expected = fl.ActivationRecorder(net, "0").record([images(5), images(4, seed=1)])
    store = fl.ActivationRecorder(net, "0").record([images(5), images(4, seed=1)], to=tmp_path)
    assert store["0"].dtype == dtype
    rows = store["0"][torch.tensor([7, -2, 0])]
    assert torch.equal(rows.view(torch.uint8), expected["0"].view(torch.uint8)[[7, -2, 0]])


def test_layer_names_become_folders(tmp_path):
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(1, 1, 1)
            self.Conv = nn.Conv2d(1, 1, 1)
            self.act = nn.ReLU()
            self.manifest = nn.ModuleDict({"json": nn.Identity(), "a/b c": nn.Identity()})

        def forward(self, x):
            x = self.act(self.Conv(self.act(self.conv(x))))
            return self.manifest["a/b c"](self.manifest["json"](x))

    net = seeded(Odd)
    store = fl.ActivationRecorder(net, lambda name, layer: not list(layer.children())).record(
        [images(3)], to=tmp_path
    )
    assert list(store) == ["conv", "Conv", "act#1", "act#2", "manifest.json", "manifest.a/b c"]
    assert {path.name for path in tmp_path.iterdir()} == {
        "manifest.json",
        "000-conv",
        "001-Conv",
        "002-act%231",
        "003-act%232",
        "004-manifest.json",
        "005-manifest.a%2Fb%20c",
    }
    assert same(store, fl.ActivationRecorder(net, list(store)).record([images(3)]))
    whole = fl.ActivationRecorder(net, "").record([images(3)], to=tmp_path / "whole")
    assert torch.equal(whole[""][:], store["manifest.json"][:])


def test_lookup_takes_the_names_that_activations_take(tmp_path):
    store = fl.ActivationRecorder(seeded(Reused), ["act", "conv_2"]).record([images()], to=tmp_path)
    assert list(store) == ["act#1", "act#2", "act#3", "conv2"]
    assert store["conv_2"] is store["conv2"] is store["conv_2#1"]
    with pytest.raises(KeyError, match="3 calls were recorded of layer 'act'"):
        store["act"]
    with pytest.raises(KeyError, match=r"no activations of 'conv3'; did you mean 'conv2'\?"):
        store["conv3"]


def test_a_store_shows_itself(tmp_path):
    store = recorder().record(loader(), to=tmp_path)
    assert repr(store) == "ActivationStore(23 rows, 0: (3,) float32, 2: (2, 4, 4) float32, 4: (5,) float32)"
    assert repr(store["4"]) == "StoredLayer('4', (23, 5), float32)"
    assert "<td>(23, 2, 4, 4)</td><td>float32</td><td>1</td>" in store._repr_html_()


@pytest.mark.usefixtures("tiny")
def test_rows_by_every_kind_of_index(tmp_path):
    layer = recorder().record(loader(), to=tmp_path)["conv_2"]
    whole = layer[:]
    mask = torch.arange(23) % 3 == 0
    for rows in (
        0,
        -1,
        slice(2, 20, 3),
        slice(None, None, -1),
        slice(30, 40),
        [3, 3, -23, 22],
        [],
        range(4),
        mask,
    ):
        chosen = whole.flip(0) if rows == slice(None, None, -1) else whole[rows]
        assert torch.equal(layer[rows], chosen)
    assert torch.equal(layer[mask.numpy()], whole[mask])
    assert torch.equal(layer[np.int64(5)], whole[5])
    assert torch.equal(layer[torch.tensor(5)], whole[5])
    assert torch.equal(torch.stack(list(layer)), whole)
    assert len(layer) == 23


@pytest.mark.parametrize(
    ("rows", "error", "message"),
    [
        (23, IndexError, "row 23 is out of range: layer '2' has 23 rows"),
        ([0, -24], IndexError, "row -24 is out of range"),
        ([True, False], IndexError, r"a mask for layer '2' must have shape \(23,\); got \(2,\)"),
        ((0, 1), TypeError, r"further axes of the tensor that is returned; got \(0, 1\)"),
        (1.5, TypeError, "rows are indexed by an integer, a slice"),
        (True, TypeError, "got True"),
        (torch.rand(3), TypeError, r"got float32 tensor \(3,\)"),
        ([[0, 1]], TypeError, "rows are indexed by"),
    ],
)
def test_a_wrong_index_is_told(tmp_path, rows, error, message):
    layer = recorder().record(loader(), to=tmp_path)["2"]
    with pytest.raises(error, match=message):
        layer[rows]


@pytest.mark.usefixtures("tiny")
def test_a_layer_serves_a_loader_and_its_workers(tmp_path):
    layer = recorder().record(loader(), to=tmp_path)["4"]
    batches = torch.utils.data.DataLoader(layer, batch_size=5, num_workers=1)
    assert torch.equal(torch.cat(list(batches)), layer[:])
    assert len(pickle.dumps(layer)) < 20_000
    assert torch.equal(pickle.loads(pickle.dumps(layer))[:], layer[:])


def test_what_no_file_can_hold_is_refused_and_leaves_nothing(tmp_path):
    nested = seeded(Nested)
    with pytest.raises(
        ValueError,
        match=r"layer 'named' returned \(.*choose one with reduce, for example reduce=\{'named': lambda output",
    ):
        fl.ActivationRecorder(nested, "named").record([images()], to=tmp_path / "a")
    assert files(tmp_path) == {}
    chosen = fl.ActivationRecorder(nested, "lstm", reduce=lambda output: output[0])
    assert chosen.record([images()], to=tmp_path / "a")["lstm"].shape == (4, 8, 5)
    sparse = nn.Sequential(Returns(lambda x: x.flatten(1).to_sparse()))
    with pytest.raises(ValueError, match="which has no file format"):
        fl.ActivationRecorder(sparse, "0").record([images()], to=tmp_path / "b")


@pytest.mark.usefixtures("tiny")
def test_rows_that_change_their_shape_are_refused_and_the_others_kept(tmp_path):
    pool = fl.ActivationRecorder(nn.Sequential(nn.MaxPool2d(2)), "0")
    batches = [images(3), images(3), images(3, size=6)]
    with pytest.raises(
        ValueError,
        match=r"layer '0' returned rows of float32 \(1, 4, 4\), and in batch 3 of float32 \(1, 3, 3\)",
    ):
        pool.record(batches, to=tmp_path)
    store = fl.ActivationStore(tmp_path)
    assert (store.rows, store.complete) == (6, False)
    assert torch.equal(store["0"][:], pool.record(batches[:2])["0"])
    assert "6 rows, not complete" in repr(store)
    store.verify()


def test_what_is_no_store_is_told(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"holds no activations: there is no manifest\.json in it"):
        fl.ActivationStore(tmp_path)
    with pytest.raises(TypeError, match="path must be a folder's path; got 3"):
        fl.ActivationStore(3)
    with pytest.raises(ValueError, match="the loader yielded no batch"):
        recorder().record([], to=tmp_path / "empty")
    with pytest.raises(ValueError, match="resume=True continues a recording on disk"):
        recorder().record(loader(), resume=True)
    with pytest.raises(TypeError, match="to must be a folder's path; got 3"):
        recorder().record(loader(), to=3)
    assert files(tmp_path) == {}


def test_the_model_stays_as_it_was_and_nothing_is_drawn(tmp_path):
    state = torch.get_rng_state()
    net = model().train()
    recorder(net).record(loader(shuffle=True), to=tmp_path)
    assert net.training
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.usefixtures("tiny")
def test_rows_of_one_file_are_read_together_and_no_file_stays_open(tmp_path, monkeypatch):
    layer = recorder().record(loader(), to=tmp_path)["2"]
    order = torch.randperm(23, generator=torch.Generator().manual_seed(0))
    whole, opened = layer[:], []
    open_file = pathlib.Path.open

    def counted(path, *args):
        opened.append(open_file(path, *args))
        return opened[-1]

    monkeypatch.setattr(pathlib.Path, "open", counted)
    assert torch.equal(layer[order], whole[order])
    assert len(opened) == len(layer._shards) == 23
    assert all(file.closed for file in opened)
    opened.clear()
    batch = next(iter(torch.utils.data.DataLoader(layer, batch_size=5)))
    assert torch.equal(batch, whole[:5])
    assert len(opened) == 5, "one file for each of five rows, and none twice"


@pytest.mark.filterwarnings("ignore:.*prototype stage", "ignore:.*quantize")
@pytest.mark.parametrize(
    ("make", "storable"),
    [
        (lambda: torch.zeros(2, 3), True),
        (lambda: torch.zeros(2, dtype=torch.bfloat16), True),
        (lambda: torch.zeros(()), False),
        (lambda: torch.zeros(2, device="meta"), False),
        (lambda: torch.eye(2).to_sparse(), False),
        (lambda: torch.nested.nested_tensor([torch.zeros(1), torch.zeros(2)]), False),
        (lambda: torch.quantize_per_tensor(torch.zeros(2), 1.0, 0, torch.qint8), False),
    ],
    ids=["plain", "bfloat16", "number", "meta", "sparse", "nested", "quantized"],
)
def test_files_hold_dense_tensors_with_rows(make, storable):
    assert is_storable(make()) == storable
