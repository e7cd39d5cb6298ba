"""Wrong calls, and the words that a user would read; nothing is optimized before they are raised."""

import re

import numpy as np
import pytest
import torch
from torch import nn

import featurelens as fl
from tests.nets import Fails, Reused, images, plain, seeded
from tests.state import snapshot

IMAGE = fl.FourierImage((1, 8, 8))


def says(kind, text):
    return pytest.raises(kind, match=re.escape(text))


def run(wanted, model=None, image=IMAGE, **settings):
    def never(parameters):
        raise AssertionError("it was optimized")

    model = model or plain()
    return fl.ActivationMaximizer(model, image, **{"optimizer": never, **settings}).run(wanted)


@pytest.mark.parametrize(
    ("wanted", "kind", "text"),
    [
        ("conv_9", LookupError, "no layer matches 'conv_9'; there are conv_1 to conv_2"),
        ("conv_9:2", LookupError, "no layer matches 'conv_9'"),
        ("conv_1:4", LookupError, "layer 'conv_1' has 4 channels, 0 to 3; got channel 4"),
        (fl.objectives.logit(10), LookupError, "layer 'the output' has 10 channels, 0 to 9; got channel 10"),
        (
            fl.objectives.channel("conv_1", 0, axis=4),
            LookupError,
            "returns shape (2, 4, 8, 8), which has no channel axis 4",
        ),
        (fl.objectives.channel("conv_1", 0, axis=0), LookupError, "which has no channel axis 0"),
        (
            fl.objectives.neuron("conv_1", 0, (8, 0)),
            LookupError,
            "must be within (8, 8); got position (8, 0)",
        ),
        (
            fl.objectives.neuron("conv_1", 0, (1,)),
            LookupError,
            "must be within (8, 8); got position (1,)",
        ),
        (
            fl.objectives.direction("conv_1", [1.0]),
            ValueError,
            "layer 'conv_1' has 4 channels; got a direction of 1",
        ),
        (
            nn.Conv2d,
            TypeError,
            "objectives are made by fl.objectives.channel, fl.objectives.logit, ..., or are text such as 'conv3'",
        ),
        ([7], TypeError, "got 7"),
        ([], ValueError, "objectives must name at least one; got none"),
        ("*", ValueError, "an objective uses one layer; '*' matches 9 layers: 0, 1, 2, 3, ..."),
        (fl.objectives.l2(), ValueError, "an objective must use the model; l2 uses the image only"),
    ],
    ids=str,
)
def test_objectives_that_do_not_fit(wanted, kind, text):
    with says(kind, text):
        run(wanted)


def test_a_layer_that_is_called_several_times():
    with says(ValueError, "layer 'act' is called 3 times; choose one call: act#1, act#2, act#3"):
        run("act", seeded(Reused))


class Cut(nn.Module):
    def __init__(self, how):
        super().__init__()
        self.how, self.conv, self.head = how, nn.Conv2d(1, 2, 3), nn.Identity()

    def forward(self, x):
        if self.how == "no_grad":
            with torch.no_grad():
                return self.head(self.conv(x))
        if self.how == "integers":
            return self.head(self.conv(x).long())
        if self.how == "text":
            return "no tensor"
        return self.head(self.conv(x) / 0 * 0)


def test_objectives_that_do_not_depend_on_the_image():
    text = "objective head:0 does not depend on the image: its layer returned "
    with says(ValueError, text + "float32 tensor (2, 2, 6, 6) without a gradient"):
        run("head", Cut("no_grad"))
    with says(ValueError, text + "int64 tensor (2, 2, 6, 6)"):
        run("head:0", Cut("integers"))
    with says(ValueError, "layer 'the output' must return a tensor (N, C, ...); got 'no tensor'"):
        run(fl.objectives.logit(0), Cut("text"))


def test_nan_stops_the_run_and_names_step_and_objective():
    model = Cut("nan")
    before = snapshot(model)
    with says(
        RuntimeError, "the value of objective head:1 is NaN or infinite at the start; nothing is returned"
    ):
        run([fl.objectives.channel("head", 1)], model, optimizer=None)
    assert snapshot(model) == before


def test_nan_on_the_way_is_told_with_its_step():
    class Explode(torch.optim.SGD):
        def step(self):
            self.param_groups[0]["params"][0].data.fill_(torch.nan)

    with says(RuntimeError, "the image of objective conv_1:0 is NaN or infinite in step 2"):
        run("conv_1:0", optimizer=lambda parameters: Explode(parameters, lr=1))


def test_a_model_that_fails_says_on_what():
    with says(
        RuntimeError, "the model failed on a batch (float32 tensor (2, 1, 8, 8)) in layer 'head'"
    ) as raised:
        run(fl.objectives.logit(0), Fails())
    assert raised.value.__cause__ is not None
    small = nn.Sequential(nn.Conv2d(1, 2, 5), nn.Conv2d(2, 2, 5))
    with says(RuntimeError, "the model failed on a batch (float32 tensor (2, 1, 6, 6)) in layer '1', Conv2d"):
        run("conv_2", small, fl.FourierImage((1, 6, 6)))
    with says(RuntimeError, "(float32 tensor (2, 3, 8, 8)) in layer '0', Conv2d(1, 4"):
        run("conv_1", image=fl.FourierImage((3, 8, 8)))


def flat(channels=1, last=nn.Sigmoid):
    return nn.Sequential(nn.Linear(3, channels * 64), last(), nn.Unflatten(1, (channels, 8, 8)))


def test_decoders_that_do_not_fit():
    with says(
        RuntimeError, "the model failed on a batch (float32 tensor (2, 2, 8, 8)) in layer '0', Conv2d(1, 4"
    ):
        run("conv_1", image=fl.LatentImage(flat(2), 3))
    with says(RuntimeError, "the decoder failed on latents (2, 4): RuntimeError"):
        run("conv_1", image=fl.LatentImage(flat(), 4))
    with says(
        ValueError,
        "the decoder must return images (N, C, L), (N, C, H, W) or (N, C, D, H, W); got float32 tensor (2, 3)",
    ):
        run("conv_1", image=fl.LatentImage(nn.Linear(3, 3), 3))
    with says(ValueError, "LatentImage(Sequential, 3) must give images in [0, 1]; got values from -"):
        run("conv_1", image=fl.LatentImage(flat(last=nn.Identity), 3))


class Own(fl.Parametrization):
    def __init__(self, change):
        self.change = change

    def start(self, generators):
        return torch.stack([torch.rand(4, 100, generator=generator) for generator in generators])

    def images(self, parameters):
        return self.change(parameters)


@pytest.mark.parametrize(
    ("change", "came"),
    [
        (lambda parameters: parameters.flatten(1), "float32 tensor (2, 400)"),
        (lambda parameters: parameters[:1].sigmoid(), "float32 tensor (1, 4, 100)"),
        (lambda parameters: parameters[:1, None].sigmoid(), "float32 tensor (1, 1, 4, 100)"),
        (lambda parameters: None, "None"),
    ],
)
def test_parametrizations_of_the_user_s_that_give_no_images(change, came):
    text = "Own() must give images (N, C, L), (N, C, H, W) or (N, C, D, H, W), one for each row of its parameters; got "
    with says(ValueError, f"{text}{came} for parameters (2, 4, 100)"):
        run("conv_1", image=Own(change))


@pytest.mark.parametrize(
    ("settings", "kind", "text"),
    [
        ({"steps": 0}, ValueError, "steps must be at least 1; got 0"),
        ({"steps": 1.5}, TypeError, "steps must be a whole number; got 1.5"),
        ({"lr": -1.0}, ValueError, "lr must be a positive number; got -1.0"),
        ({"chunk": 0}, ValueError, "chunk must be at least 1; got 0"),
        ({"redirect_relu": -1}, ValueError, "redirect_relu must be at least 0; got -1"),
        ({"lr": "fast"}, TypeError, "lr must be a positive number; got 'fast'"),
        ({"seed": "a"}, TypeError, "seed must be an int, a torch.Generator or None; got 'a'"),
        (
            {"transforms": "none"},
            ValueError,
            "transforms must be 'standard', None or a list of them; got 'none'",
        ),
        ({"transforms": [3]}, TypeError, "a transform is callable on images (N, C, ...); got 3"),
        (
            {"transforms": fl.transforms.Jitter(2)},
            TypeError,
            "transforms must be 'standard', None or a list of them",
        ),
        ({"optimizer": "adam"}, TypeError, "optimizer must be callable on parameters; got 'adam'"),
        ({"autocast": 1}, TypeError, "autocast must be True or False; got 1"),
        ({"preprocess": 0.5}, TypeError, "preprocess must be callable on images (N, C, ...); got 0.5"),
        (
            {"sample": [1]},
            TypeError,
            "sample must be a tensor of images (N, C, L), (N, C, H, W) or (N, C, D, H, W); got [1]",
        ),
        (
            {"sample": torch.rand(8, 8)},
            ValueError,
            "sample must be floating-point images (N, C, L), (N, C, H, W) or (N, C, D, H, W) with no empty dimension",
        ),
        (
            {"sample": torch.rand(4, 0, 8)},
            ValueError,
            "with no empty dimension; got float32 tensor (4, 0, 8)",
        ),
        ({"sample": images() * torch.nan}, ValueError, "sample must be finite; got NaN or infinite values"),
        (
            {"sample": images() * 3, "preprocess": torch.neg},
            ValueError,
            "with preprocess, sample must be in [0, 1]; got values from ",
        ),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else None,
)
def test_settings_that_make_no_sense(settings, kind, text):
    with says(kind, text):
        fl.ActivationMaximizer(plain(), IMAGE, **settings)


def test_what_the_maximizer_must_know():
    text = "the shape of the images is unknown: pass sample=images[:64], or a parametrization such as FourierImage"
    for model, shape in (
        (plain(), "(1, H, W)"),
        (nn.Conv1d(2, 3, 5), "(2, L)"),
        (nn.Sequential(nn.Conv3d(4, 3, 5), nn.Flatten()), "(4, D, H, W)"),
        (nn.Linear(4, 3), "(C, H, W)"),
    ):
        with says(ValueError, text + f"({shape})"):
            fl.ActivationMaximizer(model)
    with says(TypeError, "parametrization must be a PixelImage, FourierImage, ...; got (1, 8, 8)"):
        fl.ActivationMaximizer(plain(), (1, 8, 8))
    with says(TypeError, "model must be an nn.Module; got 3"):
        fl.ActivationMaximizer(3, IMAGE)


@pytest.mark.parametrize("kind", [fl.PixelImage, fl.FourierImage, fl.PhaseImage])
def test_parametrizations_that_make_no_sense(kind):
    text = "shape must be (C, L), (C, H, W) or (C, D, H, W), integers from 1: channels, then the size of the signal, "
    for shape, got in (
        ((784,), "(784)"),
        ((1, 2, 3, 4, 5), "(1, 2, 3, 4, ...)"),
        ((0, 4, 4), "(0, 4, 4)"),
        ("abc", "'abc'"),
        (28, "28"),
    ):
        with says(ValueError, f"{text}image or volume; got {got}"):
            kind(shape)
    statistics = fl.ImageStatistics.fit(torch.rand(4, 3, 8, 8))
    with says(ValueError, "statistics are of images with 3 channels; the image has 1"):
        kind((1, 8, 8), statistics=statistics)
    with says(TypeError, "statistics must be ImageStatistics or None; got 3"):
        kind((1, 8, 8), statistics=3)


def test_further_parametrizations_that_make_no_sense():
    statistics = fl.ImageStatistics.fit(torch.rand(4, 3, 8, 8))
    with says(ValueError, "statistics are of images of 8x8 pixels; the image has 9x8"):
        fl.PhaseImage((3, 9, 8), statistics=statistics)
    with says(ValueError, "statistics are of images of 8x8 pixels; the image has 64"):
        fl.FourierImage((3, 64), statistics=statistics)
    with says(ValueError, "images must be (N, 2, 16); got float32 tensor (1, 2, 4, 4)"):
        fl.FourierImage((2, 16)).from_image(torch.rand(1, 2, 4, 4))
    with says(TypeError, "images must be a tensor (N, C, D, H, W); got 3"):
        fl.PixelImage((2, 4, 4, 4)).from_image(3)
    with says(ValueError, "images must be (N, 1, 8, 8); got float32 tensor (1, 1, 9, 9)"):
        IMAGE.from_image(torch.rand(1, 1, 9, 9))
    with says(ValueError, "images must be floating-point numbers in [0, 1]"):
        IMAGE.from_image(torch.full((1, 1, 8, 8), 1.5))
    with says(ValueError, "sd must be a number from 0; got -1"):
        fl.FourierImage((1, 8, 8), sd=-1)
    with says(ValueError, "decay must be a number; got inf"):
        fl.FourierImage((1, 8, 8), decay=float("inf"))
    with says(TypeError, "decoder must be an nn.Module; got the class Linear: pass an instance"):
        fl.LatentImage(nn.Linear, 3)
    with says(ValueError, "latent_dim must be at least 1; got 0"):
        fl.LatentImage(flat(), 0)
    with says(ValueError, "whitening is of latents of 2; latent_dim is 3"):
        fl.LatentImage(flat(), 3, whitening=fl.LatentWhitening.fit(torch.rand(9, 2)))


def test_data_that_make_no_statistics():
    with says(ValueError, "the loader yielded no images"):
        fl.ImageStatistics.fit([])
    with says(
        TypeError,
        "loader must be images (N, C, L), (N, C, H, W) or (N, C, D, H, W) or a loader of them; got 3",
    ):
        fl.ImageStatistics.fit(3)
    with says(
        ValueError,
        "the loader must yield images (N, C, L), (N, C, H, W) or (N, C, D, H, W) with no empty dimension; got float32 tensor (2, 3)",
    ):
        fl.ImageStatistics.fit(torch.rand(2, 3))
    with says(
        ValueError,
        "the loader must yield images of one shape; got (1, 4, 4) and then, from image 2, (1, 5, 5)",
    ):
        fl.ImageStatistics.fit([torch.rand(2, 1, 4, 4), torch.rand(2, 1, 5, 5)])
    with says(
        TypeError, "the loader's images must be a dense tensor; got a sparse_coo float32 tensor (2, 1, 4, 4)"
    ):
        fl.objectives.realism(plain(), "conv_1", torch.rand(2, 1, 4, 4).to_sparse())
    with says(ValueError, "the loader must yield finite images; image 0 has NaN or infinite values"):
        fl.ImageStatistics.fit(torch.full((2, 1, 4, 4), torch.inf))
    with says(ValueError, "whitening needs at least 2 latents; got 1"):
        fl.LatentWhitening.fit(torch.rand(1, 4))
    with says(
        ValueError, "the loader must yield latents (N, D) with no empty dimension; got float32 tensor (4,)"
    ):
        fl.LatentWhitening.fit(torch.rand(4))
    with says(ValueError, "the loader must yield finite latents; latent 0 has NaN or infinite values"):
        fl.LatentWhitening.fit(torch.full((3, 4), torch.nan))


@pytest.mark.parametrize(
    ("make", "kind", "text"),
    [
        (lambda: fl.objectives.channel("conv", "7"), TypeError, "index must be a whole number; got '7'"),
        (lambda: fl.objectives.channel("conv", True), TypeError, "index must be a whole number; got True"),
        (lambda: fl.objectives.channel(3, 7), TypeError, "a layer is chosen by name or module; got 3"),
        (
            lambda: fl.objectives.neuron("conv", 7, "centre"),
            TypeError,
            "position must be a sequence of whole numbers; got 'centre'",
        ),
        (
            lambda: fl.objectives.direction("conv", [[1.0]]),
            ValueError,
            "vector must be (C,), one weight for each channel",
        ),
        (lambda: fl.objectives.direction("conv", [torch.nan]), ValueError, "vector must hold finite numbers"),
        (lambda: fl.objectives.channel("conv", 7) + 3, TypeError, "unsupported operand"),
        (lambda: fl.objectives.channel("conv", 7) * True, TypeError, "'Objective' and 'bool'"),
        (lambda: fl.objectives.channel("conv", 7) * {}, TypeError, "'Objective' and 'dict'"),
        (
            lambda: fl.objectives.channel("conv", 7) * float("nan"),
            ValueError,
            "an objective can only be multiplied by a finite number",
        ),
        (
            lambda: fl.objectives.exponential(fl.objectives.l2()),
            TypeError,
            "exponential applies to a single channel, neuron, logit or direction",
        ),
        (lambda: fl.objectives.exponential(3), TypeError, "objective must be an Objective; got 3"),
        (
            lambda: fl.transforms.RandomScale(1.1, 0.9),
            ValueError,
            "low and high must be positive, the smaller first; got 1.1 and 0.9",
        ),
        (
            lambda: fl.objectives.exponential(fl.objectives.exponential(fl.objectives.channel("conv", 7))),
            TypeError,
            "exponential applies to an objective once; got -exp(-conv:7)",
        ),
        (
            lambda: fl.objectives.direction("conv", "abc"),
            TypeError,
            "vector must be (C,), one number for each channel; got 'abc'",
        ),
        (
            lambda: fl.objectives.direction("conv", None),
            TypeError,
            "vector must be (C,), one number for each channel; got None",
        ),
        (lambda: fl.transforms.RandomScale("a", 1.1), TypeError, "low must be a number; got 'a'"),
        (
            lambda: fl.transforms.RandomRotate("a"),
            TypeError,
            "degrees must be a number from 0 to 180; got 'a'",
        ),
        (
            lambda: fl.FourierImage((3, 2**20, 2**20)),
            ValueError,
            "shape must be of at most 2**31 values; got (3, 1048576, 1048576)",
        ),
        (lambda: fl.FourierImage((1, 8, 8), sd="a"), TypeError, "sd must be a number from 0; got 'a'"),
        (lambda: fl.FourierImage((1, 8, 8), sd=torch.inf), ValueError, "sd must be a number from 0; got inf"),
        (lambda: fl.LatentImage(flat(), 3, sd="b"), TypeError, "sd must be a number from 0; got 'b'"),
        (lambda: fl.PhaseImage((1, 8, 8), decay="a"), TypeError, "decay must be a number; got 'a'"),
        (
            lambda: IMAGE.from_image([0.5]),
            TypeError,
            "images must be a tensor (N, C, H, W); got [0.5]",
        ),
        (
            lambda: IMAGE.from_image(torch.full((1, 1, 8, 8), torch.nan)),
            ValueError,
            "images must be floating-point numbers in [0, 1]; got values from nan to nan",
        ),
        (
            lambda: IMAGE.from_image(torch.zeros(1, 1, 8, 8, dtype=torch.int64)),
            ValueError,
            "images must be floating-point numbers in [0, 1]; got int64 tensor (1, 1, 8, 8)",
        ),
        (
            lambda: fl.LatentWhitening.fit(3),
            TypeError,
            "loader must be latents (N, D) or a loader of them; got 3",
        ),
        (
            lambda: fl.LatentWhitening.fit(torch.rand(9, 3)).whiten(3),
            TypeError,
            "latents must be a tensor (N, 3); got 3",
        ),
        (
            lambda: fl.LatentWhitening.fit(torch.rand(9, 3)).unwhiten(torch.rand(2, 4)),
            ValueError,
            "coordinates must be (N, 3); got float32 tensor (2, 4)",
        ),
        (
            lambda: fl.transforms.RandomRotate(181),
            ValueError,
            "degrees must be a number from 0 to 180; got 181",
        ),
        (lambda: fl.transforms.Jitter(-1), ValueError, "pixels must be at least 0; got -1"),
        (
            lambda: fl.transforms.Pad(1, fill="wrap"),
            ValueError,
            "fill must be 'reflect' or a grey from 0 to 1; got 'wrap'",
        ),
        (
            lambda: fl.transforms.Pad(1, fill=np.ones(3)),
            ValueError,
            "fill must be 'reflect' or a grey from 0 to 1; got float64 NumPy array (3,)",
        ),
        (
            lambda: fl.ActivationMaximizer(plain(), IMAGE, transforms=np.ones(3)),
            TypeError,
            "a transform is callable on images (N, C, ...); got",
        ),
    ],
)
def test_parts_that_make_no_sense(make, kind, text):
    with says(kind, text):
        make()


def test_a_margin_that_cannot_be_reflected():
    with says(ValueError, "a margin of 8 cannot be reflected from float32 tensor (1, 1, 8, 8)"):
        run("conv_1:0", transforms=[fl.transforms.Pad(8, fill="reflect")], optimizer=None)


def test_comparisons_with_what_does_not_fit():
    result = fl.ActivationMaximizer(plain(), IMAGE, steps=1).run("conv_1")
    with says(ValueError, "the loader yielded no images; got []"):
        result.compare([])
    with says(ValueError, "the loader must yield images (N, 1, H, W); got float32 tensor (2, 3, 8, 8)"):
        result.compare(torch.rand(2, 3, 8, 8))
    with says(TypeError, "the loader must yield floating-point images; got uint8 tensor (2, 1, 8, 8)"):
        result.compare(torch.zeros(2, 1, 8, 8, dtype=torch.uint8))
    with says(TypeError, "loader must be images (N, C, H, W) or a loader of them; got 3"):
        result.compare(3)
    with says(ValueError, "images (N, C, H, W) with no empty dimension; got float32 tensor (2, 1, 8)"):
        result.compare(torch.rand(2, 1, 8))
    with says(ValueError, "top must be at least 1; got 0"):
        result.compare(images(), top=0)
    with says(TypeError, "progress must be True or False; got 3"):
        result.compare(images(), progress=3)
    with says(TypeError, "folder must be a path; got 3"):
        result.save(3)


def test_real_images_that_cannot_be_compared():
    result = fl.ActivationMaximizer(plain(), IMAGE, steps=1).run("conv_1")
    broken = images(9).clone()
    broken[7, 0, 3, 3] = torch.nan
    with says(ValueError, "the loader must yield finite images; image 7 has NaN or infinite values"):
        result.compare(broken.split(4))
    with says(ValueError, "the loader must yield images of one shape; got (1, 8, 8) and then, from image 3"):
        result.compare([images(3), torch.rand(2, 1, 9, 9)])
    text = "the loader must yield images in [0, 1]; got values from "
    with says(ValueError, text):
        result.compare(images() * 255)
    prepared = fl.ActivationMaximizer(plain(), IMAGE, steps=1, preprocess=torch.neg).run("conv_1")
    with says(ValueError, text):
        prepared.compare(-images())


def test_a_value_that_is_nan_is_told_with_objective_and_image():
    class Root(nn.Module):
        def forward(self, x):
            return (x.mean((1, 2, 3)) - 0.2).sqrt()[:, None] + x[:, :, 0, 0]

    dark = torch.cat([0.5 + 0.1 * images(5), torch.zeros(1, 1, 8, 8)])
    result = fl.ActivationMaximizer(Root(), IMAGE, steps=1).run(fl.objectives.logit(0))
    with says(ValueError, "objective logit 0 is NaN for image 5 of the loader"):
        result.compare(dark.split(4))


class Rebatched(nn.Module):
    def __init__(self, change):
        super().__init__()
        self.conv, self.head, self.change = nn.Conv2d(1, 2, 3), nn.Conv2d(2, 2, 3), change

    def forward(self, x):
        return self.head(self.change(self.conv(x)))


@pytest.mark.parametrize(
    ("change", "shape"),
    [(lambda x: torch.cat([x] * 4), "(8, 2, 4, 4)"), (lambda x: x.mean(0, keepdim=True), "(1, 2, 4, 4)")],
    ids=["cat", "mean"],
)
def test_a_batch_that_is_not_that_of_the_images(change, shape):
    with says(ValueError, f"layer 'head' returned float32 tensor {shape} for 2 images"):
        run("head:0", Rebatched(change))


def test_transforms_and_preprocess_that_return_another_batch():
    with says(ValueError, "preprocess must return as many images as it is given, 2; got float32 tensor (1, "):
        run("conv_1:0", preprocess=lambda x: x[:1])
    with says(ValueError, "a transform must return as many images (N, C, H, W) as it is given, 1; "):
        run("conv_1:0", transforms=[lambda x: torch.cat([x, x])], optimizer=None)


class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.conv = nn.Linear(8, 5), nn.Conv1d(8, 3, 1)
        self.mlp = nn.Sequential(nn.Linear(5, 6))  # whose type says nothing of the axes

    def forward(self, x):
        return self.conv(self.mlp(self.embed(x.flatten(1, 2))))


@pytest.mark.parametrize("wanted", ["mlp", "mlp:0", fl.objectives.neuron("mlp", 0)], ids=str)
def test_which_axis_of_tokens_holds_the_channels_must_be_said(wanted):
    text = "layer 'mlp' returns (2, 8, 6), which may be (N, L, D) or (N, C, L): use fl.objectives.channel('mlp', index, axis=-1)"
    with says(ValueError, text):
        run(wanted, seeded(Tokens))


def test_statistics_of_images_that_are_not_between_0_and_1():
    statistics = fl.ImageStatistics.fit(images(20) * 4 - 10)
    for kind in (fl.PixelImage, fl.FourierImage, fl.PhaseImage):
        with says(ValueError, "statistics must be fitted on images in [0, 1]; these range from -10 to -6"):
            kind((1, 8, 8), statistics=statistics)


def test_functions_of_the_users_that_return_something_else():
    with says(ValueError, "preprocess must return as many images as it is given, 2; got 3"):
        run("conv_1", preprocess=lambda images: 3)
    with says(TypeError, "optimizer must return an optimizer, with a step(); it returned 3"):
        run("conv_1", optimizer=lambda parameters: 3)


def test_a_step_size_beside_an_optimizer_is_refused():
    with says(ValueError, "pass lr or optimizer=, not both: your own optimizer has its own step size"):
        fl.ActivationMaximizer(plain(), IMAGE, lr=0.1, optimizer=torch.optim.SGD)


def test_a_mapping_of_layers_to_channels_is_no_list_of_objectives():
    with says(
        TypeError,
        "objectives must be one or a list of them, such as ['conv3:1', 'conv3:2'] for two channels of a layer",
    ):
        run({"conv_1": [1, 2]})


@pytest.mark.parametrize("last", [nn.Softmax(1), nn.LogSoftmax(1)], ids=["softmax", "log_softmax"])
def test_probabilities_are_noticed(last):
    model = seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 3), last))
    maximizer = fl.ActivationMaximizer(model, fl.FourierImage((1, 8, 8)), steps=2, progress=False)
    with pytest.warns(
        UserWarning, match="layer 'the output' returns probabilities, whose gradients vanish near 1"
    ):
        maximizer.run(fl.objectives.logit(0))
    maximizer.run("1")


def test_a_model_of_one_image_at_a_time_is_shown_one():
    class Single(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(1, 3, 3)

        def forward(self, image):
            return self.conv(image).view(1, 3, 6, 6)

    maximizer = fl.ActivationMaximizer(Single(), fl.FourierImage((1, 8, 8)), steps=2, chunk=1, progress=False)
    result = maximizer.run("conv")
    assert len(result) == 3
    assert len(result.compare(images(4)[..., :8, :8].clamp(0, 1).split(1), progress=False)) == 3


@pytest.mark.parametrize(
    ("images", "kind", "text"),
    [
        (images() * 1j, ValueError, "in [0, 1]; got complex64 tensor (4, 1, 8, 8)"),
        (images() + 1, ValueError, "in [0, 1]; got values from 1"),
        (images().to("meta"), TypeError, "images must be a dense tensor; got a meta float32 tensor"),
    ],
)
def test_images_to_begin_from(images, kind, text):
    with says(kind, text):
        fl.PixelImage((1, 8, 8)).from_image(images)


def test_tensors_without_values():
    for call in (
        lambda: fl.objectives.direction("conv_1", torch.ones(4, device="meta")),
        lambda: fl.ActivationMaximizer(plain(), sample=images().to("meta")),
        lambda: fl.ActivationMaximizer(plain(), IMAGE).run("conv_1:0", start=images().to("meta")),
    ):
        with pytest.raises(TypeError, match="must be a dense tensor; got a meta float32 tensor"):
            call()


def test_a_model_without_values():
    model, labels = plain().to("meta"), torch.arange(4) % 2
    for call in (
        lambda: fl.ActivationMaximizer(model, IMAGE).run("conv_1:0"),
        lambda: fl.objectives.realism(model, "conv_1", images()),
        lambda: fl.ChannelAblator(model, "conv_1"),
        lambda: fl.layer_information(model, "conv_1", images(), labels),
        lambda: fl.linear_probe(model, "conv_1", images(), labels),
        lambda: fl.Atlas(model, (images(), labels)),
    ):
        with says(TypeError, "the model's parameters are on the meta device, without values: load its"):
            call()


@pytest.mark.parametrize("kind", ["sparse_coo", "nested"])
def test_images_that_are_not_dense(kind):
    given = {
        "sparse_coo": lambda: images().to_sparse(),
        "nested": lambda: torch.nested.nested_tensor(list(images()), layout=torch.jagged),
    }[kind]()
    labels = torch.arange(4) % 2
    result = fl.ActivationMaximizer(plain(), IMAGE, steps=1, progress=False).run("conv_1:0")
    for call in (
        lambda: fl.objectives.realism(plain(), "conv_1", given),
        lambda: fl.ImageStatistics.fit(given),
        lambda: result.compare(given),
        lambda: fl.layer_information(plain(), "conv_1", given, labels),
        lambda: fl.linear_probe(plain(), "conv_1", given, labels),
        lambda: fl.DeconvDecoder(plain(), "conv_1")(given),
        lambda: fl.Atlas(plain(), (given, labels)).build("atlas"),
    ):
        with pytest.raises(TypeError, match=f"must be a dense tensor; got a {kind} "):
            call()


def test_an_endless_sequence_of_transforms():
    with says(ValueError, "transforms must be a sequence of transforms; got a million or more"):
        fl.ActivationMaximizer(plain(), IMAGE, transforms=range(2**62))
