"""Runs from end to end: reproducible, no worse than the start, and the model as it was, whatever the model."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

import featurelens as fl
from tests.nets import Busy, Nested, PassesOn, Reused, plain, seeded
from tests.state import random_state, snapshot


def maximizer(model, shape=(1, 8, 8), **settings):
    return fl.ActivationMaximizer(model, fl.FourierImage(shape), **{"steps": 6, **settings})


def same(one, other):
    return all(
        torch.equal(getattr(one, name), getattr(other, name)) for name in ("images", "scores", "history")
    )


def test_the_same_seed_gives_the_same_bytes_and_leaves_the_random_state_alone():
    before = random_state()
    results = [maximizer(plain(), seed=seed).run("conv_2") for seed in (3, 3, 4)]
    assert random_state() == before
    assert same(results[0], results[1])
    assert not torch.equal(results[0].images, results[2].images)


def test_a_generator_is_advanced_and_none_is_fresh():
    generator = torch.Generator().manual_seed(0)
    one, other = (maximizer(plain(), seed=generator).run("conv_1:0").images for _ in range(2))
    assert not torch.equal(one, other)
    assert torch.equal(one, maximizer(plain(), seed=torch.Generator().manual_seed(0)).run("conv_1:0").images)
    fresh = [maximizer(plain(), seed=None).run("conv_1:0").images for _ in range(2)]
    assert not torch.equal(*fresh)


@pytest.mark.parametrize("chunk", [1, 2, 4])
def test_an_image_does_not_depend_on_what_it_is_batched_with(chunk):
    whole = maximizer(plain(), chunk=6).run("conv_2")
    parts = maximizer(plain(), chunk=chunk).run("conv_2")
    assert torch.allclose(whole.images, parts.images, atol=1e-4)
    assert torch.allclose(whole.scores, parts.scores, atol=1e-4)
    assert torch.allclose(whole.history, parts.history, atol=1e-4)


def test_rows_that_share_a_diversity_stay_in_one_chunk_and_come_back_in_order():
    facets = fl.objectives.channel("conv_2", 1) + fl.objectives.diversity("conv_1")
    wanted = [facets, fl.objectives.channel("conv_2", 0), facets, fl.objectives.channel("conv_2", 2), facets]
    whole, parts = (maximizer(plain(), chunk=chunk).run(wanted) for chunk in (5, 2))
    assert whole.objectives == parts.objectives == tuple(wanted)
    assert torch.allclose(whole.images, parts.images, atol=1e-4)
    assert torch.allclose(whole.scores, parts.scores, atol=1e-4)


def test_scores_are_those_of_the_images_given_back_and_no_worse_than_the_start():
    model = plain().eval()
    settings = maximizer(model, lr=5.0)  # so large that some images end below where they started
    result = settings.run("norm_1")
    with torch.no_grad():
        activations = model[:5](result.images).mean((2, 3))
    assert torch.allclose(result.scores, activations.diagonal(), atol=1e-5)
    start = fl.ActivationMaximizer(model, fl.FourierImage((1, 8, 8)), steps=1, lr=1e-12).run("norm_1")
    assert (result.scores >= start.scores - 1e-6).all()


def test_each_image_rises():
    result = maximizer(plain(), steps=32).run("conv_2")
    assert (result.history[-4:].mean(0) > result.history[:2].mean(0)).all()
    assert result.images.min() >= 0
    assert result.images.max() <= 1


def test_what_run_takes_can_be_mixed():
    result = maximizer(plain()).run(
        [fl.objectives.logit(2), "conv_1:1", "conv_1", fl.objectives.neuron("0", 0)]
    )
    assert [str(objective) for objective in result.objectives] == [
        "logit 2",
        "conv_1:1",
        *(f"conv_1:{index}" for index in range(4)),
        "0:0 at the centre",
    ]
    model = plain()
    assert len(maximizer(model).run(model[3])) == 6


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 9, 16), (4, 7, 5)])
def test_any_channel_count_and_size(shape):
    model = seeded(lambda: nn.Sequential(nn.Conv2d(shape[0], 3, 3), nn.ReLU(), nn.Conv2d(3, 2, 3)))
    result = maximizer(model, shape).run("conv_2")
    assert result.images.shape == (2, *shape)
    assert (result.scores > result.history[0] - 1).all()


def test_only_images_get_gradients():
    class Watching(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(1, 2, 3)

        def forward(self, x):
            assert not self.conv.weight.requires_grad
            assert x.requires_grad or not torch.is_grad_enabled()
            return self.conv(x)

    model = seeded(Watching)
    maximizer(model).run("conv")
    assert model.conv.weight.requires_grad
    assert model.conv.weight.grad is None


@pytest.mark.changes_model  # takes the hook away again
def test_the_forward_pass_ends_at_the_deepest_layer_asked_for():
    calls = []
    model = plain()
    model[8].register_forward_hook(lambda *_: calls.append(1))
    maximizer(model).run(["conv_1:0", "conv_2:0"])
    assert len(calls) == 1, "a whole pass counts the calls of the layers, and no other goes so far"
    model[8]._forward_hooks.clear()


@pytest.mark.changes_model  # takes the hook away again
def test_hooks_of_the_user_stay():
    model = plain()
    handle = model[3].register_forward_hook(lambda *_: None)
    maximizer(model).run("conv_2:0")
    assert len(model[3]._forward_hooks) == 1
    handle.remove()


def in_train_mode():
    return plain().train()


def in_bfloat16():
    return plain().to(torch.bfloat16)


def in_float64():
    return plain().double()


def compiled():
    return torch.compile(plain())


class Viewing(nn.Module):
    """Views what a convolution returns, which must then not be channels-last."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.fc = nn.Linear(144, 6)

    def forward(self, x):
        return self.fc(self.conv(x).view(len(x), -1))


class Checkpointed(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(inplace=True), nn.Conv2d(4, 6, 3), nn.ReLU())

    def forward(self, x):
        return checkpoint(self.body, x, use_reentrant=False)


def viewing():
    return seeded(Viewing)


def checkpointed():
    return seeded(Checkpointed)


@pytest.mark.parametrize(
    "build",
    [in_train_mode, in_bfloat16, in_float64, compiled, viewing, checkpointed],
    ids=lambda f: f.__name__,
)
def test_any_kind_of_model_rises_and_comes_back(build):
    model = build()
    before = snapshot(model)
    result = maximizer(model, steps=12, lr=0.1).run([fl.objectives.logit(index) for index in range(6)])
    assert result.images.dtype == (torch.float64 if build is in_float64 else torch.float32)
    assert result.history[-3:].mean() > result.history[:3].mean()
    assert snapshot(model) == before


def test_a_model_that_changes_everything_about_itself_comes_back():
    model = seeded(Busy)
    before, state = snapshot(model), random_state()
    # every step halves the convolution's weights in place of the parameter: what is left is that they come back
    one, other = (maximizer(model, steps=3).run("norm") for _ in range(2))
    assert snapshot(model) == before
    assert random_state() == state
    assert same(one, other)  # dropout draws the same numbers, too


def test_the_model_comes_back_also_after_an_error():
    model = plain()
    before = snapshot(model)
    with pytest.raises(RuntimeError):
        maximizer(model, (3, 8, 8)).run("conv_2")
    with pytest.raises(LookupError):
        maximizer(model).run("conv_2:99")

    def stop(parameters):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        maximizer(model, optimizer=stop).run("conv_2")
    assert snapshot(model) == before


def test_it_runs_where_gradients_are_off():
    model = plain()
    with torch.no_grad():
        quiet = maximizer(plain()).run("conv_1")
    with torch.inference_mode():
        inference = maximizer(model).run("conv_1")
    assert same(quiet, maximizer(plain()).run("conv_1"))
    assert same(inference, quiet)


def test_a_call_of_a_reused_module_can_be_asked_for():
    model = seeded(Reused)
    result = maximizer(model, steps=12, lr=0.1).run(["act#2:1", fl.objectives.logit(0)])
    with torch.no_grad():
        acts = fl.ActivationRecorder(model, "act#2")(result.images)
    assert torch.allclose(result.scores[0], acts["act#2"][0, 1].mean(), atol=1e-5)


def test_a_layer_and_its_only_call_are_the_same():
    one, other = maximizer(plain()).run(["conv_1:1", "conv_1#1:1"]).scores
    assert torch.isclose(one, maximizer(plain()).run("0:1").scores[0], atol=1e-5)
    assert not torch.equal(one, other)  # the second of two has another start


class Tiring(nn.Module):
    """Fails, or does not call its layer, after so many passes."""

    def __init__(self, passes, fails):
        super().__init__()
        self.conv, self.passes, self.fails = nn.Conv2d(1, 2, 3), passes, fails

    def forward(self, x):
        self.passes -= 1
        if self.passes < 0 and self.fails:
            raise ValueError("too tired")
        return self.conv(x) if self.passes >= 0 else x


def test_a_model_that_fails_on_the_way():
    with pytest.raises(
        RuntimeError, match=r"the model failed on a batch \(float32 tensor \(2, 1, 8, 8\)\): ValueError: too"
    ):
        maximizer(Tiring(5, fails=True)).run("conv")
    with pytest.raises(LookupError, match="this forward pass did not reach call 1 of layer 'conv'"):
        maximizer(Tiring(5, fails=False)).run("conv")


def test_what_follows_a_layer_may_need_images_of_another_size():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(72, 3))
    images = torch.rand(20, 1, 5, 5)
    result = fl.ActivationMaximizer(model, sample=images, steps=4, progress=False).run("0")
    assert result.images.shape == (2, 1, 5, 5)
    assert result.compare(torch.rand(20, 1, 8, 8), progress=False).n == 20
    with pytest.raises(
        RuntimeError, match=r"the model failed on a batch \(float32 tensor \(2, 1, 5, 5\)\) in layer '3'"
    ):
        fl.ActivationMaximizer(model, sample=images, progress=False).run("3")


class Stubborn(nn.Module):
    """Catches whatever is raised in it, also what ends a pass early."""

    def __init__(self, fails):
        super().__init__()
        self.fails = fails
        self.conv, self.head = nn.Conv2d(1, 2, 3), nn.Conv2d(2, 2, 3)

    def forward(self, x):
        try:
            return self.head(self.conv(x))
        except BaseException as error:
            if self.fails:
                raise ValueError("something else") from error
            return x


@pytest.mark.parametrize("fails", [False, True])
def test_a_model_that_catches_everything(fails):
    result = maximizer(seeded(lambda: Stubborn(fails)), steps=12, lr=0.1).run("conv")
    assert (result.history[-1] > result.history[0]).all()


def test_layers_that_are_changed_in_place_and_structures_are_looked_at_as_they_were():
    model = plain()
    result = maximizer(model).run(["conv_1:1", "relu_1:1", "conv_2:0"])  # the ReLU works in place
    with torch.no_grad():
        conv = model[0](result.images)
    torch.testing.assert_close(result.scores[0], conv[0, 1].mean(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(result.scores[1], conv[1, 1].relu().mean(), rtol=1e-4, atol=1e-5)
    nested = maximizer(seeded(Nested), steps=2).run(
        [fl.objectives.channel("lstm", 2, axis=-1), fl.objectives.channel("dict", 0, axis=1)]
    )
    assert len(nested) == 2


def test_a_layer_that_returns_its_input_is_looked_at_as_it_was():
    model = seeded(PassesOn)
    result = maximizer(model).run(fl.objectives.channel("same", 1) + fl.objectives.channel("head", 0))
    with torch.no_grad():
        conv = model.conv(result.images)
    value = conv[:, 1].mean((1, 2)) + model.head(-conv)[:, 0].mean((1, 2))
    torch.testing.assert_close(result.scores, value.detach(), rtol=1e-4, atol=1e-5)


def test_of_a_structure_the_first_tensor_counts():
    result = maximizer(seeded(Nested), steps=4).run(
        [fl.objectives.channel("lstm", 2, axis=-1), fl.objectives.channel("dict", 0, axis=1)]
    )
    assert result.scores.isfinite().all()


def test_tokens_have_their_channels_on_the_last_axis_if_asked():
    class Tokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Conv2d(1, 6, 4, stride=4)
            self.block = nn.Linear(6, 5)

        def forward(self, x):
            return self.block(self.embed(x).flatten(2).mT)  # (N, L, D)

    model = seeded(Tokens)
    result = maximizer(model).run(
        [fl.objectives.channel("block", 4, axis=-1), fl.objectives.channel("block", 3, axis=1)]
    )
    with torch.no_grad():
        tokens = model(result.images)
    assert torch.allclose(
        result.scores, torch.stack([tokens[0, :, 4].mean(), tokens[1, 3].mean()]), atol=1e-5
    )


def test_with_preprocess_a_sample_may_be_in_0_to_1_but_for_rounding():
    sample = torch.rand(4, 1, 8, 8)
    sample[0, 0, 0, 0] = 1.0000002  # as an antialiased resize leaves it
    fl.ActivationMaximizer(plain(), sample=sample, preprocess=torch.neg)
    with pytest.raises(ValueError, match=r"got values from .* to 1\.01"):
        fl.ActivationMaximizer(plain(), sample=sample * 1.01, preprocess=torch.neg)


def test_preprocess_and_sample_range_bring_images_to_what_the_model_takes():
    seen = []

    class Noting(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(1, 2, 3)

        def forward(self, x):
            seen.append((float(x.min()), float(x.max())))
            return self.conv(x)

    sample = torch.linspace(-3, 5, 2 * 64).view(2, 1, 8, 8)
    result = fl.ActivationMaximizer(seeded(Noting), sample=sample, steps=30, lr=1.0).run("conv")
    assert min(low for low, _ in seen) < -2
    assert max(high for _, high in seen) > 4
    assert result.images.min() >= 0
    assert result.images.max() <= 1
    by_hand = fl.ActivationMaximizer(
        seeded(Noting), sample=(sample + 3) / 8, preprocess=lambda x: x * 8 - 3, steps=30, lr=1.0
    ).run("conv")
    assert torch.allclose(result.scores, by_hand.scores, rtol=1e-3)


def test_penalties_change_the_image():
    model = plain()
    rough, smooth = (
        maximizer(model, steps=24)
        .run(
            [
                fl.objectives.channel("conv_1", 0),
                fl.objectives.channel("conv_1", 0) - 100 * fl.objectives.total_variation(),
            ]
        )
        .images
    )
    assert smooth.diff(dim=-1).abs().mean() < rough.diff(dim=-1).abs().mean() / 2


def test_diversity_sets_images_apart():
    model = plain().eval()

    def alike(weight):
        objective = fl.objectives.channel("conv_2", 1) + weight * fl.objectives.diversity("conv_1")
        result = maximizer(model, steps=40, lr=0.1).run([objective] * 3)
        with torch.no_grad():
            maps = model[0](result.images).flatten(2)
        grams = F.normalize((maps @ maps.mT).flatten(1), dim=1)
        return (grams @ grams.T).mean()

    assert alike(10.0) < alike(0.0) - 0.01


def test_an_optimizer_of_the_users():
    adam = maximizer(plain()).run("conv_1")
    sgd = maximizer(plain(), optimizer=lambda parameters: torch.optim.SGD(parameters, lr=1.0)).run("conv_1")
    assert not torch.equal(adam.images, sgd.images)


def test_autocast_scores_in_full_precision():
    model = plain().eval()
    result = maximizer(model, autocast=True).run("conv_2")
    with torch.no_grad():
        exact = model[:4](result.images).mean((2, 3)).diagonal()
    assert torch.allclose(result.scores, exact, atol=1e-6)


def test_repr_and_length():
    model = plain()
    settings = maximizer(model)
    assert repr(settings) == "ActivationMaximizer(Sequential, FourierImage((1, 8, 8)))"
    assert repr(settings.run("conv_1")) == "MaximizationResult(4 images of 1x8x8, 6 steps)"
    assert len(settings.run("conv_1:0")) == 1
    assert str(settings.run("conv_1")).startswith("4 images of 1x8x8, 6 steps; scores ")


def test_an_image_hangs_on_its_objective_and_not_on_its_place():
    model = plain()
    whole = maximizer(model).run("conv_2")
    for alone in ("conv_2:3", "3:3", fl.objectives.channel(model[3], 3)):
        one = maximizer(model).run(alone)
        assert torch.allclose(one.images[0], whole.images[3], atol=1e-4)
    twice = maximizer(model).run(["conv_2:3", "conv_2:3"]).images
    assert not torch.allclose(twice[0], twice[1], atol=0.01)
    vectors = [fl.objectives.direction("conv_1", row) for row in torch.eye(4)]
    shuffled = maximizer(model).run([vectors[2], vectors[0]])
    assert torch.allclose(shuffled.images[0], maximizer(model).run(vectors).images[2], atol=1e-4)


def test_objectives_of_modules_print_the_name_of_the_layer():
    model = plain()
    objectives = maximizer(model).run([fl.objectives.channel(model[0], 1), model[3]]).objectives
    assert [str(objective) for objective in objectives] == ["0:1", *(f"3:{index}" for index in range(6))]


def test_transforms_from_a_generator_are_kept():
    def of(transforms):
        return maximizer(plain(), transforms=transforms)

    listed, generated = of([fl.transforms.Jitter(2)]), of(fl.transforms.Jitter(2) for _ in range(1))
    assert same(listed.run("conv_1"), generated.run("conv_1"))
    assert same(listed.run("conv_1"), generated.run("conv_1"))


def test_a_conv1d_has_its_channels_on_axis_1_without_asking():
    model = seeded(lambda: nn.Sequential(nn.Flatten(2), nn.Conv1d(1, 3, 5)))
    assert len(maximizer(model).run("1")) == 3


def test_integers_of_numpy_are_integers():
    one = maximizer(plain(), seed=np.int64(3), steps=np.int32(2)).run(
        fl.objectives.channel("conv_1", np.int64(1))
    )
    assert same(one, maximizer(plain(), seed=3, steps=2).run("conv_1:1"))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_another_default_dtype_changes_nothing(dtype):
    model, real = plain(), torch.rand(9, 1, 8, 8)

    def found():
        image = fl.PixelImage((1, 8, 8))
        result = fl.ActivationMaximizer(model, image, steps=3, progress=False).run(["conv_1:0", "8:1"])
        return result.images, result.scores, result.compare(real, progress=False).data_maximum

    expected = found()
    torch.set_default_dtype(dtype)
    try:
        given = found()
    finally:
        torch.set_default_dtype(torch.float32)
    for one, other in zip(given, expected, strict=True):
        torch.testing.assert_close(one, other)
