"""Models made to mislead: state that the output shares, calls that a trace would miss, rewrites that would be stale."""

import pickle
import threading
import weakref
from collections import deque
from types import MethodType, SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import featurelens as fl
from tests.nets import images, plain, scripted, seeded
from tests.state import snapshot

both_backends = pytest.mark.parametrize("backend", ["hooks", "rewrite"])


class Calls(nn.Module):
    """Calls `act` as often as `decide` says."""

    def __init__(self, decide):
        super().__init__()
        self.act, self.head = nn.Tanh(), nn.Linear(8, 2)
        self.decide = decide
        self.settings = {"n": 2, "more": [1, SimpleNamespace(n=1)]}
        self.register_buffer("count", torch.tensor(2))

    def forward(self, x):
        for _ in range(self.decide(self, x)):
            x = self.act(x)
        return self.head(x)


def number_if_possible(self, x):
    try:
        return int(x.shape[0])
    except Exception:  # noqa: BLE001
        return 1


DECISIONS = {
    "isinstance": lambda self, x: 2 if isinstance(x, torch.Tensor) else 1,
    "is_tensor": lambda self, x: 3 if torch.is_tensor(x) else 1,
    "swallowed": number_if_possible,
    "random": lambda self, x: 1 + int(torch.rand(()) < 0.5),
    "buffer": lambda self, x: int(self.count),
}


@pytest.mark.parametrize("kind", DECISIONS)
def test_no_call_is_lost_to_an_early_stop(kind):
    model = seeded(lambda: Calls(DECISIONS[kind]))
    recorder = fl.ActivationRecorder(model, "act", training="keep")
    for seed in range(8):
        ran = []
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            handle = model.act.register_forward_hook(lambda *_, ran=ran: ran.append(1))
            with torch.no_grad():
                model(images())
            handle.remove()
            torch.manual_seed(seed)
            assert len(recorder(images())) == len(ran)


def test_no_call_is_lost_where_forward_asks_for_a_type():
    class Asks(Calls):
        def forward(self, x):
            for _ in range(2 if type(x) is torch.Tensor else 1):
                x = self.act(x)
            return self.head(x)

    assert len(fl.ActivationRecorder(Asks(None), "act")(images())) == 2


@pytest.mark.changes_model
def test_no_call_is_lost_when_settings_change_between_calls():
    model = seeded(lambda: Calls(lambda self, x: self.settings["n"] + self.settings["more"][1].n))
    recorder = fl.ActivationRecorder(model, "act")
    assert len(recorder(images())) == 3
    model.settings["n"] = 4
    assert len(recorder(images())) == 5
    model.settings["more"][1].n = -1
    assert len(recorder(images())) == 3
    model.settings["more"][1].n = -2
    assert len(recorder(images())) == 2


def test_no_call_is_lost_inside_a_part_that_cannot_be_traced():
    class Loop(nn.Module):
        def __init__(self, act):
            super().__init__()
            self.act = act

        def forward(self, x):
            for _ in range(int(x.abs().sum() > 0) + 1):
                x = self.act(x)
            return x

    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.act = nn.Tanh()
            self.loop = Loop(self.act)

        def forward(self, x):
            return self.loop(self.act(x))

    assert len(fl.ActivationRecorder(Both(), "act")(images())) == 3


def test_a_forward_put_on_the_instance_is_not_traced_past():
    model = seeded(lambda: Calls(lambda self, x: 1))
    model.forward = MethodType(lambda self, x: self.head(self.act(self.act(x))), model)
    assert len(fl.ActivationRecorder(model, "act")(images())) == 2
    with pytest.raises(RuntimeError, match="its forward was replaced on the instance"):
        fl.ActivationRecorder(model, "act", backend="rewrite")


@pytest.mark.parametrize("kind", ["isinstance", "swallowed", "random", "buffer"])
def test_what_would_be_rewritten_wrongly_is_refused(kind):
    model = seeded(lambda: Calls(DECISIONS[kind]))
    with pytest.raises(RuntimeError, match="Calls cannot be rewritten"):
        fl.insert_extractors(model, "act")(images())
    with pytest.raises(RuntimeError, match="Calls cannot be rewritten"):
        fl.insert_extractors(model, "act", sample=images())


class Stateful(nn.Module):
    """Returns its own buffer, and multiplies by another that it changes."""

    def __init__(self):
        super().__init__()
        self.identity = nn.Identity()
        self.linear = nn.Linear(2, 1, bias=False)
        self.register_buffer("total", torch.zeros(2))
        self.register_buffer("factor", torch.ones(2))

    def forward(self, x):
        self.total.add_(x.detach().sum(0))
        self.factor.mul_(5)
        return self.identity(self.total) + 0 * self.linear(x * self.factor).sum()


@pytest.mark.parametrize("clone", [True, False])
def test_an_output_that_is_a_buffer_survives_the_guard(clone):
    model, x = seeded(Stateful), torch.ones(3, 2)
    before = snapshot(model)
    acts = fl.ActivationRecorder(model, "identity", clone=clone, stop_early=False)(x)
    assert acts["identity"].tolist() == [3, 3]
    with fl.ActivationRecorder(model, "identity", clone=clone) as acts:
        output = model(x)
    assert output.tolist() == [3, 3]
    assert acts["identity"].tolist() == [3, 3]
    assert snapshot(model) == before


def test_gradients_through_a_changed_buffer_are_right():
    model = seeded(Stateful)
    x = torch.ones(1, 2, requires_grad=True)
    acts = fl.ActivationRecorder(model, "linear", detach=False)(x)
    (gradient,) = torch.autograd.grad(acts["linear"].sum(), x)
    assert torch.allclose(gradient, 5 * model.linear.weight)


def test_buffers_are_not_frozen_into_a_rewritten_model():
    class Scale(nn.Module):
        def __init__(self, scale):
            super().__init__()
            self.register_buffer("scale", torch.tensor(scale))
            self.act = nn.Identity()

        def forward(self, x):
            return self.act(x) * (self.scale + 1).reshape(1)

    tapped = fl.insert_extractors(Scale(1.0), "act")
    tapped.load_state_dict(Scale(4.0).state_dict())
    assert tapped(torch.ones(1)).item() == 5
    assert tapped.double()(torch.ones(1, dtype=torch.float64)).dtype is torch.float64


@pytest.mark.changes_model
def test_a_rewritten_recorder_follows_the_model():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale, self.settings, self.act = torch.tensor(2.0), {"a": 1.0}, nn.Identity()

        def forward(self, x):
            return self.act(x * self.scale + self.settings["a"])

    model = Scaled()
    recorder = fl.ActivationRecorder(model, "act", backend="rewrite")
    assert recorder(torch.ones(1))["act"].item() == 3
    model.scale = torch.tensor(7.0)
    assert recorder(torch.ones(1))["act"].item() == 8
    model.settings["a"] = 5.0
    assert recorder(torch.ones(1))["act"].item() == 12


@pytest.mark.changes_model
def test_hooks_of_the_users_run_in_a_rewritten_copy_and_never_see_a_placeholder():
    model = nn.Sequential(nn.Sequential(nn.Conv2d(1, 1, 1), nn.ReLU()), nn.Flatten())
    model.register_forward_pre_hook(lambda module, args: (args[0] * 2,))
    seen = []
    model[0].register_forward_hook(lambda module, args, output: seen.append(type(output)))
    tapped = fl.insert_extractors(model, "0")
    assert torch.equal(tapped(images()), model(images()))
    fl.ActivationRecorder(model, "0.0")(images())
    fl.ActivationRecorder(model, "0", backend="rewrite")(images())
    assert set(seen) == {torch.Tensor}


def test_a_frozen_part_stays_frozen_in_a_rewritten_copy():
    class Drops(nn.Module):
        def forward(self, x):
            return F.dropout(x, 0.5, self.training)

    model = nn.Sequential(Drops(), nn.Identity()).train()
    model[0].eval()
    assert torch.equal(fl.insert_extractors(model, "1")(images()), images())


def test_an_instance_selects_in_the_copy_too():
    model = plain()
    assert list(fl.insert_extractors(model, model[3]).extractors) == ["3"]


@both_backends
def test_gradients_reach_what_an_extractor_or_a_block_keeps(backend):
    model = seeded(
        lambda: nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(72, 3))
    ).eval()
    with fl.ActivationRecorder(model, "0", backend=backend, detach=False) as acts:
        output = model(images())
    (gradient,) = torch.autograd.grad(output[:, 1].sum(), acts["0"])
    assert gradient.abs().sum() > 0
    tapped = fl.insert_extractors(model, "conv_1")
    feature_gradient = torch.autograd.grad(tapped(images())[:, 1].sum(), tapped.extractors["conv_1"].feature)[
        0
    ]
    assert torch.equal(gradient, feature_gradient)


def test_kinds_of_tensors_that_have_no_address():
    class Graph(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(3, 2)
            self.register_buffer("edges", torch.eye(3).to_sparse())

        def forward(self, x):
            return self.linear(self.edges @ x)

    assert fl.ActivationRecorder(Graph(), "linear")(torch.rand(3, 3))["linear"].shape == (3, 2)
    meta = fl.list_layers(nn.Sequential(nn.BatchNorm1d(3)).to("meta"), torch.rand(2, 3, device="meta"))
    assert meta[0].shape == (2, 3)


def test_a_block_guards_parts_that_are_called_by_themselves():
    model = plain().train()
    before = snapshot(model)
    with fl.ActivationRecorder(model, "norm_1", training="keep") as acts:
        model[4](torch.rand(2, 6, 4, 4))
        model.note = "gone when the block ends"
    assert acts["norm_1"].shape == (2, 6, 4, 4)
    assert snapshot(model) == before


@both_backends
def test_a_recorder_may_be_called_inside_a_block(backend):
    model = plain()
    before = snapshot(model)
    outer, inner = (fl.ActivationRecorder(model, name, backend="hooks") for name in ("0", "3"))
    with outer as acts:
        model(images())
        assert list(inner(images())) == ["3"]
    assert len(acts) == 2
    assert snapshot(model) == before
    same = fl.ActivationRecorder(model, "0", backend=backend)
    with same, pytest.raises(RuntimeError, match="this recorder is already recording"):
        model(images())
        same(images())
    assert snapshot(model) == before


def test_threads_take_turns():
    model = plain()
    before = snapshot(model)
    expected = fl.ActivationRecorder(model, "3")(images())["3"]
    wrong = []

    def work():
        for _ in range(10):
            acts = fl.ActivationRecorder(model, "3")(images())
            if list(acts) != ["3"] or not torch.equal(acts["3"], expected):
                wrong.append(acts)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert snapshot(model) == before


def test_arguments_of_all_kinds():
    class Keywords(nn.Module):
        def __init__(self):
            super().__init__()
            self.act = nn.Identity()

        def forward(self, ids, x=None, x_1=None, bad=float("nan")):
            x = ids if x is None else x
            return self.act(x if x_1 is None else x + x_1)

    class Rest(Keywords):
        def forward(self, ids, **rest):
            return self.act(ids * rest["mask"] if "mask" in rest else ids)

    model, ones = Keywords(), torch.ones(2)
    for backend in ("hooks", "rewrite"):
        acts = fl.ActivationRecorder(model, "act", backend=backend)(ones, x_1=ones)
        assert acts["act"].tolist() == [2, 2]
    model = Rest()
    recorded = fl.ActivationRecorder(model, "act").record([{"ids": ones, "mask": torch.zeros(2)}])
    assert recorded["act"].tolist() == [0, 0]


@pytest.mark.changes_model  # the test sets the mode
def test_a_scripted_part_is_run_in_eval_mode_and_given_back():
    script = scripted(nn.Sequential(nn.Dropout(0.5)))
    model = nn.Sequential(nn.Identity(), script, nn.Identity()).train()
    acts = fl.ActivationRecorder(model, "2")(images())
    assert torch.equal(acts["2"], images())
    assert script.training
    model.eval()
    assert not script.training


def test_containers_among_attributes_are_given_back():
    class Keeps(nn.Module):
        def __init__(self):
            super().__init__()
            self.act, self.recent, self.seen = nn.Identity(), deque(maxlen=2), set()

        def forward(self, x):
            self.recent.append(1)
            self.seen.add(2)
            return self.act(x)

    model = Keeps()
    fl.ActivationRecorder(model, "act", stop_early=False)(images())
    assert (list(model.recent), model.seen) == ([], set())


@pytest.mark.changes_model  # the test's own hook
def test_what_is_kept_in_memory():
    class Big(nn.Module):
        def __init__(self):
            super().__init__()
            self.act = nn.Identity()

        def forward(self, x):
            return self.act(x)

    model = Big()
    made = []
    handle = model.act.register_forward_hook(lambda module, args, output: made.append(weakref.ref(output)))
    acts = fl.ActivationRecorder(model, "act", stop_early=False).record([images() for _ in range(3)])
    handle.remove()
    assert acts.output.shape == acts["act"].shape
    del acts
    assert all(reference() is None for reference in made)
    with pytest.raises(ZeroDivisionError), fl.ActivationRecorder(model, "act") as acts:
        model(images())
        1 / 0  # noqa: B018
    assert pickle.loads(pickle.dumps(acts))["act"].shape == (4, 1, 8, 8), "nothing of the recording hangs on"


def test_messages():
    model = plain()
    for wrong in ({"detach": "no"}, {"clone": 1}, {"stop_early": 3}):
        with pytest.raises(TypeError, match=f"{next(iter(wrong))} must be True or False; got"):
            fl.ActivationRecorder(model, "0", **wrong)
    with pytest.raises(
        RuntimeError,
        match=r"reduce failed on layer '0': TypeError: it must return a tensor or a structure of tensors; got None",
    ):
        fl.ActivationRecorder(model, "0", reduce=lambda maps: None)(images())
    with pytest.raises(
        TypeError, match=r"a predicate is called as predicate\(name, module\); relu fails \(TypeError: "
    ):
        fl.ActivationRecorder(model, F.relu)
    with pytest.raises(ValueError, match="is not initialized yet"):
        fl.list_layers(nn.Sequential(nn.LazyLinear(2)), images())
    acts = fl.ActivationRecorder(model, "0")(images())
    with pytest.raises(KeyError, match="activations are looked up by layer name; got 0"):
        acts[0]
    named = nn.ModuleDict({"a": nn.Identity(), "a#1": nn.Identity()})
    with pytest.raises(ValueError, match="the name of layer 'a#1' looks like a call of layer 'a'"):
        fl.ActivationRecorder(named, ["a", "a#1"])


def test_files_that_cannot_be_read_or_written(tmp_path):
    (tmp_path / "text.pt").write_text("hello")
    torch.save({"weights": 1}, tmp_path / "other.pt")
    for name in ("text.pt", "other.pt"):
        with pytest.raises(ValueError, match=rf"{name} was not written by Activations\.save"):
            fl.Activations.load(tmp_path / name)
    with pytest.raises(
        TypeError, match="activations with an object of type function in them cannot be saved"
    ):
        fl.Activations({"a": [lambda: 0]}).save(tmp_path / "a.pt")


class Gone:
    """What a weak proxy stood for."""


PROXIES = [weakref.proxy(Gone())]  # its object is no more: even isinstance raises


class HoldsProxy(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Conv2d(1, 2, 3), nn.ReLU())
        self.proxies = [*PROXIES]


@pytest.mark.parametrize("backend", ["hooks", "rewrite"])
def test_weak_proxies_of_objects_that_are_gone_do_no_harm(backend):
    model, images = HoldsProxy().eval(), torch.rand(2, 1, 6, 6)
    acts = fl.ActivationRecorder(model, "1", backend=backend)(images)
    assert torch.equal(acts["1"], model(images))
    fl.DeconvDecoder(model, "1")  # which traces, too


def test_a_generator_that_comes_up_while_a_model_runs_does_not_mix_up_the_others(monkeypatch):
    """CUDA has a state once it is initialized; on other machines MPS comes after it in the list."""
    initialized, written = [], {"cuda": None, "mps": None}
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: bool(initialized))
    monkeypatch.setattr(torch.cuda, "get_rng_state_all", lambda: "of cuda")
    monkeypatch.setattr(torch.cuda, "set_rng_state_all", lambda state: written.update(cuda=state))
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.mps, "get_rng_state", lambda: "of mps")
    monkeypatch.setattr(torch.mps, "set_rng_state", lambda state: written.update(mps=state))

    class Initializes(nn.Linear):
        def forward(self, x):
            initialized.append(True)
            return super().forward(x)

    fl.ActivationRecorder(Initializes(2, 2), "")(torch.rand(3, 2))
    assert written == {"cuda": None, "mps": "of mps"}
