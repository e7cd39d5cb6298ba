"""A recording that stops can be resumed, and only by what made it."""

import pytest
import torch
from torch import nn

import featurelens as fl
from tests.stores import files, loader, model, recorder, same

pytestmark = pytest.mark.usefixtures("tiny")


class Stops:
    """A loader that raises before a batch, once; `len` as the loader has it."""

    def __init__(self, batches, at, error=KeyboardInterrupt):
        self.batches, self.at, self.error = list(batches), at, error

    def __len__(self):
        return len(self.batches)

    def __iter__(self):
        for number, batch in enumerate(self.batches):
            if number == self.at:
                raise self.error("stop")
            yield batch


def stopped(path, at=3, error=KeyboardInterrupt, batches=None, **options):
    with pytest.raises(error):
        recorder(**options).record(Stops(batches or loader(), at, error), to=path)


@pytest.mark.parametrize("kind", ["DataLoader", "list"])
@pytest.mark.parametrize("seconds", [0.0, 1000.0])
def test_it_goes_on_from_any_batch_to_the_same_bytes(tmp_path, monkeypatch, kind, seconds):
    from featurelens.storage import writer

    monkeypatch.setattr(writer, "CHECKPOINT_SECONDS", seconds)
    data = loader() if kind == "DataLoader" else list(loader())
    recorder().record(data, to=tmp_path / "at once")
    expected = files(tmp_path / "at once")
    for at in range(6):
        stopped(tmp_path / str(at), at)
        if at:
            assert fl.ActivationStore(tmp_path / str(at)).rows == 4 * at
        store = recorder().record(data, to=tmp_path / str(at), resume=True)
        assert store.complete
        assert files(tmp_path / str(at)) == expected


@pytest.mark.changes_model
def test_kept_batches_are_not_run_again_and_only_the_last_is_loaded(tmp_path):
    net, seen, loaded = model(), [], []
    stopped(tmp_path)
    # A hook of the process and not of the model, which would be another model with it.
    handle = torch.nn.modules.module.register_module_forward_hook(
        lambda module, args, output: seen.append(len(output)) if module is net[0] else None
    )

    class Watched(torch.utils.data.Dataset):
        def __len__(self):
            return 23

        def __getitem__(self, index):
            loaded.append(index)
            return loader().dataset[index]

    recorder(net).record(torch.utils.data.DataLoader(Watched(), batch_size=4), to=tmp_path, resume=True)
    handle.remove()
    assert seen == [4, 4, 3]
    assert loaded == list(range(8, 23))


def test_a_complete_store_is_returned_at_once(tmp_path):
    recorder().record(loader(), to=tmp_path)
    before = files(tmp_path)
    store = recorder().record(Stops(loader(), 0), to=tmp_path, resume=True)
    assert store.rows == 23
    assert files(tmp_path) == before


def test_a_complete_store_of_other_data_is_refused(tmp_path):
    for kind in (lambda made: made, list):
        path = tmp_path / kind.__name__.strip("<>")
        recorder().record(kind(loader()), to=path)
        assert recorder().record(kind(loader()), to=path, resume=True).rows == 23
        with pytest.raises(ValueError, match="batch 6 has other values; resume needs the same data"):
            recorder().record(kind(loader(seed=1)), to=path, resume=True)
        with pytest.raises(ValueError, match="batch 6 has 1 rows, and had 3"):
            recorder().record(kind(loader(21)), to=path, resume=True)
        with pytest.raises(ValueError, match="the loader had 6 batches and now has 8"):
            recorder().record(kind(loader(31)), to=path, resume=True)


def test_batches_of_a_loader_without_length_are_counted_once_there_is_one(tmp_path):
    recorder().record(iter(list(loader())), to=tmp_path)
    with pytest.raises(ValueError, match="holds 6 batches, and the loader now has 2"):
        recorder().record(loader(8), to=tmp_path, resume=True)


def test_inputs_is_called_once_for_each_batch(tmp_path):
    def data():
        return [{"a": batch[0]} for batch in loader()]

    expected = recorder().record(loader())
    assert torch.equal(recorder().record(data(), inputs=lambda batch: batch.pop("a"))["4"], expected["4"])
    store = recorder().record(data(), to=tmp_path, inputs=lambda batch: batch.pop("a"))
    assert same(store, expected)
    recorder().stream(data(), fl.statistics.Moments(), inputs=lambda batch: batch.pop("a"))


class Lengths(nn.Module):
    """Takes texts, and returns of one layer as many rows, of the other `times` as many."""

    def __init__(self, times):
        super().__init__()
        self.a, self.b, self.times = nn.Identity(), nn.Identity(), times

    def forward(self, texts):
        return self.b(self.a(torch.tensor([[float(len(text))] for text in texts])).repeat(self.times, 1))


def test_layers_with_different_numbers_of_rows_are_refused(tmp_path):
    data = [{"texts": ["aa", "b"]}, {"texts": ["c"]}]
    with pytest.raises(
        ValueError, match=r"layer 'b' returned \(4, 1\) for a batch of 2: axis 0 is not the batch"
    ):
        fl.ActivationRecorder(Lengths(2), ["a", "b"]).record(data, to=tmp_path / "2")
    make = fl.ActivationRecorder(Lengths(1), ["a", "b"])
    with pytest.raises(KeyboardInterrupt):
        make.record(Stops(data, 1), to=tmp_path / "1")
    assert make.record(data, to=tmp_path / "1", resume=True)["b"][:].flatten().tolist() == [2, 1, 1]


def test_a_store_opened_while_it_was_written_is_read_after_it_was_finished(tmp_path):
    opened = []

    def data():
        for number, batch in enumerate(loader()):
            if number == 3:
                opened.append(fl.ActivationStore(tmp_path))
            yield batch

    whole = recorder().record(data(), to=tmp_path)
    for name, layer in opened[0].items():
        assert len(layer) == 12
        assert torch.equal(layer[:], whole[name][:12])
    with pytest.raises(RuntimeError, match="was written to since it was opened: open it again to verify it"):
        opened[0].verify()


def test_a_seeded_shuffle_is_resumed_in_its_order(tmp_path):
    def shuffled(seed=5):
        return loader(shuffle=True, generator=torch.Generator().manual_seed(seed))

    expected = recorder().record(shuffled())
    stopped(tmp_path, batches=shuffled())
    with pytest.raises(ValueError, match="batch 3 has other values; resume needs the same data in the same"):
        recorder().record(shuffled(6), to=tmp_path, resume=True)
    assert same(recorder().record(shuffled(), to=tmp_path, resume=True), expected)


def test_without_resume_nothing_is_touched(tmp_path):
    stopped(tmp_path)
    before = files(tmp_path)
    with pytest.raises(
        FileExistsError,
        match=r"already holds activations \(12 rows, not complete\): continue with resume=True",
    ):
        recorder().record(loader(), to=tmp_path)
    assert files(tmp_path) == before
    recorder().record(loader(), to=tmp_path, resume=True)
    with pytest.raises(FileExistsError, match=r"\(23 rows, complete\)"):
        recorder().record(loader(), to=tmp_path)


def altered(model):
    with torch.no_grad():
        model[0].bias[0] += 1e-6
    return model


def with_tanh(net):
    net[1] = nn.Tanh()
    return net


def other(values):
    return values * 1


DIFFERENT = {
    "parameters": (lambda: recorder(altered(model())), loader, "the model's parameters or buffers differ"),
    "modules": (
        lambda: recorder(with_tanh(model())),
        loader,
        r"the model's modules or their settings, as print\(model\) shows them, differ",
    ),
    "model": (
        lambda: fl.ActivationRecorder(nn.ModuleList(model()).append(nn.ReLU()), ["0"]),
        loader,
        "the model was a Sequential and is now a ModuleList",
    ),
    "layers": (
        lambda: fl.ActivationRecorder(model(), ["conv_1"], reduce="mean"),
        loader,
        r"the layers were \['0', '2', '4'\] and are now \['0'\]",
    ),
    "reduce": (
        lambda: recorder(reduce={"conv_1": "max"}),
        loader,
        r"the reductions were \['mean', None, None\] and are now \['max', None, None\]",
    ),
    "function": (
        lambda: recorder(reduce=other),
        loader,
        r"are now \['other \(sha256 [0-9a-f]{12}\.\.\.\)', 'other",
    ),
    "dtype": (lambda: recorder(dtype=torch.float64), loader, "dtype was None and is now float64"),
    "training": (lambda: recorder(training="keep"), loader, r"training was False and is now 'keep' \(modes"),
    "batches": (recorder, lambda: loader(31), "the loader had 6 batches and now has 8"),
    "batch size": (
        recorder,
        lambda: loader(18, batch_size=3),
        "batch 3 has 3 rows, and had 4; resume needs the same data in the same order and the same batches",
    ),
    "data": (recorder, lambda: loader(seed=1), "batch 3 has other values"),
    "an earlier batch": (
        recorder,
        lambda: [batch[0] * (number != 1) for number, batch in enumerate(loader())],
        "one of the first 3 has other values",
    ),
    "fewer batches": (
        recorder,
        lambda: (batch for batch in list(loader())[:2]),
        "holds 3 batches, and the loader now yields 2",
    ),
}


@pytest.mark.parametrize("kind", DIFFERENT)
def test_what_differs_is_refused_and_named(tmp_path, kind):
    make, data, message = DIFFERENT[kind]
    stopped(tmp_path)
    before = files(tmp_path)
    with pytest.raises(ValueError, match=message):
        make().record(data(), to=tmp_path, resume=True)
    assert files(tmp_path) == before


def test_a_loader_without_length_is_resumed_too(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        recorder().record(iter(Stops(loader(), 4)), to=tmp_path)
    with pytest.raises(ValueError, match="holds 4 batches, and the loader now yields 2"):
        recorder().record(iter(list(loader())[:2]), to=tmp_path, resume=True)
    assert same(
        recorder().record(iter(list(loader())), to=tmp_path, resume=True), recorder().record(loader())
    )


def test_modes_are_compared_where_they_are_kept(tmp_path):
    stopped(tmp_path / "keep", net=model().train(), training="keep")
    with pytest.raises(ValueError, match=r"training was 'keep' \(modes \w+\.\.\.\) and is now 'keep'"):
        recorder(model().eval(), training="keep").record(loader(), to=tmp_path / "keep", resume=True)
    recorder(model().train(), training="keep").record(loader(), to=tmp_path / "keep", resume=True)
    stopped(tmp_path / "eval", net=model().train())
    recorder(model().eval()).record(loader(), to=tmp_path / "eval", resume=True)


@pytest.mark.changes_model
def test_a_failing_model_leaves_what_was_done_and_itself_as_it_was(tmp_path):
    net = model()
    net.append(nn.Identity())
    calls = []

    def fail(module, args):
        calls.extend([1] if module is net[4] else [])
        if len(calls) == 3:
            raise ArithmeticError("third")

    handle = torch.nn.modules.module.register_module_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="the model failed on batch 3"):
        recorder(net).record(loader(), to=tmp_path)
    handle.remove()
    assert fl.ActivationStore(tmp_path).rows == 8
    assert same(recorder(net).record(loader(), to=tmp_path, resume=True), recorder(net).record(loader()))


def test_shards_that_the_manifest_does_not_list_are_removed_and_other_files_stay(tmp_path):
    stopped(tmp_path)
    newer, note = tmp_path / "000-0" / "000099.npy", tmp_path / "000-0" / "notes.npy"
    newer.write_bytes(b"")
    note.write_bytes(b"mine")
    recorder().record(loader(), to=tmp_path, resume=True)
    assert not newer.exists()
    assert note.read_bytes() == b"mine"
