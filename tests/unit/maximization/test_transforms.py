"""Random transforms: against plain pixel arithmetic, differentiable, and each image on its own."""

import pytest
import torch

from featurelens.maximization.transforms import (
    Chain,
    Jitter,
    Pad,
    RandomRotate,
    RandomScale,
    standard,
    warp,
)


def picture(n=1, channels=1, size=(8, 10), dtype=torch.float64):
    return torch.rand(n, channels, *size, dtype=dtype, generator=torch.Generator().manual_seed(0))


def numbers(n, k, value=None):
    if value is not None:
        return torch.full((n, k), value, dtype=torch.float64)
    return torch.rand(n, k, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("shift", [(2, 0), (0, -3), (-1, 2)])
def test_jitter_shifts_by_whole_pixels(shift):
    images, reach = picture(), 3
    drawn = torch.tensor([[(step + reach + 0.5) / (2 * reach + 1) for step in shift]], dtype=torch.float64)
    moved = Jitter(reach)(images, drawn)
    across, down = shift
    expected = images.roll((-down, -across), (2, 3))
    inside = (..., slice(max(-down, 0), 8 - max(down, 0)), slice(max(-across, 0), 10 - max(across, 0)))
    assert torch.allclose(moved[inside], expected[inside], atol=1e-12)


def test_jitter_reaches_every_shift_equally():
    drawn = torch.rand(20000, 2, generator=torch.Generator().manual_seed(0))
    shifts = Jitter(2).matrices(drawn, 2)[:, :2, 2]
    counts = torch.stack([(shifts == step).sum(0) for step in range(-2, 3)]) / 20000
    assert torch.allclose(counts, torch.tensor(0.2), atol=0.02)


def test_a_quarter_turn_is_exact():
    images = picture(size=(7, 7))
    turns = [RandomRotate(90)(images, numbers(1, 1, drawn)) for drawn in (0.0, 0.5, 1.0)]
    assert torch.allclose(turns[1], images, atol=1e-10)
    assert torch.allclose(turns[2], turns[0].rot90(2, (2, 3)), atol=1e-10)
    quarters = [images.rot90(1, (2, 3)), images.rot90(-1, (2, 3))]
    assert any(torch.allclose(turns[2], each, atol=1e-10) for each in quarters)


def test_doubling_shows_the_middle_half():
    ramp = torch.arange(16, dtype=torch.float64).expand(1, 1, 16, 16)
    doubled = RandomScale(2, 2)(ramp, numbers(1, 1))
    assert torch.allclose(doubled[0, 0, 8], 3.75 + torch.arange(16, dtype=torch.float64) / 2, atol=1e-9)


def test_neighbours_in_a_chain_are_one_interpolation_of_the_same_place():
    images = picture(3, 2, (32, 24))
    smooth = torch.nn.functional.avg_pool2d(images, 7, 1, 3)  # where interpolating twice hardly blurs
    chain = Chain([Jitter(1), RandomScale(0.95, 1.05), RandomRotate(5)], (32, 24))
    drawn = numbers(3, 4)
    step = Jitter(1)(smooth, drawn[:, :2])
    step = RandomRotate(5)(RandomScale(0.95, 1.05)(step, drawn[:, 2:3]), drawn[:, 3:])
    inside = (..., slice(5, -5), slice(5, -5))
    assert torch.allclose(chain(smooth, drawn)[inside], step[inside], atol=0.02)
    assert not torch.allclose(smooth[inside], step[inside], atol=0.02)


@pytest.mark.parametrize("size", [(8, 8), (7, 10)])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_gradients_agree_with_finite_differences(size, channels):
    chain = Chain([Pad(2, fill="reflect"), *standard(size)], size)
    drawn = numbers(2, chain.numbers)
    images = picture(2, channels, size).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: chain(x, drawn), (images,))


def test_each_image_is_moved_on_its_own():
    chain = Chain("standard", (8, 10))
    images, drawn = picture(4), numbers(4, chain.numbers)
    together = chain(images, drawn)
    apart = torch.cat([chain(images[[k]], drawn[[k]]) for k in range(4)])
    assert torch.allclose(together, apart)


def test_the_centre_of_what_is_left_is_given_to_the_model():
    images = picture()
    assert torch.equal(Chain([Pad(3)], (8, 10))(images, numbers(1, 0)), images)
    flip = Chain([lambda x: x.flip(3)], (8, 10))
    assert torch.equal(flip(images, numbers(1, 0)), images.flip(3))
    assert torch.equal(Chain(None, (8, 10))(images, numbers(1, 0)), images)
    with pytest.raises(
        ValueError, match=r"the transforms returned images of \(4, 10\) pixels, smaller than the model's"
    ):
        Chain([lambda x: x[:, :, :4]], (8, 10))(images, numbers(1, 0))


def test_pads():
    images = picture()
    grey = Pad(2)(images, numbers(1, 0))
    assert (grey[..., :2, :] == 0.5).all()
    assert torch.equal(Pad(2, fill="reflect")(images, numbers(1, 0))[..., 2:-2, 1], images[..., 1])


def test_standard_grows_with_the_image():
    assert [repr(part) for part in standard((28, 28))] == [
        "Jitter(2)",
        "RandomScale(0.9, 1.1)",
        "RandomRotate(5)",
    ]
    assert repr(standard((224, 300))[0]) == "Jitter(14)"
    assert repr(standard((8, 8))[0]) == "Jitter(1)"


def test_nothing_moves_without_matrices():
    images = picture()
    assert warp(images, None) is images
    assert torch.allclose(warp(images, torch.eye(3, dtype=torch.float64)[None]), images)
