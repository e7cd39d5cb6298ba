"""The window of an optimized image: the centre of a layer's map gives in it what it gives in the whole image."""

import pytest
import torch
from torch import nn

from featurelens import ActivationRecorder, receptive_field
from featurelens.atlas.seen import Seen
from featurelens.atlas.source import Source
from tests.nets import seeded

IMAGES = torch.rand(12, 3, 48, 40, generator=torch.Generator().manual_seed(0))


class Placed(nn.Module):
    """Knows where in the image each position lies, in so many channels, which are weaker than others."""

    def __init__(self, channels=4):
        super().__init__()
        self.channels = channels

    def forward(self, x):
        first, others = x[:, : self.channels], x[:, self.channels :]
        return torch.cat([first / 3 + torch.linspace(0, 1, x.shape[3]), 300 * others], 1)


def seen(model, layer, images=IMAGES, **options):
    return Seen.by(model.eval(), [layer], Source(images, **options), images)[layer]


def centre(model, layer, images):
    maps = ActivationRecorder(model, f"{layer}#1", stop_early=True)(images)[f"{layer}#1"]
    return maps[:, :, maps.shape[2] // 2, maps.shape[3] // 2]


def conv(*channels, **options):
    return nn.Conv2d(*channels, 3, **options)


FOUND = {
    "padded": lambda: [conv(3, 4, padding=1), nn.ReLU(), conv(4, 4, padding=1)],
    "not padded": lambda: [conv(3, 4), nn.ReLU(), conv(4, 4)],
    "strides": lambda: [conv(3, 4, stride=2, padding=1), nn.BatchNorm2d(4), conv(4, 4, stride=2)],
    "pools": lambda: [conv(3, 4, padding=1), nn.MaxPool2d(2), conv(4, 4), nn.AvgPool2d(3), nn.ReLU()],
    "dilated": lambda: [conv(3, 4, dilation=3, padding=3), conv(4, 4)],
    "oblong": lambda: [nn.Conv2d(3, 4, (3, 7)), nn.ReLU(), nn.Conv2d(4, 4, (1, 5), stride=(1, 2))],
    "patches": lambda: [nn.Conv2d(3, 4, 4, stride=4), nn.ReLU()],
    "one row": lambda: [nn.Conv2d(3, 4, (48, 3)), nn.ReLU()],
    "one pixel": lambda: [nn.Conv2d(3, 4, 1)],
    "a head of one size": lambda: [conv(3, 4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 46 * 38, 2)],
}
WHOLE = {
    "the whole image": lambda: [conv(3, 4), nn.GroupNorm(2, 4)],
    "most of the image": lambda: [nn.Conv2d(3, 4, (25, 25), padding=12)],
    "one of several placed": lambda: [nn.Conv2d(3, 4, 3), Placed(channels=1)],
    "placed": lambda: [conv(3, 4), Placed()],
    "another size": lambda: [conv(3, 4), nn.Upsample((48, 48))],
    "enlarged": lambda: [
        conv(3, 4, stride=2, padding=1),
        nn.Upsample(scale_factor=2),
        conv(4, 4, padding=1),
    ],  # neighbours see the same pixels in another way
    "one position": lambda: [conv(3, 4), nn.AdaptiveAvgPool2d(1)],
}


def built(layers):
    model = seeded(lambda: nn.Sequential(*layers())).eval()
    maps = [name for name, layer in model.named_children() if not isinstance(layer, nn.Flatten | nn.Linear)]
    return model, maps[-1]


@pytest.mark.parametrize("layers", FOUND.values(), ids=FOUND)
def test_the_centre_gives_the_same_in_its_window(layers):
    model, layer = built(layers)
    found = seen(model, layer)
    field = receptive_field(model, layer, (3, 48, 40))
    top, bottom, left, right = field.box((len(field.rows) // 2, len(field.columns) // 2))
    rows, columns = found.window
    assert found.pixels == [columns.stop - columns.start, rows.stop - rows.start]
    for part, first, last, size in ((rows, top, bottom, 48), (columns, left, right, 40)):
        length, margins = last - first, (first - part.start, part.stop - last)
        if part != slice(0, size):
            assert min(margins) >= min(length // 2, 4) - 1
            assert max(margins) <= max(length, 8)
    assert found.window != (slice(0, 48), slice(0, 40))
    others = torch.rand(5, 3, 48, 40)
    assert found.cut(others).shape == (5, 3, *reversed(found.pixels))
    torch.testing.assert_close(centre(model, layer, found.cut(others)), centre(model, layer, others))


@pytest.mark.parametrize("layers", WHOLE.values(), ids=WHOLE)
def test_a_unit_that_sees_more_or_knows_its_place_has_the_whole_image(layers):
    found = seen(*built(layers))
    assert found.window is None
    assert found.pixels is None
    assert found.cut(IMAGES) is IMAGES


def takes_whole_images_only(images):
    assert images.shape[2:] == (48, 40), "another size"
    return images


def test_a_preprocess_that_refuses_smaller_images_or_black_ones_leave_the_whole_image():
    model, layer = built(FOUND["padded"])
    found = seen(model, layer, preprocess=takes_whole_images_only)
    assert found.window is None
    assert found.field is not None
    assert seen(nn.Sequential(nn.Conv2d(3, 4, 3, bias=False)), "0", torch.zeros(9, 3, 48, 40)).window is None


def test_running_out_of_memory_is_not_taken_for_a_property_of_the_layer():
    def preprocess(images):
        if images.shape[2] < 48:
            raise torch.OutOfMemoryError("full")
        return images

    model, layer = built(FOUND["padded"])
    with pytest.raises(torch.OutOfMemoryError):
        seen(model, layer, preprocess=preprocess)


def test_what_the_preprocess_resizes_has_the_whole_image():
    model, layer = built(FOUND["padded"])
    resized = nn.Upsample((48, 40))
    assert seen(model, layer, preprocess=lambda images: images / 2).window
    assert seen(model, layer, preprocess=resized).window is None  # the same size, but not that of a window
    assert seen(model, layer, preprocess=nn.Upsample(scale_factor=2)).field is None


@pytest.mark.parametrize("layers", [FOUND["pools"], WHOLE["placed"]], ids=["a window", "none"])
def test_what_is_saved_is_found_again(layers):
    found = seen(*built(layers))
    again = Seen.of(found.saved)
    assert again.window == found.window
    assert all(
        map(torch.equal, (again.field.rows, again.field.columns), (found.field.rows, found.field.columns))
    )
    assert Seen.of(Seen().saved) == Seen()
