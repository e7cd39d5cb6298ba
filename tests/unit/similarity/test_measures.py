"""Similarity against the published formulae, on data of known similarity, and under what must not change it."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import featurelens as fl
from featurelens.similarity import cka, measures, procrustes, rsa

MEASURES = {
    "cka": cka,
    "rbf": lambda x, y, **options: cka(x, y, kernel="rbf", **options),
    "procrustes": procrustes,
    "rsa": rsa,
}
each_measure = pytest.mark.parametrize("measure", MEASURES.values(), ids=MEASURES)


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rotation(d, seed=0):
    return torch.linalg.qr(normal(d, d, seed=seed)).Q


def song(x, y):
    """Song et al.'s unbiased HSIC, term by term."""
    n = len(x)
    k, l = x @ x.T, y @ y.T
    k.fill_diagonal_(0)
    l.fill_diagonal_(0)
    one = torch.ones(n, dtype=torch.float64)
    terms = (
        torch.trace(k @ l)
        + (one @ k @ one) * (one @ l @ one) / ((n - 1) * (n - 2))
        - 2 / (n - 2) * one @ k @ l @ one
    )
    return terms / (n * (n - 3))


@settings(max_examples=50, deadline=None)
@given(st.integers(4, 40), st.integers(1, 60), st.integers(1, 60), st.integers(0, 10**6))
def test_debiased_cka_is_the_published_formula(n, d, e, seed):
    x, y = normal(n, d, seed=seed) + 3, normal(n, e, seed=seed + 1)
    y[:, 0] += x[:, 0]
    expected = song(x, y) / (song(x, x) * song(y, y)).sqrt()
    if expected.isfinite():
        assert cka(x, y).value == pytest.approx(float(expected), abs=1e-6)


@pytest.mark.parametrize(("n", "d", "biased"), [(64, 512, 0.89), (256, 4096, 0.94)])
def test_independent_data_have_no_similarity_unless_it_is_biased(n, d, biased):
    x, y = normal(n, d), normal(n, d, seed=1)
    assert cka(x, y, debiased=False).value == pytest.approx(biased, abs=0.01)
    assert abs(cka(x, y).value) < 0.02


@each_measure
def test_a_representation_is_like_itself_turned_and_scaled(measure):
    x = normal(40, 12)
    same = measure(x, x).value
    assert same == pytest.approx(0 if measure is procrustes else 1, abs=1e-6)
    if measure is not rsa:
        assert measure(x, 3 * x @ rotation(12) + 5).value == pytest.approx(same, abs=1e-6)
    assert rsa(x, 3 * x @ rotation(12) + 5, distance="euclidean").value == pytest.approx(1, abs=1e-6)


@each_measure
def test_it_is_symmetric_and_takes_arrays_maps_and_any_type(measure):
    x, y = normal(30, 5), normal(30, 7, seed=1)
    y[:, :5] += x
    value = measure(x, y).value
    assert measure(y, x).value == pytest.approx(value, abs=1e-9)
    assert measure(x.numpy(), y.float()).value == pytest.approx(value, abs=1e-5)
    assert measure(x.view(30, 5, 1, 1), y).value == pytest.approx(value, abs=1e-12)


def test_both_forms_of_linear_cka_agree():
    wide, narrow = normal(30, 200), normal(30, 3, seed=1)
    narrow += wide[:, :3]
    padded = torch.cat([narrow, torch.zeros(30, 400, dtype=torch.float64)], 1)  # takes the other form
    for debiased in (True, False):
        by_features = cka(narrow, wide[:, :3], debiased=debiased).value
        by_kernels = cka(padded, torch.cat([wide[:, :3], torch.zeros(30, 400)], 1), debiased=debiased).value
        assert by_features == pytest.approx(by_kernels, abs=1e-9)


def test_procrustes_is_the_least_squares_of_rotations():
    x, y = normal(50, 4), normal(50, 4, seed=1)
    x, y = ((side - side.mean(0)) / (side - side.mean(0)).norm() for side in (x, y))
    left, _, right = torch.linalg.svd(x.T @ y)
    best = (x @ left @ right - y).square().sum()
    assert procrustes(x, y).value == pytest.approx(float(best), abs=1e-9)
    angle = procrustes(x, y, angular=True).value
    assert np.cos(angle) == pytest.approx(1 - float(best) / 2, abs=1e-9)


def test_procrustes_of_more_columns_than_images_is_that_of_the_svd():
    x, y = normal(20, 50), normal(20, 70, seed=1)
    centred = [side - side.mean(0) for side in (x, y)]
    x, y = (side / side.norm() for side in centred)
    assert procrustes(x, y).value == pytest.approx(
        float(2 - 2 * torch.linalg.svdvals(x.T @ y).sum()), abs=1e-9
    )


def test_rsa_is_scipys_correlation_of_distances():
    from scipy.spatial.distance import pdist
    from scipy.stats import pearsonr, spearmanr

    x, y = normal(25, 6), normal(25, 4, seed=1).round()  # with ties
    for distance in ("correlation", "cosine", "euclidean"):
        one, other = pdist(x, distance), pdist(y, distance)
        if not np.isfinite(other).all():
            continue
        found = rsa(x, y, distance=distance).value
        assert found == pytest.approx(spearmanr(one.round(12), other.round(12)).statistic, abs=2e-3)
        assert rsa(x, y, distance=distance, correlation="pearson").value == pytest.approx(
            pearsonr(one, other)[0], abs=1e-9
        )


@each_measure
def test_random_pairings_tell_dependence_from_none(measure):
    x, noise = normal(60, 4), normal(60, 4, seed=1)
    dependent = measure(x, x + 0.3 * noise, null="permutation", permutations=99)
    assert dependent.p_value == 0.01
    ps = [
        measure(x, normal(60, 4, seed=s), null="permutation", permutations=19).p_value for s in range(2, 42)
    ]
    assert 0.35 < np.mean(ps) < 0.7
    assert min(ps) < 0.3


def test_the_null_of_debiased_cka_is_zero():
    found = cka(normal(64, 100), normal(64, 100, seed=1), null="permutation")
    assert abs(found.null_mean) < 0.01


def test_intervals_cover_what_more_data_give():
    def draw(n, seed):
        x = normal(n, 3, seed=seed)
        return x, x + normal(n, 3, seed=seed + 10**6)

    truth = cka(*draw(20000, 1)).value
    found = [cka(*draw(150, seed), confidence=0.95) for seed in range(2, 102)]
    covered = np.mean([low <= truth <= high for low, high in (each.interval for each in found)])
    assert 0.87 <= covered <= 1
    assert np.mean([each.standard_error for each in found]) == pytest.approx(
        np.std([each.value for each in found]), rel=0.3
    )


def test_results_read_as_sentences_and_are_saved(tmp_path):
    found = cka(normal(40, 3), normal(40, 5, seed=1), null="permutation", permutations=9, confidence=0.9)
    assert str(found).startswith(f"{found.value:.4f} debiased linear CKA (interval ")
    assert str(found).endswith("from 40 images of 3 + 5 values")
    found.save(tmp_path / "found.pt")
    assert str(fl.similarity.SimilarityResult.load(tmp_path / "found.pt")) == str(found)
    assert "<p>" in found._repr_html_()
    assert float(found) == found.value


@pytest.mark.parametrize(
    ("x", "y", "options", "error", "message"),
    [
        ("x", normal(9, 2), {}, TypeError, r"x must be a torch tensor or a numpy array; got 'x'"),
        (normal(9, 2), normal(8, 2), {}, ValueError, "one row for each image; got 9 and 8 rows"),
        (normal(3, 2), normal(3, 2), {}, ValueError, "at least 4 images"),
        (normal(9), normal(9, 2), {}, ValueError, r"x must be \(N, D, ...\)"),
        (
            normal(9, 2),
            torch.ones(9, 2),
            {},
            ValueError,
            "y must differ between images; all 9 rows are the same",
        ),
        (normal(9, 2), normal(9, 2) / 0, {}, ValueError, "y must be finite"),
        (normal(9, 2), normal(9, 2), {"null": "bootstrap"}, ValueError, "null must be"),
        (
            normal(9, 2),
            normal(9, 2),
            {"confidence": 95},
            ValueError,
            "confidence must be a number between 0 and 1",
        ),
        (
            normal(5, 2),
            normal(5, 2),
            {"confidence": 0.9},
            ValueError,
            "confidence needs at least 6 images; got 5",
        ),
    ],
)
def test_what_cannot_be_compared_is_an_error(x, y, options, error, message):
    with pytest.raises(error, match=message):
        cka(x, y, **options)


def test_settings_are_checked():
    x = normal(9, 3)
    with pytest.raises(ValueError, match="kernel must be"):
        cka(x, x, kernel="cubic")
    with pytest.raises(ValueError, match="bandwidth must be a positive number; got 0"):
        cka(x, x, bandwidth=0)
    with pytest.raises(ValueError, match="distance must be"):
        rsa(x, x, distance="manhattan")
    with pytest.raises(ValueError, match="correlation must be"):
        rsa(x, x, correlation="kendall")
    with pytest.raises(TypeError, match="angular must be"):
        procrustes(x, x, angular=1)


@each_measure
def test_the_null_is_that_of_each_pairing_by_itself(measure):
    x, y = normal(30, 3).round(), normal(30, 4, seed=1)
    orders = [torch.arange(30), torch.arange(30).flip(0)]
    instances = {cka: measures._CKA("linear", 1.0, True), procrustes: measures._Procrustes(False)}
    instance = instances.get(measure, measures._RSA("euclidean", "spearman"))
    pair = instance.prepare(x, y)
    faster, fixed = instance.for_pairings(pair)
    for order in orders:
        expected = instance.value(pair.select(orders[0], order))
        assert faster.value(fixed.select(orders[0], order)) == pytest.approx(expected, abs=1e-9)


ONE_DIFFERS = torch.zeros(30, 2)
ONE_DIFFERS[3, 0] = 1


@pytest.mark.parametrize(
    ("measure", "x"),
    [
        (cka, ONE_DIFFERS),
        (cka, torch.eye(30)),  # all images are equally far apart
        (lambda x, y: cka(x, y, kernel="rbf"), ONE_DIFFERS),  # the median distance is 0
        (rsa, normal(30, 1)),  # a single value correlates with nothing
        (lambda x, y: rsa(x, y, distance="euclidean"), torch.eye(30)),
    ],
)
def test_what_has_no_value_is_an_error_and_never_nan(measure, x):
    for sides in ((x, normal(30, 3)), (normal(30, 3), x), (x, x)):
        with pytest.raises(ValueError, match=r"x and y have no .*: "):
            measure(*sides)


def test_an_interval_that_leaves_out_what_counts_is_an_error():
    x = torch.zeros(30, 2)
    x[[0, 15], 0] = 1  # of the same group
    assert cka(x, x).value == pytest.approx(1)
    with pytest.raises(ValueError, match="use more images, or confidence=None"):
        cka(x, x, confidence=0.9)


@pytest.mark.parametrize("scale", [1e-300, 1e-100, 1e-12, 1e100, 1e300])
@each_measure
def test_no_scale_is_too_small_or_too_large(measure, scale):
    x, y = normal(30, 5), normal(30, 4, seed=1)
    assert measure(scale * x, y).value == pytest.approx(measure(x, y).value, abs=1e-9)
