"""A rewritten copy that computes something else is refused, and the message names what differs first."""

import pytest
import torch
from torch import nn

import featurelens as fl
from tests.nets import seeded

X = torch.linspace(-1, 1, 2 * 3 * 4 * 4).reshape(2, 3, 4, 4)


class Other(nn.Module):
    """Computes one thing, and under a trace another: a tensor that is traced has no dtype that a dict would know."""

    def __init__(self, compute):
        super().__init__()
        self.a, self.b, self.compute = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1), compute

    def forward(self, x):
        return self.compute(self.a, self.b, x, not {torch.float32: True}.get(x.dtype))


@pytest.mark.parametrize(
    ("compute", "message"),
    [
        (
            lambda a, b, x, traced: b(a(x + 1 if traced else x)),
            "in the input or output of layer 'a', before the first layer through 'add'.",
        ),
        (
            lambda a, b, x, traced: b(a(x).relu().neg() if traced else a(x)),
            "in the input or output of layer 'b', after layer 'a' through 'relu', 'neg'.",
        ),
        (lambda a, b, x, traced: b(a(x)) * (2 if traced else 1), "the first difference is after layer 'b', in 'mul'."),
        (lambda a, b, x, traced: b(a(x)) * (1 + 3e-6 * traced), "the first difference is after layer 'b', in 'mul"),
        (lambda a, b, x, traced: b(a(x)) if traced else a(x), "layer 'b' is in the trace after layer 'a' but is not called."),
        (lambda a, b, x, traced: b(a(b(x))) if traced else a(b(x)), "layer 'b' is in the trace after layer 'a' but is not called."),
        (lambda a, b, x, traced: b(a(x)) if traced else a(b(x)), "layer 'b' is called before the first layer but is not in the trace."),
        (lambda a, b, x, traced: b(a(x)) if traced else b(a(a(x))), "layer 'a' is called after layer 'a' but is not in the trace."),
    ],
    ids=range(8),
)  # fmt: skip
def test_every_kind_of_difference_is_named(compute, message):
    model = seeded(lambda: Other(compute))
    with pytest.raises(RuntimeError) as caught:
        fl.insert_extractors(model, "a", sample=X)
    assert message in str(caught.value)


@pytest.mark.changes_model
def test_a_sample_is_checked_in_eval_mode_and_in_the_mode_of_the_model():
    model = seeded(lambda: Other(lambda a, b, x, traced: b(a(x)) * (1 + (traced and a.training))))
    with pytest.raises(RuntimeError, match="the first difference is after layer 'b'"):
        fl.insert_extractors(model.train(), "a", sample=X)
    tapped = fl.insert_extractors(model.eval(), "a", sample=X)
    with pytest.raises(RuntimeError, match="the first difference is after layer 'b'"):
        tapped.train()(X)


def test_operations_of_either_mode_can_be_tapped():
    model = seeded(lambda: Other(lambda a, b, x, traced: b(a(x).relu() if a.training else a(x).sigmoid())))
    tapped = fl.insert_extractors(model, ["relu", "sigmoid"]).eval()
    tapped(X)
    assert tapped.extractors["sigmoid"].feature.shape == X.shape
    tapped.train()(X)
    assert tapped.extractors["relu"].feature.shape == X.shape


def test_rounding_is_no_difference():
    model = seeded(lambda: Other(lambda a, b, x, traced: b(a(x)) * (1 + 3e-7 * traced)))
    assert torch.allclose(fl.insert_extractors(model, "a", sample=X)(X), model(X))
