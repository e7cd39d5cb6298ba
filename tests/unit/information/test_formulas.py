"""Small formulas against their slow replicas."""

import math

import pytest
import scipy.stats
import torch

from featurelens.information.probe import _features, _path
from featurelens.information.variables import with_full_precision


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("levels", [2, 3, 5])
@pytest.mark.parametrize("chance", [0.0, 0.5, 0.9])
def test_features_shrink_with_the_f_ratio_that_chance_exceeds(levels, chance):
    labels = torch.arange(60) % levels
    columns = 3 * normal(60, 6) + torch.arange(6) * labels[:, None] + 7
    rows = torch.arange(40)
    features = _features(columns, labels, rows, chance)
    for column, found in zip(columns.T, features.T, strict=True):
        seen = column[rows].numpy()
        expected = (column.numpy() - seen.mean()) / seen.std()
        if chance:
            groups = [seen[labels[rows].numpy() == label] for label in range(levels)]
            ratio = scipy.stats.f_oneway(*groups).statistic
            usual = scipy.stats.f.ppf(chance, levels - 1, 40 - levels)
            expected = expected * math.sqrt(1 - usual / max(ratio, usual))
        assert found.numpy() == pytest.approx(expected, abs=1e-9)


def test_a_probe_without_weights_predicts_the_shares_of_labels():
    labels = torch.tensor([0, 0, 0, 1, 1, 2])
    path = _path(normal(6, 2), labels, 4, (math.inf, 0.1))
    _, probe = next(path)
    shares = torch.tensor([3.5, 2.5, 1.5, 0.5], dtype=torch.float64) / 8
    assert torch.allclose(probe(normal(9, 2, seed=1)), shares.log().expand(9, 4))
    penalty, probe = next(path)
    chances = probe(1e6 * normal(9, 2, seed=1)).exp()
    assert penalty == 0.1
    assert torch.allclose(chances.sum(dim=1), torch.ones(9, dtype=torch.float64))
    assert (chances >= shares / 7 - 1e-12).all()  # a seventh part of doubt, after six samples


@pytest.mark.parametrize("penalty", [0.01, 0.3])
def test_a_probe_is_where_its_loss_has_no_slope(penalty):
    features, labels = normal(50, 3), torch.arange(50) % 3
    _, probe = next(_path(features, labels, 3, (penalty,)))
    weights = probe.weights.clone().requires_grad_()
    loss = torch.nn.functional.cross_entropy(features @ weights[:-1] + weights[-1], labels)
    (loss + penalty / 2 * weights[:-1].square().sum()).backward()
    assert weights.grad.abs().max() < 1e-4


@pytest.mark.parametrize(
    ("dtype", "kept"),
    [
        (torch.uint8, torch.float32),
        (torch.int64, torch.float32),
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
)
def test_values_are_computed_with_in_single_precision_at_least(dtype, kept):
    assert with_full_precision(torch.ones(3, dtype=dtype)).dtype is kept
