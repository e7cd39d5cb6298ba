"""The nearest channels, and columns of any scale."""

import pytest
import torch

from featurelens.atlas.neighbours import nearest, standardized


def columns():
    return torch.randn(50, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("scale", [1e-30, 1e-9, 1, 1e30, 1e200])
def test_neighbours_do_not_depend_on_the_scale(scale):
    values = columns()
    found = nearest({"one": scale * values, "other": values.flip(1)})
    assert found["one"][0][0] == {"layer": 1, "channel": 2, "correlation": pytest.approx(1)}


@pytest.mark.parametrize("value", [0.1, 0.3, 1e10, 1e-30])
def test_a_constant_channel_is_near_to_none(value):
    constant = torch.full((50, 1), value, dtype=torch.float64)
    assert not standardized(constant).any()
    assert nearest({"one": columns(), "other": torch.cat([constant, 3 * constant], 1)})["other"] == [[], []]


def test_channels_that_are_not_finite_are_near_to_none():
    values = columns()
    values[3, 1], values[4, 2] = torch.nan, torch.inf
    assert nearest({"one": values})["one"][1:] == [[], []]
