"""Atlases of networks of all kinds of input."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from featurelens.atlas import Atlas
from tests.nets import seeded


def uniform(*shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


class Tokens(nn.Module):
    """Patches, attention, a head: a small vision transformer."""

    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 4, 4)
        self.block = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        return self.head(self.norm(self.block(self.patches(x).flatten(2).mT)).mean(1))


def convolutions(convolution, channels, features):
    return nn.Sequential(convolution(channels, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * features, 3))


CASES = {
    "grey": (lambda: convolutions(nn.Conv2d, 1, 36), (1, 8, 8), None),
    "colour": (lambda: convolutions(nn.Conv2d, 3, 36), (3, 8, 8), None),
    "bands": (lambda: convolutions(nn.Conv2d, 6, 36), (6, 8, 8), None),
    "signal": (lambda: convolutions(nn.Conv1d, 2, 30), (2, 32), None),
    "volume": (lambda: convolutions(nn.Conv3d, 1, 48), (1, 4, 6, 8), None),
    "tokens": (Tokens, (3, 16, 16), ["patches", "block.linear1", "norm", "head"]),
}


@pytest.mark.parametrize("case", CASES)
def test_any_kind_of_input_has_an_atlas(case, tmp_path):
    build, shape, layers = CASES[case]
    loader = uniform(24, *shape), torch.arange(24) % 3
    atlas = Atlas(seeded(build), loader, layers, steps=2, sample=20, ablation=8, progress=False, title=case)
    site = atlas.build(tmp_path / "atlas")
    kind = {"signal": "signal", "volume": "volume"}.get(case, "image")
    assert site.manifest["input"] == {"shape": list(shape), "kind": kind}
    for layer in site.manifest["layers"]:
        assert layer["notes"] == [], case
        assert "best" in layer["sheets"]
        assert ("maps" in layer["sheets"]) == (len(layer["shape"]) > 1)
    assert len(site.layers) == (2 if layers is None else 4)


def test_tokens_are_laid_over_the_image_as_they_lie_in_it(tmp_path):
    class Positions(nn.Module):
        """A class token of 9, and tokens in rows of four: the value is the row."""

        def __init__(self):
            super().__init__()
            self.norm = nn.Linear(1, 1, bias=False)

        def forward(self, x):
            rows = torch.arange(4.0).repeat_interleave(4)
            tokens = torch.cat([torch.tensor([9.0]), rows]) + 0 * x.mean()
            return self.norm(tokens.expand(len(x), 17)[..., None]).mean(1)

    model = Positions()
    nn.init.ones_(model.norm.weight)
    Atlas(model, uniform(8, 1, 8, 8), "norm", steps=0, sample=4, progress=False).build(tmp_path / "atlas")
    with Image.open(tmp_path / "atlas" / "images" / "000-norm" / "0000-maps.webp") as sheet:
        opacity = torch.from_numpy(np.array(sheet.getchannel("A"))).long()
    assert torch.equal(opacity[:, 0], (torch.arange(4.0) / 9 * 255).round().long())
