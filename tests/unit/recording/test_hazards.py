"""Where other libraries go silently wrong: one regression test for each line of that list."""

import contextlib

import pytest
import torch
from torch import nn

import featurelens as fl
from tests.nets import DataDependent, Fails, InnerLoop, PassesOn, images, plain, scripted, seeded
from tests.state import random_state, snapshot

both_backends = pytest.mark.parametrize("backend", ["hooks", "rewrite"])


@both_backends
def test_an_in_place_relu_behind_a_layer_does_not_change_what_was_recorded(backend):
    model = plain().eval()
    acts = fl.ActivationRecorder(model, "conv_1", backend=backend, stop_early=False)(images())
    with torch.no_grad():
        assert torch.equal(acts["0"], model[0](images()))
    assert acts["0"].min() < 0


@both_backends
def test_without_copies_an_in_place_change_is_told(backend):
    recorder = fl.ActivationRecorder(plain(), "conv_1", backend=backend, clone=False, stop_early=False)
    message = "layer '0' was recorded with clone=False and then changed in place by a later layer"
    with pytest.raises(RuntimeError, match=message):
        recorder(images())
    with pytest.raises(RuntimeError, match=message):
        recorder.record([images()])
    model = recorder.model
    with pytest.raises(RuntimeError, match=message), recorder as acts:
        model(images())
        acts["0"]


def test_without_copies_what_is_not_changed_is_shared():
    acts = fl.ActivationRecorder(plain(), "pool_1", clone=False)(images())
    assert acts["2"].shape == (4, 4, 4, 4)
    early = fl.ActivationRecorder(plain(), "conv_1#1", clone=False, stop_early=True)(images())
    assert early["0#1"].min() < 0, "the forward stopped before the in-place ReLU"


def test_inference_mode_without_copies_cannot_hide_a_change():
    model = plain().eval()
    with torch.inference_mode():
        acts = fl.ActivationRecorder(model, "conv_1", clone=False, stop_early=False)(images())
    assert acts["0"].min() < 0


@pytest.mark.parametrize("training", [False, "keep"])
@both_backends
def test_batchnorm_statistics_do_not_move(backend, training):
    model = plain().train()
    before = model[4].running_mean.clone(), model[4].num_batches_tracked.clone()
    recorder = fl.ActivationRecorder(
        model, ["norm_1", "8"], backend=backend, training=training, stop_early=False
    )
    recorder(images())
    recorder.record([images(), images()])
    with recorder:
        model(images())
    assert torch.equal(model[4].running_mean, before[0])
    assert torch.equal(model[4].num_batches_tracked, before[1])


@both_backends
def test_a_frozen_batchnorm_stays_frozen(backend):
    model = plain().train()
    model[4].eval()
    fl.ActivationRecorder(model, "norm_1", backend=backend, training="keep")(images())
    assert model.training
    assert not model[4].training


@both_backends
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_no_hook_is_left_after_an_exception(backend, error):
    model = plain()
    before = snapshot(model)

    def stop(maps):
        raise error("stop")

    recorder = fl.ActivationRecorder(model, "conv_2", backend=backend, reduce=stop)
    expected = RuntimeError if error is ValueError else error
    with pytest.raises(expected):
        recorder(images())
    assert snapshot(model) == before
    with pytest.raises(expected):
        recorder.record([images()])
    assert snapshot(model) == before
    with pytest.raises(expected), recorder:
        model(images())
    assert snapshot(model) == before
    with pytest.raises(ZeroDivisionError), fl.ActivationRecorder(model, "conv_2", backend=backend):
        model(images())
        1 / 0  # noqa: B018
    assert snapshot(model) == before


@pytest.mark.changes_model  # the test itself runs it in train mode
@pytest.mark.parametrize("in_place", [True, False])
def test_a_compiled_model_is_recorded(in_place):
    model = plain()
    if in_place:
        compiled = seeded(plain)
        compiled.load_state_dict(model.state_dict())
        compiled.compile(backend="eager")
    else:
        compiled = torch.compile(model, backend="eager")
    compiled(images())  # compiled before any hook is there
    inner = compiled if in_place else model
    recorder = fl.ActivationRecorder(compiled, ["conv_1", "8"])
    acts = recorder(images())
    with recorder as around:
        compiled(images())
    for name in ("0", "8"):
        assert torch.allclose(around[name], acts[name])
        assert torch.equal(acts[name], fl.ActivationRecorder(inner, name)(images())[name])


def test_a_model_whose_parts_are_compiled_is_recorded():
    model = nn.Sequential(torch.compile(plain(), backend="eager"), nn.ReLU())
    model(images())
    acts = fl.ActivationRecorder(model, ["0.3", nn.Linear])(images())
    assert list(acts) == ["0.3", "0.8"]


def test_dataparallel_gives_the_whole_batch():
    model = plain()
    acts = fl.ActivationRecorder(nn.DataParallel(model), "conv_1")(images(5))
    assert len(acts["0"]) == 5


def test_dataparallel_over_several_devices_cannot_be_hooked_around():
    wrapped = nn.DataParallel(plain())
    wrapped.device_ids = [0, 1]
    with pytest.raises(RuntimeError, match=r"record around model\.module, or call recorder\(images\)"):
        fl.ActivationRecorder(wrapped, "conv_1").__enter__()
    wrapped = nn.DataParallel(plain())
    wrapped.device_ids = [0]
    with fl.ActivationRecorder(wrapped, "conv_1") as acts:
        wrapped.module(images())
    assert len(acts["0"]) == 4


def test_control_flow_that_depends_on_data_names_the_hooks_backend():
    message = (
        r'DataDependent cannot be rewritten.* ActivationRecorder\(\.\.\., backend="hooks"\) records any model'
    )
    with pytest.raises(RuntimeError, match=message):
        fl.ActivationRecorder(DataDependent(), "conv", backend="rewrite")
    with pytest.raises(RuntimeError, match=message):
        fl.insert_extractors(DataDependent(), "conv")
    with pytest.raises(RuntimeError, match=message):
        fl.list_operations(DataDependent())
    assert fl.ActivationRecorder(DataDependent(), "conv")(images())["conv"].shape == (4, 1, 8, 8)


def test_a_part_that_cannot_be_traced_becomes_one_step():
    model = seeded(InnerLoop)
    acts = fl.ActivationRecorder(model, ["loop", "relu", "head"], backend="rewrite")(images())
    expected = fl.ActivationRecorder(model, ["loop", "head"])(images())
    assert torch.equal(acts["loop"], expected["loop"])
    assert torch.equal(acts["relu"], expected["loop"].relu())
    with pytest.raises(LookupError, match=r"layer 'loop\.step' is inside 'loop', a DataDependent"):
        fl.ActivationRecorder(model, "loop.step", backend="rewrite")(images())


def test_the_last_module_is_found():
    assert fl.ActivationRecorder(plain(), "8")(images())["linear_1"].shape == (4, 10)


@pytest.mark.changes_model  # the test's own hook
def test_a_model_that_catches_the_early_stop_runs_whole_from_its_start():
    class Catches(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(2, 2), nn.Linear(2, 2)
            self.register_buffer("passes", torch.zeros(()))

        def forward(self, x):
            self.passes += 1
            with contextlib.suppress(BaseException):
                x = self.a(x)
            return self.b(x) + self.passes

    model, runs = Catches(), []
    model.b.register_forward_hook(lambda module, args, output: runs.append(output))
    recorder = fl.ActivationRecorder(model, "a#1", stop_early=True)
    x = torch.rand(1, 2)
    for number in (2, 1):  # the first call runs twice, later ones once
        runs.clear()
        acts = recorder(x)
        assert len(runs) == number
        assert torch.equal(acts["a#1"], model.a(x))
        assert torch.equal(acts.output, model.b(model.a(x)) + 1)


def test_a_swallowing_model_does_not_swallow_the_early_stop():
    class Swallows(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.head = nn.Conv2d(1, 1, 1), nn.Flatten()

        def forward(self, x):
            try:
                x = self.conv(x)
            except Exception:  # noqa: BLE001
                return None
            return self.head(x)

    acts = fl.ActivationRecorder(Swallows(), "conv#1", stop_early=True)(images())
    assert acts.output is None


@pytest.mark.parametrize("swallows", [False, True])
def test_a_pass_that_ends_early_or_runs_again_draws_what_a_whole_one_draws(swallows):
    class Drops(nn.Module):
        def __init__(self):
            super().__init__()
            self.drop, self.norm, self.head = nn.Dropout(), nn.BatchNorm2d(1, momentum=0.5), nn.Flatten()

        def forward(self, x):
            x = self.drop(x)
            try:
                x = self.norm(x)
            except BaseException:
                if not swallows:
                    raise
            return self.head(x)

    found = []
    for stop_early in (False, True):
        recorder = fl.ActivationRecorder(
            Drops().train(), ["drop#1", "norm#1"], training="keep", stop_early=stop_early
        )
        torch.manual_seed(0)
        found.append(recorder(images()))
    assert found[0]["drop#1"].eq(0).any()
    for layer, values in found[0].items():
        assert torch.equal(found[1][layer], values)


def test_a_scripted_part_is_told():
    model = nn.Sequential(scripted(nn.Sequential(nn.Conv2d(1, 1, 1), nn.ReLU())), nn.Flatten())
    with pytest.raises(TypeError, match=r"layer '0\.0' is scripted, and hooks do not run in scripted code"):
        fl.ActivationRecorder(model, "0.0")(images())


def test_transformer_layers_run_their_parts_although_a_fused_path_exists():
    model = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    acts = fl.ActivationRecorder(model, ["linear1", "self_attn"])(torch.rand(2, 5, 8))
    assert acts["linear1"].shape == (2, 5, 16)
    assert acts["self_attn"][0].shape == (2, 5, 8)


def test_the_same_call_gives_the_same_bytes_and_draws_nothing():
    model = plain().train()
    recorder = fl.ActivationRecorder(model, ["dropout_1"], training="keep")
    torch.manual_seed(3)
    before = random_state()
    first, second = recorder(images()), recorder(images())
    assert torch.equal(first["6"], second["6"])
    assert random_state() == before


def test_a_failing_model_is_given_back_too():
    model = seeded(Fails)
    before = snapshot(model)
    with pytest.raises(RuntimeError):
        fl.ActivationRecorder(model, "conv", stop_early=False)(images())
    assert snapshot(model) == before


@pytest.mark.parametrize("detach", [True, False])
@pytest.mark.parametrize("backend", ["hooks", "rewrite"])
def test_a_layer_that_returns_its_input_is_recorded_as_it_was(backend, detach):
    model = seeded(PassesOn).eval()
    acts = fl.ActivationRecorder(model, ["same", "head"], backend=backend, detach=detach)(images())
    assert torch.equal(acts["same"], model.conv(images()))


@pytest.mark.parametrize("backend", ["hooks", "rewrite"])
def test_a_look_inside_autocast_leaves_the_gradients_of_the_next_pass(backend):
    """Without gradients, autocast keeps casts of parameters that some versions of torch hand to the next pass."""
    model = plain().eval()
    with torch.autocast("cpu", torch.bfloat16):
        fl.ActivationRecorder(model, "conv_1", backend=backend)(images())
        fl.ActivationRecorder(model, "conv_1").stream([images()], fl.statistics.Moments())
        assert model(images()).requires_grad
