"""The paired test against no effect, and its correction for many channels."""

import pytest
import scipy.stats
import torch
from torch import nn

import featurelens as fl
from featurelens.ablation.paired import PairedDifferences, false_discovery_rates

GENERATOR = torch.Generator().manual_seed(0)


def paired(differences, *, exact=False, weights=None, size=7):
    found = PairedDifferences()
    weights = torch.ones(differences.shape[1]) if weights is None else weights
    for d, w in zip(differences.split(size, 1), weights.split(size), strict=True):
        found.add(d, w, exact=exact)
    return found


def test_scores_that_are_not_hits_get_the_t_test():
    differences = torch.randn(5, 40, generator=GENERATOR).double() + torch.linspace(0, 1, 5)[:, None]
    expected = scipy.stats.ttest_1samp(differences.numpy(), 0, axis=1).pvalue
    assert paired(differences).p_value().tolist() == pytest.approx(expected.tolist())


def test_hits_get_mcnemar_s_exact_test():
    differences = torch.randint(-1, 3, (6, 40), generator=GENERATOR).clamp_max(1)
    found = paired(differences, exact=True).p_value()
    for row, p in zip(differences, found, strict=True):
        lost, gained = int((row > 0).sum()), int((row < 0).sum())
        assert p.item() == pytest.approx(scipy.stats.binomtest(lost, lost + gained).pvalue)


def test_weights_of_zero_are_as_if_the_image_were_not_there():
    differences = torch.randn(3, 20, generator=GENERATOR).double()
    weights = torch.ones(20)
    weights[::3] = 0
    kept = paired(differences[:, weights > 0])
    some = paired(differences, weights=weights)
    for name in ("mean", "standard_error"):
        torch.testing.assert_close(getattr(some, name), getattr(kept, name))
    torch.testing.assert_close(some.p_value(), kept.p_value())
    assert some.n == kept.n


def test_the_error_of_a_weighted_mean_covers():
    """Over many data sets, the weighted mean is off by its standard error, on average."""
    truth, n = 0.3, 60
    weights = torch.randint(1, 20, (400, n), generator=GENERATOR).double()
    differences = truth + torch.randn(400, n, generator=GENERATOR).double() / weights.sqrt()
    found = [paired(d[None], weights=w, size=n) for d, w in zip(differences, weights, strict=True)]
    z = torch.stack([(p.mean - truth) / p.standard_error for p in found])
    assert 0.9 < z.std().item() < 1.15


def test_a_channel_without_effect_has_a_p_value_of_one():
    assert paired(torch.zeros(1, 9)).p_value().tolist() == [1]
    assert paired(torch.zeros(1, 9), exact=True).p_value().tolist() == [1]


@pytest.mark.parametrize("exact", [True, False])
def test_no_p_value_is_below_that_of_all_signs_alike(exact):
    assert paired(torch.ones(1, 6), exact=exact).p_value().item() == 2**-5
    assert paired(torch.ones(1, 1), exact=exact).p_value().item() == 1


def test_nan_stays_nan():
    p = paired(torch.tensor([[0.0, torch.nan, 1.0], [1.0, 1.5, 1.2]])).p_value()
    assert p.isnan().tolist() == [True, False]
    assert false_discovery_rates(p)[1] == p[1]


def test_rates_are_those_of_scipy():
    p = torch.rand(50, generator=GENERATOR).double().pow(3)
    expected = scipy.stats.false_discovery_control(p.numpy())
    assert false_discovery_rates(p).tolist() == pytest.approx(expected.tolist())


class Given(nn.Module):
    """Outputs that only two of ten channels carry; the others are noise."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Identity()
        self.head = nn.Linear(30, 2, bias=False)
        with torch.no_grad():
            self.head.weight.normal_(0, 0.02)
            self.head.weight[0, [3, 7]], self.head.weight[1, [3, 7]] = 1.0, -1.0

    def forward(self, x):
        return self.head(self.layer(x))


@pytest.mark.parametrize("metric", ["accuracy", "loss"])
def test_channels_that_matter_are_found_and_others_are_not(metric):
    generator = torch.Generator().manual_seed(1)
    labels = torch.arange(300) % 2
    x = torch.randn(300, 30, generator=generator)
    x[:, [3, 7]] += 1 - 2.0 * labels[:, None]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Given()
    result = fl.ChannelAblator(model, "layer").importance([(x, labels)], metric=metric)
    assert set(result.significant()) >= {3, 7}
    assert result.significant() == [c for c in result.order("most") if c in result.significant()]
    assert result.q_value[[3, 7]].max() < 1e-4
    assert f"{len(result.significant())} channels significant at a false discovery rate of 5 %" in str(result)
    assert "<th>q</th>" in result._repr_html_()


def test_under_no_effect_hardly_any_channel_is_significant():
    found = 0
    for _ in range(100):
        differences = torch.randn(64, 50, generator=GENERATOR).double()
        found += bool((false_discovery_rates(paired(differences, size=50).p_value()) <= 0.05).any())
    assert found <= 12  # 5 expected; more than 12 have a probability of .001


def test_a_result_without_p_values_says_so():
    result = fl.ImportanceResult(
        importance=torch.tensor([0.1]), standard_error=torch.zeros(1), baseline=0.5, channels=(0,), n=10, layer="conv",
        metric="accuracy", mode="drop", fill="zero",
    )  # fmt: skip
    assert result.q_value is None
    with pytest.raises(ValueError, match=r"^the result has no p-values$"):
        result.significant()
    for rate in (0, 1, 2.0):
        with pytest.raises(ValueError, match=f"^rate must be a number above 0 and below 1; got {rate:g}$"):
            result.significant(rate)
    with pytest.raises(TypeError, match=r"^rate must be a number above 0 and below 1; got 'some'$"):
        result.significant("some")
