"""The probe: what it predicts, that it predicts only what it has not seen, and layers whose information is known."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from featurelens.information import ProbeMutualInformation, layer_information
from featurelens.information.probe import _features, balanced_folds, predict_held_out

PROBE = ProbeMutualInformation()
CODEBOOK = torch.randn(5, 4, generator=torch.Generator().manual_seed(99), dtype=torch.float64)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def code(labels, seed):
    """Four columns that tell the label through noise of size 1."""
    return CODEBOOK[labels] + normal(len(labels), 4, seed=seed)


def truth():
    labels = torch.arange(100_000) % 5
    log_chances = (-0.5 * torch.cdist(code(labels, 5), CODEBOOK).square()).log_softmax(dim=1)
    return math.log(5) + float(log_chances.gather(1, labels[:, None]).mean())


@pytest.mark.parametrize("width", [4, 64, 256])
def test_a_known_code_is_found_among_columns_of_noise(width):
    values = []
    for seed in range(3):
        labels = torch.arange(600) % 5
        columns = torch.cat([code(labels, seed), normal(600, width - 4, seed=seed + 50)], dim=1)
        values.append(PROBE.estimate(columns, labels, seed=seed).value)
    assert np.mean(values) == pytest.approx(truth(), abs=0.08)


@pytest.mark.parametrize("width", [4, 256])
def test_shuffled_labels_are_not_predicted(width):
    labels = torch.arange(300) % 5
    values = [PROBE.estimate(normal(300, width, seed=s), labels, seed=s).value for s in range(4)]
    assert -0.06 < np.mean(values) < 0.02


def test_repeated_columns_and_scales_do_not_matter():
    labels = torch.arange(400) % 5
    columns = code(labels, 0)
    plain = PROBE.estimate(columns, labels).value
    assert PROBE.estimate(torch.cat([columns] * 3, dim=1), labels).value == pytest.approx(plain, abs=0.05)
    huge = columns * torch.tensor([1e200, 1e-200, 1.0, 7.0], dtype=torch.float64) + 3.0
    assert PROBE.estimate(huge[:, [0, 2, 3]], labels).value == pytest.approx(
        PROBE.estimate(columns[:, [0, 2, 3]], labels).value, abs=1e-6
    )
    with_constant = torch.cat([columns, torch.ones(400, 1)], dim=1)
    assert PROBE.estimate(with_constant, labels).value == pytest.approx(plain, abs=1e-6)


def test_nobody_is_predicted_by_a_probe_that_saw_them():
    labels = torch.arange(200) % 2
    columns = normal(200, 3) + labels[:, None]
    before = predict_held_out(columns, labels, 5, torch.Generator().manual_seed(0))
    held, _ = next(balanced_folds(labels, 5, torch.Generator().manual_seed(0)))
    twin = next(row for row in held.tolist() if row != int(held[0]) and labels[row] == labels[held[0]])
    changed = columns.clone()
    changed[held[0]] = columns[twin]  # another sample of the same fold and label: folds stay as they are
    after = predict_held_out(changed, labels, 5, torch.Generator().manual_seed(0))
    others = [row for row in held.tolist() if row != int(held[0])]
    assert torch.allclose(before[others], after[others])


def test_folds_are_balanced_and_cover_everything():
    labels = torch.tensor([0] * 50 + [1] * 10 + [2])
    folds = [*balanced_folds(labels, 5, torch.Generator().manual_seed(0))]
    assert sorted(torch.cat([held for held, _ in folds]).tolist()) == list(range(61))
    for held, rest in folds:
        assert not set(held.tolist()) & set(rest.tolist())
        assert labels[held].bincount()[:2].tolist() == [10, 2]


def test_columns_count_as_far_as_they_differ():
    labels = torch.arange(500) % 2
    columns = torch.cat([normal(500, 50), 3 * (normal(500, 1) + labels[:, None])], dim=1)
    spread = _features(columns, labels, torch.arange(500), 0.99).std(dim=0)
    assert spread[-1] > 0.9
    assert (spread[:-1] == 0).sum() > 40
    assert torch.allclose(
        _features(columns, labels, torch.arange(500), 0.0).std(dim=0, correction=0), torch.ones(51).double()
    )


def test_rare_labels_are_no_disaster():
    labels = torch.cat([torch.zeros(98), torch.ones(1), torch.full((1,), 2.0)]).long()
    result = PROBE.estimate(normal(100, 3), labels)
    assert -0.3 < result.value <= result.label_entropy
    assert result.ceiling == pytest.approx(result.label_entropy)


def test_certainty_is_never_infinite():
    labels = torch.arange(200) % 4
    result = PROBE.estimate(labels.double()[:, None] * 1000 + normal(200, 1), labels, confidence=0.95)
    assert result.value == pytest.approx(math.log(4), abs=0.1)
    assert result.value <= math.log(4)
    assert result.notes == ("a lower bound: what a linear probe predicts on 5 held-out parts",)


class Hides(nn.Module):
    """A network that writes a noisy code of the label, its input's first pixel, among noise of the other pixels."""

    def __init__(self, repeats):
        super().__init__()
        self.wide, self.repeats = nn.Identity(), repeats

    def forward(self, batch):
        told = CODEBOOK[batch[:, 0].long()].float() + batch[:, 1:5]
        return self.wide(torch.cat([told] * self.repeats + [batch[:, 5:]], dim=1))


@pytest.mark.parametrize("repeats", [1, 3])
def test_a_layer_knows_what_was_hidden_in_it(repeats):
    labels = torch.arange(1000) % 5
    inputs = torch.cat([labels[:, None], normal(1000, 100, seed=3)], dim=1).float()
    result = layer_information(Hides(repeats), "wide", inputs, labels, permutations=3)["wide"]
    assert result.value == pytest.approx(truth(), abs=0.08)
    assert abs(result.null_mean) < 0.02
    shuffled = labels[torch.randperm(1000, generator=torch.Generator().manual_seed(0))]
    result = layer_information(Hides(repeats), "wide", inputs, shuffled, permutations=3)["wide"]
    assert abs(result.value) < 0.03


@pytest.mark.parametrize(
    ("x", "y", "error", "message"),
    [
        (torch.rand(60), torch.rand(60), TypeError, "a probe needs labels (integers) on one side and columns on the other; got floating-point values for both"),
        (torch.arange(60) % 2, torch.arange(60) % 3, TypeError, "a probe needs labels (integers) on one side and columns on the other; got integer labels for both"),
        (torch.rand(20), torch.arange(20) % 2, ValueError, "a probe needs at least 50 samples; got 20"),
        (torch.rand(60), torch.arange(60), ValueError, "a probe needs labels that recur; got 60 different labels for as many samples"),
    ],
)  # fmt: skip
def test_mistakes_are_named(x, y, error, message):
    with pytest.raises(error) as caught:
        PROBE.estimate(x, y)
    assert str(caught.value) == message
    with pytest.raises(ValueError, match="folds must be at least 2; got 1"):
        ProbeMutualInformation(folds=1)
