"""Random models that do what strangers' models do, against a replica that hooks by hand and never copies lazily."""

import random
import types

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import featurelens as fl
from featurelens._structure import map_tensors, outline, tensors
from tests.nets import images, seeded
from tests.state import random_state, snapshot

CACHE = {}

STEPS = [
    *("conv", "inplace", "norm", "shared", "object", "dict", "counter", "alias", "nested state", "helper"),
    *(
        "shape",
        "dtype",
        "name",
        "type",
        "caught",
        "torch",
        "numpy",
        "python",
        "own generator",
        "global cache",
        "unregistered",
    ),
]


class Memory:
    """A helper object of the model's."""

    def __init__(self):
        self.state, self.calls = torch.zeros(1), 0


class Unregistered(nn.Module):
    """A module in a list, which its model does not know; it counts its calls in every way."""

    def __init__(self):
        super().__init__()
        self.inner, self.calls, self.seen = nn.BatchNorm2d(2), 0, []
        self.register_buffer("steps", torch.zeros(()))

    def forward(self, x):
        self.steps += 1
        self.calls += 1
        self.seen.append(x)
        self.last = x
        return self.inner(x) * self.steps


class Wraps(nn.Module):
    def __init__(self, make):
        super().__init__()
        self.make = make

    def forward(self, x):
        return self.make(x)


class Stranger(nn.Module):
    """Runs `plan` step by step; every step but a few goes through a layer of its own."""

    def __init__(self, plan):
        super().__init__()
        self.plan = plan
        kinds = {
            "conv": lambda: nn.Conv2d(2, 2, 3, padding=1),
            "inplace": lambda: nn.ReLU(inplace=True),
            "norm": lambda: nn.BatchNorm2d(2),
            "object": lambda: Wraps(lambda x: types.SimpleNamespace(x=x * 2, more=[x])),
            "dict": lambda: Wraps(lambda x: {"x": (x - 1,), "note": "text"}),
        }
        self.parts = nn.ModuleList(kinds.get(kind, nn.Tanh)() for kind in plan)
        self.shared = nn.LeakyReLU(0.2)
        memory = torch.zeros(4)
        self.register_buffer("memory", memory)
        self.register_buffer("window", memory[1:3])
        self.count, self.history = 0, []
        self.nested = {"a": [torch.zeros(1)], "b": (torch.zeros(1),)}
        self.unregistered = [Unregistered()]
        self.helper, self.generator = Memory(), torch.Generator().manual_seed(3)

    def forward(self, x):
        for kind, part in zip(self.plan, self.parts, strict=True):
            x = self.step(kind, part, x)
        return {"logits": x, "memory": self.window}

    def step(self, kind, part, x):
        if kind == "shared":
            return self.shared(self.shared(x))
        if kind == "object":
            return part(x).x
        if kind == "dict":
            return part(x)["x"][0]
        if kind == "counter":
            self.count += 1
            self.history.append(x)
            return part(x) * self.count
        if kind == "alias":
            self.memory.add_(1)
            return part(x) + self.window.sum()
        if kind == "nested state":
            self.nested["a"][0].add_(1)
            self.nested["b"][0].add_(1)
            self.nested["c"] = x
            return part(x) + self.nested["a"][0] + self.nested["b"][0]
        if kind == "helper":
            self.helper.state += 1
            self.helper.calls += 1
            return part(x) * self.helper.state
        if kind == "unregistered":
            return part(self.unregistered[0](x))
        if kind == "global cache":
            if x.shape not in CACHE:
                CACHE[x.shape] = torch.ones(x.shape[-1])
            return part(x) * CACHE[x.shape]
        again = {
            "shape": lambda: x.shape[-1] in {4, 8},
            "dtype": lambda: {torch.float32: True}.get(x.dtype, False),
            "name": lambda: str(x.device) == "cpu",
            "type": lambda: type(x) is torch.Tensor,
            "caught": lambda: not hasattr(x, "logits"),
            "torch": lambda: bool(torch.rand(()) < 0.5),
            "numpy": lambda: np.random.rand() < 0.5,
            "python": lambda: random.random() < 0.5,
            "own generator": lambda: bool(torch.rand((), generator=self.generator) < 0.5),
        }.get(kind, lambda: False)()
        x = part(x)
        return part(x) if again else x


def replica(plan, training, x, names):
    """What hooks by hand record in a fresh model, which is then thrown away."""
    model = seeded(lambda: Stranger(plan)).train(training)
    found = {name: [] for name in names}
    for name in names:
        model.get_submodule(name).register_forward_hook(
            lambda module, args, output, name=name: found[name].append(map_tensors(torch.clone, output))
        )
    with torch.no_grad():
        output = map_tensors(torch.clone, model(x.clone()))
    return found, output


def same(one, other):
    return outline(one) == outline(other) and all(map(torch.equal, tensors(one), tensors(other)))


@pytest.mark.changes_model  # it runs the model once more at the end
@settings(deadline=None, max_examples=40)
@given(
    plan=st.lists(st.sampled_from(STEPS), min_size=1, max_size=6),
    data=st.data(),
    training=st.booleans(),
    stop_early=st.booleans(),
    seed=st.integers(0, 5),
)
def test_recording_equals_the_replica_and_leaves_nothing_behind(plan, data, training, stop_early, seed):
    names = [f"parts.{index}" for index, kind in enumerate(plan) if kind != "shared"]
    names += ["shared"] * ("shared" in plan)
    names = data.draw(st.lists(st.sampled_from(names), min_size=1, unique=True))
    if stop_early:  # the user vouches that the number of calls does not depend on random numbers
        plan = [
            kind if kind not in {"torch", "numpy", "python", "own generator"} else "conv" for kind in plan
        ]
    model, x = seeded(lambda: Stranger(plan)).train(training), images(2, channels=2, size=4)
    torch.manual_seed(seed), np.random.seed(seed), random.seed(seed)
    before, drawn = snapshot(model), random_state()
    expected, output = replica(plan, training, x, names)
    torch.manual_seed(seed), np.random.seed(seed), random.seed(seed)
    recorder = fl.ActivationRecorder(model, names, training="keep", stop_early=stop_early)
    for _ in range(2):
        acts = recorder(x.clone())
        assert len(acts) == sum(map(len, expected.values()))
        for name, calls in expected.items():
            for number, value in enumerate(calls, 1):
                assert same(acts[name if len(calls) == 1 else f"{name}#{number}"], value)
        assert acts.output is None or same(acts.output, output)
        assert snapshot(model) == before
        assert random_state() == drawn
    with torch.no_grad():
        assert same(model(x.clone()), output), "the model goes on as if it had never been looked at"


@settings(deadline=None, max_examples=15)  # each collects garbage a dozen times
@given(plan=st.lists(st.sampled_from(STEPS), min_size=2, max_size=6))
def test_a_rewritten_model_does_the_same_or_says_that_it_cannot(plan):
    model, x = seeded(lambda: Stranger(plan)).eval(), images(2, channels=2, size=4)
    before, drawn, cached = snapshot(model), random_state(), repr(CACHE)
    _, output = replica(plan, False, x, [])
    layers = [f"parts.{index}" for index, kind in enumerate(plan) if kind != "shared"] or ["shared"]
    CACHE.clear()
    random_draws = {"torch", "numpy", "python"} & set(plan)
    for record in (
        lambda: fl.insert_extractors(model, layers).eval()(x),
        lambda: fl.ActivationRecorder(model, layers, backend="rewrite")(x).output,
    ):
        torch.set_rng_state(torch.tensor(drawn, dtype=torch.uint8))
        try:
            returned = record()
        except (RuntimeError, LookupError) as error:
            assert "hooks" in str(error)  # noqa: PT017
        else:
            assert not random_draws
            if "own generator" not in plan:  # a copy has a generator of its own
                assert same(returned, output)
        assert snapshot(model) == before
    assert "Proxy" not in repr(CACHE), cached
