"""The block around the user's own forward."""

import threading

import numpy as np
import pytest
import torch
from torch import nn

import featurelens as fl
from tests import nets
from tests.state import random_state, snapshot
from tests.unit.ablation.nets import Residual, Tokens, batch, double


def bits(tensor):
    return tensor.detach().numpy().tobytes()


@pytest.mark.parametrize(("mode", "channels"), [("drop", []), ("keep", range(4))])
@pytest.mark.parametrize("fill", ["zero", "mean", "resample"])
def test_nothing_ablated_is_the_identity_bit_for_bit(mode, channels, fill):
    model = nets.seeded(Residual).eval()
    x = nets.images()
    expected = model(x.clone())
    with fl.ChannelAblator(model, "left").ablated(channels, mode=mode, fill=fill):
        assert bits(model(x.clone())) == bits(expected)


def test_other_channels_are_untouched_and_these_are_replaced():
    model = nn.Sequential(nn.Identity(), nn.Identity())
    x = torch.tensor([float("nan"), float("inf"), -0.0, 1.0]).reshape(1, 4, 1)
    with fl.ChannelAblator(model, "0", axis=1).ablated([3]):
        out = model(x)
    assert bits(out[:, :3]) == bits(x[:, :3])
    assert out[0, 3, 0] == 0


def test_not_even_nan_passes_an_ablated_channel():
    model = nn.Sequential(nn.Identity(), nn.Identity())
    with fl.ChannelAblator(model, "0", axis=1).ablated(0):
        assert model(torch.full((1, 1, 2), float("nan"))).tolist() == [[[0.0, 0.0]]]


@pytest.mark.parametrize(
    "one", [1, np.int64(1), np.array(1), torch.tensor(1)], ids=lambda one: type(one).__name__
)
def test_one_channel_may_be_a_number_of_any_kind(one):
    model = double(Residual).eval()
    ablator = fl.ChannelAblator(model, "left")
    with ablator.ablated([1]):
        listed = model(batch())
    with ablator.ablated(one):
        assert bits(model(batch())) == bits(listed)


def test_twice_is_once():
    model = double(Residual).eval()
    ablator = fl.ChannelAblator(model, "left")
    with ablator.ablated([0, 2]):
        once = model(batch())
        with ablator.ablated([0, 2]):
            assert bits(model(batch())) == bits(once)


def test_nested_blocks_add_up_and_end_one_by_one():
    model = double(Residual).eval()
    ablator, other = fl.ChannelAblator(model, "left"), fl.ChannelAblator(model, "right")
    plain = model(batch())
    with ablator.ablated([0, 1]):
        both = model(batch())
    with ablator.ablated(0):
        first = model(batch())
        with ablator.ablated(1):
            assert bits(model(batch())) == bits(both)
            with other.ablated(range(4)):
                assert bits(model(batch())) != bits(both)
        assert bits(model(batch())) == bits(first)
    assert bits(model(batch())) == bits(plain)


@pytest.mark.parametrize("layer", ["act", "act#1", "act#2", "act#3"])
def test_calls_of_a_reused_module(layer):
    model = double(nets.Reused).eval()
    calls = []
    model.act.register_forward_hook(lambda module, args, output: None)
    with fl.ChannelAblator(model, layer).ablated(1):
        handle = model.act.register_forward_hook(lambda module, args, output: calls.append(output))
        for _ in range(2):  # calls are counted anew in each forward pass
            calls.clear()
            model(batch())
            dead = [bool((output[:, 1] == 0).all()) for output in calls]
            expected = [layer in ("act", f"act#{call}") for call in (1, 2, 3)]
            assert [d for d, e in zip(dead, expected, strict=True) if e] == [True] * sum(expected)
            assert layer == "act" or not all(dead)
        handle.remove()


def test_channels_of_tokens():
    model = double(Tokens).eval()
    found = []
    with fl.ChannelAblator(model, "block1", axis=-1).ablated([2], mode="keep"):
        handle = model.block1.register_forward_hook(lambda module, args, output: found.append(output))
        model(batch())
        handle.remove()
    assert (found[0][..., [0, 1, 3, 4, 5, 6, 7]] == 0).all()
    assert (found[0][..., 2] != 0).any()


def test_gradients_flow_around_ablated_channels():
    model = double(Tokens).eval()
    with fl.ChannelAblator(model, "patch").ablated([1, 2]):
        (gradient,) = torch.autograd.grad(model(batch()).sum(), model.patch.bias)
    assert gradient[[1, 2]].tolist() == [0, 0]
    assert (gradient[[0, 3]] != 0).all()


def test_a_backward_pass_inside_counts():
    model = double(Tokens).eval()
    with fl.ChannelAblator(model, "patch").ablated([1, 2]):
        model(batch()).sum().backward()
    assert model.patch.bias.grad[[1, 2]].tolist() == [0, 0]
    assert (model.patch.bias.grad[[0, 3]] != 0).all()
    model.zero_grad()


def test_blocks_that_end_out_of_order_leave_the_model_as_it_was():
    model = double(Residual).train()
    before = snapshot(model)
    p, q, r = (fl.ChannelAblator(model, layer).ablated(0) for layer in ("left", "right", "stem"))
    for block in (p, q, r):
        block.__enter__()
    with pytest.raises(RuntimeError, match="ended before 1 block opened inside it: all were closed"):
        q.__exit__(None, None, None)
    r.__exit__(None, None, None)
    assert not model.training
    p.__exit__(None, None, None)
    assert snapshot(model) == before
    model.eval()
    plain = model(batch())
    with fl.ChannelAblator(model, "left").ablated(range(4)):
        assert bits(model(batch())) != bits(plain)
    assert bits(model(batch())) == bits(plain)
    model.train()


def test_a_layer_that_never_ran_is_told():
    model = nets.seeded(nets.Unused)
    with pytest.warns(RuntimeWarning, match="nothing was ablated: layer 'aux' was never called") as caught:
        with fl.ChannelAblator(model, "aux").ablated(0):
            model(nets.images())
    assert caught[0].filename == __file__
    with fl.ChannelAblator(model, "aux").ablated(0):
        pass
    with pytest.raises(KeyError), fl.ChannelAblator(model, "aux").ablated(0):
        model(nets.images())
        raise KeyError


def test_resampling_is_seeded_and_leaves_the_global_state():
    model = double(Residual).eval()
    before = random_state()

    def run(seed):
        with fl.ChannelAblator(model, "left").ablated(range(4), fill="resample", seed=seed):
            return model(batch(5))

    assert bits(run(1)) == bits(run(1))
    assert bits(run(1)) != bits(run(2))
    assert random_state() == before


def test_the_model_is_in_eval_mode_inside_and_as_it_was_after_an_exception():
    model = double(nets.plain).train()
    before = snapshot(model)

    def fail():
        with fl.ChannelAblator(model, "3").ablated(0):
            assert not model.training
            model(batch())
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        fail()
    assert snapshot(model) == before


def test_exceptions_inside_the_model_leave_nothing_behind():
    model = nets.seeded(nets.Fails)
    before = snapshot(model)
    ablator = fl.ChannelAblator(model, "conv")
    for run in (ablator.sweep, lambda x: ablator.importance([(x, torch.zeros(4).long())])):
        with pytest.raises(RuntimeError, match=r"the model failed on a batch .* in layer 'head'"):
            run(nets.images())
        assert snapshot(model) == before
    with ablator.ablated(0), pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        model(nets.images())
    assert snapshot(model) == before


@pytest.mark.parametrize("build", [nets.Busy, nets.Unused])
def test_whatever_a_forward_does_to_the_model_is_taken_back(build):
    model = nets.seeded(build)
    before, state = snapshot(model), random_state()
    fl.ChannelAblator(model, "conv").sweep(nets.images())
    assert snapshot(model) == before
    assert random_state() == state


def test_threads_wait_for_each_other():
    model = double(Residual).eval()
    ablator = fl.ChannelAblator(model, "left")
    expected = {c: ablator.sweep(batch(), channels=[c]).outputs for c in range(4)}
    wrong = []

    def work(channel):
        outputs = [ablator.sweep(batch(), channels=[channel]).outputs for _ in range(5)]
        wrong.extend(channel for found in outputs if not torch.equal(found, expected[channel]))

    threads = [threading.Thread(target=work, args=(channel,)) for channel in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
