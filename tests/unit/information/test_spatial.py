"""Spatial information: the common recipe to the digit, the null, and messages."""

import math
import sys
import types

import numpy as np
import pytest
import scipy.stats
import torch
from sklearn.metrics import mutual_info_score

from featurelens.information import compiled, spatial_mutual_information
from featurelens.information.chance import cells_seen
from featurelens.information.discretization import digitized_codes, uniform_codes
from featurelens.information.entropy import (
    CORRECTIONS,
    _run_sums_on_device,
    _whole_weights,
    count_weights,
    row_sums_and_cells,
)


def maps(n, c, size, seed, rectify=False):
    x = torch.randn(n, c, size, size, generator=torch.Generator().manual_seed(seed))
    return x.relu() if rectify else x


def recipe(images, activations, bins):
    """The loop that everybody writes."""
    values = np.empty((len(images), images.shape[1], activations.shape[1]))
    for i, j, k in np.ndindex(*values.shape):
        a, b = (side.double().numpy().ravel() for side in (images[i, j], activations[i, k]))
        values[i, j, k] = mutual_info_score(None, None, contingency=np.histogram2d(a, b, bins)[0])
    return values


def legacy_recipe(images, activations, bins):
    """The study's: the largest value of a map has a bin of its own, and edges have the precision of the map."""
    values = np.empty((len(images), images.shape[1], activations.shape[1]))
    for i, j, k in np.ndindex(*values.shape):
        sides = (side.numpy().ravel() for side in (images[i, j], activations[i, k]))
        codes = (np.digitize(side, np.histogram_bin_edges(side, bins)) for side in sides)
        values[i, j, k] = mutual_info_score(*codes)
    return values


@pytest.mark.parametrize("bins", [2, 16, 255, 300])
@pytest.mark.parametrize("rectify", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("offset", [0.0, 30.0])
def test_legacy_is_the_recipe_to_the_digit(bins, rectify, dtype, offset):
    images, activations = maps(3, 2, 20, 0).to(dtype) + offset, maps(3, 4, 20, 1, rectify).to(dtype)
    activations[0, 0] = 0.5  # a dead channel
    images[1] = (images[1] * 8).round() / 8  # values on the edges of bins
    expected = legacy_recipe(images, activations, bins)
    result = spatial_mutual_information(images, activations, bins=bins, legacy=True)
    assert np.allclose(result.per_pair.numpy(), expected.mean(axis=0), rtol=0, atol=1e-10)
    assert np.allclose(result.per_image.numpy(), expected.mean(axis=(1, 2)), rtol=0, atol=1e-10)
    assert result.value == pytest.approx(expected.mean(), abs=1e-10)
    assert (result.null_mean, result.excess) == (None, None)


@pytest.mark.parametrize("bins", [2, 16, 255])
def test_equal_width_bins_without_correction_are_those_of_histogram2d(bins):
    images, activations = maps(3, 2, 20, 0), maps(3, 4, 20, 1, rectify=True)
    settings = {"bins": bins, "strategy": "uniform", "correction": "none", "null": None}
    result = spatial_mutual_information(images, activations, **settings)
    assert np.allclose(result.per_pair.numpy(), recipe(images, activations, bins).mean(0), rtol=0, atol=1e-10)
    assert result.method == f"spatial(bins={bins}, strategy='uniform', correction='none')"


def test_whole_numbers_have_edges_in_double_precision():
    images = (200 * torch.rand(3, 1, 20, 20, generator=torch.Generator().manual_seed(0))).byte()
    result = spatial_mutual_information(images, images, legacy=True)
    assert result.value == pytest.approx(legacy_recipe(images, images, 255).mean(), abs=1e-10)


@pytest.mark.parametrize("offset", [0.0, 1.0, 100.0, 3000.0])
@pytest.mark.parametrize("compile_it", [True, False])
def test_digitized_codes_are_those_of_numpy(offset, compile_it, monkeypatch):
    if not compile_it:
        monkeypatch.setattr(compiled, "machine_code", lambda function: None)
    rng = np.random.default_rng(0)
    rows = np.concatenate([rng.normal(size=(20, 300)), rng.integers(0, 6, (20, 300)) / 5, np.ones((1, 300))])
    for dtype in (np.float32, np.float64):
        sides = (rows + offset).astype(dtype)
        for bins in (2, 16, 255):
            expected = [np.digitize(row, np.histogram_bin_edges(row, bins)) - 1 for row in sides]
            assert np.array_equal(digitized_codes(torch.from_numpy(sides), bins).numpy(), expected)


@pytest.mark.parametrize("offset", [0.0, 100.0, 1e7, 1e9])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_uniform_codes_are_the_bins_between_a_rows_extremes(offset, dtype):
    rng = np.random.default_rng(0)
    rows = (np.concatenate([1e3 * rng.normal(size=(9, 300)), np.ones((1, 300))]) + offset).astype(dtype)
    low, high = (side(rows.astype(np.float64), axis=1, keepdims=True) for side in (np.min, np.max))
    for bins in (2, 16, 255):
        edges = (high - low) / bins * np.arange(1, bins) + low
        expected = [np.searchsorted(edge, row, side="right") for edge, row in zip(edges, rows, strict=True)]
        found = uniform_codes(torch.from_numpy(rows), bins)
        assert found.dtype == torch.int32
        assert np.array_equal(found[:-1].numpy(), expected[:-1])
        assert not found[-1].any()


def test_independent_maps_share_nothing_whatever_their_number_of_pixels():
    """Bins of equal count: every correction that assumes random counts depends on their parity."""
    for size in (16, 17, 30):
        images, activations = torch.rand(2, 300, 1, size, size, generator=torch.Generator().manual_seed(size))
        for sides in ((images, activations), (images, (activations - 0.5).relu())):
            result = spatial_mutual_information(*sides, null=None)
            assert abs(result.value) < 0.002 + 3 * result.standard_error


def test_legacy_has_255_bins_and_resizes_maps():
    images, activations = maps(2, 1, 32, 0), maps(2, 3, 8, 1)
    large = torch.nn.functional.interpolate(activations, size=(32, 32), mode="bilinear", align_corners=False)
    expected = legacy_recipe(images, large, 255).mean(axis=0)
    result = spatial_mutual_information(images, activations, legacy=True)
    assert np.allclose(result.per_pair.numpy(), expected, rtol=0, atol=1e-10)
    assert result.method == "spatial(bins=255, legacy=True)"


def test_the_recipe_on_independent_noise_is_its_own_bias():
    images, activations = torch.rand(2, 40, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    assert spatial_mutual_information(images, activations, legacy=True).value == pytest.approx(3.90, abs=0.02)
    honest = spatial_mutual_information(images, activations, seed=0)
    assert abs(honest.value) < 0.02
    assert honest.p_value > 0.05 or abs(honest.excess) < 0.01


def test_null_is_the_mean_over_other_images():
    images, activations = maps(5, 1, 16, 0), maps(5, 2, 16, 1)
    result = spatial_mutual_information(
        images, activations, bins=4, correction="none", strategy="uniform", pairings=4
    )
    others = [recipe(images, activations.roll(-shift, 0), 4) for shift in range(1, 5)]
    assert result.null_mean == pytest.approx(np.mean(others), abs=1e-10)
    assert np.allclose(result.null_per_pair.numpy(), np.mean(others, axis=(0, 1)), atol=1e-10)
    assert result.excess == pytest.approx(result.value - result.null_mean)


@pytest.mark.parametrize("null", [None, "cross_image"])
def test_the_interval_is_student_s_over_images(null):
    images, activations = maps(6, 2, 16, 0), maps(6, 3, 16, 1)
    options = {"bins": 4, "correction": "none", "strategy": "uniform", "pairings": 5, "null": null}
    result = spatial_mutual_information(images, activations, confidence=0.9, **options)
    per_image = recipe(images, activations, 4).mean(axis=(1, 2))
    if null:
        others = [recipe(images, activations.roll(-shift, 0), 4).mean(axis=(1, 2)) for shift in range(1, 6)]
        per_image -= np.mean(others, axis=0)
    error = per_image.std(ddof=1) / math.sqrt(6)
    assert result.standard_error == pytest.approx(error)
    assert result.interval == pytest.approx(scipy.stats.t.interval(0.9, 5, per_image.mean(), error))
    assert result.ceiling == pytest.approx(math.log(4))


@pytest.mark.parametrize("legacy", [False, True])
def test_one_image_has_a_value_and_no_error(legacy):
    result = spatial_mutual_information(maps(1, 1, 8, 0), maps(1, 1, 8, 1), null=None, legacy=legacy, bins=4)
    assert (result.standard_error, result.interval) == (None, None)
    assert result.ceiling == pytest.approx(math.log(5 if legacy else 4))


@pytest.mark.parametrize("correction", CORRECTIONS)
@pytest.mark.parametrize("size", [1, 5, 16])
def test_a_map_that_never_changes_shares_exactly_nothing(size, correction):
    """Resizing leaves rounding noise in a flat map, and ranks would make 16 bins of it."""
    images, activations = maps(6, 2, 16, 0), maps(6, 3, size, 1)
    activations[:, 1] = 0.1
    activations[2, 0] = torch.pi
    images[4, 1] = 0.3
    result = spatial_mutual_information(images, activations, correction=correction, seed=0)
    assert result.per_pair[:, 1].tolist() == result.null_per_pair[:, 1].tolist() == [0.0, 0.0]
    flat_maps = 7 if size > 1 else 18
    assert result.notes == ("1 of 12 images never change", f"{flat_maps} of 18 maps never change")
    assert f"{flat_maps} of 18 maps never change" in str(result)
    if size == 1:
        assert (result.value, result.null_mean, result.p_value) == (0.0, 0.0, 1.0)


def test_a_flat_map_has_no_information_in_the_recipe_either():
    """numpy has one bin for it, or refuses the rounding noise that resizing leaves."""
    images = maps(2, 1, 32, 0)
    for size in (6, 32):
        result = spatial_mutual_information(images, torch.full((2, 1, size, size), 0.1), legacy=True)
        assert result.value == 0.0
        assert result.notes == ("2 of 2 maps never change",)


def test_a_map_of_its_image_stands_out():
    images = maps(8, 1, 16, 0)
    result = spatial_mutual_information(images, images.square(), seed=0, confidence=0.95)
    assert result.p_value == pytest.approx(1 / 8)
    assert result.interval[0] > 1.0
    assert result.value == pytest.approx(result.per_pair.mean())


@pytest.mark.parametrize("cells", [16, 300, 70_000])
def test_both_ways_of_counting_rows_agree(cells):
    keys = torch.randint(0, cells, (7, 200), generator=torch.Generator().manual_seed(0))
    keys[3] = keys[3, 0]
    keys[4] = torch.arange(200) % cells
    for correction in CORRECTIONS:
        weights = count_weights(200, correction)
        expected = torch.stack([weights[row.bincount()].sum() for row in keys])
        whole, unit = _whole_weights(200, correction)
        on_device = _run_sums_on_device(keys, whole)
        for sums, seen in (
            row_sums_and_cells(keys, cells, correction),
            (on_device[0].double() * unit, on_device[1]),
        ):
            assert torch.allclose(sums, expected, rtol=0, atol=1e-9)
            assert (
                seen.tolist()
                == cells_seen(torch.stack([row.bincount(minlength=cells) for row in keys])).tolist()
            )


def interpreted(function):
    return function


@pytest.mark.parametrize("way", ["interpreted", "compiled"])
@pytest.mark.parametrize(
    "settings",
    [
        {"legacy": True, "null": "cross_image"},
        {"bins": 5},
        {"correction": "grassberger", "strategy": "uniform"},
        {"correction": "miller-madow"},
    ],
    ids=str,
)
def test_compiled_loops_give_the_same_digits(monkeypatch, way, settings):
    images, activations = maps(4, 2, 9, 0), maps(4, 3, 9, 1, rectify=True)
    images[1] = (images[1] * 8).round() / 8
    images[2, 0] += 2.0**22  # edges of bins that rounding makes equal
    activations[0, 0] = 0.5
    if way == "compiled":
        pytest.importorskip("numba", reason="numba is not installed: pip install featurelens[fast]")
    else:
        monkeypatch.setattr(compiled, "machine_code", interpreted)
    fast = spatial_mutual_information(images, activations, **settings)
    monkeypatch.setattr(compiled, "machine_code", lambda function: None)
    plain = spatial_mutual_information(images, activations, **settings)
    for field in ("per_pair", "per_image", "null_per_pair"):
        assert torch.equal(getattr(fast, field), getattr(plain, field))


def test_machine_code_needs_no_folder_and_no_numba(monkeypatch):
    made = types.ModuleType("numba")

    def njit(*, nogil, cache=False):
        if cache:
            raise RuntimeError("cannot cache function")
        return interpreted

    made.njit = njit
    ask = compiled.machine_code.__wrapped__
    monkeypatch.setitem(sys.modules, "numba", made)
    assert ask(compiled.digitize) is compiled.digitize
    monkeypatch.setitem(sys.modules, "numba", None)
    assert ask(compiled.digitize) is None


def test_results_read_well_and_change_units():
    images = maps(4, 1, 8, 0)
    result = spatial_mutual_information(images, images, bins=4, seed=0, confidence=0.9)
    bits = result.to("bits")
    assert bits.value == pytest.approx(result.value / math.log(2))
    assert torch.allclose(bits.per_pair, result.per_pair / math.log(2))
    assert "4 images and 1 x 1 pairs of channels; excess over the null between" in str(result)
    assert repr(result).startswith("SpatialMutualInformationResult(")
    assert float(result) == result.value


def test_chunks_do_not_show(monkeypatch):
    images, activations = maps(5, 2, 12, 0), maps(5, 3, 12, 1, rectify=True)
    whole = spatial_mutual_information(images, activations, seed=0)
    monkeypatch.setattr("featurelens.information.chunks.CPU_ELEMENTS", 200)
    monkeypatch.setattr("torch.get_num_threads", lambda: 3)
    parts = spatial_mutual_information(images, activations, seed=0)
    assert torch.equal(whole.per_pair, parts.per_pair)
    assert whole.null_mean == parts.null_mean


def test_same_seed_same_null():
    images = maps(30, 1, 8, 0)
    first, second = (spatial_mutual_information(images, images, pairings=3, seed=7) for _ in range(2))
    assert first.null_mean == second.null_mean


def test_arrays_and_bytes():
    images = (255 * torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))).byte()
    as_array = spatial_mutual_information(images.numpy(), images.float().numpy(), legacy=True)
    assert as_array.value == spatial_mutual_information(images, images.bfloat16().float(), legacy=True).value


@pytest.mark.parametrize(
    ("images", "activations", "options", "message"),
    [
        (torch.rand(2, 8, 8), torch.rand(2, 1, 8, 8), {}, "images must have shape (N, C, H, W) with no empty dimension; got float32 tensor (2, 8, 8)"),
        (torch.rand(2, 1, 8, 8), torch.rand(2, 0, 8, 8), {}, "activations must have shape (N, C, H, W) with no empty dimension; got float32 tensor (2, 0, 8, 8)"),
        (torch.rand(2, 1, 8, 8), torch.rand(3, 1, 8, 8), {}, "there must be as many images as activations; got 2 and 3"),
        (torch.rand(2, 1, 8, 8), torch.full((2, 1, 8, 8), math.nan), {}, "activations must be finite; got 128 NaN or infinite values"),
        (torch.rand(1, 1, 8, 8), torch.rand(1, 1, 8, 8), {}, "null='cross_image' needs at least 2 images; got 1: use more, or null=None"),
        (torch.rand(2, 1, 1, 1), torch.rand(2, 1, 8, 8), {}, "images must have at least 2 pixels; got float32 tensor (2, 1, 1, 1)"),
        (torch.rand(2, 1, 8, 8), torch.rand(2, 1, 8, 8), {"bins": 1}, "bins must be at least 2; got 1"),
        (torch.rand(2, 1, 8, 8), torch.rand(2, 1, 8, 8), {"null": "shuffle"}, "null must be one of None, 'cross_image'; got 'shuffle'"),
        (torch.rand(2, 1, 8, 8), torch.rand(2, 1, 8, 8), {"null": np.ones(3)}, "null must be one of None, 'cross_image'; got float64 NumPy array (3,)"),
    ],
)  # fmt: skip
def test_bad_input_is_named(images, activations, options, message):
    with pytest.raises(ValueError) as caught:  # noqa: PT011  # the whole message is compared
        spatial_mutual_information(images, activations, **options)
    assert str(caught.value) == message


def test_lists_are_refused():
    with pytest.raises(TypeError, match="images must be a torch tensor or a numpy array; got 'cat'"):
        spatial_mutual_information("cat", torch.rand(2, 1, 8, 8))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_values_on_an_edge_or_next_to_it_are_in_numpys_bins(seed, dtype):
    random, bins = np.random.default_rng(seed), 30
    low, wide = random.normal(size=(2, 20, 1)) * 10.0 ** random.integers(-3, 3, (2, 20, 1))
    ends = np.concatenate([low, low + np.abs(wide)], axis=1).astype(dtype)
    edges = np.stack([np.histogram_bin_edges(row, bins) for row in ends]).astype(dtype)
    near = [np.nextafter(edges, dtype(side)) for side in (-np.inf, np.inf)]
    rows = np.clip(np.concatenate([edges, *near], axis=1), ends[:, :1], ends[:, 1:])
    expected = [np.digitize(row, np.histogram_bin_edges(row, bins)) - 1 for row in rows]
    assert np.array_equal(digitized_codes(torch.from_numpy(rows), bins).numpy(), expected)
