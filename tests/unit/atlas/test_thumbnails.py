"""Small pictures and sheets of them, read back pixel by pixel."""

import io

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from featurelens.atlas.thumbnails import LINES, View, encoded, picture, sheet


def pixels(drawn):
    return np.asarray(drawn.convert("RGB")).astype(int)


@given(bands=st.sampled_from([1, 3]), height=st.integers(1, 12), width=st.integers(1, 12))
def test_a_small_image_is_drawn_pixel_by_pixel(bands, height, width):
    image = torch.rand(bands, height, width, generator=torch.Generator().manual_seed(height * width))
    drawn = pixels(picture(image, edge=12))
    assert drawn.shape == (height, width, 3)
    assert np.array_equal(drawn, (image.expand(3, -1, -1).movedim(0, 2) * 255).round().int().numpy())


@pytest.mark.parametrize(("height", "width"), [(40, 20), (20, 40), (300, 2), (7, 300)])
def test_a_large_image_keeps_its_shape(height, width):
    drawn = picture(torch.full((1, height, width), 0.5), edge=16)
    assert max(drawn.size) == 16
    assert drawn.size == (
        max(1, round(16 * width / max(height, width))),
        max(1, round(16 * height / max(height, width))),
    )
    assert set(pixels(drawn).ravel()) == {128}


@given(bands=st.integers(4, 30), height=st.integers(1, 9), width=st.integers(1, 9))
def test_other_bands_and_slices_stand_side_by_side(bands, height, width):
    image = torch.linspace(0.2, 1, bands)[:, None, None].expand(bands, height, width)
    drawn = pixels(picture(image, edge=500))[..., 0]
    assert np.array_equal(drawn, pixels(picture(image[None], edge=500))[..., 0]), "a volume's slices likewise"
    rows, columns = drawn.shape[0] // height, drawn.shape[1] // width
    places = drawn.reshape(rows, height, columns, width).swapaxes(1, 2).reshape(rows * columns, -1)
    expected = (image[:, 0, 0] * 255).round().int().tolist()
    assert (places == places[:, :1]).all()
    assert places[:, 0].tolist() == [*expected, *[0] * (rows * columns - bands)]
    assert rows * columns - bands < columns
    assert max(drawn.shape) <= 3 * min(drawn.shape) + max(height, width)


@pytest.mark.parametrize("samples", [1, 2, 30])
def test_every_channel_of_a_signal_is_a_line_in_its_colour(samples):
    heights = torch.tensor([0.1, 0.5, 0.9])
    drawn = picture(heights[:, None].expand(3, samples), edge=64)
    assert drawn.size == (64, 32)
    found = pixels(drawn)
    for height, colour in zip(heights.tolist(), LINES, strict=False):
        row = round((1 - height) * 31)
        ink = 255 - found[max(0, row - 1) : row + 2].min(0)  # what is not white, by column
        drawn_at = ink.max(1) > 50
        assert drawn_at.any(), "one sample is a dot"
        assert (drawn_at.sum() > 60) == (samples > 1)
        wanted = 255 - np.array(colour)
        strongest = ink[ink.sum(1).argmax()]
        assert np.allclose(strongest / strongest.max(), wanted / wanted.max(), atol=0.15)


def test_what_stays_exact_when_it_is_stored():
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8))

    def read(data):
        return Image.open(io.BytesIO(data))

    assert np.array_equal(pixels(read(encoded(noise, exact=True))), pixels(noise))
    assert not np.array_equal(pixels(read(encoded(noise))), pixels(noise))
    assert len(encoded(noise)) < len(encoded(noise, exact=True)) / 2
    see_through = noise.copy()
    see_through.putalpha(100)
    assert np.array_equal(np.asarray(read(encoded(see_through))), np.asarray(see_through))


@settings(max_examples=20)
@given(number=st.integers(1, 12), columns=st.integers(1, 5), empty=st.sets(st.integers(0, 11)))
def test_a_sheet_holds_each_picture_in_its_place(number, columns, empty):
    tiles = [
        None if place in empty - {0} else Image.new("RGB", (3, 2), (10 * place + 10, 0, 0))
        for place in range(number)
    ]
    laid = pixels(sheet(tiles, columns))[..., 0]
    rows = -(-number // columns)
    assert laid.shape == (2 * rows, 3 * columns)
    for place in range(rows * columns):
        row, column = divmod(place, columns)
        expected = 0 if place >= number or tiles[place] is None else 10 * place + 10
        assert (laid[2 * row : 2 * row + 2, 3 * column : 3 * column + 3] == expected).all()


@pytest.mark.parametrize("scale", [1.0, 255.0])
def test_images_are_viewed_as_they_are_or_from_their_lowest_to_their_highest_value(scale):
    images = scale * torch.rand(5, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    found = View.of(images).unit(images[1])
    if scale == 1:
        assert torch.equal(found, images[1])
        return
    low, high = images.amin((0, 2, 3))[:, None, None], images.amax((0, 2, 3))[:, None, None]
    torch.testing.assert_close(found, (images[1] - low) / (high - low))
    assert View.of(images).unit(torch.full((2, 4, 4), torch.nan)).eq(0).all()
    assert View.of(torch.full((2, 1, 3, 3), 7.0)).unit(torch.full((1, 3, 3), 7.0)).eq(0).all()
