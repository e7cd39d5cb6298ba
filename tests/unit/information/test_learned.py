"""Latent, neural and Rényi estimates."""

import math

import pytest
import torch

from featurelens.information import (
    LatentMutualInformation,
    NeuralMutualInformation,
    RenyiMutualInformation,
    neural,
)
from featurelens.information.canonical import canonical_maps, fit_canonical_maps
from featurelens.information.learned_codes import gaussian_log_ratio
from featurelens.information.networks import Network, train
from featurelens.information.neural import read_bound, training_loss


def shared(n, d, pairs=1, rho=0.8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x, y = torch.randn(2, n, d, generator=generator, dtype=torch.float64)
    y[:, :pairs] = rho * x[:, :pairs] + math.sqrt(1 - rho**2) * y[:, :pairs]
    return x, y


def test_canonical_maps_find_the_shared_columns():
    x, y = shared(2000, 20, pairs=2)
    map_x, map_y = fit_canonical_maps(x, y, 8)
    assert map_x(x).shape == map_y(y).shape == (2000, 2)
    assert map_x.directions[:2].norm() > 10 * map_x.directions[2:].norm() / math.sqrt(9)
    unrelated = fit_canonical_maps(*shared(2000, 20, pairs=0), 8)
    assert unrelated[0].directions.shape[1] <= 2


def test_canonical_variates_have_mean_0_variance_1_and_no_correlation_wherever_the_columns_lie():
    x, y = shared(2000, 6)
    places = torch.linspace(-30, 50, 6, dtype=x.dtype)
    for side, maps in zip((x + places, y - places), canonical_maps(x + places, y - places, 3), strict=True):
        variates = maps(side)
        torch.testing.assert_close(variates.mean(0), torch.zeros(3, dtype=x.dtype), atol=1e-8, rtol=0)
        torch.testing.assert_close(variates.T.cov(), torch.eye(3, dtype=x.dtype), atol=0.02, rtol=0)


def test_canonical_maps_with_more_columns_than_samples():
    x, y = shared(150, 200)
    map_x, _ = fit_canonical_maps(x, y, 3)
    assert torch.isfinite(map_x(x)).all()


def test_latent_finds_what_neighbours_cannot():
    x, y = shared(3000, 25, pairs=2)
    result = LatentMutualInformation().estimate(x, y, seed=0)
    assert result.value == pytest.approx(1.0217, abs=0.1)
    assert result.notes == (
        "a lower bound: the information between the learned columns",
        "2 + 2 and 2 + 2 columns kept on the halves",
    )


def test_latent_against_labels():
    x, _ = shared(1000, 10)
    labels = (x[:, 3] > 0).int()
    result = LatentMutualInformation().estimate(x, labels, seed=0)
    assert result.value == pytest.approx(math.log(2), abs=0.12)
    assert result.notes[1] == "1 + 1 and 1 + 1 columns kept on the halves"


def test_autoencoder_keeps_what_varies():
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(600, 1, generator=generator)
    x = torch.cat([z + 0.1 * torch.randn(600, 1, generator=generator) for _ in range(6)], dim=1)
    y = z + 0.5 * torch.randn(600, 1, generator=generator)
    result = LatentMutualInformation(reduce="autoencoder", dim=1, steps=300).estimate(x, y, seed=0)
    assert result.value == pytest.approx(0.5 * math.log(5), abs=0.25)


@pytest.mark.parametrize("bound", ["infonce", "smile", "nwj"])
def test_bounds_read_a_perfect_critic(bound):
    """With f the true log density ratio, every bound is the information itself."""
    rho, n = 0.75, 2000
    x, y = shared(n, 1, rho=rho)
    scale = 1 - rho**2
    # log p(x, y) / p(x) p(y) = rho x y / (1 - rho^2) + a(x) + a(y), as a product of embeddings
    a, b = -(rho**2) * x**2 / (2 * scale), -(rho**2) * y**2 / (2 * scale) - 0.5 * math.log(scale)
    g = torch.cat([rho * x / scale, a, torch.ones_like(x)], dim=1)
    h = torch.cat([y, torch.ones_like(y), b], dim=1)
    if bound == "nwj":
        h[:, 2] += 1.0
    value, terms = read_bound(g, h, bound)
    assert value == pytest.approx(0.4133, abs=0.06)
    assert len(terms) == n
    scores = (g @ h.T)[:50, :50]
    assert training_loss(scores, bound) < training_loss(scores.roll(1, 0), bound)


@pytest.mark.parametrize("bound", ["smile", "infonce", "nwj"])
@pytest.mark.parametrize("rows_at_once", [1, 3, 2**22])
def test_bounds_are_their_formulas(bound, rows_at_once, monkeypatch):
    """Poole et al. (2019) and Song and Ermon (2020), with loops; pairs (i, j) are true where i is j."""
    monkeypatch.setattr(neural, "SCORES_AT_ONCE", rows_at_once * 7)
    g, h = 3 * torch.randn(2, 7, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    f = (g @ h.T).tolist()
    true = [f[i][i] for i in range(7)]
    cut = {"smile": lambda score: max(-5.0, min(5.0, score))}.get(bound, lambda score: score)
    over = [[math.exp(cut(f[i][j])) for j in range(7) if j != i or bound == "infonce"] for i in range(7)]
    means = [sum(row) / len(row) for row in over]
    if bound == "infonce":
        terms = [t - math.log(mean) for t, mean in zip(true, means, strict=True)]
        value = sum(terms) / 7
    elif bound == "nwj":
        terms = [t - mean / math.e for t, mean in zip(true, means, strict=True)]
        value = sum(terms) / 7
    else:
        terms = [t - mean / (sum(means) / 7) for t, mean in zip(true, means, strict=True)]
        value = sum(true) / 7 - math.log(sum(means) / 7)
    measured, per_pair = read_bound(g, h, bound)
    assert measured == pytest.approx(value)
    assert per_pair.tolist() == pytest.approx(terms)


@pytest.mark.parametrize("bound", ["smile", "infonce", "nwj"])
def test_training_losses_are_their_formulas(bound):
    scores = 9 * torch.randn(5, 5, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    assert scores.max() > 11  # a score that nwj cuts
    true = [float(scores[i, i]) for i in range(5)]
    broken = [float(scores[i, j]) for i in range(5) for j in range(5) if i != j]
    expected = {
        "smile": sum(math.log1p(math.exp(-t)) for t in true) / 5
        + sum(math.log1p(math.exp(b)) for b in broken) / 20,
        "infonce": sum(math.log(sum(map(math.exp, row))) for row in scores.tolist()) / 5 - sum(true) / 5,
        "nwj": sum(math.exp(min(b - 1, 10)) for b in broken) / 20 - sum(true) / 5,
    }
    assert float(training_loss(scores, bound)) == pytest.approx(expected[bound])


def test_an_embedding_is_a_scaled_product_and_two_single_terms():
    g, h = torch.randn(2, 6, neural.EMBEDDING + 1, generator=torch.Generator().manual_seed(3))
    first, second = neural.embed(g, h)
    products = (g[:, :-1] @ h[:, :-1].T) / math.sqrt(neural.EMBEDDING)
    assert torch.allclose(first @ second.T, products + g[:, -1:] + h[:, -1:].T, atol=1e-5)


def test_neural_learns_a_normal_pair():
    x, y = shared(3000, 1)
    result = NeuralMutualInformation(steps=300, rotations=1).estimate(x, y, seed=0, confidence=0.95)
    assert result.value == pytest.approx(0.5108, abs=0.12)
    assert result.interval[0] < result.value < result.interval[1]


def test_neural_takes_labels_and_knows_its_ceiling():
    x, _ = shared(500, 2)
    result = NeuralMutualInformation(bound="infonce", steps=100, rotations=2).estimate(
        x, (x[:, 0] > 0).int(), seed=0
    )
    assert result.ceiling == pytest.approx(math.log(100))
    assert 0.2 < result.value < 0.9


def test_renyi_of_labels_is_their_entropy_and_of_strangers_is_small():
    labels = torch.arange(100) % 4
    same = RenyiMutualInformation().estimate(labels, labels)
    assert same.value == pytest.approx(math.log(4), abs=1e-6)
    x, y = shared(300, 1, pairs=0)
    assert abs(RenyiMutualInformation().estimate(x, y).value) < 0.1


def test_renyi_does_not_see_scale():
    x = torch.randn(2, 200, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = RenyiMutualInformation().estimate(*x).value
    for scale in (1e300, 1e-300):
        assert RenyiMutualInformation().estimate(*(x * scale)).value == pytest.approx(expected, abs=1e-9)


def test_networks_are_trained_on_one_thread():
    seen, before = [], torch.get_num_threads()

    def loss(rows):
        seen.append(torch.get_num_threads())
        return network(torch.ones(2, 1)).sum()

    network = Network((1, 1), torch.Generator(), torch.device("cpu"))
    train(
        [network],
        loss,
        torch.arange(2),
        torch.arange(2),
        torch.Generator(),
        steps=2,
        batch=2,
        learning_rate=0.1,
    )
    assert set(seen) == {1}
    assert torch.get_num_threads() == before


def test_latent_says_when_more_columns_may_replicate():
    x, y = shared(2000, 16, pairs=16)
    result = LatentMutualInformation(dim=4).estimate(x, y, seed=0)
    assert "all 4 pairs of columns replicate, and more may: raise dim" in result.notes


def test_renyi_equals_the_slow_formula():
    x, y = shared(40, 2)

    def entropy(gram):
        values = torch.linalg.eigvals(gram / gram.trace()).real.clamp_min(0)
        return torch.log((values**1.5).sum()) / (1 - 1.5)

    def gram(side):
        return torch.tensor(
            [[math.exp(-float(((a - b) ** 2).sum()) / (2 * 0.5**2)) for b in side] for a in side]
        ).double()

    a, b = gram(x), gram(y)
    expected = float(entropy(a) + entropy(b) - entropy(a * b))
    assert RenyiMutualInformation(alpha=1.5, sigma=0.5).estimate(x, y).value == pytest.approx(
        expected, abs=1e-5
    )


def test_renyi_thins_large_data_and_says_so():
    x, y = shared(300, 1)
    result = RenyiMutualInformation(max_samples=50).estimate(x, y, seed=0)
    assert result.notes == (
        "Rényi's matrix-based information, not Shannon's",
        "on 50 of 300 samples, drawn at random",
    )
    assert result.n == 300


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: LatentMutualInformation(reduce="pca"), ValueError, "reduce must be one of 'cca', 'autoencoder', 'learned'; got 'pca'"),
        (lambda: LatentMutualInformation(dim=0), ValueError, "dim must be at least 1; got 0"),
        (lambda: NeuralMutualInformation(bound="mine"), ValueError, "bound must be one of 'infonce', 'smile', 'nwj'; got 'mine'"),
        (lambda: NeuralMutualInformation(rotations=6), ValueError, "rotations must be at most 5, one per part of the data; got 6"),
        (lambda: RenyiMutualInformation(alpha=1), ValueError, "alpha must be positive, finite and not 1; got 1"),
        (lambda: RenyiMutualInformation(sigma=-1.0), ValueError, "sigma must be positive, or 'median'; got -1.0"),
        (lambda: LatentMutualInformation().estimate(torch.rand(60), torch.rand(60)), ValueError,
         "learning on one half and measuring on the other needs at least 100 samples; got 60"),
        (lambda: LatentMutualInformation().estimate(torch.arange(200), torch.arange(200)), TypeError,
         "x or y must be continuous; got integer labels for both"),
        (lambda: NeuralMutualInformation().estimate(torch.rand(20), torch.rand(20)), ValueError,
         "a critic needs at least 50 samples; got 20"),
    ],
)  # fmt: skip
def test_mistakes_are_named(make, error, message):
    with pytest.raises(error) as caught:
        make()
    assert str(caught.value) == message


def test_a_side_that_is_a_function_of_the_other_has_a_density_ratio():
    u = torch.randn(200, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    ratio = gaussian_log_ratio(u, -u)(u, -u)
    assert ratio.isfinite().all()
    assert ratio.mean() > 10
