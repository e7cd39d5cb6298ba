"""Objectives whose maximum is known in closed form: the optimizer finds it, and paints nothing else."""

import math

import pytest
import torch
from torch import nn

import featurelens as fl

SIZE = 32
DOWN, ACROSS = torch.meshgrid(torch.arange(float(SIZE)), torch.arange(float(SIZE)), indexing="ij")
GREY = torch.ones(3) / 3


def wave(cycles, along):
    return torch.cos(2 * math.pi * cycles * along / SIZE)


def gabor():
    distance = (ACROSS - SIZE / 2).square() + (DOWN - SIZE / 2).square()
    return torch.exp(-distance / (2 * 4**2)) * wave(4, ACROSS)


WEIGHTS = {  # (C, h, w): the response is the sum of the pixels times these
    "colour": torch.tensor([-0.5, -0.5, 1.0])[:, None, None],
    "dark": -GREY[:, None, None],
    "brightness": GREY[:, None, None],
    "wave": GREY[:, None, None] * wave(3, ACROSS),
    "coloured wave": torch.tensor([1.0, -1.0, 0.0])[:, None, None] * wave(2, DOWN),
    "gabor": GREY[:, None, None] * gabor(),
}


@pytest.mark.parametrize("name", WEIGHTS)
@pytest.mark.parametrize("seed", [0, 1])
def test_the_known_maximum_is_found_and_nothing_else_is_in_the_image(name, seed):
    weight = WEIGHTS[name]
    filter_ = nn.Conv2d(3, 1, weight.shape[1:], bias=False)
    filter_.weight.data[0] = weight
    # A transform would move the pattern under a filter as large as the image.
    transforms = "standard" if weight.shape[1] == 1 else None
    maximizer = fl.ActivationMaximizer(
        filter_, fl.FourierImage((3, SIZE, SIZE)), transforms=transforms, seed=seed, progress=False
    )
    result = maximizer.run("")
    lowest, highest = float(weight.clamp(max=0).sum()), float(weight.clamp(min=0).sum())
    reached = (float(result.scores[0]) - lowest) / (highest - lowest)
    assert reached >= 0.985  # .97 of the way from grey, which lies in the middle
    best = (weight > 0).float().expand(3, SIZE, SIZE)
    clear = (weight.abs() > 0.1 * weight.abs().max()).expand(
        3, SIZE, SIZE
    )  # elsewhere the pixel hardly matters
    assert float(((result.images[0] > 0.5) != best.bool())[clear].float().mean()) <= 0.01


WAVES = [(nn.Conv1d, (64,)), (nn.Conv1d, (1000,)), (nn.Conv2d, (24, 20)), (nn.Conv3d, (24, 12, 12))]


@pytest.mark.parametrize(("layer", "size"), WAVES, ids=[str(size) for _, size in WAVES])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_known_wave_is_found_on_any_number_of_axes(layer, size, seed):
    places = torch.meshgrid(*(torch.arange(float(n)) / n for n in size), indexing="ij")
    phase = sum(cycles * place for cycles, place in zip((2, 1, 1), places, strict=False))
    weight = torch.stack([torch.cos(2 * math.pi * phase), -torch.sin(2 * math.pi * phase)])
    filter_ = layer(2, 1, size, bias=False)
    filter_.weight.data[0] = weight
    image = fl.FourierImage((2, *size))
    result = fl.ActivationMaximizer(filter_, image, transforms=None, seed=seed, progress=False).run("")
    lowest, highest = float(weight.clamp(max=0).sum()), float(weight.clamp(min=0).sum())
    assert (float(result.scores[0]) - lowest) / (highest - lowest) >= 0.985
    clear = weight.abs() > 0.1
    assert float(((result.images[0] > 0.5) != (weight > 0))[clear].float().mean()) <= 0.01
