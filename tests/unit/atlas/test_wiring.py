"""Which layer's channels another one reads."""

import torch
from torch import nn
from torchvision.ops import FrozenBatchNorm2d

from featurelens.atlas.wiring import normalized, wires
from tests.nets import seeded


class Residual(nn.Module):
    """A sum of two branches, a reordering of channels, and a linear head over positions."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3, padding=1)
        self.conv1 = nn.Conv2d(4, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1)
        self.conv3 = nn.Conv2d(4, 2, 1)
        self.fc = nn.Linear(2 * 16, 3)

    def forward(self, x):
        x = self.stem(x).relu()
        y = self.conv2(self.norm(self.conv1(x)).relu()) + x
        y = nn.functional.max_pool2d(y, 2).flip(1)  # channels in another order: nothing can be said of conv3
        return self.fc(self.conv3(y).relu().flatten(1))


def test_sources_are_found_through_sums_and_activations():
    model = seeded(Residual).eval()
    layers = ["stem", "conv1", "conv2", "conv3", "fc"]
    found = wires(model, layers, torch.rand(2, 1, 8, 8))
    assert {name: each.source for name, each in found.items()} == {
        "stem": None,
        "conv1": "stem",
        "conv2": "conv1",
        "conv3": None,
        "fc": "conv3",
    }
    kernels = model.conv2.weight.detach().flatten(2)
    inputs = found["conv2"].inputs(1, 1)
    strongest = kernels[1].norm(dim=1).argsort(descending=True).tolist()
    assert inputs["channels"] == strongest
    assert inputs["layer"] == 1
    lengths = [abs(weight) for weight in inputs["weights"]]
    torch.testing.assert_close(torch.tensor(lengths), kernels[1].norm(dim=1)[strongest], rtol=1e-4, atol=0)
    head = model.fc.weight.detach().reshape(3, 2, 16).norm(dim=2)
    outputs = found["fc"].outputs(1, 4)
    assert outputs["channels"] == head[:, 1].argsort(descending=True).tolist()


def test_a_dead_channel_is_no_obstacle():
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Conv2d(3, 2, 3)).eval()
    with torch.no_grad():
        model[0].bias.fill_(-100.0)
    assert wires(model, ["0", "2"], torch.rand(2, 1, 8, 8))["2"].source == "0"


def test_layers_in_front_of_a_normalization_are_found():
    model = seeded(Residual).eval()
    layers = ["stem", "conv1", "norm", "conv2", "conv3", "fc"]
    assert normalized(model, layers, torch.rand(2, 1, 8, 8)) == {"conv1"}
    model.norm = FrozenBatchNorm2d(4)
    assert normalized(model, layers, torch.rand(2, 1, 8, 8)) == {"conv1"}
    model.conv3 = nn.Sequential(nn.Conv2d(4, 2, 1), nn.Dropout(), nn.GroupNorm(1, 2))
    assert normalized(model, ["stem", "conv3.0"], torch.rand(2, 1, 8, 8)) == {"conv3.0"}


def test_a_layer_of_several_calls_may_be_in_front_of_a_normalization():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(1, 1, 3), nn.BatchNorm2d(1)

        def forward(self, x):
            return self.norm(self.conv(self.norm(self.conv(x)).relu()))

    found = normalized(Twice().eval(), ["conv#1", "conv#2", "norm#1"], torch.rand(2, 1, 8, 8))
    assert found == {"conv#1", "conv#2"}
