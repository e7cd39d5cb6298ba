"""Outputs with three axes: series (N, C, L) and tokens (N, L, D), which look the same."""

import pytest
import torch
from torch import nn

import featurelens as fl


class Encoder(nn.Module):
    """Returns tokens (N, L, D)."""

    def __init__(self):
        super().__init__()
        self.norm = nn.Sequential(nn.LayerNorm(16))  # whose type says nothing of the axes
        self.lstm = nn.LSTM(16, 4, batch_first=True)
        self.conv = nn.Conv1d(12, 5, 3)

    def forward(self, x):
        tokens = self.norm(x)
        return self.lstm(tokens)[0], self.conv(tokens)


TOKENS = torch.rand(8, 12, 16, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("reduce", "method"), [("mean", "mean"), ("max", "amax")])
def test_of_three_axes_only_the_user_can_tell_the_channels(reduce, method):
    model = Encoder()
    for layer, shape, z in (("norm", r"\(8, 12, 16\)", "z"), ("lstm", r"\(8, 12, 4\)", r"z\[0\]")):
        message = (
            rf"^layer '{layer}' returns {shape}, which may be \(N, L, D\) or \(N, C, L\): use reduce={{'{layer}': lambda z: "
            rf"{z}.{method}\(1\)}} for the features of tokens, lambda z: {z}.{method}\(2\) for channels$"
        )
        with pytest.raises(ValueError, match=message):
            fl.ActivationRecorder(model, layer, reduce=reduce)(TOKENS)
    found = fl.ActivationRecorder(
        model, ["norm", "conv"], reduce={"norm": lambda z: z.mean(1), "conv": reduce}
    )(TOKENS)
    assert torch.equal(found["norm"], model.norm(TOKENS).mean(1))
    assert torch.equal(found["conv"], getattr(model.conv(model.norm(TOKENS)), method)(2))


def test_statistics_and_information_ask_for_the_channels_of_three_axes():
    model, labels = Encoder(), torch.arange(8) % 2
    recorder = fl.ActivationRecorder(model, "norm")
    with pytest.raises(
        ValueError,
        match=r"use reduce={'norm': lambda z: z.movedim\(-1, 1\)} for the features of tokens, lambda z: z for",
    ):
        recorder.stream([TOKENS], fl.statistics.Moments())
    with pytest.raises(ValueError, match=r"^layer 'norm' returns \(8, 12, 16\), which may be"):
        fl.layer_information(model, "norm", TOKENS, labels)
    kept = fl.ActivationRecorder(model, "norm", reduce=lambda z: z.transpose(1, 2))
    assert kept.stream([TOKENS], fl.statistics.Moments())["norm"].moments.mean.shape == (16,)
    series = fl.ActivationRecorder(model, "conv").stream([TOKENS], fl.statistics.Moments())
    assert series["conv"].moments.mean.shape == (5,)


def test_a_picture_of_three_axes_is_one_of_the_image_that_was_asked_for():
    acts = fl.ActivationRecorder(Encoder(), ["norm", "conv"])(TOKENS)
    for layer in acts:
        figure = acts.plot(layer, image=5)
        (picture,) = figure.axes[0].images
        drawn = picture.get_array()
        assert drawn.shape == acts[layer].shape[1:]
        assert torch.allclose(torch.as_tensor(drawn.data), acts[layer][5].to(torch.as_tensor(drawn.data)))
        assert figure.get_suptitle() == f"{layer}: axis 1 downwards, axis 2 across"
    with pytest.raises(ValueError, match=r"^image must be below 8, the number of images in maps; got 8$"):
        acts.plot("norm", image=8)
