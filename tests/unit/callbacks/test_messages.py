"""A wrong call says what was expected and what came."""

import re
import sys

import pytest
import torch
from torch import nn

from featurelens.callbacks import Observer, lightning_callback, trainer_callback

IMAGES, LABELS = torch.rand(8, 1, 6, 6), torch.arange(8) % 2


def log(values, step):
    pass


def observe(layers="0", images=IMAGES, labels=None, **options):
    return Observer(nn.Sequential(nn.Conv2d(1, 2, 3)), layers, images, labels, **{"log": log, **options})


@pytest.mark.parametrize(
    ("wrong", "error", "words"),
    [
        ({"layers": "conv9"}, LookupError, "no layer matches 'conv9'"),
        (
            {"images": [IMAGES]},
            TypeError,
            "images must be one batch: a tensor (N, C, H, W) or a dict of the model's arguments; got [float32",
        ),
        (
            {"images": torch.tensor(1.0)},
            ValueError,
            "images must be one batch: a tensor (N, C, H, W) or a dict of the model's arguments; got float32 tensor ()",
        ),
        (
            {"labels": torch.tensor(1)},
            ValueError,
            "labels must be an integer tensor (N,); got int64 tensor ()",
        ),
        ({"labels": [0, 1]}, TypeError, "labels must be an integer tensor (N,); got [0, 1]"),
        (
            {"labels": LABELS.float()},
            TypeError,
            "labels must be integers or booleans; got float32 tensor (8,)",
        ),
        (
            {"labels": LABELS[:, None]},
            ValueError,
            "labels must have shape (N,), one for each sample; got int64",
        ),
        ({"labels": LABELS[:7]}, ValueError, "labels must label each image; got 7 labels for 8 images"),
        (
            {"images": {"input": IMAGES}, "labels": LABELS[:7]},
            ValueError,
            "labels must label each image; got 7 labels for 8 images",
        ),
        ({"labels": torch.arange(8)}, ValueError, "labels must recur; got 8 different labels for as many"),
        ({"labels": LABELS * 0}, ValueError, "labels is constant"),
        (
            {"log": "runs/first"},
            TypeError,
            (
                "log must be a TensorBoardWriter, wandb.run or a function that is called as log(values, step=step), such as "
                "mlflow.log_metrics; got 'runs/first'"
            ),
        ),
        ({"every": 0}, ValueError, "every must be at least 1; got 0"),
        ({"every": 2.5}, TypeError, "every must be a whole number; got 2.5"),
        (
            {"pictures": "0:1"},
            ValueError,
            (
                "pictures need a place: log to a TensorBoardWriter, or pass draw=, a function that is called as "
                "draw(result, step=step)"
            ),
        ),
        (
            {"pictures": "0:1", "draw": "images"},
            TypeError,
            "draw must be a function that is called as draw(result, step=step); got 'images'",
        ),
        (
            {"pictures": "0:1", "draw": log, "images": {"input": IMAGES}},
            TypeError,
            "pictures need images as a tensor (N, C, H, W); got {'input': float32 tensor (8, 1, 6, 6)}",
        ),
    ],
)
def test_a_wrong_argument_is_named_before_any_work(wrong, error, words):
    with pytest.raises(error, match=re.escape(words)):
        observe(**wrong)


def test_a_model_must_be_a_module():
    with pytest.raises(TypeError, match=re.escape("model must be an nn.Module; got 'net'")):
        Observer("net", "0", IMAGES, log=log)


def test_a_step_is_a_whole_number_and_counts_nothing_otherwise():
    observer = observe()
    for call in (observer.on_batch_end, observer.on_epoch_end):
        with pytest.raises(TypeError, match=r"step must be a whole number; got 1\.5"):
            call(step=1.5)
        with pytest.raises(ValueError, match="step must be at least 0; got -1"):
            call(step=-1)
    assert (observer.batches, observer.epochs) == (0, 0)


def test_pictures_of_a_layer_that_is_not_there_are_an_error_after_the_first_batch():
    with pytest.raises(LookupError, match="no layer matches 'conv9'"):
        observe(pictures="conv9:1", draw=lambda result, step: None).on_batch_end()


def test_a_layer_whose_channels_are_not_known_is_an_error_after_the_first_batch():
    class Tokens(nn.Module):
        def forward(self, x):
            return x.flatten(2)

    with pytest.raises(ValueError, match="reduce="):
        Observer(Tokens(), "", IMAGES, log=log).on_batch_end()


def test_it_says_what_it_observes():
    assert repr(observe(every=7)) == "Observer(Sequential, ['0'], every=7)"
    assert observe().layers == ("0",)


@pytest.mark.parametrize(
    ("adapter", "modules", "package"),
    [
        (lightning_callback, ("lightning", "lightning.pytorch", "pytorch_lightning"), "lightning"),
        (trainer_callback, ("transformers",), "transformers"),
    ],
)
def test_an_adapter_needs_its_package_and_an_observer(adapter, modules, package, monkeypatch):
    with pytest.raises(
        TypeError, match=re.escape("observer must be a featurelens.callbacks.Observer; got None")
    ):
        adapter(None)
    for name in modules:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=re.escape(f"pip install 'featurelens[{package}]'")):
        adapter(observe())
