"""Redirected ReLU gradients: against a replica, in every form of ReLU, and gone afterwards."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import featurelens as fl
from featurelens.maximization.relu import RedirectedReLU
from tests.nets import seeded


def redirected(n=4):
    return RedirectedReLU(torch.ones(n, dtype=torch.bool), steps=1)


def replica(values, gradient):
    """What the input of a ReLU gets, image by image."""
    rows = []
    for x, g in zip(values, gradient, strict=True):
        usual = torch.where(x > 0, g, 0.0)
        helping = torch.where(g < 0, g, 0.0)  # the gradient of a loss: going down it makes these larger
        rows.append(usual if usual.abs().sum() > 0 else helping)
    return torch.stack(rows)


FORMS = {
    "nn.ReLU": nn.ReLU(),
    "nn.ReLU in place": lambda x: nn.ReLU(inplace=True)(x.clone()),
    "F.relu": F.relu,
    "F.relu in place": lambda x: F.relu(x.clone(), True),
    "F.relu inplace=": lambda x: F.relu(input=x.clone(), inplace=True),
    "torch.relu": torch.relu,
    "Tensor.relu": lambda x: x.relu(),
    "torch.relu_": lambda x: torch.relu_(x.clone()),
    "F.relu_": lambda x: F.relu_(x.clone()),
    "Tensor.relu_": lambda x: x.clone().relu_(),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_gradients_are_the_replicas(form):
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(4, 3, 5, dtype=torch.float64, generator=generator)
    values[1] = -values[1].abs()  # dead
    values[2] = values[2].abs()
    gradient = torch.randn(4, 3, 5, dtype=torch.float64, generator=generator)
    gradient[3] *= values[3] < 0  # what is active gets none
    values.requires_grad_()
    with redirected():
        out = form(values)
        (found,) = torch.autograd.grad((out * gradient).sum(), values)
    assert torch.equal(out, values.relu())
    assert torch.equal(found, replica(values.detach(), gradient))
    (usual,) = torch.autograd.grad((form(values) * gradient).sum(), values)
    assert torch.equal(usual, gradient * (values > 0))


def test_in_place_forms_change_their_input():
    with redirected(1):
        x = torch.tensor([[-1.0, 2.0]])
        assert nn.ReLU(inplace=True)(x) is x
    assert x.tolist() == [[0.0, 2.0]]


def test_where_every_image_is_alive_gradients_agree_with_finite_differences():
    values = torch.randn(3, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 0.5
    values = torch.where(values.abs() < 0.05, 0.1, values).requires_grad_()
    with redirected(3):
        assert torch.autograd.gradcheck(lambda x: (torch.relu(x) ** 2).sum(1), (values,))


class Dead(nn.Module):
    """A unit that no grey image wakes: its ReLU starts far below zero everywhere."""

    def __init__(self, relu):
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 3)
        self.relu = relu
        with torch.no_grad():
            self.conv.weight.fill_(0.5)
            self.conv.bias.fill_(-3.2)  # a white image gives 1.3, a grey one -0.95

    def forward(self, x):
        return self.relu(self.conv(x))


@pytest.mark.parametrize(
    "relu",
    [nn.ReLU(), nn.ReLU(inplace=True), F.relu, torch.relu, torch.Tensor.relu_],
    ids=["module", "module in place", "function", "torch", "method in place"],
)
def test_a_dead_unit_wakes_only_with_redirected_gradients(relu):
    def score(steps):
        model = seeded(lambda: Dead(relu))
        return (
            fl.ActivationMaximizer(model, fl.PixelImage((1, 6, 6)), steps=60, lr=0.5, redirect_relu=steps)
            .run(fl.objectives.logit(0))
            .scores.item()
        )

    assert score(0) == 0
    assert score(16) > 0.5
    assert F.relu(torch.tensor([-1.0], requires_grad=True)).grad_fn.name() == "ReluBackward0"


def test_redirection_continues_while_an_image_gets_no_gradient_and_acts_on_it_alone():
    model = seeded(lambda: Dead(nn.ReLU()))

    def scores(steps):
        maximizer = fl.ActivationMaximizer(
            model, fl.PixelImage((1, 6, 6)), steps=60, lr=0.05, redirect_relu=steps
        )
        return maximizer.run([fl.objectives.logit(0)] * 2).scores

    assert (scores(0) == 0).all()
    assert (scores(1) > 0.5).all()


def test_rows_are_left_alone_one_by_one():
    relus = RedirectedReLU(torch.ones(3, dtype=torch.bool), steps=1)
    values = torch.tensor([[-1.0], [1.0], [-1.0]], requires_grad=True)

    def gradient():
        with relus:
            return torch.autograd.grad(-torch.relu(values).sum(), values)[0].flatten().tolist()

    assert gradient() == [-1, -1, -1]
    assert relus.rows.tolist() == [True, False, True]
    with torch.no_grad():
        values[:] = torch.tensor([[-1.0], [-1.0], [1.0]])
    assert gradient() == [-1, 0, -1]
    assert relus.rows.tolist() == [True, False, False]
    with torch.no_grad():
        values[:] = 1.0
    gradient()
    assert not relus.on
