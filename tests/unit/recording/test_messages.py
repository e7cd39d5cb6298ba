"""What a user reads when a call is wrong, and that nothing was changed by it."""

import re

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import featurelens as fl
from featurelens._hooks import on_device_of
from featurelens.recording.inputs import _rows_of_list as counted_rows
from tests.nets import Fails, Nested, Reused, images, plain, seeded

CONSTRUCTOR = [
    ({"model": "resnet18"}, TypeError, "model must be an nn.Module; got 'resnet18'"),
    ({"model": nn.ReLU}, TypeError, "model must be an nn.Module; got the class ReLU: pass an instance"),
    ({"model": None}, TypeError, "model must be an nn.Module; got None"),
    ({"layers": "conv"}, LookupError, r"no layer matches 'conv' \(9 layers: 0, 1, 2, 3, 4, 5, ...\)"),
    ({"layers": ()}, ValueError, r"layers must name at least one layer; got \(\)"),
    ({"layers": [1]}, TypeError, r"a layer is chosen by name, glob, .*; got 1"),
    ({"layers": None}, TypeError, r"a layer is chosen by name, glob, .*; got None"),
    ({"backend": "fx"}, ValueError, "backend must be one of 'hooks', 'rewrite'; got 'fx'"),
    ({"training": "train"}, ValueError, "training must be one of False, 'keep'; got 'train'"),
    ({"reduce": "sum"}, ValueError, "reduce must be one of None, 'mean', 'max', .*; got 'sum'"),
    ({"reduce": {"0": "sum"}}, ValueError, "reduce must be one of None, 'mean', 'max', .*; got 'sum'"),
    ({"reduce": {"8": "max"}}, ValueError, "reduce names '8', which is not among the recorded layers"),
    ({"reduce": {"9": "max"}}, LookupError, "no layer matches '9'"),
    ({"dtype": "float32"}, TypeError, "dtype must be a floating-point torch.dtype; got 'float32'"),
    ({"dtype": torch.int64}, TypeError, "dtype must be a floating-point torch.dtype; got torch.int64"),
    ({"device": 3.5}, TypeError, "device must be a torch.device or its name, .*; got 3.5"),
    ({"device": "gpu"}, ValueError, "device must be a torch.device or its name, .*; got 'gpu'"),
]


@pytest.mark.parametrize(("wrong", "error", "message"), CONSTRUCTOR, ids=range(len(CONSTRUCTOR)))
def test_the_constructor(wrong, error, message):
    arguments = {"model": plain(), "layers": "0", **wrong}
    with pytest.raises(error, match=message):
        fl.ActivationRecorder(**arguments)


def test_a_batch_that_the_model_rejects_names_batch_layer_and_reason():
    message = (
        r"the model failed on a batch \(float32 tensor \(2, 3, 8, 8\)\) in layer '0', Conv2d\(1, 4, .*\): "
        r"RuntimeError: .*expected input.* to have 1 channels"
    )
    with pytest.raises(RuntimeError, match=message) as caught:
        fl.ActivationRecorder(plain(), "8")(images(2, channels=3))
    assert isinstance(caught.value.__cause__, RuntimeError)
    with pytest.raises(RuntimeError, match=r"the model failed on batch 2 \(float32 tensor \(4, 3, 8, 8\)\)"):
        fl.ActivationRecorder(plain(), "8").record([images(), images(channels=3)])
    with pytest.raises(RuntimeError, match=r"in layer 'head', Linear\(in_features=7"):
        fl.ActivationRecorder(seeded(Fails), ["conv", "head"])(images())


def test_wrong_arguments_of_forward():
    with pytest.raises(RuntimeError, match=r"the model failed on a batch \(\): TypeError"):
        fl.ActivationRecorder(plain(), "8")()
    with pytest.raises(RuntimeError, match=r"\(float32 tensor \(4, 1, 8, 8\), scale=2\): TypeError"):
        fl.ActivationRecorder(plain(), "8")(images(), scale=2)


@pytest.mark.parametrize("wrap", [lambda array: array, lambda array: [array]], ids=["plain", "in a list"])
def test_a_numpy_array_where_the_model_needs_a_tensor(wrap):
    with pytest.raises(RuntimeError) as caught:
        fl.ActivationRecorder(plain(), "8")(wrap(images().numpy()))
    message = str(caught.value)
    assert "float32 NumPy array (4, 1, 8, 8)" in message
    assert message.endswith("; it was given a NumPy array and may need a tensor: torch.from_numpy(array)")
    assert "expected one of" not in message, "torch's list of signatures is left out, and so is its beginning"


def test_a_model_may_take_numpy_arrays():
    class FromArray(nn.Module):
        def __init__(self):
            super().__init__()
            self.inside = nn.ReLU()

        def forward(self, array):
            return self.inside(torch.from_numpy(array))

    array = images().numpy()
    assert torch.equal(fl.ActivationRecorder(FromArray(), "inside")(array)["inside"], images())


LOADERS = [
    ([], ValueError, r"the loader yielded no batch; got \[\]"),
    (iter(()), ValueError, "the loader yielded no batch; got an object of type tuple_iterator"),
    (
        TensorDataset(images()),
        TypeError,
        "got the data set TensorDataset: wrap it in torch.utils.data.DataLoader",
    ),
    (7, TypeError, "record takes a loader of batches; got 7"),
    ("folder", TypeError, "record takes a loader of batches; got 'folder'"),
    ([()], ValueError, r"the loader yielded an empty batch: \(\)"),
    (
        [{"a": images(), "b": 1}],
        ValueError,
        r"which item of the batch {'a': float32 .*, 'b': 1} is the input\? forward takes input",
    ),
    ([[]], ValueError, r"the loader yielded an empty batch: \[\]"),
]


def test_a_batch_without_rows_has_no_statistics():
    loader = [(images(), 1), (images()[:0], 1)]
    with pytest.raises(ValueError, match=r"batch 2 has no rows; got \(float32 tensor \(0, 1, 8, 8\), 1\)"):
        fl.ActivationRecorder(plain(), "0").stream(loader, fl.statistics.Moments())


@pytest.mark.parametrize(("loader", "error", "message"), LOADERS, ids=range(len(LOADERS)))
def test_loaders(loader, error, message):
    with pytest.raises(error, match=message):
        fl.ActivationRecorder(plain(), "0").record(loader)


def test_what_cannot_be_joined_names_the_layer():
    x = torch.rand(3, 2, 1, 8)
    recorder = fl.ActivationRecorder(seeded(Nested), "lstm")
    with pytest.raises(
        ValueError, match=r"layer 'lstm' returned .* for a batch of 3: axis 0 is not the batch"
    ):
        recorder.record([x])
    only = fl.ActivationRecorder(seeded(Nested), "lstm", reduce={"lstm": lambda out: out[0]})
    assert only.record([x, x])["lstm"].shape == (6, 2, 5)
    convolution = fl.ActivationRecorder(nn.Sequential(nn.Conv2d(1, 1, 3)), "0")
    with pytest.raises(ValueError, match="batches of layer '0' cannot be joined: shapes differ"):
        convolution.record([images(), images(size=9)])


@pytest.mark.changes_model  # the test itself adds a layer
def test_a_layer_that_is_never_reached():
    model = Reused()
    model.aux = nn.Conv2d(1, 1, 1)
    with pytest.raises(
        LookupError, match="layer 'aux' was never called in the forward pass: it may be unused"
    ):
        fl.ActivationRecorder(model, ["conv1", "aux"])(images())
    with pytest.raises(LookupError, match="layer 'act' was called 3 times, so there is no call 4"):
        fl.ActivationRecorder(model, "act#4")(images())
    with pytest.raises(LookupError, match="layer 'aux' was never called"):
        fl.insert_extractors(model, "aux")
    with pytest.raises(LookupError, match="layer 'act' was called 3 times, so there is no call 4"):
        fl.insert_extractors(model, "act#4")
    assert len(fl.ActivationRecorder(model, nn.Conv2d)(images())) == 2, (
        "a type may match more than forward reaches"
    )
    model.conv3 = nn.Conv3d(1, 1, 1)
    with pytest.raises(LookupError, match="layer 'conv3' was never called"):
        fl.ActivationRecorder(model, nn.Conv3d)(images())


def test_a_block_without_a_forward():
    recorder = fl.ActivationRecorder(plain(), "conv_1")
    with pytest.raises(LookupError, match="layer '0' was never called"), recorder:
        pass
    with recorder, pytest.raises(RuntimeError, match="this recorder is already recording"):
        recorder.model(images())
        recorder.__enter__()
    for use in (recorder.record, lambda loader: recorder.stream(loader, fl.statistics.Moments())):
        with recorder, pytest.raises(RuntimeError, match="this recorder is already recording"):
            recorder.model(images())
            use([images()])


def test_values_that_are_not_finite_are_recorded_and_told():
    x = images()
    x[0, 0, 0, 0], x[1, 0, 0, 0] = float("nan"), float("inf")
    recorder = fl.ActivationRecorder(plain(), "conv_1")
    message = r"the batch, a float32 tensor \(4, 1, 8, 8\), holds 1 NaN and 1 infinite values"
    with pytest.warns(UserWarning, match=message):
        acts = recorder(x)
    assert acts["0"].isnan().any()
    with pytest.warns(UserWarning, match=message):
        recorder.record([x])
    with pytest.warns(UserWarning, match=message), recorder:
        recorder.model(x)


def test_a_reduction_that_fails_names_its_layer():
    with pytest.raises(RuntimeError, match="reduce failed on layer '0': IndexError") as caught:
        fl.ActivationRecorder(plain(), "0", reduce=lambda maps: maps[:, 9])(images())
    assert isinstance(caught.value.__cause__, IndexError)


def test_a_rewritten_model_that_fails_on_its_first_batch():
    model = fl.insert_extractors(nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU()), "1")
    with pytest.raises(
        RuntimeError, match=r"the model failed on a batch \(float32 tensor \(2, 4\)\) in layer '0', Conv2d\("
    ):
        model(torch.rand(2, 4))


def test_a_lazy_model():
    with pytest.raises(ValueError, match=r"parameter '0\.weight' is not initialized yet: run one batch"):
        fl.insert_extractors(nn.Sequential(nn.LazyLinear(2)), "0")
    with pytest.raises(TypeError, match=r"a batch must have values; got a float32 tensor .* on meta"):
        fl.insert_extractors(nn.Sequential(nn.Linear(3, 2)), "0", sample=torch.rand(2, 3, device="meta"))
    with pytest.raises(ValueError, match=r"parameter '0\.weight' is not initialized yet: run one batch"):
        fl.ActivationRecorder(nn.Sequential(nn.LazyLinear(3)), "0")(images())


def test_one_call_that_was_recorded_is_named():
    message = "only one call was recorded of layer 'act': act#2"
    recorder = fl.ActivationRecorder(Reused(), ["act#2", "conv1"])
    for recorded in (recorder(images()), recorder.stream([images()], fl.statistics.Moments())):
        with pytest.raises(KeyError) as caught:
            recorded["act"]
        assert str(caught.value) == message


def test_unknown_keys_of_the_result():
    acts = fl.ActivationRecorder(plain(), ["conv_1", "8"])(images())
    with pytest.raises(KeyError) as caught:
        acts["conv_2"]
    assert str(caught.value) == "no activations of 'conv_2' (2 layers: 0, 8)"
    assert "conv_2" not in acts
    assert "conv_1" in acts


@pytest.mark.changes_model
def test_training_inside_a_block_is_told():
    model = plain()
    optimizer = torch.optim.SGD(model.parameters())
    message = r"parameters changed in place .* \(0.weight, 0.bias, 3.weight\); .* do not train inside a recording block"
    with pytest.warns(RuntimeWarning, match=message), fl.ActivationRecorder(model, "0", training="keep"):
        model(images()).sum().backward()
        optimizer.step()


def test_progress_is_quiet_where_nobody_watches(capsys):
    fl.ActivationRecorder(plain(), "0").record(DataLoader(images(), batch_size=2))
    assert capsys.readouterr().err == ""


ONE = [(images(), torch.zeros(len(images()), dtype=torch.int64))]
PASSES = [
    ({"inputs": 3}, "inputs must be a function of a batch; got 3"),
    ({"progress": 3}, "progress must be True or False; got 3"),
]


@pytest.mark.parametrize(
    ("wrong", "message"), [*PASSES, ({"resume": 1}, "resume must be True or False; got 1")]
)
def test_wrong_arguments_of_record(wrong, message):
    with pytest.raises(TypeError, match=message):
        fl.ActivationRecorder(plain(), "0").record(ONE, **wrong)


@pytest.mark.parametrize(
    ("wrong", "message"), [*PASSES, ({"labels": 3}, "labels must be a function of a batch")]
)
def test_wrong_arguments_of_stream(wrong, message):
    with pytest.raises(TypeError, match=message):
        fl.ActivationRecorder(plain(), "0").stream(ONE, fl.statistics.JointCounts(2), **wrong)


def test_stream_speaks_of_itself():
    with pytest.raises(TypeError, match=r"^stream takes a loader of batches; got 3$"):
        fl.ActivationRecorder(plain(), "0").stream(3, fl.statistics.Moments())


def test_files_that_are_no_paths():
    activations = fl.ActivationRecorder(plain(), "0")(images())
    for call in (
        activations.save,
        fl.Activations.load,
        fl.StreamResult.load,
        fl.StreamResult({}, spans=()).save,
    ):
        with pytest.raises(TypeError, match=r"^path must be a file's path; got 3$"):
            call(3)
    with pytest.raises(TypeError, match=r"^parts must be a list of results or of paths; got 3$"):
        fl.StreamResult.merge(3)


def test_a_plot_of_activations_takes_what_feature_maps_take():
    activations = fl.ActivationRecorder(plain(), "0")(images())
    figure = activations.plot("0", image=1, scale="shared", limit=2, title="two")
    assert figure.get_suptitle().startswith("two")
    assert [len(ax.images) for ax in figure.axes if ax.images] == [2]


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Conv2d(3, 8, 3), (8, 6, 6)),
        (nn.Conv1d(3, 8, 3), (8, 6)),
        (nn.ConvTranspose2d(3, 8, 3), (8, 10, 10)),
        (nn.MaxPool2d(2), (3, 4, 4)),
        (nn.AvgPool3d(2), (3, 4, 4, 4)),
        (nn.AdaptiveAvgPool2d(1), (3, 1, 1)),
        (nn.AdaptiveMaxPool1d(2), (3, 2)),
        (nn.InstanceNorm2d(3), (3, 8, 8)),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_an_image_without_a_batch_axis_has_no_channel_means(layer, shape):
    recorder = fl.ActivationRecorder(nn.Sequential(layer), "0", reduce="mean")
    image = torch.rand(3, *[8] * int(type(layer).__name__[-2]))
    text = f"{type(layer).__name__} returned {shape}, which has no batch axis: pass images[None]"
    with pytest.raises(ValueError, match=re.escape(text) + "$"):
        recorder(image)
    assert recorder(image[None])["0"].shape == (1, shape[0])
    with pytest.raises(ValueError, match=re.escape(text) + "$"):  # its channels are no rows of a data set
        fl.ActivationRecorder(nn.Sequential(layer), "0").record([image])


def test_a_convolution_with_a_forward_of_its_own_may_return_what_it_likes():
    class Pooled(nn.Conv2d):
        def forward(self, x):
            return super().forward(x).mean((2, 3))

    recorder = fl.ActivationRecorder(nn.Sequential(Pooled(3, 8, 3)), "0", reduce="mean")
    assert recorder(torch.rand(2, 3, 8, 8))["0"].shape == (2, 8)


def test_images_of_another_precision_than_the_parameters_are_named():
    model = nn.Sequential(nn.Conv2d(1, 2, 3)).bfloat16()
    with pytest.raises(RuntimeError, match=r"its parameters are bfloat16, and it was given float32$"):
        fl.ActivationRecorder(model, "0")(torch.rand(1, 1, 4, 4))


def test_a_model_whose_parameters_are_loaded_when_they_are_needed_gets_its_batch_as_it_is():
    class Offloaded(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(1, 2, 3, device="meta")
            self._hf_hook = object()

        def forward(self, x):
            return self.conv.to_empty(device="cpu")(x)

    class Partly(nn.Module):
        def __init__(self):
            super().__init__()
            self.unused, self.conv = nn.Linear(2, 2, device="meta"), nn.Conv2d(1, 2, 3)

        def forward(self, x):
            return self.conv(x)

    assert fl.ActivationRecorder(Partly(), "conv")(torch.rand(1, 1, 4, 4))["conv"].device.type == "cpu"
    model = Offloaded()
    assert on_device_of(model, torch.rand(1)).device.type == "cpu"
    del model._hf_hook
    assert on_device_of(model, torch.rand(1)).device.type == "meta"


@pytest.mark.parametrize(("channels", "rows"), [(1, 2), (3, 2), (4, 2), (2, None), (5, None)])
def test_a_list_of_images_of_several_sizes_has_a_row_for_each(channels, rows):
    images = [torch.rand(channels, 5, 6), torch.rand(channels, 7, 8)]
    if rows is None:
        with pytest.raises(ValueError, match=r"how many rows has the input .*pass rows="):
            counted_rows(images)
    else:
        assert counted_rows(images) == rows
