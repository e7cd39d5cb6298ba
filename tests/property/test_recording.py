"""Generated networks: both backends against a slow replica that hooks by hand and never stops early."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import featurelens as fl
from featurelens._structure import map_tensors, tensors
from tests.nets import images, seeded
from tests.state import random_state, snapshot

KINDS = st.sampled_from(["conv", "relu", "inplace", "norm", "dropout", "shared", "add", "nested", "block"])


class Nest(nn.Module):
    """Returns a dict with a tuple in it."""

    def forward(self, x):
        return {"same": x, "pair": (x * 2, [x - 1])}


class Net(nn.Module):
    """Runs `plan` step by step; "shared" is one module for all its steps."""

    def __init__(self, plan):
        super().__init__()
        self.plan = plan
        self.shared = nn.LeakyReLU(0.2)
        self.parts = nn.ModuleList(self.part(kind) for kind in plan)

    @staticmethod
    def part(kind):
        return {
            "conv": lambda: nn.Conv2d(2, 2, 3, padding=1),
            "relu": nn.ReLU,
            "inplace": lambda: nn.ReLU(inplace=True),
            "norm": lambda: nn.BatchNorm2d(2),
            "dropout": lambda: nn.Dropout(0.5),
            "block": lambda: nn.Sequential(nn.Conv2d(2, 2, 1), nn.ReLU(inplace=True)),
            "nested": Nest,
        }.get(kind, nn.Identity)()

    def forward(self, x):
        for kind, part in zip(self.plan, self.parts, strict=True):
            if kind == "shared":
                x = self.shared(x)
            elif kind == "add":
                x = x + part(x)
            elif kind == "nested":
                x = part(x)["pair"][0]
            else:
                x = part(x)
        return x


def replica(model, x, names):
    """Every call of every named module, cloned, in full forwards with one layer hooked at a time."""
    found = {}
    for name in names:
        calls = []
        handle = model.get_submodule(name).register_forward_hook(
            lambda module, args, output, calls=calls: calls.append(map_tensors(torch.clone, output))
        )
        with torch.no_grad(), torch.random.fork_rng():
            model(x)
        handle.remove()
        found |= (
            {name: calls[0]} if len(calls) == 1 else {f"{name}#{k}": call for k, call in enumerate(calls, 1)}
        )
    return found


@settings(deadline=None, max_examples=60)
@given(
    plan=st.lists(KINDS, min_size=1, max_size=7),
    data=st.data(),
    training=st.booleans(),
    clone=st.booleans(),
    stop_early=st.booleans(),
)
def test_both_backends_equal_the_replica(plan, data, training, clone, stop_early):
    model = seeded(lambda: Net(plan)).train(training)
    used = [f"parts.{index}" for index, kind in enumerate(plan) if kind != "shared"]
    names = data.draw(
        st.lists(st.sampled_from(used + ["shared"] * ("shared" in plan)), min_size=1, unique=True)
    )
    x = images(2, channels=2, size=4)
    before, random_before = snapshot(model), random_state()
    model.eval()
    expected = replica(model, x, names)
    model.train(training)
    for backend in ("hooks", "rewrite"):
        options = {"backend": backend, "clone": clone, "stop_early": stop_early}
        try:
            acts = fl.ActivationRecorder(model, names, **options)(x)
        except (
            RuntimeError
        ) as error:  # only ever said where an in-place step could have changed a shared value
            assert not clone
            assert "changed in place" in str(error)  # noqa: PT017
            assert {"inplace", "block"} & set(plan)
            continue
        assert list(acts) == list(expected)
        for name, value in expected.items():
            assert type(acts[name]) is type(value)
            pairs = zip(tensors(acts[name]), tensors(value), strict=True)
            assert all(torch.equal(one, other) for one, other in pairs), (name, options)
        assert snapshot(model) == before
        assert random_state() == random_before


@settings(deadline=None, max_examples=30)
@given(
    sizes=st.lists(st.integers(1, 5), min_size=1, max_size=4), reduce=st.sampled_from([None, "mean", "max"])
)
def test_batches_joined_equal_the_whole(sizes, reduce):
    model = seeded(lambda: Net(["conv", "inplace", "norm", "conv"]))
    whole = images(sum(sizes), channels=2, size=4)
    recorder = fl.ActivationRecorder(model, ["parts.0", "parts.3"], reduce=reduce)
    joined, once = recorder.record(whole.split(sizes)), recorder(whole)
    assert all(torch.allclose(joined[name], once[name], atol=1e-6) for name in once)
