"""What a user reads when a call is wrong."""

import pytest
import torch
from torch import nn

import featurelens as fl
from tests import nets
from tests.unit.ablation.nets import Residual, Skips, batch, double

X = nets.images()
PAIR = (X, torch.tensor([0, 1, 2, 0]))


class Rows(nn.Sequential):
    """Rows of an image as tokens, and as channels."""

    def __init__(self):
        super().__init__()
        self.rows = nn.Flatten(1, 2)
        self.attn_in = nn.Sequential(nn.Linear(8, 8))
        self.conv = nn.Conv1d(8, 5, 3)


class Widening(nn.Module):
    """One ReLU behind 4 channels and then behind 6."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 6, 3)
        self.act = nn.ReLU()

    def forward(self, x):
        return self.act(self.second(self.act(self.first(x)))).mean((2, 3))


DIFFERENT = (
    "layer 'act' is called 2 times, with different numbers of channels; choose one call: "
    "act#1 (4 channels), act#2 (6 channels)"
)


def ablator(layer="left", build=Residual, **more):
    return fl.ChannelAblator(nets.seeded(build), layer, **more)


def inside(channels, **more):
    made = ablator()
    with made.ablated(channels, **more):
        made.model(X.clone())


MISUSE = [
    (lambda: fl.ChannelAblator("cnn", "conv"), TypeError, "model must be an nn.Module; got 'cnn'"),
    (
        lambda: ablator("lefd"),
        LookupError,
        ("no layer matches 'lefd'; did you mean 'left'? (6 layers: stem, norm, relu, left, right, head)"),
    ),
    (lambda: ablator(["left", "right"]), TypeError, "layer must be a single layer; got ['left', 'right']"),
    (
        lambda: ablator(nn.Conv2d),
        ValueError,
        "layer must be a single layer; the class Conv2d matches 3: stem, left, right",
    ),
    (lambda: ablator(axis=0), ValueError, "axis 0 is the batch; the channels must be in another axis"),
    (lambda: ablator(axis="C"), TypeError, "axis must be a whole number; got 'C'"),
    (lambda: ablator(output=1.5), TypeError, "output must be a key, an index, a function or None; got 1.5"),
    (
        lambda: ablator(axis=4).sweep(X),
        ValueError,
        "axis 4 does not hold channels: layer 'left' returns float32 tensor (4, 4, 8, 8)",
    ),
    (lambda: ablator().sweep(X, mode="only"), ValueError, "mode must be one of 'keep', 'drop'; got 'only'"),
    (
        lambda: ablator().sweep(X, fill="noise"),
        ValueError,
        "fill must be one of 'zero', 'mean', 'resample' or a tensor; got 'noise'",
    ),
    (
        lambda: ablator().sweep(X, fill=torch.zeros(3)),
        ValueError,
        (
            "fill must have shape (4,) or (4, 8, 8), as the layer returns (4, 4, 8, 8); got float32 tensor (3,)"
        ),
    ),
    (
        lambda: ablator().sweep(X, fill=torch.tensor([0.0, torch.nan, 0, 0])),
        ValueError,
        "fill must hold finite floating-point numbers; got float32 tensor (4,)",
    ),
    (
        lambda: ablator().sweep(X[:1], fill="resample"),
        ValueError,
        "fill='resample' takes a channel from another image of the batch; got a batch of 1",
    ),
    (lambda: ablator().sweep(X, channels=[0, 4]), ValueError, "channels must be from 0 to 3; got 4"),
    (lambda: ablator().sweep(X, channels=[-1]), ValueError, "channels must be numbers from 0; got -1"),
    (
        lambda: ablator().sweep(X, channels=[1, 2, 1]),
        ValueError,
        "channels must be different numbers; 1 is given 2 times",
    ),
    (lambda: ablator().sweep(X, channels=["a"]), TypeError, "channels must be whole numbers; got ['a']"),
    (lambda: ablator().sweep(X, channels=[True]), TypeError, "channels must be whole numbers; got [True]"),
    (
        lambda: ablator().sweep(X, channels=[]),
        ValueError,
        "channels must name at least one channel; got none",
    ),
    (
        lambda: ablator().importance([PAIR], channels=[]),
        ValueError,
        "channels must name at least one channel; got none",
    ),
    (
        lambda: ablator(decoder=nn.Identity(), output=0),
        ValueError,
        "pass a decoder or output=, not both: with a decoder the model's output is not used",
    ),
    (
        lambda: ablator("attn_in", Rows).sweep(X),
        ValueError,
        (
            "layer 'attn_in' returns float32 tensor (4, 8, 8), which may be (N, L, D): use axis=-1 to ablate features of tokens, "
            "axis=1 for channels"
        ),
    ),
    (
        lambda: ablator().importance([PAIR, (X[:1], PAIR[1][:1])], fill="resample"),
        ValueError,
        (
            "fill='resample' takes a channel from another image of the batch; batch 2 has one image: "
            "pass drop_last=True to the DataLoader"
        ),
    ),
    (
        lambda: ablator().curve([PAIR], order=[]),
        ValueError,
        "order must name at least one channel; got none",
    ),
    (lambda: ablator().sweep(X, chunk=0), ValueError, "chunk must be at least 1; got 0"),
    (
        lambda: ablator().sweep(["cat"]),
        TypeError,
        "images must be a tensor (N, ...); got ['cat']",
    ),
    (
        lambda: ablator().sweep(X.to("meta")),
        TypeError,
        "images must have values; got float32 tensor (4, 1, 8, 8) on meta",
    ),
    (
        lambda: ablator().sweep(X[:0]),
        ValueError,
        "images must be (N, ...) with N at least 1; got float32 tensor (0, 1, 8, 8)",
    ),
    (
        lambda: ablator().sweep(X.masked_fill(X.max() == X, torch.nan)),
        ValueError,
        "images must be finite; got float32 tensor (4, 1, 8, 8) with 1 NaN or infinite values",
    ),
    (
        lambda: ablator("bottom", Skips).sweep(X),
        TypeError,
        ("the model returns {'mask': float32 tensor (4, 1, 8, 8), 'size': 4}: choose a tensor with output="),
    ),
    (
        lambda: ablator("bottom", Skips, output="size").sweep(X),
        TypeError,
        "the model returns {'mask': float32 tensor (4, 1, 8, 8), 'size': 4}: output='size' is not a tensor",
    ),
    (
        lambda: ablator("bottom", Skips, output="logits").sweep(X),
        LookupError,
        "the model returns {'mask': float32 tensor (4, 1, 8, 8), 'size': 4}; it has no 'logits'",
    ),
    (
        lambda: ablator(output=lambda value: value.sum(0)).sweep(X),
        ValueError,
        "the output must be (N, ...) with the batch of 4 in axis 0; got float32 tensor (3,)",
    ),
    (
        lambda: ablator("lstm", nets.Nested).sweep(X),
        TypeError,
        (
            "layer 'lstm' must return a tensor to have its channels ablated; got (float32 tensor (4, 8, 5), "
            "(float32 tensor (1, 4, 5), float32 tensor (1, 4, 5))); choose one with part=, such as part=0"
        ),
    ),
    (
        lambda: ablator("aux", nets.Unused).sweep(X),
        LookupError,
        (
            "layer 'aux' was never called in the forward pass: it may be unused in this mode, used only "
            "through its weights (by fused attention, for example), or called as layer.forward(x), which hooks do not see"
        ),
    ),
    (
        lambda: ablator("act#4", nets.Reused).sweep(X),
        LookupError,
        "layer 'act' was called 3 times, so there is no call 4",
    ),
    (
        lambda: ablator("act", nets.Reused, decoder=nn.Identity()).sweep(X),
        ValueError,
        "layer 'act' is called 3 times, but a decoder decodes one call: choose one, such as 'act#1'",
    ),
    (lambda: ablator("act", Widening).sweep(X), ValueError, DIFFERENT),
    (lambda: ablator("act", Widening).sweep(X, fill=torch.zeros(4)), ValueError, DIFFERENT),
    (lambda: ablator("act", Widening).importance([PAIR]), ValueError, DIFFERENT),
    (lambda: ablator("act", Widening).curve([PAIR], fill="mean"), ValueError, DIFFERENT),
    (lambda: inside([4]), ValueError, "channels must be from 0 to 3; got 4"),
    (lambda: inside([1, 1]), ValueError, "channels must be different numbers; 1 is given 2 times"),
    (
        lambda: inside(0, fill="noise"),
        ValueError,
        "fill must be one of 'zero', 'mean', 'resample' or a tensor; got 'noise'",
    ),
    (
        lambda: ablator().importance(X),
        TypeError,
        "the loader must yield batches (images, labels); got float32 tensor (4, 1, 8, 8)",
    ),
    (
        lambda: ablator().importance(torch.utils.data.TensorDataset(*PAIR)),
        TypeError,
        (
            "importance takes a loader of batches; got the data set TensorDataset: "
            "wrap it in torch.utils.data.DataLoader"
        ),
    ),
    (lambda: ablator().importance([]), ValueError, "the loader yielded no batch; got []"),
    (
        lambda: ablator().importance([X]),
        TypeError,
        "the loader must yield batches (images, labels); got float32 tensor (4, 1, 8, 8)",
    ),
    (
        lambda: ablator().importance([(X, "cat")]),
        TypeError,
        "the loader must yield batches (images, labels) of tensors; got (float32 tensor (4, 1, 8, 8), 'cat')",
    ),
    (
        lambda: ablator().importance([(X, PAIR[1][:3])]),
        ValueError,
        "a batch must have as many labels as images; got (float32 tensor (4, 1, 8, 8), int64 tensor (3,))",
    ),
    (
        lambda: ablator().importance([(X, PAIR[1].float())]),
        ValueError,
        (
            "metric='accuracy' takes class scores (N, classes) and whole-numbered labels (N,); got "
            "float32 tensor (4, 3) and float32 tensor (4,)"
        ),
    ),
    (
        lambda: ablator().importance([(X, PAIR[1] + 1)], metric="loss"),
        ValueError,
        "labels must be from 0 to 2, for 3 class scores; got 1 to 3",
    ),
    (
        lambda: ablator().importance([PAIR], metric="auc"),
        ValueError,
        "metric must be one of 'accuracy', 'loss' or a function; got 'auc'",
    ),
    (
        lambda: ablator().importance([PAIR], metric=lambda outputs, labels: outputs.mean()),
        ValueError,
        "metric must return one score for each image, (4,); <lambda> returned float32 tensor ()",
    ),
    (
        lambda: ablator().importance([PAIR, (X / 0, PAIR[1])]),
        ValueError,
        "images of batch 2 must be finite; got float32 tensor (4, 1, 8, 8) with 256 NaN or infinite values",
    ),
    (
        lambda: ablator().importance(iter([PAIR]), fill="mean"),
        ValueError,
        (
            "fill='mean' reads the loader twice, first for the means; an object of type list_iterator can be read "
            "only once"
        ),
    ),
    (
        lambda: ablator().curve([PAIR], order="importance"),
        ValueError,
        "order must be one of 'random', a sequence or a result of importance; got 'importance'",
    ),
    (
        lambda: ablator().curve([PAIR], order=[1, 1]),
        ValueError,
        "order must be different numbers; 1 is given 2 times",
    ),
    (
        lambda: ablator().curve([PAIR], order=range(2**62)),
        ValueError,
        "order must be whole numbers; got a million or more",
    ),
    (
        lambda: ablator().sweep(X, channels=torch.ones(2, device="meta")),
        TypeError,
        "channels must be a dense tensor; got a meta float32 tensor (2,) on meta",
    ),
    (
        lambda: ablator().sweep(X, fill=torch.ones(2).to_sparse()),
        TypeError,
        "fill must be a dense tensor; got a sparse_coo float32 tensor (2,)",
    ),
    (lambda: ablator().curve([PAIR], order=[0, 9]), ValueError, "order must be from 0 to 3; got 9"),
    (
        lambda: ablator().curve([PAIR], order=ablator("right").importance([PAIR])),
        ValueError,
        "order is the importance of layer 'right'; this ablator is for 'left'",
    ),
]


@pytest.mark.parametrize(("call", "error", "message"), MISUSE, ids=range(len(MISUSE)))
def test_misuse_is_named(call, error, message):
    with pytest.raises(error) as caught:
        call()
    assert str(caught.value) == message


def test_one_call_of_several_with_other_numbers_of_channels():
    assert ablator("act#1", Widening).sweep(X).outputs.shape == (4, 4, 6)
    assert ablator("act#2", Widening).sweep(X).outputs.shape == (6, 4, 6)


def test_channels_of_one_dimensional_convolutions_need_no_axis():
    assert ablator("conv", Rows).sweep(X).outputs.shape == (5, 4, 5, 6)
    assert ablator("attn_in", Rows, axis=1).sweep(X).outputs.shape == (8, 4, 5, 6)


def test_lazy_layers_must_have_seen_a_batch():
    model = nn.Sequential(nn.LazyConv2d(2, 3), nn.Flatten())
    for call in (lambda a: a.sweep(X), lambda a: a.ablated(0).__enter__()):
        with pytest.raises(ValueError, match=r"parameter '0.weight' is not initialized yet"):
            call(fl.ChannelAblator(model, "0"))


def test_scripted_layers_are_named():
    model = nn.Sequential(nets.scripted(nn.Conv2d(1, 2, 3)), nn.Flatten())
    message = "a scripted Conv2d cannot be ablated, as hooks do not run in scripted code: use the module"
    with pytest.raises(TypeError, match=message), fl.ChannelAblator(model, "0").ablated(0):
        pass


def test_reprs():
    model = double(Residual)
    made = fl.ChannelAblator(model, model.left)
    assert repr(made) == "ChannelAblator(Residual, 'left')"
    assert repr(made.sweep(batch(), mode="drop")) == (
        "AblationResult(4 channels of left dropped one by one, 3 images, outputs (4, 3, 3))"
    )


def test_a_layer_without_channels_is_the_same_error_with_every_fill():
    model = nets.seeded(nets.Nested)
    for fill in ("zero", "mean"):
        with pytest.raises(
            (TypeError, ValueError), match=r"^layer 'lstm' must return a tensor to have its channels"
        ):
            fl.ChannelAblator(model, "lstm").importance([(nets.images(), torch.zeros(4).long())], fill=fill)
