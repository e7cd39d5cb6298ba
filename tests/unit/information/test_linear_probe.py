"""A linear probe of every layer: known answers, the null, one pass, and what is refused."""

import math

import pytest
import torch
from torch import nn

import featurelens as fl
from featurelens.information import ProbeMutualInformation, linear_probe


def columns(seed=0):
    """Labels that two of three columns tell through noise."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(240) % 3
    x = torch.randn(240, 3, generator=generator)
    x[:, 0] += 3.0 * (labels == 1)
    x[:, 1] += 3.0 * (labels == 2)
    return x, labels


class Two(nn.Module):
    """A layer that keeps what is known, and one that loses it."""

    def __init__(self):
        super().__init__()
        self.keep, self.lose = nn.Identity(), nn.Identity()

    def forward(self, x):
        return self.lose(0 * self.keep(x)[:, :2] + x[:, 2:])


def probe(model, layers, loader, labels=None, **options):
    return linear_probe(model, layers, loader, labels, **{"progress": False, "permutations": 2} | options)


def test_a_layer_that_tells_the_label_and_one_that_does_not():
    x, labels = columns()
    found = probe(Two(), ["keep", "lose"], x, labels)
    assert found.layers == ("keep", "lose")
    assert found.columns == (3, 2)
    assert found.accuracy[0] > 0.85
    assert found.accuracy[1] == pytest.approx(1 / 3, abs=0.12)
    assert found.nats[0] > 0.6
    assert abs(found.nats[1]) < 0.06
    assert found.null_accuracy == pytest.approx([1 / 3, 1 / 3], abs=0.1)
    assert found.null_nats.abs().max() < 0.06
    assert found.p_value[0] == pytest.approx(1 / 3)
    assert found.majority == pytest.approx(1 / 3)
    assert found.label_entropy == pytest.approx(math.log(3))


def test_nats_are_those_of_the_probe_estimator_and_errors_those_of_means():
    x, labels = columns()
    found = probe(Two(), "keep", x, labels, null=None)
    estimate = ProbeMutualInformation().estimate(x.double(), labels, confidence=0.95)
    assert found.nats[0] == pytest.approx(estimate.value, abs=1e-9)
    assert found.nats_error[0] == pytest.approx(estimate.standard_error, rel=1e-6)
    p = float(found.accuracy[0])
    assert found.accuracy_error[0] == pytest.approx(math.sqrt(p * (1 - p) / 239), rel=1e-6)
    assert found.null_nats is found.p_value is None


def test_the_data_are_read_once_and_labels_may_be_in_the_batches():
    x, labels = columns()
    read = []

    def loader():
        for part in range(0, 240, 60):
            read.append(part)
            yield x[part : part + 60], labels[part : part + 60] + 5

    found = probe(Two(), ["keep", "lose"], loader(), null=None)
    assert read == [0, 60, 120, 180]
    assert torch.equal(found.accuracy, probe(Two(), ["keep", "lose"], x, labels, null=None).accuracy)


def test_a_constant_layer_predicts_the_commonest_label():
    x, labels = columns()
    labels = labels.where(labels < 2, torch.zeros_like(labels))
    found = probe(Two(), "lose", torch.zeros_like(x), labels, null=None)
    assert found.accuracy[0] == pytest.approx(found.majority) == pytest.approx(2 / 3)
    assert abs(found.nats[0]) < 0.01


def test_a_result_prints_and_survives_a_file(tmp_path):
    x, labels = columns()
    found = probe(Two(), ["keep", "lose"], x, labels, permutations=1)
    head, *_, last = str(found).splitlines()
    assert head.split() == ["layer", "accuracy", "its", "null", "nats", "their", "null", "p"]
    assert last == "on 240 images in 5 held-out parts; commonest label: 0.333; label entropy: 1.099 nats"
    assert (
        repr(found) == f"LinearProbeResult(2 layers, best accuracy {found.accuracy[0]:.3f} ('keep'), n=240)"
    )
    assert "<td>keep</td>" in found._repr_html_()
    found.save(tmp_path / "probe.pt")
    assert torch.equal(fl.information.LinearProbeResult.load(tmp_path / "probe.pt").nats, found.nats)


@pytest.mark.parametrize(
    ("x", "labels", "options", "error", "message"),
    [
        (columns()[0], None, {}, ValueError, "has no labels: yield batches"),
        (columns()[0], columns()[1][:9], {}, ValueError, "labels must label each image: got 9 labels for 240"),
        (columns()[0], columns()[0], {}, TypeError, r"labels must be an integer tensor \(N,\); got float32"),
        (columns()[0], torch.zeros(240).long(), {}, ValueError, "labels is constant"),
        (columns()[0], torch.arange(240), {}, ValueError, "layer 'keep': a probe needs labels that recur"),
        (*columns(), {"folds": 10**6}, ValueError, "folds must be at most the number of samples"),
        (columns()[0][:9], torch.arange(9) % 2, {}, ValueError, "layer 'keep': a probe needs at least 50 samples"),
        (columns()[0] * math.nan, columns()[1], {}, ValueError, "layer 'keep': activations must be finite"),
        (*columns(), {"folds": 1}, ValueError, "folds must be at least 2; got 1"),
        (*columns(), {"null": "shuffle"}, ValueError, "null must be one of None, 'permutation'"),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:the batch")
def test_what_cannot_be_probed_is_refused(x, labels, options, error, message):
    with pytest.raises(error, match=message):
        probe(Two(), "keep", x, labels, **options)
