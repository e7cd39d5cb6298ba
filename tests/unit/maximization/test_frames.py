"""Runs that begin from images, and what they keep of the way."""

import re

import pytest
import torch
from PIL import Image

import featurelens as fl
from tests.nets import images, plain


def maximizer(steps=6, image=None, **settings):
    image = image or fl.PixelImage((1, 8, 8))
    return fl.ActivationMaximizer(plain(), image, steps=steps, progress=False, **settings)


@pytest.mark.parametrize("image", [fl.PixelImage((1, 8, 8)), fl.FourierImage((1, 8, 8))], ids=repr)
@pytest.mark.parametrize("chunk", [None, 2])
def test_a_run_begins_from_the_images(image, chunk):
    given = images(6).clamp(0, 1)
    result = maximizer(image=image, chunk=chunk).run("conv_2", start=given, record_every=2)
    assert result.frames.shape == (6, 4, 1, 8, 8)  # steps 0, 2, 4 and the end
    assert torch.allclose(result.frames[:, 0], given.clamp(0.01, 0.99), atol=1e-5)
    assert torch.equal(result.frames[:, -1], result.images)
    assert not torch.allclose(result.frames[:, 1], result.frames[:, 0], atol=1e-3)
    one = maximizer(image=image, chunk=chunk).run("conv_2", start=given[:1], record_every=6)
    assert torch.allclose(one.frames[:, 0], given[:1].clamp(0.01, 0.99).expand(6, -1, -1, -1), atol=1e-5)


def test_black_pixels_can_change():
    light = torch.nn.Conv2d(1, 1, 1)
    torch.nn.init.ones_(light.weight)
    for image in (fl.PixelImage((1, 8, 8)), fl.FourierImage((1, 8, 8))):
        run = fl.ActivationMaximizer(light, image, steps=128, progress=False).run
        assert float(run("", start=torch.zeros(1, 1, 8, 8)).images.min()) > 0.5


def test_frames_are_kept_only_on_request_and_change_nothing():
    without, kept = maximizer().run("conv_2"), maximizer().run("conv_2", record_every=1)
    assert without.frames is None
    assert torch.equal(without.images, kept.images)
    assert kept.frames.shape[1] == 7


def test_frames_are_saved(tmp_path):
    result = maximizer().run("conv_2", record_every=3)
    result.save(tmp_path)
    assert torch.equal(fl.MaximizationResult.load(tmp_path).frames, result.frames)


def test_frames_are_drawn_and_animated(tmp_path):
    result = maximizer().run("conv_2", record_every=2)
    figure = result.plot_frames(limit=3, shown=4, title="Way")
    drawn = figure.axes[0].images
    assert len(drawn) == 12
    assert torch.allclose(torch.as_tensor(drawn[3].get_array().data).float(), result.images[0, 0], atol=1e-6)
    result.animate(tmp_path / "run.gif", limit=4, rate=5)
    with Image.open(tmp_path / "run.gif") as animation:
        assert animation.n_frames == 4
        assert animation.info["duration"] == 200
        assert animation.size == (2 * 128 + 2, 2 * 128 + 2)


WRONG = [
    ({"start": images(3).clamp(0, 1)}, ValueError, "start must hold one image, or one for each of 6 objectives; got 3"),
    ({"start": images(1).clamp(0, 1) + 1}, ValueError, "start must be images of numbers in [0, 1]"),
    ({"start": torch.rand(0, 1, 8, 8)}, ValueError, "start must be images of numbers in [0, 1]; got float32 tensor (0,"),
    ({"start": "cat"}, TypeError, "start must be images (N, C, L), (N, C, H, W) or (N, C, D, H, W); got 'cat'"),
    ({"start": torch.rand(1, 3, 8, 8)}, ValueError, "images must be (N, 1, 8, 8)"),
    ({"record_every": 0}, ValueError, "record_every must be at least 1; got 0"),
]  # fmt: skip


@pytest.mark.parametrize(("wrong", "error", "message"), WRONG, ids=range(len(WRONG)))
def test_misuse_is_named(wrong, error, message):
    with pytest.raises(error, match=re.escape(message)):
        maximizer().run("conv_2", **wrong)


def test_what_has_no_inverse_says_so():
    with pytest.raises(
        TypeError, match=r"PhaseImage\(\(1, 8, 8\)\) cannot begin from images: use a FourierImage"
    ):
        maximizer(image=fl.PhaseImage((1, 8, 8))).run("conv_2", start=torch.rand(1, 1, 8, 8))
    with pytest.raises(ValueError, match="this run kept no frames: pass record_every="):
        maximizer().run("conv_2").plot_frames()
