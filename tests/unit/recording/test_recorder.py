"""What the recorder does when all is well, on both backends."""

import pytest
import torch
from torch import nn

import featurelens as fl
from tests.nets import Busy, InnerLoop, Nested, Pair, Reused, Unused, images, plain, seeded
from tests.state import random_state, snapshot

both_backends = pytest.mark.parametrize("backend", ["hooks", "rewrite"])


def by_hand(model, x, names):
    """The slow and obvious way: one hook for each layer, one full forward, copies of everything."""
    found = {}
    handles = [
        model.get_submodule(name).register_forward_hook(
            lambda module, args, output, name=name: found.setdefault(name, []).append(output.clone())
        )
        for name in names
    ]
    flags = [(module, module.training) for module in model.modules()]
    model.eval()
    with torch.no_grad():
        output = model(x)
    for handle in handles:
        handle.remove()
    for module, training in flags:
        module.training = training
    return found, output


@both_backends
def test_one_batch_equals_hooks_by_hand(backend):
    model = plain()
    acts = fl.ActivationRecorder(model, ["conv_2", "norm_1", "8"], backend=backend)(images())
    expected, output = by_hand(model, images(), ["3", "4", "8"])
    assert list(acts) == ["3", "4", "8"]
    for name in acts:
        assert torch.equal(acts[name], expected[name][0])
    assert torch.equal(acts["conv_2"], acts["3"])
    assert torch.equal(acts.output, output)


@both_backends
def test_every_call_of_a_reused_module_is_there(backend):
    model = seeded(Reused)
    acts = fl.ActivationRecorder(model, ["act", "fc"], backend=backend)(images())
    expected, _ = by_hand(model, images(), ["act", "fc"])
    assert list(acts) == ["act#1", "act#2", "act#3", "fc"]
    for call in (1, 2, 3):
        assert torch.equal(acts[f"act#{call}"], expected["act"][call - 1])
    one = fl.ActivationRecorder(model, ["act#2"], backend=backend)(images())
    assert list(one) == ["act#2"]
    assert torch.equal(one["act#2"], expected["act"][1])
    with pytest.raises(KeyError, match="3 calls were recorded of layer 'act': act#1, act#2, act#3"):
        acts["act"]


@both_backends
def test_a_data_set_is_joined_in_order(backend):
    model = plain()
    whole = images(10)
    recorder = fl.ActivationRecorder(model, ["conv_2", "8"], backend=backend)
    expected, output = by_hand(model, whole, ["3", "8"])
    labels = torch.arange(10)
    loaders = {
        "tensors": whole.split(4),
        "tuples": zip(whole.split(4), labels.split(4), strict=True),
        "dicts by parameter": [{"input": part} for part in whole.split(4)],
        "dicts by usual name": [{"image": part, "label": 0} for part in whole.split(4)],
        "DataLoader": torch.utils.data.DataLoader(
            torch.utils.data.TensorDataset(whole, labels), batch_size=4
        ),
    }
    for kind, loader in loaders.items():
        acts = recorder.record(loader, progress=False)
        assert torch.allclose(acts["3"], expected["3"][0], atol=1e-6), kind
        assert torch.allclose(acts["conv_2"], acts["3"])
    acts = recorder.record([{"a": whole, "b": 1}], inputs=lambda batch: batch["a"])
    assert torch.equal(acts["8"], expected["8"][0])
    acts = recorder.record([whole], inputs=lambda batch: {"input": batch})
    assert torch.equal(acts["8"], expected["8"][0])
    assert torch.allclose(acts.output, output, atol=1e-6)


@both_backends
def test_around_the_users_own_forward(backend):
    model = plain()
    expected, _ = by_hand(model, images(), ["3"])
    with fl.ActivationRecorder(model, "conv_2", backend=backend) as acts:
        logits = model(images())
        assert torch.equal(acts["3"], expected["3"][0]), "there while the block is open"
        assert not model.training
    assert torch.equal(acts["conv_2"], expected["3"][0])
    assert torch.equal(acts.output, logits)
    assert logits.requires_grad, "the user's own gradients are not switched off"
    assert model.training


def test_a_block_keeps_every_forward_in_it():
    model = plain()
    with fl.ActivationRecorder(model, "0") as acts:
        model(images(2))
        model(images(3))
    assert {name: len(value) for name, value in acts.items()} == {"0#1": 2, "0#2": 3}


def test_a_block_leaves_random_numbers_drawn():
    model = plain()
    with fl.ActivationRecorder(model, "dropout_1", training="keep") as acts:
        for _ in range(3):
            model(images())
    assert not torch.equal(acts["6#1"], acts["6#2"]), "Monte-Carlo dropout draws anew for every forward"
    torch.manual_seed(0)
    with fl.ActivationRecorder(model, "0"):
        first = torch.rand(1)
        model(images())
    assert not torch.equal(torch.rand(1), first)


def test_one_tensor_is_a_data_set_of_one_batch():
    recorder = fl.ActivationRecorder(plain(), "0")
    assert torch.equal(recorder.record(images())["0"], recorder(images())["0"])
    moments, whole = (
        recorder.stream(loader, fl.statistics.Moments())["0"].moments for loader in (images(), [images()])
    )
    assert torch.equal(moments.mean, whole.mean)


@both_backends
@pytest.mark.parametrize(
    ("reduce", "shape"),
    [
        ("mean", (4, 6)),
        ("max", (4, 6)),
        (lambda maps: maps[:, :2], (4, 2, 4, 4)),
        ({"conv_2": "max"}, (4, 6)),
        ({"8": "max"}, (4, 6, 4, 4)),
        ({"conv_2#1": "max"}, (4, 6)),
    ],
)
def test_reductions(backend, reduce, shape):
    model = plain()
    full = fl.ActivationRecorder(model, ["conv_2", "8"])(images())
    acts = fl.ActivationRecorder(model, ["conv_2", "8"], backend=backend, reduce=reduce)(images())
    assert acts["conv_2"].shape == shape
    assert torch.equal(acts["8"], full["8"]) or callable(reduce)
    if shape == (4, 6):
        way = full["3"].mean((2, 3)) if reduce == "mean" else full["3"].amax((2, 3))
        assert torch.equal(acts["3"], way)


def test_a_reduction_may_return_a_view_without_being_changed_later():
    model = plain()
    acts = fl.ActivationRecorder(model, "conv_1", reduce=lambda maps: maps[:, 0], stop_early=False)(images())
    assert acts["0"].min() < 0, "the in-place ReLU behind the layer did not reach it"


@both_backends
def test_nested_outputs_keep_their_structure(backend):
    model = seeded(Nested)
    x = torch.rand(3, 2, 1, 8)
    acts = fl.ActivationRecorder(model, ["lstm", "dict", "named", "data"], backend=backend)(x)
    out, (h, c) = acts["lstm"]
    assert (out.shape, h.shape, c.shape) == ((3, 2, 5), (1, 3, 5), (1, 3, 5))
    assert list(acts["dict"]) == ["a", "b", "note", "none"]
    assert torch.equal(acts["dict"]["b"][1], acts["dict"]["a"] + 2)
    assert type(acts["named"]) is Pair
    assert torch.equal(acts["data"].scores[0], acts["data"].boxes.sum(1))
    joined = fl.ActivationRecorder(model, ["named", "data"], backend=backend).record([x, x])
    assert joined["named"].right.shape == (6, 2, 5)


@both_backends
def test_gradients_flow_through_what_is_recorded(backend):
    model = plain()
    x = images().requires_grad_()
    acts = fl.ActivationRecorder(model, ["conv_1", "8"], backend=backend, detach=False)(x)
    kept = model.eval()[0](x).detach().requires_grad_()
    by_hand = model[1:](kept.clone())[:, 0].sum()
    model.train()
    (gradient,) = torch.autograd.grad(acts["8"][:, 0].sum(), acts["0"], retain_graph=True)
    assert torch.allclose(gradient, torch.autograd.grad(by_hand, kept)[0]), "as Grad-CAM takes them"
    (gradient,) = torch.autograd.grad(acts["8"][:, 0].sum() + acts["0"].sum(), x)
    assert gradient.abs().sum() > 0
    assert acts["0"].min() < 0, "and the in-place ReLU behind it did not reach it"
    detached = fl.ActivationRecorder(model, ["conv_1"], backend=backend)(x)
    assert not detached["0"].requires_grad


def test_gradients_of_later_layers_reach_a_recorded_tensor_that_is_not_copied():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Tanh(), nn.Flatten(), nn.Linear(72, 3))
    acts = fl.ActivationRecorder(model, ["0", "3"], detach=False, clone=False)(images())
    (gradient,) = torch.autograd.grad(acts["3"].sum(), acts["0"])
    assert gradient.shape == acts["0"].shape


def test_dtype_and_device():
    model = plain()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = fl.ActivationRecorder(model, "conv_2")(images())
        acts = fl.ActivationRecorder(model, "conv_2", dtype=torch.float32, device="cpu")(images())
    assert low["3"].dtype is torch.bfloat16
    assert acts["3"].dtype is torch.float32
    acts["3"].numpy()


@both_backends
def test_keep_mode_runs_each_module_in_its_own_mode(backend):
    model = seeded(Unused)
    recorder = fl.ActivationRecorder(model, ["conv", "aux"], backend=backend, training="keep")
    assert list(recorder(images())) == ["conv", "aux"]
    model.eval()
    with pytest.raises(LookupError, match="layer 'aux' was never called"):
        recorder(images())
    model.train()  # as the fixture saw it


@pytest.mark.changes_model  # removes the test's own hook
@both_backends
def test_the_forward_stops_where_nothing_more_is_asked_for(backend):
    model = plain()
    ran = []
    handle = model[5].register_forward_hook(lambda *_: ran.append(1))
    recorder = fl.ActivationRecorder(model, "3", backend=backend, stop_early=True)
    first = recorder(images())["3"]  # a whole pass counts the calls, and a trace is compared with one more
    ran.clear()
    again = recorder(images())
    assert ran == []
    assert again.output is None
    assert torch.equal(first, again["3"])
    fl.ActivationRecorder(model, "3#1", stop_early=True)(images())
    assert ran == []
    recorder(images(2))  # another shape may mean other calls
    assert ran
    handle.remove()


def test_stopping_early_never_loses_a_call():
    # The number of calls depends on the data, so that no call can be known to be the last.
    model = seeded(InnerLoop)
    for seed in range(6):
        x = images(seed=seed)
        acts = fl.ActivationRecorder(model, ["stem", "loop.step"])(x)
        expected, _ = by_hand(model, x, ["loop.step"])
        assert len(acts) - 1 == len(expected["loop.step"])


def test_a_plan_made_before_a_change_of_the_model_is_not_used_after_it():
    class Steps(nn.Module):
        def __init__(self):
            super().__init__()
            self.steps, self.act, self.head = 2, nn.Tanh(), nn.Linear(8, 2)

        def forward(self, x):
            for _ in range(self.steps):
                x = self.act(x)
            return self.head(x)

    model = Steps()
    recorder = fl.ActivationRecorder(model, "act")
    assert len(recorder(images())) == 2
    model.steps = 4
    assert len(recorder(images())) == 4
    model.steps = 2


def test_arguments_left_to_their_defaults_decide_the_branch():
    model = seeded(Unused)
    recorder = fl.ActivationRecorder(model, "head", backend="rewrite", stop_early=False)
    x = images()
    plain_run, masked = recorder(x), recorder(x, torch.zeros(1))
    assert not torch.equal(plain_run["head"], masked["head"])
    assert torch.equal(masked["head"], fl.ActivationRecorder(model, "head")(x, mask=torch.zeros(1))["head"])


def test_operations_are_recorded_by_the_rewrite_backend():
    model = seeded(Reused)
    acts = fl.ActivationRecorder(model, ["conv1", "add", "relu", "sub*"], backend="rewrite")(images())
    assert list(acts) == ["conv1", "add", "relu", "sub", "sub_1"]
    x = torch.relu(model.conv1(images()))
    assert torch.equal(acts["add"], model.conv2(x) + x)
    assert torch.equal(acts["sub_1"], acts["relu"] - 0.1)


def test_a_name_that_means_a_layer_and_an_operation_is_told_apart():
    model = seeded(Reused)  # its nn.ReLU is relu_1 by alias, its second F.relu by the graph
    with pytest.raises(
        LookupError, match=r"'relu_1' is both an operation .* use 'act' for the layer, or .* '\[r\]elu_1'"
    ):
        fl.ActivationRecorder(model, "relu_1", backend="rewrite")
    acts = fl.ActivationRecorder(model, "[r]elu_1", backend="rewrite")(images())
    assert list(acts) == ["relu_1"]


@pytest.mark.parametrize("training", [True, False])
@both_backends
def test_recording_has_no_side_effect_whatever_the_model_does(backend, training):
    model = seeded(Busy).train(training)
    before, random_before = snapshot(model), random_state()
    options = {"backend": backend, "training": "keep", "stop_early": False}
    if backend == "rewrite":  # it replaces a weight through .data, which a trace does not see
        with pytest.raises(RuntimeError, match="Busy cannot be rewritten"):
            fl.ActivationRecorder(model, ["conv", "norm"], **options)(images())
        assert snapshot(model) == before
        assert random_state() == random_before
        return
    recorder = fl.ActivationRecorder(model, ["conv", "norm"], **options)
    recorder(images())
    recorder.record([images(), images()])
    assert random_state() == random_before
    with recorder:
        model(images())
    assert snapshot(model) == before


def test_numbered_calls_stop_an_untraceable_model_early():
    model = seeded(InnerLoop)
    acts = fl.ActivationRecorder(model, ["loop.step#1"], stop_early=True)(images())
    assert list(acts) == ["loop.step#1"]
    assert acts.output is None


def test_repr_and_layers():
    recorder = fl.ActivationRecorder(plain(), ["conv_2"], backend="rewrite")
    assert repr(recorder) == "ActivationRecorder(Sequential, ['3'], backend='rewrite')"
    assert recorder.layers == ("3",)


def test_the_model_itself_can_be_chosen_by_instance():
    model = plain()
    for backend in ("hooks", "rewrite"):
        acts = fl.ActivationRecorder(model, [model, "0"], backend=backend)(images())
        assert acts[""].shape == (4, 10)
        assert torch.equal(acts.output, acts[""])


def test_held_does_what_a_call_does_and_guards_the_model_once():
    model = plain().train()
    before = snapshot(model)
    recorder = fl.ActivationRecorder(model, "norm_1", detach=False)
    with recorder.held() as forward:
        for parameter in model.parameters():
            parameter.requires_grad_(False)
        batch = images().requires_grad_()
        found = [forward(batch)["4"] for _ in range(2)]
        assert found[1].requires_grad
        assert not model.training
    assert snapshot(model) == before
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], recorder(images())["4"])
