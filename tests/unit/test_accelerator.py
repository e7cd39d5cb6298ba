"""Everything with a model on an accelerator, where there is one: it runs, and says what it says on the CPU."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

import featurelens as fl
from featurelens import information, similarity
from tests.fuzz import calls, further_calls, material, users
from tests.fuzz.further_calls import CALLS
from tests.fuzz.session import Attempt
from tests.nets import images, plain, seeded
from tests.state import snapshot

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
DEVICE = "cuda"
REFUSED = {
    *(
        "PhaseImage.from_image",
        "LatentImage.from_image",
        "callbacks.lightning_callback",
    ),  # rightly, or without lightning
    *("ChannelAblator.ablated", "TappedModule.forward"),  # the table calls a module of the user's by hand
}
MADE = [name for name, made in vars(material).items() if hasattr(made, "cache_clear")]


def moved(value):
    """Return a value with its models, tensors and batches on the device."""
    if isinstance(value, torch.Tensor | nn.Module):
        return value.to(DEVICE)
    if type(value) in (list, tuple):
        return type(value)(moved(item) for item in value)
    return value


def only_models(value):
    return moved(value) if isinstance(value, nn.Module) else value


class Call(Attempt):
    """A valid call."""

    def __init__(self, name, move):
        self.function = CALLS[name].function()
        makers = calls.base(CALLS[name], self.function)
        self.arguments = {argument: move(make()) for argument, make in makers.items()}


@pytest.fixture
def made_on_the_device(monkeypatch):
    """Results and objects whose methods are called come from a model on the device."""

    def forget():
        for name in MADE:
            getattr(material, name).cache_clear()

    forget()
    for table in (calls, further_calls, material):
        monkeypatch.setattr(table, "cnn", lambda: users.cnn().to(DEVICE))
    yield
    forget()


@pytest.mark.changes_model  # the calls that are made twice, and those of a decoder in training
@pytest.mark.parametrize("name", sorted(CALLS.keys() - REFUSED))
@pytest.mark.filterwarnings("ignore:Latent")  # few samples
@pytest.mark.parametrize("move", [moved, only_models])
def test_every_public_function_takes_a_model_on_the_device(
    name, move, made_on_the_device, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    Call(name, move).run()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_a_stream_on_the_device_says_what_its_activations_say_on_the_cpu(dtype):
    model = plain().to("cuda", dtype)
    batches = [(part.to(dtype), torch.arange(len(part)) % 3) for part in images(50).split(16)]
    statistics = [
        fl.statistics.Moments(),
        fl.statistics.Histogram(),
        fl.statistics.Histogram(edges=[-1.0, 0.0, 1.0]),
        fl.statistics.TopK(3),
        fl.statistics.Covariance(),
        fl.statistics.JointCounts(classes=3),
        fl.statistics.Activity(),
        fl.statistics.ClassSelectivity(classes=3),
        fl.statistics.MonoScore(torch.rand(50, 4)),
        fl.statistics.Sample(20),
    ]
    recorder = fl.ActivationRecorder(model, ["0", "3", "8"])
    for statistic in statistics:
        result = recorder.stream(batches, statistic)
        expected = {layer: statistic.fresh() for layer in result}
        for x, labels in batches:
            for layer, values in recorder(x).items():
                expected[layer].update(values.cpu(), labels=labels)
        for layer, (found,) in result.statistics.items():
            for name, value in vars(found.compute()).items():
                if value is None:  # the layer, which a result has from its stream
                    continue
                other = torch.as_tensor(vars(expected[layer].compute())[name])
                assert torch.as_tensor(value).device.type == "cpu"
                torch.testing.assert_close(
                    torch.as_tensor(value), other, rtol=1e-9, atol=1e-9, equal_nan=True
                )


@pytest.mark.changes_model  # the test itself moves it
def test_receptive_fields_are_the_same_on_the_device():
    model = plain()
    here = fl.receptive_field(model, "3", (1, 8, 8))
    there = fl.receptive_field(model.cuda(), "3", (1, 8, 8))
    assert torch.equal(here.rows, there.rows)
    model.cpu()


def on_both(ask, dtype=torch.float64, model=plain):
    """Return what a function of a model says on the CPU and on the device."""
    here = model().eval().to(dtype)
    there = copy.deepcopy(here).to(DEVICE)
    before = snapshot(there)
    answers = ask(here), ask(there)
    assert snapshot(there) == before
    return answers


def assert_same(here, there, tolerance=1e-9):
    assert there.device.type == "cpu"
    torch.testing.assert_close(there, here, rtol=tolerance, atol=tolerance, equal_nan=True)


@pytest.mark.parametrize("backend", ["hooks", "rewrite"])
@pytest.mark.parametrize("settings", [{}, {"reduce": "mean"}, {"device": "cpu"}])
def test_recording_is_the_same_on_the_device(backend, settings):
    x = images(5).double()
    here, there = on_both(
        lambda model: fl.ActivationRecorder(model, ["0", "2", "8"], backend=backend, **settings)(x)
    )
    for layer, values in there.items():
        assert values.device.type == ("cpu" if settings.get("device") else DEVICE)
        assert_same(here[layer], values.cpu())


def test_a_model_on_the_cpu_takes_a_batch_from_the_device():
    model, x = plain().eval(), torch.rand(4000, 1, 8, 8)
    expected = model(x)
    for _ in range(20):
        there = x.to(DEVICE)
        torch.cuda._sleep(10_000_000)
        assert torch.equal(fl.ActivationRecorder(model, "8")(there + 0)["8"], expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_recording_inside_autocast(dtype):
    model, x = plain().to(DEVICE).eval(), images(5)
    with torch.autocast(DEVICE, dtype):
        found = fl.ActivationRecorder(model, ["0", "8"])(x)
        expected = model(x.to(DEVICE))
    assert found["8"].dtype is dtype
    assert torch.equal(found["8"], expected)


def test_a_model_in_training_leaves_the_devices_random_state():
    model = plain().to(DEVICE).train()
    before = torch.cuda.get_rng_state()
    fl.ActivationRecorder(model, "8").stream(images(20).split(10), fl.statistics.Moments(), progress=False)
    fl.ChannelAblator(model, "0").importance([(images(8), torch.arange(8) % 3)], progress=False)
    assert torch.equal(torch.cuda.get_rng_state(), before)


@pytest.mark.parametrize(
    "estimator",
    [
        information.KSGMutualInformation(),
        information.CorrectedKSGMutualInformation(),
        information.CopulaMutualInformation(),
        information.BinnedMutualInformation(bins=2),
        information.RenyiMutualInformation(),
        information.ProbeMutualInformation(),
        information.NeuralMutualInformation(steps=50, rotations=1),
        information.AutomaticMutualInformation(effort="fast"),
    ],
    ids=lambda estimator: type(estimator).__name__,
)
def test_information_is_the_same_of_samples_on_the_device(estimator):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(500, 2, generator=generator)
    y = (
        (x[:, 0] > 0).long()
        if "Probe" in type(estimator).__name__
        else x + torch.randn(500, 2, generator=generator)
    )
    here = estimator.estimate(x, y, seed=0)
    there = estimator.estimate(x.to(DEVICE), y.to(DEVICE), seed=0)
    assert there.value == pytest.approx(here.value, abs=1e-3)  # tied distances may round to either side


def test_spatial_and_channel_information_are_the_same_on_the_device():
    generator = torch.Generator().manual_seed(0)
    x, maps = torch.rand(40, 1, 8, 8, generator=generator), torch.rand(40, 3, 8, 8, generator=generator)
    labels = torch.arange(40) % 4
    ask = lambda move: (
        fl.spatial_mutual_information(move(x), move(maps), progress=False).per_pair,
        fl.channel_information(move(maps), move(labels), permutations=5, progress=False).values,
    )
    for here, there in zip(ask(lambda v: v), ask(moved), strict=True):
        np.testing.assert_allclose(np.asarray(there), np.asarray(here), rtol=1e-6)


def test_information_of_layers_is_the_same_on_the_device():
    x, labels = images(80).double(), torch.arange(80) % 4
    here, there = on_both(
        lambda model: fl.layer_information(model, ["0", "8"], x, labels, null=None, progress=False)
    )
    for layer in here:
        assert there[layer].value == pytest.approx(here[layer].value, rel=1e-6, abs=1e-6)
    here, there = on_both(
        lambda model: fl.linear_probe(model, ["8"], x, labels, folds=2, permutations=2, progress=False)
    )
    np.testing.assert_allclose(np.asarray(there.accuracy), np.asarray(here.accuracy), atol=0.03)


@pytest.mark.parametrize(
    "parametrization",
    [
        lambda: fl.PixelImage((1, 8, 8)),
        lambda: fl.FourierImage((1, 8, 8)),
        lambda: fl.PhaseImage((1, 8, 8)),
        lambda: fl.LatentImage(
            seeded(lambda: nn.Sequential(nn.Linear(3, 64), nn.Sigmoid(), nn.Unflatten(1, (1, 8, 8)))), 3
        ),
    ],
    ids=["pixels", "fourier", "phases", "latent"],
)
def test_pictures_are_the_same_on_the_device(parametrization):
    def ask(model):
        return fl.ActivationMaximizer(model, parametrization(), steps=5, progress=False).run("3:1")

    here, there = on_both(ask, dtype=torch.float32)
    assert_same(here.images, there.images, tolerance=1e-2)


def test_ablation_is_the_same_on_the_device():
    batches = [(x.double(), torch.arange(len(x)) % 3) for x in images(40).split(16)]
    here, there = on_both(lambda model: fl.ChannelAblator(model, "0").importance(batches, progress=False))
    assert_same(here.importance, there.importance)
    here, there = on_both(
        lambda model: fl.ChannelAblator(model, "3").sweep(images(4).double(), progress=False)
    )
    assert_same(here.outputs, there.outputs)
    assert_same(here.change, there.change)


def test_similarity_is_the_same_on_the_device():
    batches = list(images(60).double().split(16))
    here, there = on_both(
        lambda model: fl.compare(model, loader=batches, layers=["0", "3", "8"], progress=False)
    )
    assert_same(here.values, there.values)
    x, y = torch.randn(60, 5, dtype=torch.float64), torch.randn(60, 4, dtype=torch.float64)
    for measure in (similarity.cka, similarity.procrustes, similarity.rsa):
        assert measure(moved(x), moved(y)).value == pytest.approx(measure(x, y).value)


class Spread(nn.Module):
    """A network of which a part is on the CPU and a part on the device."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 4, 3), nn.Linear(4, 5).to(DEVICE)

    def forward(self, x):
        return self.second(self.first(x).relu().mean((2, 3)).to(DEVICE))


def test_a_network_spread_over_devices():
    model, batches = seeded(Spread), [(images(8), torch.arange(8) % 5)]
    layers = ["first", "second"]
    assert [v.device.type for v in fl.ActivationRecorder(model, layers)(images(8)).values()] == [
        "cpu",
        DEVICE,
    ]
    fl.ActivationRecorder(model, layers).stream(batches, fl.statistics.Moments(), progress=False)
    fl.compare(model, loader=batches, layers=layers, progress=False)
    fl.linear_probe(model, layers, images(60), torch.arange(60) % 5, folds=2, permutations=2, progress=False)
    for layer in layers:
        fl.ChannelAblator(model, layer).importance(batches, progress=False)
        fl.ChannelAblator(model, layer).sweep(images(8), progress=False)
    parametrization = fl.FourierImage((1, 8, 8))
    found = fl.ActivationMaximizer(model, parametrization, steps=4, progress=False).run(
        ["first:0", "second:1"]
    )
    assert found.images.isfinite().all()


@pytest.mark.parametrize("spread", [False, True])
def test_an_atlas_of_a_network_on_the_device(spread, tmp_path):
    model = seeded(Spread) if spread else plain().to(DEVICE)
    layers = ["first", "second"] if spread else ["0", "3", "8"]
    data = torch.utils.data.TensorDataset(images(60), torch.arange(60) % 5)
    loader = torch.utils.data.DataLoader(data, 16, pin_memory=torch.cuda.is_available())
    fl.Atlas(model, loader, layers, steps=2, progress=False).build(tmp_path / "site")
    assert (tmp_path / "site/index.html").exists()


@pytest.mark.parametrize("build", ["resnet18", "vit_b_16", "mobilenet_v3_small", "swin_t"])
def test_networks_of_torchvision_on_the_device(build):
    models = pytest.importorskip("torchvision.models")
    model = seeded(getattr(models, build)).to(DEVICE).eval()
    x = torch.rand(8, 3, 224, 224)
    expected = model(x.to(DEVICE))
    layers = [nn.Conv2d]
    for backend in ("hooks", "rewrite"):
        found = fl.ActivationRecorder(model, layers, backend=backend)(x)
        assert all(values.device.type == DEVICE for values in found.values())
    assert torch.equal(model(x.to(DEVICE)), expected)
    result = fl.ActivationRecorder(model, layers).stream(x.split(4), fl.statistics.Moments(), progress=False)
    assert all(torch.isfinite(result[layer].moments.mean).all() for layer in found)
