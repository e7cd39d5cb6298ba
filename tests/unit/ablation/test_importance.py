"""What channels are worth, against plain loops over images."""

import dataclasses
import gc
import math
from weakref import ref

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import featurelens as fl
from tests import nets
from tests.state import random_state
from tests.unit.ablation.nets import Coupled, Residual, Skips, batch, double, slow_loop


def loader(n=23, size=5, classes=3):
    labels = torch.arange(n) % classes
    x = batch(n) + 0.3 * labels[:, None, None, None]
    return [(x[i : i + size], labels[i : i + size]) for i in range(0, n, size)]


def whole(batches):
    return tuple(torch.cat(parts) for parts in zip(*batches, strict=True))


def right(outputs, labels):
    return (outputs.argmax(-1) == labels).double()


def model():
    """Knows more than nothing of the labels."""
    network = double(Residual)
    with torch.no_grad():
        x, labels = whole(loader())
        features = []
        handle = network.head.register_forward_pre_hook(lambda module, args: features.append(args[0]))
        network.eval()(x.clone())
        handle.remove()
        network.train()
        target = F.one_hot(labels, 3).double()
        network.head.weight.copy_(torch.linalg.lstsq(features[0], target).solution.T)
        network.head.bias.zero_()
    return network


@pytest.mark.parametrize("mode", ["drop", "keep"])
def test_accuracy_lost_by_hand(mode):
    network, (x, labels) = model(), whole(loader())
    result = fl.ChannelAblator(network, "left").importance(loader(), mode=mode, chunk=3)
    outputs = slow_loop(network, "left", x, mode=mode, channels=range(4))
    plain = right(fl.ChannelAblator(network, "left").sweep(x).baseline, labels)
    lost = plain - right(outputs, labels)
    assert 0.4 < result.baseline == plain.mean().item()
    torch.testing.assert_close(result.importance, lost.mean(1))
    torch.testing.assert_close(result.standard_error, lost.std(1) / math.sqrt(len(x)))
    for label in range(3):
        torch.testing.assert_close(result.per_class[:, label], lost[:, labels == label].mean(1))
        error = lost[:, labels == label].std(1) / math.sqrt(result.counts[label])
        torch.testing.assert_close(result.per_class_standard_error[:, label], error)
        torch.testing.assert_close(result.baseline_per_class[label], plain[labels == label].mean())
    assert result.counts.tolist() == [8, 8, 7]
    assert result.n == 23
    assert lost.abs().sum() > 0


def test_loss_gained_by_hand():
    network, (x, labels) = model(), whole(loader())
    result = fl.ChannelAblator(network, "left").importance(loader(), metric="loss", channels=[3, 1])
    outputs = slow_loop(network, "left", x, mode="drop", channels=[3, 1])
    plain = F.cross_entropy(fl.ChannelAblator(network, "left").sweep(x).baseline, labels)
    gained = torch.stack([F.cross_entropy(output, labels) for output in outputs]) - plain
    torch.testing.assert_close(result.importance, gained)
    assert result.baseline == pytest.approx(plain.item())
    assert result.channels == (3, 1)


def test_a_metric_of_one_s_own():
    network, (x, labels) = model(), whole(loader())

    def margin(outputs, labels):
        return outputs.gather(1, labels[:, None])[:, 0] - outputs.mean(1)

    result = fl.ChannelAblator(network, "right").importance(loader(), metric=margin)
    outputs = slow_loop(network, "right", x, mode="drop", channels=range(4))
    plain = margin(fl.ChannelAblator(network, "right").sweep(x).baseline, labels)
    expected = torch.stack([(plain - margin(output, labels)).mean() for output in outputs])
    torch.testing.assert_close(result.importance, expected)
    assert result.metric == "margin"


def test_images_may_be_the_labels():
    def closeness(outputs, images):
        return -(outputs - images).square().mean((1, 2, 3))

    batches = [(x, x) for x, _ in loader()]
    result = fl.ChannelAblator(double(Skips), "bottom", output="mask").importance(batches, metric=closeness)
    assert result.per_class is None
    assert result.baseline_per_class is None
    assert result.counts is None


def test_the_mean_is_that_of_the_whole_loader():
    network, (x, labels), batches = model(), whole(loader()), loader()
    result = fl.ChannelAblator(network, "left").importance(batches, fill="mean", metric="loss")
    assert torch.equal(whole(batches)[0], x)  # although the model changes its input in place
    found = fl.ActivationRecorder(network, "left")(x.clone())["left"]
    mean = found.mean((0, 2, 3), keepdim=True)
    outputs = slow_loop(network, "left", x, mode="drop", fill=lambda v: mean + 0 * v, channels=range(4))
    expected = torch.stack([F.cross_entropy(output, labels) for output in outputs]) - result.baseline
    torch.testing.assert_close(result.importance, expected)


@pytest.mark.parametrize("layer", ["act", "act#2"])
def test_every_call_of_a_reused_layer_has_a_mean_of_its_own(layer):
    network, (x, labels) = double(nets.Reused), whole(loader())
    result = fl.ChannelAblator(network, layer).importance(loader(), fill="mean", metric="loss")
    found = fl.ActivationRecorder(network, "act")(x)
    outputs = []
    for channel in range(4):
        calls = 0

        def hook(module, args, output, channel=channel):
            nonlocal calls
            calls += 1
            if layer in ("act", f"act#{calls}"):
                output = output.clone()
                output[:, channel] = found[f"act#{calls}"][:, channel].mean()
            return output

        handle = network.act.register_forward_hook(hook)
        with torch.no_grad():
            outputs.append(network(x))
        handle.remove()
    expected = torch.stack([F.cross_entropy(output, labels) for output in outputs]) - result.baseline
    torch.testing.assert_close(result.importance, expected)


def test_order_and_top():
    result = fl.ImportanceResult(
        importance=torch.tensor([0.1, -0.2, 0.5, 0.1]),
        standard_error=torch.zeros(4),
        baseline=0.5,
        channels=(4, 7, 1, 0),
        n=10,
        layer="conv",
        metric="accuracy",
        mode="drop",
        fill="zero",
    )
    assert result.order() == [7, 4, 0, 1]
    assert result.order("most") == [1, 4, 0, 7]
    assert result.top(2) == [1, 4]
    assert len(result.top(99)) == len(result.channels)
    for wrong, error in ((-1, ValueError), ("a", TypeError)):
        with pytest.raises(error, match=f"^k must be .*; got {wrong!r}$"):
            result.top(wrong)


def test_the_curve_by_hand():
    network, (x, labels) = model(), whole(loader())
    ablator = fl.ChannelAblator(network, "left")
    worth = ablator.importance(loader(), metric="loss")
    curve = ablator.curve(loader(), order=worth, metric="loss", chunk=2)
    assert list(curve.order) == worth.order("least")
    network.eval()
    for removed in range(5):
        with ablator.ablated(curve.order[:removed]), torch.no_grad():
            expected = F.cross_entropy(network(x.clone()), labels)
        assert curve.values[removed].item() == pytest.approx(expected.item())
    network.train()
    assert curve.total == 4
    torch.testing.assert_close(
        (curve.per_class * torch.tensor([8.0, 8, 7])).sum(1) / 23, curve.values, check_dtype=False
    )


def test_orders():
    ablator = fl.ChannelAblator(model(), "left")
    before = random_state()
    assert ablator.curve(loader(), seed=1).order == ablator.curve(loader(), seed=1).order
    assert len({ablator.curve(loader(), seed=seed).order for seed in range(8)}) > 1
    assert ablator.curve(loader(), order=[2, 0]).order == (2, 0)
    assert len(ablator.curve(loader(), order=torch.tensor([2, 0])).values) == 3
    assert random_state() == before


def test_resampling_is_seeded():
    ablator = fl.ChannelAblator(model(), "left")
    runs = [
        ablator.importance(loader(20), fill="resample", metric="loss", seed=seed).importance
        for seed in (0, 0, 1)
    ]
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


def test_a_class_without_images_has_no_value():
    result = fl.ChannelAblator(model(), "left").importance([(batch(2), torch.tensor([0, 2]))])
    assert result.per_class[:, 1].isnan().all()
    assert result.per_class[:, [0, 2]].isfinite().all()
    assert result.per_class_standard_error.isnan().all()  # of one image


def test_what_ran_in_full_is_told():
    result = fl.ChannelAblator(double(Coupled), "conv").importance(
        [(batch(4), torch.tensor([0, 1, 0, 1]))] * 2
    )
    assert result.notes == (
        "the whole model ran for every variant (images of a batch affect each other, or change in place what is read again)",
    )


@pytest.mark.parametrize("kind", ["importance", "curve", "sweep"])
def test_results_are_saved_and_loaded(kind, tmp_path):
    ablator = fl.ChannelAblator(model(), "left")
    result = ablator.sweep(batch()) if kind == "sweep" else getattr(ablator, kind)(loader())
    result.save(tmp_path / "result.pt")
    loaded = type(result).load(tmp_path / "result.pt")
    assert repr(loaded) == repr(result)
    assert str(loaded) == str(result)
    with pytest.raises(dataclasses.FrozenInstanceError):
        loaded.layer = "right"
    for name in ("importance", "values", "outputs"):
        if hasattr(result, name):
            assert torch.equal(getattr(loaded, name), getattr(result, name))
    torch.save({"kind": "Other"}, tmp_path / "other.pt")
    with pytest.raises(ValueError, match=rf"other.pt was not written by {type(result).__name__}.save"):
        type(result).load(tmp_path / "other.pt")


def test_notes_and_layers_are_read_in_a_notebook_too():
    ablator = fl.ChannelAblator(double(Coupled), "conv")
    data = [(batch(4), torch.tensor([0, 1, 0, 1]))]
    for result in (ablator.sweep(data[0]), ablator.importance(data), ablator.curve(data)):
        assert str(result).endswith("change in place what is read again)")
        assert result.notes[0] in result._repr_html_()
        assert "3 channels of conv" in result._repr_html_()


def test_errors_of_reconstructions_by_hand():
    network = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.Conv2d(3, 1, 3, padding=1)).double()
    x = batch()
    result = fl.ChannelAblator(network, "0").sweep(x)
    assert result.reconstructions is result.outputs
    for channel in range(3):
        for image in range(3):
            output = result.outputs[channel, image]
            assert result.error[channel, image].item() == pytest.approx(
                ((output - x[image]) ** 2).mean().item()
            )
            change = ((output - result.baseline[image]) ** 2).mean().item()
            assert result.change[channel, image].item() == pytest.approx(change)
    torch.testing.assert_close(result.baseline_error, ((result.baseline - x) ** 2).mean((1, 2, 3)))
    scores = fl.ChannelAblator(model(), "left").sweep(x)
    assert scores.reconstructions is scores.error is scores.baseline_error is None
    assert scores.change.shape == (4, 3)


def test_values_that_are_not_finite_are_told_everywhere():
    class Logarithm(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(1, 3, 3)

        def forward(self, x):
            return self.conv(x).abs().amax((2, 3)).log()

    network = nets.seeded(Logarithm)
    ablator = fl.ChannelAblator(network, "conv")
    data = [(nets.images(4), torch.arange(4) % 3), (nets.images(2, seed=1), torch.arange(2))]
    # The plain outputs and those of three variants, each of which has an infinite value for each image.
    worth = ablator.importance(data, progress=False)
    assert worth.notes == ("18 of 72 outputs are not finite",)
    curve = ablator.curve(data, order=[1, 0], progress=False)
    assert curve.notes == ("18 of 54 outputs are not finite",)
    assert ablator.sweep(data[0][0], mode="drop").notes == ("12 of 36 outputs are not finite",)


def test_a_loader_may_be_a_single_batch_and_a_batch_a_dict():
    ablator = fl.ChannelAblator(double(Coupled), "conv")
    x, labels = batch(6), torch.tensor([0, 1, 0, 1, 1, 1])
    for fill in ("zero", "mean"):
        expected = ablator.importance([(x, labels)], fill=fill, metric="loss")
        for given in ((x, labels), {"x": x, "label": labels}, [{"image": x, "label": labels}]):
            found = ablator.importance(given, fill=fill, metric="loss")
            assert torch.equal(found.importance, expected.importance)
            assert ablator.curve(given, order=[1]).n == 6


def test_a_fill_may_be_an_array():
    network, means = model(), torch.arange(4.0, dtype=torch.float64)
    ablator = fl.ChannelAblator(network, "left")
    expected = ablator.importance(loader(), fill=means, progress=False)
    found = ablator.importance(loader(), fill=means.numpy(), progress=False)
    torch.testing.assert_close(found.importance, expected.importance, rtol=0, atol=0)
    assert found.fill == "tensor"


def test_the_loader_is_gone_over_twice_for_the_mean_alone():
    class Loader(list):
        passes = 0

        def __iter__(self):
            type(self).passes += 1
            return super().__iter__()

    data, ablator = Loader(loader()), fl.ChannelAblator(model(), "left")
    for fill, passes in (("zero", 1), ("resample", 1), (torch.zeros(4), 1), ("mean", 2)):
        Loader.passes = 0
        ablator.importance(data, fill=fill, progress=False)
        assert Loader.passes == passes


@pytest.mark.parametrize("verb", ["importance", "curve"])
def test_tensors_of_a_batch_do_not_outlive_it(verb, monkeypatch):
    """Without waiting for Python to look for cycles, which it may do after memory has run out."""
    alive = []

    class Loader:
        def __iter__(self):
            for _ in range(4):
                images = batch(8).float()
                alive.append(ref(images))
                yield images, torch.arange(8) % 3
                del images

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.fc = nn.Conv2d(1, 4, 3), nn.Linear(4, 3)

        def forward(self, x):
            return self.fc(self.conv(x).relu().mean((2, 3)))

    gc.collect()
    gc.disable()
    try:
        getattr(fl.ChannelAblator(Net(), "conv_1"), verb)(Loader(), progress=False)
    finally:
        gc.enable()
    assert sum(each() is not None for each in alive) == 0
