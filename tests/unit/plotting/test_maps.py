"""Feature maps as numbered tiles."""

import time

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from featurelens.plotting import feature_maps, input_and_feature_maps


def pictures(figure):
    return figure.axes[0].images


def texts(figure):
    return [text.get_text() for text in figure.axes[0].texts]


def note(figure):
    return " ".join(text.get_text() for text in figure.texts).replace("\n", " ")


def test_every_channel_is_a_numbered_tile():
    maps = torch.rand(3, 6, 5, 7)
    figure = feature_maps(maps, image=2)
    assert isinstance(figure, Figure)
    assert figure.get_suptitle() == "6 feature maps of 5×7"
    assert texts(figure) == ["0", "1", "2", "3", "4", "5"]
    for channel, image in enumerate(pictures(figure)):
        np.testing.assert_allclose(image.get_array(), maps[2, channel])
        left, right, bottom, top = image.get_extent()
        assert (bottom - top) / (right - left) == pytest.approx(5 / 7)  # y grows downwards
        assert image.get_interpolation() == "nearest"


def test_tiles_neither_overlap_nor_leave_the_page():
    figure = feature_maps(torch.rand(17, 4, 4))
    ax = figure.axes[0]
    boxes = [image.get_extent() for image in pictures(figure)]
    assert min(left for left, *_ in boxes) >= 0
    assert max(right for _, right, *_ in boxes) <= ax.get_xlim()[1] + 1e-9
    assert max(bottom for *_, bottom, _ in boxes) <= ax.get_ylim()[0] + 1e-9
    for i, (l1, r1, b1, t1) in enumerate(boxes):
        for l2, r2, b2, t2 in boxes[:i]:
            assert r1 <= l2 or r2 <= l1 or b1 <= t2 or b2 <= t1


def test_three_dimensions_are_said_to_be_one_image_as_tokens_have_three_too():
    assert "read as (C, H, W), the maps of one image" in note(feature_maps(torch.rand(8, 16, 32)))
    assert "read as" not in note(feature_maps(torch.rand(1, 8, 16, 32)))
    tokens = torch.rand(2, 6, 4)  # a patch grid of 2 x 3, as the docstring puts it back
    maps = tokens.mT.unflatten(2, (2, 3))
    assert torch.equal(maps[1, :, 1, 2], tokens[1, 5])


def test_colours_follow_the_sign_of_the_data():
    assert {i.get_cmap().name for i in pictures(feature_maps(torch.rand(3, 4, 4)))} == {"viridis"}
    signed = torch.tensor([[-1.0, 3.0], [0.0, 0.5]])[None]
    (image,) = pictures(feature_maps(signed))
    assert image.get_cmap().name == "RdBu_r"
    assert image.get_clim() == (-3.0, 3.0)
    np.testing.assert_allclose(image.to_rgba(0.0)[:3], 0.97, atol=0.02)  # zero is white


def test_scale_map_stretches_each_map_and_shared_does_not():
    maps = torch.tensor([[0.0, 1.0], [0.0, 9.0]])[:, None]
    assert [i.get_clim() for i in pictures(feature_maps(maps))] == [(0, 1), (0, 9)]
    figure = feature_maps(maps, scale="shared")
    assert [i.get_clim() for i in pictures(figure)] == [(0, 9), (0, 9)]
    assert "8" in bar_words(figure)


def bar_words(figure):
    return [label.get_text() for label in figure.axes[1].get_yticklabels()]


def test_the_colour_bar_says_what_the_colours_mean():
    assert bar_words(feature_maps(torch.rand(3, 4, 4))) == ["min", "max"]
    figure = feature_maps(torch.randn(3, 4, 4))
    assert bar_words(figure) == ["-max", "0", "max"]
    assert figure.axes[1].get_ylim() == tuple(figure.axes[1].get_yticks()[[0, -1]])
    own = Figure().subplots()
    assert len(feature_maps(torch.rand(3, 4, 4), ax=own).axes) == 1, "words take too much room in an Axes"


def test_a_layer_has_the_same_colours_for_every_image():
    maps = torch.rand(3, 2, 4, 4)
    maps[2, 1, 0, 0] = -1.0
    names = {i.get_cmap().name for image in range(3) for i in pictures(feature_maps(maps, image=image))}
    assert names == {"RdBu_r"}
    assert pictures(feature_maps(maps.numpy(), image=0, limit=1))[0].get_cmap().name == "RdBu_r"


def test_dead_channels_are_hatched_and_carry_their_value():
    maps = torch.rand(3, 4, 4)
    maps[1] = 0.0
    figure = feature_maps(maps)
    assert len(pictures(figure)) == 2
    assert texts(figure) == ["0", "0", "1", "2"]  # the value in the hatched tile comes before its number
    assert [patch.get_hatch() for patch in figure.axes[0].patches].count("////") == 1
    assert "hatched: 1 constant channel" in note(figure)


def test_maps_of_one_pixel_are_not_dead_but_share_a_scale():
    figure = feature_maps(torch.arange(4.0).reshape(1, 4, 1, 1))
    assert [i.get_clim() for i in pictures(figure)] == [(0, 3)] * 4


def test_nan_and_infinity_are_pink_and_do_not_set_the_scale():
    maps = torch.rand(1, 3, 3)
    maps[0, 0, 0], maps[0, 1, 1] = torch.nan, torch.inf
    figure = feature_maps(maps)
    (image,) = pictures(figure)
    assert image.get_clim()[1] <= 1
    for row, column in ((0, 0), (1, 1)):
        colour = image.to_rgba(image.get_array())[row, column, :3]
        np.testing.assert_allclose(colour, [1, 0, 168 / 255], atol=0.01)
    assert "pink: NaN or infinite" in note(figure)


def test_a_map_of_nothing_but_nan_is_drawn():
    (image,) = pictures(feature_maps(torch.full((1, 3, 3), torch.nan)))
    assert image.get_clim() == (0, 1)


def test_many_channels_are_limited_in_words():
    figure = feature_maps(torch.rand(1, 512, 2, 2), title="layer4")
    assert len(pictures(figure)) == 64
    assert figure.get_suptitle() == "layer4 (first 64 of 512)"


@pytest.mark.parametrize(
    "maps",
    [
        torch.rand(2, 3, 4, 4, dtype=torch.bfloat16),
        torch.rand(2, 3, 4, 4, dtype=torch.float16),
        torch.rand(2, 3, 4, 4, requires_grad=True),
        torch.randint(0, 9, (2, 3, 4, 4)),
        torch.rand(2, 3, 4, 4) > 0.5,
        np.random.default_rng(0).random((2, 3, 4, 4)),
        torch.rand(2, 4, 4, 3).permute(0, 3, 1, 2),
    ],
    ids=["bf16", "f16", "grad", "int", "bool", "numpy", "strided"],
)
def test_any_real_array_is_welcome(maps):
    before = maps.clone() if isinstance(maps, torch.Tensor) else maps.copy()
    figure = feature_maps(maps, image=1)
    figure.draw_without_rendering()
    assert (maps == before).all()


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 2, 2), (2, 1, 128), (2, 128, 1), (5, 3, 40), (1, 300, 300)])
def test_any_shape_can_be_drawn_and_saved(shape, tmp_path):
    figure = feature_maps(torch.rand(shape))
    figure.savefig(tmp_path / "maps.png")
    width, height = figure.get_size_inches()
    assert 1 < width < 10
    assert 0.5 < height < 12


def test_a_long_title_is_broken_into_lines_that_fit():
    figure = feature_maps(torch.rand(2, 4, 4), title="activations of a layer with a very long name " * 6)
    figure.draw_without_rendering()
    for text in figure.texts:
        box = text.get_window_extent()
        assert box.x0 >= 0
        assert box.x1 <= figure.bbox.x1
        assert box.y1 <= figure.bbox.y1
    assert figure.axes[0].get_window_extent().y1 < min(t.get_window_extent().y0 for t in figure.texts)


def test_an_axes_of_the_callers_is_used():
    figure = Figure()
    ax = figure.subplots(1, 2)[1]
    assert feature_maps(torch.rand(4, 3, 3), ax=ax, title="here") is figure
    assert len(ax.images) == 4
    assert ax.get_title(loc="left").startswith("here\n")


def test_the_input_stands_beside_its_maps():
    inputs, maps = torch.rand(2, 3, 8, 8), torch.rand(2, 4, 6, 6)
    figure = input_and_feature_maps(inputs, maps, image=1)
    assert figure.get_suptitle() == "Input and 4 feature maps of 6×6"
    first, *others = pictures(figure)
    np.testing.assert_allclose(first.get_array(), inputs[1].permute(1, 2, 0))
    assert len(others) == 4
    assert all(image.get_extent()[0] > first.get_extent()[1] for image in others)
    assert texts(figure) == ["input", "0", "1", "2", "3"]


def test_a_single_input_goes_with_any_image_of_the_maps():
    figure = input_and_feature_maps(torch.rand(1, 8, 8), torch.rand(6, 6, 6)[:, None], image=0, title="mine")
    assert figure.get_suptitle() == "mine"
    assert pictures(figure)[0].get_cmap().name == "gray"


def test_a_note_tells_that_a_normalized_input_was_stretched():
    figure = input_and_feature_maps(torch.tensor([[[-2.0, 2.0]]]), torch.rand(2, 3, 3))
    assert "stretched from [-2, 2] to [0, 1]" in note(figure)


def test_sixty_four_maps_take_well_under_a_second():
    maps = torch.rand(1, 64, 32, 32)
    feature_maps(maps).draw_without_rendering()  # fonts are found once
    start = time.process_time()
    feature_maps(maps).draw_without_rendering()
    assert time.process_time() - start < 2  # about 0.2 s


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: feature_maps("maps"), TypeError, "maps must be a tensor or a NumPy array; got 'maps'"),
        (
            lambda: feature_maps(torch.rand(4, 4)),
            ValueError,
            "maps must be (N, C, H, W) or (C, H, W); got shape (4, 4)",
        ),
        (
            lambda: feature_maps(np.zeros((2, 0, 4, 4))),
            ValueError,
            "maps is empty: its shape is (2, 0, 4, 4)",
        ),
        (
            lambda: feature_maps(np.array([[["a"]]])),
            TypeError,
            "maps must hold real numbers; got <U1",
        ),
        (
            lambda: feature_maps(torch.rand(2, 3, 4, 4), image=2),
            ValueError,
            "image must be below 2, the number of images in maps; got 2",
        ),
        (
            lambda: feature_maps(torch.rand(2, 3, 4, 4), image="0"),
            TypeError,
            "image must be a whole number; got '0'",
        ),
        (
            lambda: feature_maps(torch.rand(3, 4, 4), scale="global"),
            ValueError,
            "scale must be one of 'map', 'shared'; got 'global'",
        ),
        (
            lambda: input_and_feature_maps(torch.rand(8, 8), torch.rand(3, 4, 4)),
            ValueError,
            "inputs must be (N, C, H, W) or (C, H, W); got shape (8, 8)",
        ),
        (
            lambda: input_and_feature_maps(torch.rand(1, 1, 8, 8), torch.rand(3, 2, 4, 4), image=1),
            ValueError,
            "image must be below 1, the number of images in inputs; got 1",
        ),
    ],
)
def test_misuse_is_named(call, error, message):
    with pytest.raises(error) as caught:
        call()
    assert str(caught.value) == message
