"""Signals are drawn as lines and volumes as slices."""

import itertools

import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex
from torch import nn

import featurelens as fl
from featurelens.plotting import image_grid, strongest_images, write_images
from featurelens.plotting.colours import PALE, SERIES


def lines(figure):
    """The lines of channels: not the pale ones at 0.5."""
    return [line for line in figure.axes[0].lines if to_hex(line.get_color()) != PALE]


def note(figure):
    return " ".join(text.get_text() for text in figure.texts).replace("\n", " ")


def test_each_channel_of_a_signal_is_a_line_over_the_positions():
    signals = torch.rand(4, 3, 20)
    figure = image_grid(signals, labels=list("abcd"))
    drawn = lines(figure)
    assert len(drawn) == 12
    assert [line.get_color() for line in drawn[:3]] == list(SERIES[:3])
    assert note(figure) == (
        "signals (N, C, L): position 0 to 19 from left to right, 0 to 1 from bottom to top; "
        "channel 0 blue, 1 red, 2 green"
    )
    for line, values in zip(drawn, signals.flatten(0, 1).numpy(), strict=True):
        across, down = line.get_data()
        assert (np.diff(across) > 0).all()
        assert np.corrcoef(-np.asarray(down), values)[0, 1] == pytest.approx(1)  # the page counts downwards


def test_frames_lie_around_the_lines_at_equal_heights():
    figure = image_grid(torch.tensor([0.0, 1.0]).repeat(3, 1, 4))
    frames = [patch.get_bbox() for patch in figure.axes[0].patches]
    for line, frame in zip(lines(figure), frames, strict=True):
        across, down = (np.asarray(each) for each in line.get_data())
        assert frame.x0 < across.min() < across.max() < frame.x1
        assert frame.y0 < down.min() < down.max() < frame.y1
        assert (down.max() - down.min()) / frame.height == pytest.approx(0.9)
        assert down[1] < down[0]


@pytest.mark.parametrize(
    ("signals", "words"),
    [
        (torch.tensor([-1.0, 3.0]).view(1, 1, 2), "stretched from [-1, 3] to [0, 1]"),
        (torch.tensor([0.2, torch.nan, 0.5]).view(1, 1, 3), "gaps: NaN or infinite"),
        (torch.rand(1, 9, 5), "9 channels, the first dark, the last bright"),
        (torch.full((1, 1, 3), 51, dtype=torch.uint8), "from bottom to top"),
        (torch.rand(2, 1, 1), "position 0 to 0"),
    ],
)
def test_what_was_done_to_signals_is_said(signals, words):
    figure = image_grid(signals)
    figure.draw_without_rendering()
    assert words in note(figure)
    assert len(lines(figure)) == signals.shape[0] * signals.shape[1]


@pytest.mark.parametrize(
    ("depth", "slices"), [(16, [2, 6, 10, 14]), (6, [0, 2, 3, 5]), (4, [0, 1, 2, 3]), (2, [0, 1]), (1, [0])]
)
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_a_volume_is_shown_as_slices(depth, slices, channels):
    volumes = torch.rand(2, channels, depth, 5, 6)
    figure = image_grid(volumes)
    drawn = [image.get_array() for image in figure.axes[0].images]
    assert len(drawn) == 2 * len(slices)
    assert f"slices {', '.join(map(str, slices))} of {depth} along the first axis, row by row" in note(figure)
    expected = volumes[:, :, slices].transpose(1, 2).flatten(0, 1)
    for found, wanted in zip(drawn, expected, strict=True):
        colours = wanted.permute(1, 2, 0) if channels == 3 else torch.cat(list(wanted), dim=1)
        np.testing.assert_allclose(found, colours)


def test_slices_fill_the_place_of_one_picture_and_do_not_overlap():
    figure = image_grid(torch.rand(3, 1, 8, 6, 6), columns=3)
    extents = [image.get_extent() for image in figure.axes[0].images]  # left, right, bottom, top
    for first, second in itertools.pairwise(extents):
        assert first[1] < second[0] or first[2] < second[3] or second[2] < first[3]
    (left, right, bottom, top), last = extents[0], extents[3]
    assert right < extents[1][0]
    assert bottom < extents[2][3]
    width, height = last[1] - left, last[2] - top
    assert width == pytest.approx(height, rel=0.02)


def test_files_of_volumes_hold_the_slices_pixel_by_pixel(tmp_path):
    from PIL import Image

    volumes = torch.rand(2, 1, 8, 5, 6)
    write_images(volumes, [tmp_path / "a.png", tmp_path / "b.png"])
    pixels = np.asarray(Image.open(tmp_path / "b.png").convert("RGB"))
    assert pixels.shape == (11, 13, 3)
    assert (pixels[5] == 255).all()
    np.testing.assert_allclose(pixels[:5, :6, 0] / 255, volumes[1, 0, 1], atol=1 / 255)
    np.testing.assert_allclose(pixels[6:, 7:, 0] / 255, volumes[1, 0, 7], atol=1 / 255)
    assert (np.asarray(Image.open(tmp_path / "a.png").convert("RGB")) != pixels).any()


def test_files_of_signals_are_charts_of_their_own(tmp_path):
    from PIL import Image

    write_images(torch.rand(2, 1, 30), [tmp_path / "a.png", tmp_path / "b.png"])
    first, second = (np.asarray(Image.open(tmp_path / name)) for name in ("a.png", "b.png"))
    assert first.shape == second.shape
    assert (first != second).any()


@pytest.mark.parametrize("layer", [nn.Conv1d, nn.Conv3d])
def test_comparisons_and_strongest_ones_are_drawn(layer):
    size = (12,) if layer is nn.Conv1d else (4, 6, 6)
    data, model = torch.rand(10, 1, *size), layer(1, 2, 3)
    result = fl.ActivationMaximizer(model, fl.FourierImage((1, *size)), steps=2, progress=False).run("")
    figure = result.compare(data, progress=False).plot(shown=3)
    axes = figure.axes[0]
    assert len(lines(figure) if layer is nn.Conv1d else axes.images) == 2 * 4 * (
        1 if layer is nn.Conv1d else 4
    )
    strongest = fl.ActivationRecorder(model, "").stream(data, fl.statistics.TopK(2))
    figure = strongest_images(strongest[""].top_k, data)
    assert figure.axes[0].lines or figure.axes[0].images
