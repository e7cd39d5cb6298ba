import random
import sys

import numpy as np
import pytest
import torch
from torch import nn

import featurelens as fl
from featurelens._guard import _undo, preserved
from featurelens._hooks import eager, forwards, unwrap
from tests.nets import Busy, images, plain, seeded
from tests.state import snapshot


@pytest.mark.parametrize("training", [True, False])
def test_preserved_gives_back_everything_a_forward_changes(training):
    model = seeded(Busy).train(training)
    before = snapshot(model)
    with preserved(model):
        model(images())
        assert snapshot(model) != before, "this forward changes its model"
    assert snapshot(model) == before


def test_preserved_gives_back_after_an_exception_and_a_keyboard_interrupt():
    for error in (ValueError, KeyboardInterrupt):
        model = seeded(Busy)
        before = snapshot(model)
        with pytest.raises(error), preserved(model):
            model(images())
            raise error
        assert snapshot(model) == before


def test_preserved_gives_back_gradients_and_flags():
    model = plain()
    model[0].weight.grad = torch.ones_like(model[0].weight)
    before = snapshot(model)
    with preserved(model):
        model[0].weight.grad = None
        model[3].weight.requires_grad_(False)
        model[8].register_forward_hook(lambda *_: None)
        model.note = "new"
    assert snapshot(model) == before


def test_preserved_gives_back_every_random_state():
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    with preserved(plain()):
        random.random(), np.random.rand(), torch.rand(1)
    assert before == (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())


def test_a_parameter_changed_in_place_is_told():
    model = plain()
    with (
        pytest.warns(
            RuntimeWarning, match=r"parameters changed in place while the model was recorded \(0.weight\)"
        ),
        preserved(model),
        torch.no_grad(),
    ):
        model[0].weight.mul_(2)


def test_restoring_a_buffer_leaves_a_recorded_graph_usable():
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    x = torch.rand(5, 3)
    with preserved(model):
        y = model(x)
    y.sum().backward()
    assert model[0].weight.grad is not None
    assert model[1].num_batches_tracked == 0


def test_evaluating_gives_each_module_its_own_flag_back():
    model = plain()
    model[4].eval()
    flags = [module.training for module in model.modules()]
    with preserved(model, evaluate=True):
        assert not any(module.training for module in model.modules())
    assert [module.training for module in model.modules()] == flags


def test_unwrap_looks_through_wrappers():
    model = plain()
    assert unwrap(torch.compile(nn.DataParallel(model))) is model


class Offloaded(nn.Linear):
    """Loads its weights when it is called, as the hooks of accelerate do; between calls they have no values."""

    def __init__(self):
        super().__init__(3, 2)
        self.disk = [parameter.detach().clone() for parameter in self.parameters()]
        self.to("meta")

    def forward(self, x):
        return nn.functional.linear(x, *self.disk)


def test_weights_without_values_are_refused_unless_something_loads_them():
    loaded, x = nn.Sequential(seeded(Offloaded), nn.ReLU()), torch.randn(4, 3)
    loaded[0]._hf_hook = "accelerate's"
    fl.ChannelAblator(loaded, "0")
    assert torch.equal(fl.ActivationRecorder(loaded, "0")(x)["0"], loaded[0](x))
    with pytest.raises(
        TypeError,
        match=r"^the model's parameters are on the meta device, without values: load its weights first$",
    ):
        fl.ChannelAblator(nn.Sequential(Offloaded(), nn.ReLU()), "0")


@pytest.mark.changes_model
def test_eager_runs_compiled_code_uncompiled():
    model = torch.compile(plain().eval(), backend="eager")
    seen = []
    model(images())
    model._orig_mod[3].register_forward_hook(lambda *_: seen.append(1))
    with eager():
        model(images())
    assert seen == [1]


def test_arrays_and_generators_among_attributes_are_restored():
    class Draws(nn.Module):
        def __init__(self):
            super().__init__()
            self.torch, self.numpy, self.python = (
                torch.Generator().manual_seed(0),
                np.random.default_rng(0),
                random.Random(0),
            )
            self.legacy, self.bits = np.random.RandomState(0), np.random.PCG64(0)
            self.counts = np.zeros(3)

        def forward(self, x):
            self.counts += 1
            numbers = self.numpy.random() + self.python.random() + self.legacy.rand()
            return x + torch.rand((), generator=self.torch) + numbers + self.bits.random_raw() / 2**64

    model, drawn = Draws(), []
    for _ in range(2):
        with preserved(model):
            drawn.append(model(torch.zeros(1)).item())
    assert drawn[0] == drawn[1]
    assert model.counts.tolist() == [0, 0, 0]


@pytest.mark.parametrize("randomness", [False, True])
def test_a_block_that_begins_again_treats_random_numbers_and_gradients_as_it_began(randomness):
    model, state = plain().eval(), torch.get_rng_state()
    expected = torch.autograd.grad(model(images()).sum(), list(model.parameters()))
    with preserved(model, randomness=randomness, gradients=False) as rewind:
        for _ in range(2):
            torch.rand(1)
            rewind()
            model(images()).sum().backward()
    assert torch.equal(torch.get_rng_state(), state) == randomness
    for parameter, once in zip(model.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, 2 * once)


@pytest.mark.parametrize("line", range(1, 8))
@pytest.mark.parametrize("function", ["_refill", "undo", "restore", "use_copies", "_set_gradients_aside"])
def test_ctrl_c_in_the_guard_itself_leaves_the_model_as_it_was(function, line):
    model = plain().train()
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    before, lines = snapshot(model), 0

    def interrupt(frame, event, argument):
        nonlocal lines
        if frame.f_code.co_filename.endswith("_guard.py") and frame.f_code.co_name == function:
            lines += event == "line"
            if lines == line:
                lines += 1
                raise KeyboardInterrupt
        return interrupt

    tracing = sys.gettrace()
    with pytest.raises(KeyboardInterrupt):
        try:
            with preserved(model, evaluate=True) as rewind:
                model.extra = model[4].running_mean.add_(1)
                sys.settrace(interrupt)
                rewind()
        finally:
            sys.settrace(tracing)
    assert snapshot(model) == before


def test_a_forward_of_the_users_own_is_put_back_and_no_other_is_left():
    model = plain()
    model[0].forward = own = model[0].forward
    seen = []

    def call(module, forward, args, kwargs):
        seen.append(module)
        return forward(*args, **kwargs)

    with forwards(model, call):
        model(images())
    assert seen == [model, *model]
    assert vars(model[0])["forward"] is own
    assert not any("forward" in vars(module) for module in [model, *model[1:]])


def test_what_control_c_interrupts_is_restored_again():
    done = []

    def undo():
        done.append("again" if done else "interrupted")
        if done == ["interrupted"]:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _undo([lambda: done.append("the next"), undo])
    assert done == ["interrupted", "again", "the next"]


def test_a_model_that_is_rewound_stays_in_eval_mode_and_its_gradients_aside():
    model = plain().train()
    model(images()).sum().backward()
    before = snapshot(model)
    with preserved(model, evaluate=True) as rewind:
        for _ in range(2):
            assert not any(module.training for module in model.modules())
            assert model[0].weight.grad is None
            rewind()
    assert snapshot(model) == before
