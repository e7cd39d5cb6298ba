"""What is fused for the steps of a run computes the same, and is left alone where anybody could tell."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

import featurelens as fl
from featurelens.maximization import optimization
from featurelens.maximization.fusion import Fused, Surprise, chains, hooked, kept
from featurelens.maximization.watching import Watched


class Residual(nn.Module):
    """The output of the convolution is used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv(x)
        return self.norm(x) + x


class Hidden(Residual):
    """The second use is in code that no torch function shows."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv(x)
        with torch._C.DisableTorchFunction():
            beside = -x
        return self.norm(x) + beside


class Gated(Residual):
    """The second use passes no gradient."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv(x)
        return self.norm(x) * (x > 0)


class Restless(Residual):
    """It goes another way from the fourth pass on."""

    passes = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        type(self).passes += 1
        x = self.conv(x)
        return self.norm(x) if self.passes < 4 else self.norm(x + 1)


def lived(model: nn.Module) -> nn.Module:
    """Give every BatchNorm statistics and weights that matter."""
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None:
            for tensor in (*module.buffers(), *module.parameters()):
                if tensor.is_floating_point():
                    tensor.data = 0.5 + torch.rand(tensor.shape, generator=generator)
    return model.eval()


def block(*, inplace: bool = False, bias: bool = True, affine: bool = True) -> list[nn.Module]:
    conv = nn.Conv2d(3, 3, 3, padding=1, bias=bias)
    return [conv, nn.BatchNorm2d(3, affine=affine), nn.ReLU(inplace), nn.MaxPool2d(2)]


def found(model: nn.Module, images: torch.Tensor) -> list[list[str]]:
    """Return the names of the functions that are fused into each convolution."""
    with Watched() as watched:
        output = model(images.requires_grad_())
    return [[f.__name__ for f in chain.followers] for chain in chains(watched.calls, output).values()]


IMAGES = torch.rand(2, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("defer", [True, False])
@pytest.mark.parametrize("kwargs", [{}, {"inplace": True}, {"bias": False}, {"affine": False}])
def test_fused_forward_and_gradient_equal_the_model_s(kwargs: dict[str, bool], defer: bool) -> None:
    model = lived(nn.Sequential(*block(**kwargs), *block(**kwargs), nn.Conv2d(3, 2, 1))).double()
    images = IMAGES.clone().requires_grad_()
    with Watched() as watched:
        expected = model(images)
    fused = Fused(chains(watched.calls, expected))
    assert len(fused.chains) == 2
    fused.defer = defer
    with fused:
        torch.testing.assert_close(model(images), expected, rtol=1e-12, atol=1e-12)
        (fast,) = torch.autograd.grad(model(images).square().sum(), [images])
    (slow,) = torch.autograd.grad(expected.square().sum(), [images])
    torch.testing.assert_close(fast, slow, rtol=1e-12, atol=1e-12)


class HiddenGate(Residual):
    """The second use is seen by no torch function, and passes no gradient."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv(x)
        with torch._C.DisableTorchFunction():
            gate = x > 0
        return self.norm(x) * gate


class Doubling(torch.Tensor):
    """Makes something else of BatchNorm."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = super().__torch_function__(func, types, args, kwargs or {})
        return result * 2 if func is F.batch_norm else result


class OfAnotherKind(Residual):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.conv(x.as_subclass(Doubling)))


class Overwritten(Residual):
    """Values change in a way that no version tells of."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.norm.running_mean.data.add_(0.1)
        return self.norm(self.conv(x))


@pytest.mark.parametrize("model", [Residual, Hidden, Gated, HiddenGate])
def test_a_tensor_that_is_used_twice_is_left(model: type[nn.Module]) -> None:
    assert found(lived(model()).double(), IMAGES.clone()) == []


@pytest.mark.parametrize("model", [OfAnotherKind, Overwritten])
def test_what_is_not_as_it_seems_is_left(model: type[nn.Module]) -> None:
    assert found(lived(model()).double(), IMAGES.clone()) == []


def test_what_the_model_keeps_is_left() -> None:
    class Keeping(Residual):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.before = self.conv(x)
            return self.norm(self.before)

    model, forgetful = lived(Keeping()).double(), lived(nn.Sequential(*block())).double()
    for each, expected in ((model, True), (forgetful, False)):
        with Watched() as watched:
            output = each(IMAGES.clone().requires_grad_())
        (chain,) = chains(watched.calls, output).values()
        del output
        watched.calls.clear()
        assert kept(chain) == expected


def test_what_is_behind_the_pooling_may_be_changed_in_place() -> None:
    class Shifted(Residual):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            pooled = F.max_pool2d(F.relu(self.norm(self.conv(x))), 2)
            return pooled.mul_(3).add_(x[..., ::2, ::2])

    model, images = lived(Shifted()).double(), IMAGES.clone().requires_grad_()
    with Watched() as watched:
        expected = model(images)
    with Fused(chains(watched.calls, expected)):
        found = model(images)
    gradients = [torch.autograd.grad(output.square().sum(), [images])[0] for output in (found, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-12)


def test_what_is_looked_at_stays() -> None:
    conv, norm, relu, pool = block()
    model = nn.Sequential(conv, norm, relu, pool).double().eval()
    assert found(model, IMAGES.clone()) == [["batch_norm", "relu", "max_pool2d"]]
    assert found(model[:3], IMAGES.clone()) == [["batch_norm"]]
    assert found(model[:1], IMAGES.clone()) == []


def test_shared_convolutions_and_norms_by_batch_are_left() -> None:
    conv = nn.Conv2d(3, 3, 3, padding=1)
    shared = nn.Sequential(conv, nn.BatchNorm2d(3), conv, nn.BatchNorm2d(3)).double().eval()
    assert found(shared, IMAGES.clone()) == []
    by_batch = nn.Sequential(conv, nn.BatchNorm2d(3, track_running_stats=False)).double().eval()
    assert found(by_batch, IMAGES.clone()) == []
    training = nn.Sequential(conv, nn.BatchNorm2d(3)).double().train()
    assert found(training, IMAGES.clone()) == []


@pytest.mark.changes_model
def test_hooks_of_the_user_see_the_model_s_own_tensors() -> None:
    model = lived(nn.Sequential(*block(), nn.Conv2d(3, 2, 1)))
    assert not hooked(model)
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    model[0].register_forward_hook(
        lambda module, inputs, output: seen.append((inputs[0].detach(), output.detach()))
    )
    assert hooked(model)
    fl.ActivationMaximizer(model, fl.PixelImage((3, 8, 8)), steps=2, rescue=0, progress=False).run("4:0")
    assert len(seen) >= 3
    for images, output in seen:
        expected = F.conv2d(images, model[0].weight, model[0].bias, padding=1)
        torch.testing.assert_close(output, expected.detach())


@pytest.mark.parametrize("rescue", [0, 4])
@pytest.mark.parametrize("last", ["4", "5"])
def test_a_run_is_the_same_without(monkeypatch: pytest.MonkeyPatch, rescue: int, last: str) -> None:
    model = lived(nn.Sequential(*block(), nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))).double()
    maximizer = fl.ActivationMaximizer(
        model, fl.FourierImage((3, 8, 8)), steps=8, rescue=rescue, progress=False
    )
    fast = maximizer.run(last)
    monkeypatch.setattr(optimization, "hooked", lambda model: True)
    slow = maximizer.run(last)
    torch.testing.assert_close(fast.images, slow.images, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(fast.history, slow.history, rtol=1e-5, atol=1e-5)


def test_a_model_that_changes_its_way_is_run_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    model = lived(Restless()).double()
    maximizer = fl.ActivationMaximizer(
        model, fl.PixelImage((3, 8, 8)), transforms=None, steps=4, rescue=0, progress=False
    )
    Restless.passes = 0
    fast = maximizer.run(fl.channel("norm", 1))
    # Two passes before the first step watch the model, and the one that was a surprise was made again.
    taken = Restless.passes
    monkeypatch.setattr(optimization, "hooked", lambda model: True)
    Restless.passes = 1
    slow = maximizer.run(fl.channel("norm", 1))
    assert taken == Restless.passes + 1
    torch.testing.assert_close(fast.images, slow.images, rtol=1e-6, atol=1e-6)


def test_an_unexpected_use_is_a_surprise() -> None:
    model = lived(nn.Sequential(*block())).double()
    with Watched() as watched:
        output = model(IMAGES.clone().requires_grad_())
    with pytest.raises(Surprise), Fused(chains(watched.calls, output)):
        F.relu(model[0](IMAGES))


class Branching(nn.Module):
    """It goes one way for bright images, and another for dark ones."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)
        self.conv2, self.norm2 = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)


class SkippedNorm(Branching):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x)
        if x.mean() > 0.5:
            y = self.norm(y)
        return self.norm2(self.conv2(y))


class OtherNorm(Branching):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (self.norm if x.mean() > 0.5 else self.norm2)(self.conv(x))


class OtherBias(Branching):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        bias = (self.conv if x.mean() > 0.5 else self.conv2).bias
        return self.norm(F.conv2d(x, self.conv.weight, bias, padding=1))


class ByBatch(Branching):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean, variance = self.norm.running_mean.clone(), self.norm.running_var.clone()
        self.norm.train(bool(x.mean() < 0.5))
        try:
            return self.norm(self.conv(x))
        finally:
            self.norm.eval().running_mean.copy_(mean)
            self.norm.running_var.copy_(variance)


class Unnormalized(Branching):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x)
        return self.norm(y) if x.mean() > 0.5 else y


class Either(Branching):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x)
        z = self.norm(y)
        return F.relu(z if x.mean() > 0.5 else y)


class EitherRelu(Branching):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm(self.conv(x))
        z = F.relu(y)
        return F.max_pool2d(z if x.mean() > 0.5 else y, 2)


class BehindPooling(Branching):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.relu(self.norm(self.conv(x)))
        pooled = F.max_pool2d(y, 2)
        return pooled if x.mean() > 0.5 else pooled + y.mean()


class Indices(Branching):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        values = F.max_pool2d(F.relu(self.conv(x)), 2, return_indices=bool(x.mean() < 0.5))
        return values if isinstance(values, torch.Tensor) else values[0]


class SometimesAgain(Branching):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        again = x.mean() < 0.5
        return self.norm(checkpoint(self.conv, x, use_reentrant=False) if again else self.conv(x))


class Detached(Branching):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x)
        with torch.set_grad_enabled(bool(x.mean() > 0.5)):
            return self.norm(y)


class Moved(Branching):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.mean() < 0.5:
            self.norm.running_mean.add_(1)
        return self.norm(self.conv(x))


class MovedUnseen(Branching):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.mean() < 0.5:
            self.conv.weight.data.mul_(2)
        return self.norm(self.conv(x))


class KeptSometimes(Branching):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x)
        if x.mean() < 0.5:
            self.before = y
        return self.norm(y)


class Named(Branching):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm(self.conv(x))
        return F.max_pool2d(torch.relu(y) if x.mean() > 0.5 else torch.relu(input=y), 2)


class OtherKind(Branching):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.conv(x if x.mean() > 0.5 else x.as_subclass(Doubling)))


class Undeterred(Branching):
    """It goes on whatever happens."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x)
        try:
            return self.norm(y if x.mean() > 0.5 else y + 1)
        except BaseException:  # noqa: BLE001
            return x


class Translating(Branching):
    """It makes an error of its own of every error."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x)
        try:
            return self.norm(y if x.mean() > 0.5 else y + 1)
        except BaseException as error:
            raise ZeroDivisionError from error


BRANCHING = [
    SkippedNorm,
    OtherNorm,
    OtherBias,
    ByBatch,
    Unnormalized,
    Either,
    EitherRelu,
    BehindPooling,
    Indices,
    SometimesAgain,
    Detached,
    Moved,
    MovedUnseen,
    KeptSometimes,
    Named,
    OtherKind,
    Undeterred,
    Translating,
]


@pytest.mark.parametrize("kind", BRANCHING)
def test_a_branch_that_was_not_watched_is_a_surprise(kind: type[nn.Module]) -> None:
    model = lived(kind()).double()
    bright, dark = (IMAGES * 0.1 + 0.8).requires_grad_(), (IMAGES * 0.1).requires_grad_()
    with Watched() as watched:
        expected = model(bright)
    fused = Fused(chains(watched.calls, expected))
    assert fused.chains
    with fused:
        torch.testing.assert_close(model(bright), expected, rtol=1e-12, atol=1e-12)
    with pytest.raises(Surprise), fused:
        model(dark)
    assert not fused.expected


def test_an_error_of_the_model_is_not_a_surprise() -> None:
    model = lived(nn.Sequential(*block())).double()
    with Watched() as watched:
        output = model(IMAGES.clone().requires_grad_())
    fused = Fused(chains(watched.calls, output))
    with pytest.raises(ZeroDivisionError), fused:
        model[0](IMAGES)
        raise ZeroDivisionError
    assert not fused.expected


class Again(Residual):
    """What its backward pass needs is computed again there."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(checkpoint(self.conv, x, use_reentrant=False))


class AgainNorm(Residual):
    """The same, with the convolution outside."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return checkpoint(lambda y: self.norm(y).sin(), self.conv(x), use_reentrant=False)


@pytest.mark.parametrize("model", [Again, AgainNorm])
def test_what_is_computed_again_is_left(model: type[nn.Module]) -> None:
    assert found(lived(model()).double(), IMAGES.clone()) == []


def test_nothing_is_fused_where_hooks_cannot_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch._C._autograd, "_top_saved_tensors_default_hooks")
    assert found(lived(nn.Sequential(*block())).double(), IMAGES.clone()) == []
