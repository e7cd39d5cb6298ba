"""Models as strangers write them: what a trace cannot see, caches anywhere, inputs and outputs of any kind."""

import collections
import functools
import gc
import random
import types
import warnings
from collections import namedtuple
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import fx, nn
from torch.nn.utils.rnn import pack_sequence
from torch.utils.data import DataLoader

import featurelens as fl
from featurelens._placeholders import Holders
from tests.nets import scripted, seeded
from tests.state import snapshot

X = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def calls_by_hand(model, layer, x):
    found = []
    handle = model.get_submodule(layer).register_forward_hook(lambda *args: found.append(args[2].clone()))
    with torch.no_grad():
        model(x)
    handle.remove()
    return found


class Stem(nn.Module):
    """Calls `stem` again where `again` says so."""

    def __init__(self, again):
        super().__init__()
        self.stem, self.again = nn.Conv2d(3, 3, 1), again
        self.generator = torch.Generator().manual_seed(0)
        self.numpy, self.python = np.random.default_rng(0), random.Random(0)

    def forward(self, x):
        y = self.stem(x)
        return self.stem(y) if self.again(self, y) else y


def raises_attribute_error(y):
    try:
        y.logits  # noqa: B018
    except AttributeError:
        return True
    return False


CHANGES = {"now": True}

UNSEEN = {
    "a shape in a set": lambda self, y: y.shape[-1] in {8, 16},
    "a dtype in a dict": lambda self, y: {torch.float32: 5.0}.get(y.dtype, 1.0) == 5.0,
    "a name of a device": lambda self, y: str(y.device) == "cpu",
    "a type": lambda self, y: type(y) is torch.Tensor,
    "an attribute": lambda self, y: not hasattr(y, "logits"),
    "a caught error": lambda self, y: raises_attribute_error(y),
    "a name": lambda self, y: f"{y.shape[-1]}" == "8",
    "a global": lambda self, y: CHANGES["now"],
}
DRAWN = {
    "torch": lambda self, y: torch.rand(()) < 2,
    "NumPy": lambda self, y: np.random.rand() < 2,
    "its own NumPy generator": lambda self, y: self.numpy.random() < 2,
    "its own Python generator": lambda self, y: self.python.random() < 2,
    "its own torch generator": lambda self, y: bool(torch.rand((), generator=self.generator) < 2),
}


@pytest.mark.parametrize("kind", {**UNSEEN, **DRAWN})
@pytest.mark.parametrize("stop_early", [False, True])
def test_hooks_give_every_call(kind, stop_early):
    model = seeded(lambda: Stem({**UNSEEN, **DRAWN}[kind])).eval()
    drawn = model.generator.get_state(), model.python.getstate(), model.numpy.bit_generator.state
    before = snapshot(model)
    recorder = fl.ActivationRecorder(model, "stem", stop_early=stop_early)
    expected = None
    for acts in (recorder(X), recorder(X), recorder.record([X])):
        assert list(acts) == ["stem#1", "stem#2"]
        expected = expected or list(acts.values())
        assert all(map(torch.equal, acts.values(), expected))
    assert snapshot(model) == before
    assert torch.equal(drawn[0], model.generator.get_state())
    assert drawn[1] == model.python.getstate()
    assert str(drawn[2]) == str(model.numpy.bit_generator.state)


@pytest.mark.changes_model  # the test runs it
@pytest.mark.parametrize("kind", UNSEEN)
def test_a_rewritten_copy_does_the_same_or_says_what_differs(kind):
    model = seeded(lambda: Stem(UNSEEN[kind])).eval()
    expected = model(X)
    try:
        returned = fl.insert_extractors(model, "stem").eval()(X)
    except RuntimeError as error:
        assert 'backend="hooks"' in str(error)  # noqa: PT017
    else:
        assert torch.equal(returned, expected)
    try:
        acts = fl.ActivationRecorder(model, "stem", backend="rewrite")(X)
    except RuntimeError as error:
        assert 'backend="hooks"' in str(error)  # noqa: PT017
    else:
        assert len(acts) == 2


def test_the_first_difference_is_named():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)

        def forward(self, x):
            y = self.a(x)
            y = y * {torch.float32: 5.0}.get(y.dtype, 1.0)
            return self.b(y)

    with pytest.raises(
        RuntimeError, match=r"Scaled cannot be rewritten, .* layer 'b', after layer 'a' through .*'mul'"
    ):
        fl.insert_extractors(Scaled(), "a", sample=X)
    model = Stem(UNSEEN["a shape in a set"])
    with pytest.raises(
        RuntimeError, match="layer 'stem' is called after layer 'stem' but is not in the trace"
    ):
        fl.ActivationRecorder(model, "stem", backend="rewrite")(X)


def test_a_new_shape_is_compared_again():
    model = Stem(lambda self, y: y.shape[-1] in {16, 32}).eval()
    tapped = fl.insert_extractors(model, "stem", sample=X)
    assert torch.equal(tapped.eval()(X), model(X))
    with pytest.raises(RuntimeError, match="Stem cannot be rewritten"):
        tapped(torch.rand(2, 3, 16, 16))


CACHE, GROWS, DEEP, LAST = {}, [], {"a": {}}, {"x": None}
SLOT = None


class Helper:
    pass


HELPER = Helper()
HELPER.old = 5


@functools.lru_cache
def doubled(n):
    return n * 2


def closure():
    kept = None

    def keep(x):
        nonlocal kept
        kept = x

    return keep, lambda: kept


KEEP, KEPT = closure()


class Caches(nn.Module):
    """Keeps what it computes wherever Python lets it."""

    table: ClassVar = {}
    last = "none"

    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(3, 3, 1)

    def forward(self, x):
        global SLOT  # noqa: PLW0603
        if "w" not in CACHE:
            CACHE["w"] = x.new_ones(3, 1, 1)
        GROWS.append(x)
        DEEP["a"]["k"] = {"deep": [x]}
        LAST["x"] = (x, 1)
        HELPER.old, HELPER.new, HELPER.other = x, x, Helper()
        HELPER.other.x = x
        SLOT = x
        Caches.table["t"] = x
        Caches.last = x
        doubled(x.shape[-1])
        KEEP(x)
        self.mine = x
        return self.a(x) * CACHE["w"]


def kept_anywhere():
    return (CACHE, GROWS, DEEP, LAST, vars(HELPER), SLOT, Caches.table, Caches.last, KEPT())


@pytest.mark.changes_model  # the test runs it
@pytest.mark.parametrize("way", ["insert", "operations", "rewrite"])
def test_no_placeholder_stays_behind(way):
    for container in (CACHE, GROWS, DEEP["a"], Caches.table):
        container.clear()
    LAST["x"], Caches.last, HELPER.__dict__ = None, "none", {"old": 5}
    KEEP(None)
    globals()["SLOT"] = None
    doubled.cache_clear()
    model = seeded(Caches).eval()
    before = repr(kept_anywhere())
    if way == "insert":
        tapped = fl.insert_extractors(model, "a").eval()
    elif way == "operations":
        fl.list_operations(model)
    else:
        recorder = fl.ActivationRecorder(model, "a", backend="rewrite")
    assert repr(kept_anywhere()) == before
    assert doubled.cache_info().currsize == 0
    assert not [o for o in gc.get_objects() if issubclass(type(o), fx.Proxy)]
    expected = model(X)
    assert type(expected) is torch.Tensor
    if way == "insert":
        assert torch.equal(tapped(X), expected)
    if way == "rewrite":
        assert torch.equal(recorder(X)["a"], fl.ActivationRecorder(model, "a")(X)["a"])


ELSEWHERE = types.ModuleType("elsewhere")  # a module of the user's, which holds another
ELSEWHERE.inner = types.ModuleType("elsewhere.inner")
ELSEWHERE.inner.table = {"old": 1}
ELSEWHERE.kept = []


def put(place, x):
    kept.append(x)  # noqa: F821  a global of the other module
    place["x"] = x


PUT = functools.partial(types.FunctionType(put.__code__, vars(ELSEWHERE)), {})
UNNAMED = [[number] for number in range(1000)]


class KeepsElsewhere(nn.Linear):
    def forward(self, x):
        ELSEWHERE.inner.table["new"] = x
        ELSEWHERE.inner.table["old"] = [x]
        ELSEWHERE.inner.last = x
        self.put(x)
        return super().forward(x)

    def put(self, x, kept=[], *, also={}):  # noqa: B006
        kept.append(x)
        also["x"] = x
        return [PUT(y) for y in (x,)]


def test_no_placeholder_stays_in_what_other_modules_hold_and_the_rest_of_a_program_is_not_looked_at():
    model = KeepsElsewhere(3, 2)
    fl.insert_extractors(model, "")
    assert ELSEWHERE.inner.table == {"old": 1}
    assert not hasattr(ELSEWHERE.inner, "last")
    assert (ELSEWHERE.kept, PUT.args) == ([], ({},))
    put = KeepsElsewhere.put
    assert (put.__defaults__, put.__kwdefaults__) == (([],), {"also": {}})
    assert not [o for o in gc.get_objects() if issubclass(type(o), fx.Proxy)]
    looked_at = [before for before, _ in Holders(model)._before.values()]
    assert any(item is ELSEWHERE.kept for item in looked_at)
    assert not any(item is UNNAMED or item is UNNAMED[0] for item in looked_at)


def test_no_placeholder_stays_behind_when_a_trace_fails():
    class Fails(Caches):
        def forward(self, x):
            y = super().forward(x)
            return y if y.sum() > 0 else -y

    with pytest.raises(RuntimeError, match="Fails cannot be rewritten") as caught:
        fl.insert_extractors(Fails(), "a")
    assert not [o for o in gc.get_objects() if issubclass(type(o), fx.Proxy)]
    assert caught.value.__cause__ is not None


class Texts(nn.Module):
    def __init__(self):
        super().__init__()
        self.act = nn.Identity()

    def forward(self, texts):
        return self.act(torch.tensor([[float(len(text))] * 4 for text in texts]))


def test_a_batch_that_is_itself_the_input_is_not_cut():
    loader = DataLoader(["a", "bb", "ccc", "d"], batch_size=2)
    assert fl.ActivationRecorder(Texts(), "act").record(loader)["act"][:, 0].tolist() == [1, 2, 3, 1]

    class Dicts(Texts):
        def forward(self, samples):
            return super().forward([sample["text"] for sample in samples])

    samples = [[{"text": "a"}, {"text": "bb"}], [{"text": "c"}, {"text": "d"}]]
    assert len(fl.ActivationRecorder(Dicts(), "act").record(samples)["act"]) == 4

    recurrent = nn.LSTM(3, 2, batch_first=True)
    packed = pack_sequence([torch.rand(4, 3), torch.rand(2, 3)])
    last = fl.ActivationRecorder(recurrent, "", reduce=lambda out: out[1][0][-1]).record([packed, packed])
    assert last[""].shape == (4, 2)


def test_a_batch_that_may_be_several_things_asks():
    model = nn.Sequential(nn.Identity())
    recorder = fl.ActivationRecorder(model, "0")
    for batch in (
        [torch.rand(3, 8, 8), torch.rand(3, 8, 8)],
        [torch.rand(5), torch.rand(5)],
        [torch.rand(5, 3), torch.rand(4, 3)],
        [np.zeros(3), np.zeros(3)],
        [[1, 2, 3], [4, 5]],
        [b"a", b"bb"],
        [("q", "d"), ("q2", "d2")],
        [Plain(X), Plain(X)],
        ({"a": X}, {"b": X}),
        [{"a": 1}],
        {"x": X, "image": X},
        {"a": X},
    ):
        with pytest.raises(
            ValueError, match=r"which item of the batch .* is the input\? .*pass inputs=lambda batch:"
        ):
            recorder.record([batch])
    labels, targets = torch.zeros(2), [{"boxes": X}, {"boxes": X}]
    for batch in (
        (X, labels),
        [X, labels, labels],
        (X, X),
        (X, targets),
        [X, ("a", "b")],
        (X, torch.zeros(2, 5)),
        [X],
    ):
        assert torch.equal(recorder.record([batch])["0"], X)
    Pair = namedtuple("Pair", ["image", "label"])
    assert torch.equal(recorder.record([Pair(X, torch.zeros(2))])["0"], X)


def test_dict_batches_and_a_forward_without_visible_names():
    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            self.act = nn.Identity()

        def forward(self, x, mask):
            return self.act(x * mask)

    def wrapper(forward):
        return lambda *args, **kwargs: forward(*args, **kwargs)  # noqa: PLW0108  it hides the names

    class Keywords(Masked):
        def forward(self, **batch):
            return super().forward(**batch)

    class Wrapped(Masked):
        forward = wrapper(Masked.forward)

    batch = {"x": X, "mask": torch.zeros(2, 1, 1, 1)}
    for kind in (Masked, Keywords, Wrapped):
        assert fl.ActivationRecorder(kind(), "act").record([batch])["act"].abs().sum() == 0
    named = fl.ActivationRecorder(Masked(), "act").record([{"mask": batch["mask"], "image": X, "label": 1}])
    assert named["act"].abs().sum() == 0, "one input, one argument that is missing"
    with pytest.raises(ValueError, match="which item of the batch"):
        fl.ActivationRecorder(Masked(), "act").record([{"mask": X, "other": X}])
    pair = fl.ActivationRecorder(Masked(), "act").record([(batch, torch.zeros(2))])
    assert pair["act"].abs().sum() == 0, "a dict and labels"

    class Whole(nn.Module):
        def forward(self, batch):
            return batch["image"]

    with pytest.raises(ValueError, match="which item of the batch"):
        fl.ActivationRecorder(Whole(), "").record([{"image": X, "label": 1}])


class Plain:
    def __init__(self, x):
        self.x, self.note = x, "text"


class Frozen(Mapping):
    """An immutable mapping around a dict."""

    __slots__ = ("_items",)

    def __init__(self, items):
        object.__setattr__(self, "_items", items)

    def __setattr__(self, name, value):
        raise AttributeError(name)

    def __getstate__(self):
        return self._items

    def __setstate__(self, state):
        object.__setattr__(self, "_items", state)

    def __getitem__(self, key):
        return self._items[key]

    def __iter__(self):
        return iter(self._items)

    def __len__(self):
        return len(self._items)


class Own(tuple):
    def __new__(cls, one, two):
        return super().__new__(cls, (one, two))


@dataclass(frozen=True, slots=True)
class Slotted:
    x: torch.Tensor


class Wraps(collections.UserDict):
    pass


def looped(x):
    value = [x]
    value.append(value)
    return value


OUTPUTS = {
    "object": (Plain, lambda value: value.x),
    "namespace": (lambda x: types.SimpleNamespace(x=x), lambda value: value.x),
    "deque": (lambda x: collections.deque([x], maxlen=3), lambda value: value[0]),
    "set": (lambda x: {x}, lambda value: next(iter(value))),
    "user dict": (lambda x: Wraps(x=x), lambda value: value["x"]),
    "immutable mapping": (lambda x: Frozen({"x": x}), lambda value: value["x"]),
    "proxy": (lambda x: types.MappingProxyType({"x": x}), lambda value: value["x"]),
    "tuple with its own new": (lambda x: Own(x, [x]), lambda value: value[1][0]),
    "frozen with slots": (Slotted, lambda value: value.x),
    "nested": (lambda x: {"a": [Plain((x,))]}, lambda value: value["a"][0].x[0]),
    "in itself": (looped, lambda value: value[1][1][0]),
    "return type": (lambda x: x.max(1), lambda value: value.values),
}


class Returns(nn.Module):
    def __init__(self, make, take):
        super().__init__()
        self.layer = nn.Module()
        self.layer.forward = lambda x: make(x * 1)
        self.take = take

    def forward(self, x):
        y = self.take(self.layer(x))
        y.add_(1)  # in place: what was recorded must not change
        return y


@pytest.mark.parametrize("kind", OUTPUTS)
def test_outputs_of_any_kind_are_copied_and_the_model_goes_on_with_its_own(kind):
    make, take = OUTPUTS[kind]
    model, x = Returns(make, take), torch.rand(2, 3, 4, 4)
    expected = model(x)
    acts = fl.ActivationRecorder(model, "layer")(x)
    assert type(acts["layer"]) is type(make(x))
    assert torch.equal(take(acts["layer"]), take(make(x * 1)))
    assert torch.equal(acts.output, expected)
    with pytest.raises(RuntimeError, match="was recorded with clone=False and then changed in place"):
        fl.ActivationRecorder(model, "layer", clone=False)(x)
    if kind not in {"in itself", "return type"}:  # the mean of indices is none
        reduced = fl.ActivationRecorder(model, "layer", reduce="max")(x)
        assert torch.equal(reduced.output, expected)
        assert take(reduced["layer"]).shape == (2, 3)


def test_an_output_that_cannot_be_copied_names_reduce():
    model = Returns(lambda x: (part for part in [x]), next)
    with pytest.raises(
        RuntimeError, match=r"object of type generator, which cannot be kept: .*reduce={'layer': f"
    ):
        fl.ActivationRecorder(model, "layer")(torch.rand(2, 3))


class Aliased(nn.Module):
    """Writes to one tensor and reads it through others."""

    def __init__(self):
        super().__init__()
        memory = torch.zeros(6)
        self.register_buffer("kv", memory)
        self.register_buffer("view", memory[:2])
        self.banks = [memory, {"deep": (torch.zeros(2),)}]
        self.helper = Helper()
        self.helper.state = torch.zeros(2)
        self.register_buffer("numpy", torch.from_numpy(np.zeros(2, dtype=np.float32)))
        self.act = nn.Identity()

    def forward(self, x):
        self.kv.fill_(4)
        self.banks[1]["deep"][0].add_(1)
        self.helper.state += 1
        self.helper.seen = True
        self.numpy.add_(1)
        return self.act(
            self.view + self.banks[0][:2] + self.banks[1]["deep"][0] + self.helper.state + self.numpy
        )


def test_tensors_that_share_memory_share_it_in_the_copy_and_nested_ones_come_back():
    model = Aliased()
    before = snapshot(model)
    addresses = [t.data_ptr() for t in (model.kv, model.view, model.banks[0])]
    for _ in range(2):
        assert fl.ActivationRecorder(model, "act")(X)["act"].tolist() == [11, 11]
    assert snapshot(model) == before
    assert [t.data_ptr() for t in (model.kv, model.view, model.banks[0])] == addresses
    assert model.banks[1]["deep"][0].tolist() == [0, 0]
    assert vars(model.helper).keys() == {"state"}
    assert model.helper.state.tolist() == [0, 0]
    assert model.view.data_ptr() == model.kv.data_ptr()


def test_large_buffers_are_copied_only_where_they_are_written_to():
    class Large(nn.Module):
        def __init__(self, writes):
            super().__init__()
            self.register_buffer("big", torch.rand(2**19))
            self.act, self.writes = nn.Identity(), writes

        def forward(self, x):
            if self.writes:
                self.big.mul_(2)
            return self.act(self.big)

    for writes in (False, True):
        model = Large(writes)
        before, address = model.big.clone(), model.big.data_ptr()
        for clone in (True, False):
            acts = fl.ActivationRecorder(model, "act", clone=clone)(X)
            assert torch.equal(model.big, before)
            assert model.big.data_ptr() == address
            with torch.no_grad():
                model.big.add_(1)  # the model's own again: this does not reach what was recorded
            assert torch.equal(acts["act"], before * 2 if writes else before)
            model.big.copy_(before)


@pytest.mark.changes_model
def test_large_buffers_stay_where_they_are_whoever_keeps_their_copies():
    class Tables(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("two", torch.rand(2**19))
            self.register_buffer("part", self.two[:5])
            self.register_buffer("one", torch.rand(2**19))
            self.register_buffer("three", torch.rand(2**19))
            self.act = nn.Identity()

        def forward(self, x):
            return self.act(x), self.one, self.two[3:], self.part, self.three

    model = Tables()
    before = {name: (buffer.data_ptr(), buffer.clone()) for name, buffer in model.named_buffers()}
    recorder = fl.ActivationRecorder(model, "act")
    for keeps in (False, True):
        with recorder:
            kept = model(X) if keeps else len(model(X))
        assert {name: buffer.data_ptr() for name, buffer in model.named_buffers()} == {
            name: address for name, (address, _) in before.items()
        }
        if keeps:
            model.one.zero_()  # which does not reach what the user holds
            model.two.zero_()
            assert torch.equal(kept[1], before["one"][1])
            assert torch.equal(kept[2], before["two"][1][3:])
            assert torch.equal(kept[3], before["part"][1])


@pytest.mark.parametrize("stop_early", [False, True])
def test_a_bare_except_does_not_make_another_branch(stop_early):
    class Fallback(nn.Module):
        def __init__(self):
            super().__init__()
            self.fast, self.slow = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)

        def forward(self, x):
            try:
                return self.fast(x)
            except:  # noqa: E722
                return self.slow(x)

    class Retries(Fallback):
        def forward(self, x):
            for _ in range(3):
                try:
                    return self.fast(x).relu()
                except:  # noqa: E722, S112
                    continue
            raise RuntimeError("gave up")

    for kind in (Fallback, Retries):
        model = seeded(kind).eval()
        recorder = fl.ActivationRecorder(model, "fast#1", stop_early=stop_early)
        for acts in (recorder(X), recorder(X), recorder.record([X, X])):
            assert list(acts) == ["fast#1"]
            assert torch.equal(acts["fast#1"][:2], model.fast(X))
            assert acts.output is None or torch.equal(acts.output[:2], model(X))
        whole = fl.ActivationRecorder(model, "fast", stop_early=stop_early)
        assert [list(whole(X)) for _ in range(3)] == [["fast"]] * 3


class Detection(nn.Module):
    """Takes a list of images of several sizes."""

    def __init__(self):
        super().__init__()
        self.head, self.colours = nn.Linear(3, 4), nn.Identity()

    def forward(self, pictures):
        return self.head(torch.stack([picture.mean((1, 2)) for picture in pictures]))


def test_a_list_of_images_has_as_many_rows_as_images():
    batches = [
        ([torch.rand(3, 5, 6), torch.rand(3, 7, 8)], ["a", "b"]),
        ([torch.rand(3, 4, 4)] * 3, ["c"] * 3),
    ]
    acts = fl.ActivationRecorder(Detection(), "head").record(batches)
    assert acts["head"].shape == (5, 4)
    found = fl.ActivationRecorder(Detection(), "head").stream(
        [pair[:1] for pair in batches], fl.statistics.Moments()
    )
    assert found.rows == 5
    model = nn.Module()
    model.act, model.forward = nn.Identity(), lambda pair: model.act(pair[0])
    recorder, pairs = fl.ActivationRecorder(model, "act"), [((torch.rand(5, 2), torch.rand(5, 2)), "label")]
    with pytest.raises(ValueError, match=r"how many rows has the input .*pass rows=lambda batch:"):
        recorder.record(pairs)
    assert len(recorder.record(pairs, rows=lambda batch: 5)["act"]) == 5


def test_time_first_sequences_ask():
    recurrent = nn.LSTM(3, 4)
    batch = torch.rand(7, 2, 3)
    with pytest.raises(
        ValueError, match=r"axis 0 of the input .* may be time, as layer '' has batch_first=False"
    ):
        fl.ActivationRecorder(recurrent, "").record([batch])
    with pytest.raises(ValueError, match=r"layer '' returned .* whose axis 0 is time"):
        fl.ActivationRecorder(recurrent, "").record([batch], rows=lambda batch: 2)
    last = fl.ActivationRecorder(recurrent, "", reduce=lambda out: out[0][-1])
    assert last.record([batch, batch], rows=lambda batch: 2)[""].shape == (4, 4)


def test_nested_tensors():
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The PyTorch API of nested tensors is in prototype")
        encoder = nn.TransformerEncoder(layer, 2).eval()
        tokens, mask = torch.rand(3, 5, 8), torch.tensor([[0] * 5, [0] * 4 + [1], [0] * 3 + [1] * 2]).bool()
        table = fl.list_layers(encoder, tokens, src_key_padding_mask=mask)
    assert "nested" in str(table)
    recorder = fl.ActivationRecorder(encoder, "layers.0")
    batch = {"src": tokens, "src_key_padding_mask": mask}
    acts = recorder.record([batch, batch])
    assert acts["layers.0"].is_nested
    assert acts["layers.0"].size(0) == 6
    assert "nested" in repr(acts)
    with pytest.raises(ValueError, match=r"nested tensor\): choose what to keep .*to_padded_tensor"):
        fl.ActivationRecorder(encoder, "layers.0", reduce="mean")(**batch)


def test_a_scripted_model_is_told():
    model = scripted(nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU()))
    for layer in ("0", ""):
        with pytest.raises(
            TypeError, match=f"layer '{layer}' is scripted, and hooks do not run in scripted code"
        ):
            fl.ActivationRecorder(model, layer)(X)


def test_checkpointing_does_not_make_a_second_call():
    class Checkpointed(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)

        def forward(self, x):
            return torch.utils.checkpoint.checkpoint(lambda x: self.b(self.a(x)), x, use_reentrant=False)

    model = Checkpointed()
    with fl.ActivationRecorder(model, "a", detach=False) as acts:
        output = model(X.clone().requires_grad_())
        torch.autograd.grad(output.sum(), model.b.weight)
        assert list(acts) == ["a"]


def test_small_words(tmp_path):
    recurrent = nn.LSTM(3, 4, batch_first=True)
    with pytest.raises(ValueError, match=r"lambda z: z\[0\]\.mean\(1\)} for the features"):
        fl.ActivationRecorder(recurrent, "", reduce="mean")(torch.rand(2, 5, 3))
    mask = torch.zeros(2, 3).masked_fill(torch.eye(2, 3).bool(), -torch.inf)
    fl.ActivationRecorder(nn.Sequential(nn.Identity()), "0")(mask)  # no warning

    class Around(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 2)

        def forward(self, x):
            return self.layer.forward(x)

    with pytest.raises(
        LookupError, match=r"never called .* or called as layer\.forward\(x\), which hooks do not see"
    ):
        fl.ActivationRecorder(Around(), "layer")(torch.rand(2, 3))

    class Cached(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 2)

        def forward(self, x):
            cache = Helper()
            cache.keys, cache.kind, cache.make = [x], torch.float32, lambda: 0
            return {"logits": self.layer(x), "cache": cache}

    acts = fl.ActivationRecorder(Cached(), "layer")(torch.ones(2, 3))
    acts.save(tmp_path / "acts.pt")
    loaded = fl.Activations.load(tmp_path / "acts.pt")
    assert torch.equal(loaded.output["cache"]["keys"][0], torch.ones(2, 3))
    compiled = nn.Sequential(torch.compile(nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU()), backend="eager"))
    assert fl.list_layers(compiled).names == ("0", "0.0", "0.1")
    assert list(fl.ActivationRecorder(compiled, ["conv_1", "0"])(X)) == ["0.0", "0"]


def test_an_output_of_a_data_set_joins_what_has_rows():
    class Losses(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 4)

        def forward(self, x):
            y = self.layer(x)
            return {"loss": y.sum(), "logits": y, "table": torch.eye(2)}

    batches = [torch.rand(3, 3), torch.rand(4, 3)]
    acts = fl.ActivationRecorder(Losses(), "layer").record(batches)
    assert torch.equal(acts.output["logits"], acts["layer"])
    assert [loss.ndim for loss in acts.output["loss"]] == [0, 0]
    assert [table.shape for table in acts.output["table"]] == [(2, 2), (2, 2)]


class Touchy:
    """Fails when anybody looks at an attribute that it does not have."""

    def __getattr__(self, name):
        raise (AttributeError if name.startswith("__") else RuntimeError)(f"hands off {name}")


TOUCHY = Touchy()


def test_looking_for_what_holds_placeholders_or_state_runs_no_code_of_the_users():
    model = seeded(Caches)
    model.touchy = TOUCHY
    with torch.no_grad():
        tapped = fl.insert_extractors(model, "a").eval()
    assert torch.equal(tapped(X), fl.ActivationRecorder(model, "")(X).output)
