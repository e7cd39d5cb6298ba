"""Statistics of a model on an accelerator, where there is one."""

import pytest
import torch

import featurelens as fl
from tests.nets import images, plain

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


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
