"""Generated networks: a sweep equals full forwards, and what ablation must be whatever the network."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import featurelens as fl
from tests.nets import images, seeded
from tests.state import random_state, snapshot
from tests.unit.ablation.nets import slow_loop

KINDS = st.sampled_from(
    ["conv", "relu", "inplace", "norm", "dropout", "shared", "add", "addinplace", "keep", "block", "function"]
)
quick = settings(deadline=None, max_examples=60)


class Net(nn.Module):
    """Runs `plan` step by step; "shared" is one module for all its steps, "keep" is added again at the end."""

    def __init__(self, plan):
        super().__init__()
        self.plan = plan
        self.shared = nn.LeakyReLU(0.2)
        self.parts = nn.ModuleList(self.part(kind) for kind in plan)
        self.head = nn.Linear(3, 2)

    @staticmethod
    def part(kind):
        return {
            "relu": nn.ReLU,
            "inplace": lambda: nn.ReLU(inplace=True),
            "norm": lambda: nn.BatchNorm2d(3),
            "dropout": lambda: nn.Dropout(0.5),
            "block": lambda: nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU(inplace=True)),
        }.get(kind, lambda: nn.Conv2d(3, 3, 3, padding=1))()

    def forward(self, x):
        kept = []
        for kind, part in zip(self.plan, self.parts, strict=True):
            if kind == "shared":
                x = self.shared(x)
            elif kind == "add":
                x = x + part(x)
            elif kind == "addinplace":
                x = part(x)
                x += 0.5
            elif kind == "keep":
                x = part(x)
                kept.append(x)
            elif kind == "function":
                x = torch.tanh(part(x).mul_(2))
            else:
                x = part(x)
        for value in kept:
            x = x + value
        return self.head(x.mean((2, 3)))


plans = st.lists(KINDS, min_size=1, max_size=6)


@quick
@given(
    plan=plans,
    data=st.data(),
    mode=st.sampled_from(["keep", "drop"]),
    chunk=st.integers(1, 4),
    n=st.integers(1, 3),
)
def test_a_sweep_equals_full_forwards(plan, data, mode, chunk, n):
    model = seeded(lambda: Net(plan)).double()
    layers = [name for name, module in model.named_modules() if name not in ("", "parts", "shared", "head")]
    layer = data.draw(st.sampled_from(layers))
    x = images(n, 3, 5).double() - 0.4
    before, state = snapshot(model), random_state()
    if plan[int(layer.split(".")[1])] == "shared":
        return  # this convolution is not used
    result = fl.ChannelAblator(model, layer).sweep(x, mode=mode, chunk=chunk)
    expected = slow_loop(model, layer, x, mode=mode, channels=range(3))
    torch.testing.assert_close(result.outputs, expected, rtol=1e-9, atol=1e-9)
    if (
        "keep" not in plan or "inplace" not in plan
    ):  # what was kept may be changed in place by the layer itself
        assert result.notes == ()
    assert snapshot(model) == before
    assert random_state() == state


@quick
@given(
    channels=st.sets(st.integers(0, 2)),
    others=st.sets(st.integers(0, 2)),
    fill=st.sampled_from(["zero", "mean", torch.tensor([0.3, -1.0, 2.0])]),
)
def test_ablating_is_a_projection(channels, others, fill):
    model = seeded(lambda: nn.Sequential(nn.Conv2d(1, 3, 3), nn.Identity())).eval()
    ablator, x = fl.ChannelAblator(model, "0"), images()
    plain = model(x)
    with ablator.ablated(channels, fill=fill):
        once = model(x)
        with ablator.ablated(others, fill=fill):
            then = model(x)
    with ablator.ablated(channels | others, fill=fill):
        both = model(x)
    kept = [c for c in range(3) if c not in channels]
    assert torch.equal(once[:, kept], plain[:, kept])
    torch.testing.assert_close(then, both)
    with ablator.ablated(kept, mode="keep", fill=fill):
        assert torch.equal(model(x), once)


sizes = st.integers(7, 20)


@quick
@given(
    height=sizes,
    width=sizes,
    kernel=st.integers(1, 4),
    stride=st.integers(1, 3),
    padding=st.integers(0, 2),
    dilation=st.integers(1, 2),
    pool=st.sampled_from(
        [
            None,
            {"kernel_size": 2},
            {"kernel_size": 2, "ceil_mode": True},
            {"kernel_size": 3, "stride": 2, "padding": 1},
        ]
    ),
    weights=st.sampled_from(["tied", "learned"]),
)
def test_decoders_give_back_the_size(height, width, kernel, stride, padding, dilation, pool, weights):
    layers = [nn.Conv2d(1, 2, kernel, stride, padding, dilation), nn.ReLU()]
    model = seeded(lambda: nn.Sequential(*layers, *([nn.MaxPool2d(**pool)] if pool else [])))
    x = torch.rand(2, 1, height, width)
    try:
        model(x)
    except RuntimeError:
        return  # the image is too small
    assert fl.DeconvDecoder(model, weights=weights)(x).shape == x.shape
