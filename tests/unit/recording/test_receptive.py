"""Receptive fields: marking pixels against the arithmetic of kernels, strides and paddings."""

import pytest
import torch
from torch import nn

import featurelens as fl
from featurelens.recording.receptive import receptive_fields
from tests.nets import seeded


def by_arithmetic(layers, pixels, positions):
    """Go back from each position through (kernel, stride, padding, dilation), clipped at the border at the end."""
    found = []
    for position in range(positions):
        low = high = position
        for kernel, stride, padding, dilation in reversed(layers):
            low, high = low * stride - padding, high * stride - padding + dilation * (kernel - 1)
        found.append((max(low, 0), min(high, pixels - 1) + 1))
    return found


@pytest.mark.parametrize(
    "layers",
    [
        [(3, 1, 1, 1)],
        [(5, 2, 2, 1), (3, 1, 1, 1)],
        [(7, 2, 3, 1), (2, 2, 0, 1), (3, 1, 1, 1), (1, 2, 0, 1)],
        [(3, 1, 2, 2), (3, 3, 0, 1)],
    ],
)
def test_marking_agrees_with_arithmetic(layers):
    steps = []
    for index, (kernel, stride, padding, dilation) in enumerate(layers):
        channels = (1 if index == 0 else 2, 2)
        pool = kernel == 2
        steps += [
            nn.MaxPool2d(2) if pool else nn.Conv2d(*channels, kernel, stride, padding, dilation),
            nn.BatchNorm2d(2),
            nn.ReLU(inplace=True),
        ]
    model = seeded(lambda: nn.Sequential(*steps))
    with torch.no_grad():
        model[0].weight[:, :, 0] = 0.0  # a weight of zero is still looked through
        model[1].bias -= 100.0  # and so is a ReLU that is off
    field = fl.receptive_field(model, str(len(steps) - 1), (1, 32, 25))
    assert field.rows.tolist() == [list(pair) for pair in by_arithmetic(layers, 32, len(field.rows))]
    assert field.columns.tolist() == [list(pair) for pair in by_arithmetic(layers, 25, len(field.columns))]
    top, bottom, left, right = field.box((1, 2))
    assert [[top, bottom], [left, right]] == [field.rows[1].tolist(), field.columns[2].tolist()]


def test_a_residual_network_sees_along_its_longest_path_and_pooling_sees_everything():
    from torchvision.models import resnet18

    model = seeded(resnet18)
    field = fl.receptive_field(model, "layer1.0", (3, 64, 64))
    # conv 7/2, pool 3/2, two convolutions of 3: 7 + 2 * 2 + 2 * 2 * 4 = 27 pixels
    assert repr(field) == "ReceptiveField(16x16 positions, up to 27x27 pixels)"
    whole = fl.receptive_field(model, "avgpool", (3, 32, 32))
    assert whole.box((0, 0)) == (0, 32, 0, 32)


def test_pixels_that_no_position_sees_take_no_field_away():
    field = fl.receptive_field(nn.Conv2d(1, 1, 2, stride=3), "", (1, 6, 9))
    assert field.rows.tolist() == [[0, 2], [3, 5]]
    assert field.columns.tolist() == [[0, 2], [3, 5], [6, 8]]


def test_several_layers_are_looked_through_in_the_same_passes():
    """Each of them sees what it sees alone, and a layer that sees nothing hides no other."""
    passes = []

    class Nothing(nn.Module):
        def forward(self, x):
            passes.append(len(x))
            return torch.zeros_like(x)

    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.MaxPool2d(2), nn.Conv2d(2, 2, 3, padding=1), Nothing())
    found = receptive_fields(model, ["0#1", "3#1", "2#1"], (1, 12, 40))
    assert passes == 3 * [13] + 6 * [17] + 3 * [9]  # three kinds of change; 12 rows; 16, 16 and 8 columns
    assert list(found) == ["0#1", "2#1"]
    for call, field in found.items():
        alone = fl.receptive_field(model, call, (1, 12, 40))
        assert torch.equal(field.rows, alone.rows)
        assert torch.equal(field.columns, alone.columns)


class Selects(nn.Module):
    """A residual of a branch that a comparison, which NaN does not pass, turns on and off."""

    def __init__(self, sign):
        super().__init__()
        self.convolution, self.sign = nn.Conv2d(1, 2, 3, padding=1), sign

    def forward(self, x):
        y = self.convolution(x)
        return x + torch.where(self.sign * y > 0, y, 0)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_branches_that_a_comparison_turns_on_and_off_are_seen(sign, dtype):
    field = fl.receptive_field(seeded(lambda: Selects(sign)).to(dtype), "", (1, 19, 12))
    assert field.rows.tolist() == [list(pair) for pair in by_arithmetic([(3, 1, 1, 1)], 19, 19)]
    assert field.columns.tolist() == [list(pair) for pair in by_arithmetic([(3, 1, 1, 1)], 12, 12)]


def test_maps_that_drop_nan_are_told_by_changes():
    class Drops(nn.Module):
        def forward(self, x):
            return x.nan_to_num()

    field = fl.receptive_field(nn.Sequential(nn.Conv2d(1, 1, 3), Drops()), "1", (1, 6, 6))
    assert field.box((1, 2)) == (1, 4, 2, 5)
    assert fl.receptive_field(nn.Sequential(nn.Conv2d(1, 1, 3), Compares()), "1", (1, 6, 6)).box((1, 2)) == (
        1,
        4,
        2,
        5,
    )


def test_values_that_are_infinite_for_every_image_hide_no_change():
    class Masks(nn.Module):
        def forward(self, x):
            return torch.cat([x, torch.full_like(x, -torch.inf), torch.full_like(x, torch.inf)], 1)

    model = nn.Sequential(nn.Conv2d(1, 1, 3), Compared(), Masks())
    assert fl.receptive_field(model, "2", (1, 6, 6)).box((1, 2)) == (1, 4, 2, 5)


def test_rounding_beside_large_values_is_no_change():
    class Rounds(nn.Module):
        def forward(self, x):
            return x + 2e-5 * x.nan_to_num().abs().amax((1, 2, 3), keepdim=True)

    model = nn.Sequential(nn.Conv2d(1, 1, 3), Rounds())
    assert fl.receptive_field(model, "1", (1, 6, 6)).box((1, 2)) == (1, 4, 2, 5)


class Compared(nn.Module):
    def forward(self, x):
        return (x > 0).float()


class Compares(nn.Module):
    def forward(self, x):
        return x > 0


def test_what_has_no_receptive_field_is_told():
    class Stops(nn.Module):
        def forward(self, x):
            return torch.zeros_like(x)

    with pytest.raises(
        ValueError,
        match=r"^layer '0' has positions that respond to no pixel, so their receptive field is unknown$",
    ):
        fl.receptive_field(nn.Sequential(Stops()), "0", (1, 4, 4))
    with pytest.raises(
        ValueError, match=r"^layer '0' must return maps \(N, C, H, W\); got float32 tensor \(2, 16\)$"
    ):
        fl.receptive_field(nn.Sequential(nn.Flatten()), "0", (1, 4, 4))
    with pytest.raises(ValueError, match=r"^layer must be one call of one layer; got 0, 1$"):
        fl.receptive_field(nn.Sequential(nn.Conv2d(1, 1, 1), nn.Conv2d(1, 1, 1)), nn.Conv2d, (1, 4, 4))
    with pytest.raises(ValueError, match=r"^shape must be \(C, H, W\) of an image; got \(4, 4\)$"):
        fl.receptive_field(nn.ReLU(), "", (4, 4))


@pytest.mark.parametrize(
    ("position", "error", "message"),
    [
        (3, TypeError, r"^position must be two whole numbers, \(h, w\); got 3$"),
        ((1, 2, 3), TypeError, r"^position must be two whole numbers"),
        ((1.5, 0), TypeError, r"^position must be a whole number; got 1.5$"),
        ((9, 0), IndexError, r"^position must lie in the map of 6x6; got \(9, 0\)$"),
        ((0, -7), IndexError, r"^position must lie in the map of 6x6; got \(0, -7\)$"),
    ],
)
def test_positions_that_are_none(position, error, message):
    field = fl.receptive_field(nn.Conv2d(1, 1, 3), "", (1, 8, 8))
    assert field.box((-1, 0)) == (5, 8, 0, 3)
    with pytest.raises(error, match=message):
        field.box(position)


def test_sizes_that_are_not_whole_are_refused():
    with pytest.raises(ValueError, match=r"^shape must be \(C, H, W\) of an image; got \(1, 8.0, 8\)$"):
        fl.receptive_field(nn.ReLU(), "", (1, 8.0, 8))
