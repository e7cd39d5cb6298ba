"""What describes a channel: activity, selectivity, MonoScore, neighbours and the sample, against slow replicas."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import featurelens as fl
from featurelens.statistics.class_selectivity import _index

TAME = st.one_of(st.just(0.0), st.floats(-4, 4, width=16))


def taken(statistic, *batches, labels=None):
    for number, batch in enumerate(batches):
        statistic.update(batch, labels=None if labels is None else labels[number])
    return statistic.compute()


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def response_of(values):
    return values.flatten(2).clamp_min(0).mean(2) if values.ndim > 2 else values.clamp_min(0)


@settings(deadline=None, max_examples=40)
@given(arrays(np.float32, (7, 3, 2, 2), elements=TAME), st.integers(1, 6))
def test_activity_equals_a_slow_replica(numbers, cut):
    values = torch.from_numpy(numbers).double()
    found = taken(fl.statistics.Activity(), values[:cut], values[cut:])
    for channel in range(3):
        maps = [image.flatten().tolist() for image in values[:, channel]]
        r = [sum(max(v, 0.0) for v in each) / 4 for each in maps]
        assert found.active_images[channel] == pytest.approx(sum(max(each) > 0 for each in maps) / 7)
        assert found.active_positions[channel] == pytest.approx(
            sum(v > 0 for each in maps for v in each) / 28
        )
        assert found.max[channel] == max(map(max, maps))
        assert found.response[channel] == pytest.approx(sum(r) / 7)
        assert bool(found.dead[channel]) == (max(map(max, maps)) <= 0)
        if max(r) > 0:
            sparseness = (1 - (sum(r) / 7) ** 2 / (sum(v * v for v in r) / 7)) / (1 - 1 / 7)
            assert found.sparseness[channel] == pytest.approx(sparseness, abs=1e-12)
        else:
            assert found.sparseness[channel].isnan()


def test_sparseness_is_0_for_a_constant_response_1_for_one_image_and_unchanged_by_scale():
    values = torch.zeros(50, 3)
    values[:, 0], values[7, 1], values[:, 2] = 0.1, 3.0, normal(50).abs()
    found = taken(fl.statistics.Activity(), *values.split(9))
    assert found.sparseness[:2].tolist() == [0.0, 1.0]
    scaled = taken(fl.statistics.Activity(), *(1000 * values).split(9))
    torch.testing.assert_close(scaled.sparseness, found.sparseness)
    assert str(found).startswith("3 channels over 50 images: active in 2 to 100 % of the images, 0 dead")


def test_images_that_are_not_finite_are_left_out_of_one_channel_only():
    values = torch.tensor([[1.0, math.nan, 2.0], [3.0, 1.0, -math.inf]])
    activity = taken(fl.statistics.Activity(), values)
    assert activity.images.tolist() == [2, 1, 1]
    assert activity.not_finite.tolist() == [0, 1, 1]
    assert activity.response.tolist() == [2.0, 1.0, 2.0]
    assert repr(activity) == "ActivityResult(3 channels, 0 dead, 2 images, 2 images not finite)"
    labels = [torch.tensor([0, 1])]
    selectivity = taken(fl.statistics.ClassSelectivity(classes=2), values, labels=labels)
    assert selectivity.counts.tolist() == [[1, 1], [0, 1], [1, 0]]
    assert selectivity.index.isnan().tolist() == [False, True, True]
    three = torch.cat([values, torch.full((1, 3), 2.0)])
    assert taken(fl.statistics.MonoScore(torch.eye(3)), three).score.isnan().tolist() == [False, True, True]


@settings(deadline=None, max_examples=40)
@given(arrays(np.float32, (9, 3, 2), elements=TAME), st.lists(st.integers(0, 3), min_size=9, max_size=9))
def test_class_selectivity_equals_a_slow_replica(numbers, labels):
    values, labels = torch.from_numpy(numbers), torch.tensor(labels)
    statistic = fl.statistics.ClassSelectivity(classes=4)
    found = taken(statistic, values[:4], values[4:], labels=[labels[:4], labels[4:]])
    r, here = response_of(values.double()), sorted(set(labels.tolist()))
    for channel in range(3):
        means = {k: float(r[labels == k, channel].mean()) for k in here}
        for k in range(4):
            mean = found.mean[channel, k]
            assert mean.isnan() if k not in means else mean == pytest.approx(means[k], abs=1e-12)
        if len(here) < 2 or max(means.values()) == 0:
            assert found.index[channel].isnan()
            assert found.preferred[channel] == -1
            continue
        largest = max(means.values())
        others = (sum(means.values()) - largest) / (len(means) - 1)
        expected = (largest - others) / (largest + others)
        assert found.index[channel] == pytest.approx(expected, abs=1e-12)
        assert means[int(found.preferred[channel])] == pytest.approx(largest)
        assert 0 <= found.null_mean[channel] <= 1
        assert 0 < found.p_value[channel] <= 1


@pytest.mark.parametrize(
    "counts", [[100] * 10, [400, 200, 100, 50, 20, 10, 5, 3, 2, 1]], ids=["even", "rare"]
)
def test_the_null_of_selectivity_is_that_of_shuffled_labels(counts):
    generator = np.random.default_rng(1)
    labels = np.repeat(np.arange(10), counts)
    n = len(labels)
    values = np.stack(
        [
            np.abs(generator.normal(size=n)),
            generator.exponential(size=n),
            generator.exponential(size=n) * (generator.random(n) < 0.1),
            1.0 * (np.arange(n) == 3),
            5 + generator.normal(size=n),
        ],
        axis=1,
    )
    found = taken(
        fl.statistics.ClassSelectivity(classes=10),
        torch.from_numpy(values),
        labels=[torch.from_numpy(labels)],
    )
    shuffled = []
    for _ in range(200):
        order = generator.permutation(n)
        means = np.stack([values[order][labels == k].mean(0) for k in range(10)], axis=1)
        shuffled.append(_index(means, np.ones_like(means, dtype=bool)))
    truth = np.mean(shuffled, axis=0)
    np.testing.assert_allclose(found.null_mean.numpy()[[2, 3]], truth[[2, 3]], atol=0.05)
    np.testing.assert_allclose(found.null_mean.numpy()[[0, 1, 4]], truth[[0, 1, 4]], rtol=0.1, atol=0.01)
    assert found.index[3] == found.null_mean[3] == 1.0
    assert found.p_value[3] == 1.0, "one image is always of one class"


def test_a_selective_channel_exceeds_its_null_and_a_constant_one_equals_it():
    labels = torch.arange(400) % 4
    values = torch.stack([0.1 + (labels == 2), torch.full((400,), 0.3)], dim=1)
    parts = [part.contiguous() for part in labels.split(70)]
    found = taken(fl.statistics.ClassSelectivity(classes=4), *values.split(70), labels=parts)
    assert found.preferred.tolist() == [2, 0]
    assert found.index.tolist() == [pytest.approx(1 / 1.2), 0.0]
    assert found.p_value.tolist() == [pytest.approx(1 / 101), 1.0]
    assert found.null_mean[1] == 0
    assert found.excess[0] > 0.7
    assert str(found) == (
        f"2 channels against 4 classes; most selective is channel 0 for class 2: 0.833, {found.null_mean[0]:.3f} with "
        "shuffled labels"
    )


@settings(deadline=None, max_examples=40)
@given(st.integers(2, 12), st.sampled_from([0.0, 1.0, 1e3]), st.integers(0, 10**6))
def test_mono_score_is_the_mean_over_all_pairs(n, offset, seed):
    embeddings, values = normal(n, 5, seed=seed), offset + normal(n, 4, 2, seed=seed + 1)
    found = taken(fl.statistics.MonoScore(embeddings), *values.split(3))
    r = response_of(values)
    units = embeddings / embeddings.norm(dim=1, keepdim=True)
    pairs = [(i, j) for i in range(n) for j in range(n) if i != j]
    for channel in range(4):
        low, high = float(r[:, channel].min()), float(r[:, channel].max())
        a = [(float(each) - low) / (high - low) if high > low else 0.0 for each in r[:, channel]]
        weight = sum(a[i] * a[j] for i, j in pairs)
        if weight < 1e-9:
            continue
        score = sum(a[i] * a[j] * float(units[i] @ units[j]) for i, j in pairs) / weight
        assert found.score[channel] == pytest.approx(score, abs=1e-6)
    mean = sum(float(units[i] @ units[j]) for i, j in pairs) / len(pairs)
    assert found.baseline == pytest.approx(mean, abs=1e-9)


def test_mono_score_is_1_for_one_kind_of_image_and_nan_where_there_is_no_pair():
    embeddings = torch.eye(3).repeat(10, 1)
    values = torch.zeros(30, 4)
    values[::3, 0], values[4, 1], values[:, 2], values[:, 3] = 2.0, 1.0, 0.7, torch.arange(30.0)
    found = taken(fl.statistics.MonoScore(embeddings), *values.split(8))
    assert found.score[0] == pytest.approx(1.0)
    assert found.score[1:3].isnan().all()
    assert found.score[3] == pytest.approx(found.baseline, abs=0.05)


@pytest.mark.parametrize(
    ("embeddings", "error", "message"),
    [
        ([1.0], TypeError, r"embeddings must be a tensor \(N, D\); got \[1.0\]"),
        (torch.zeros(3), ValueError, r"floating-point values \(N, D\); got float32 tensor \(3,\)"),
        (torch.ones(3, 2).long(), ValueError, r"floating-point values \(N, D\); got int64 tensor"),
        (torch.eye(3).to_sparse(), TypeError, "embeddings must be a dense tensor; got a sparse_coo"),
        (torch.eye(3)[:, :2], ValueError, "embeddings must be finite and not 0; row 2 is not"),
    ],
)
def test_embeddings_are_checked(embeddings, error, message):
    with pytest.raises(error, match=message):
        fl.statistics.MonoScore(embeddings)


def test_embeddings_must_cover_the_images_and_are_part_of_the_settings():
    statistic = fl.statistics.MonoScore(torch.eye(3))
    with pytest.raises(ValueError, match="a row for each image; got 3, and image 3"):
        statistic.update(torch.rand(4, 2))
    assert repr(statistic) == "MonoScore(float32 tensor (3, 3))"
    statistic.update(torch.rand(3, 2))
    with pytest.raises(ValueError, match="the same settings"):
        fl.statistics.MonoScore(2 * torch.eye(3)).merge(statistic)


def test_everything_survives_a_file(tmp_path):
    recorder = fl.ActivationRecorder(torch.nn.Conv2d(1, 4, 3), "")
    batches = [(torch.rand(3, 1, 6, 6), torch.tensor([0, 1, 1])) for _ in range(2)]
    several = [
        fl.statistics.Activity(),
        fl.statistics.ClassSelectivity(classes=2),
        fl.statistics.MonoScore(torch.rand(6, 3)),
        fl.statistics.Sample(4),
    ]
    result = recorder.stream(batches, several)
    result.save(tmp_path / "statistics.pt")
    loaded = fl.StreamResult.load(tmp_path / "statistics.pt")
    for name in ("activity", "class_selectivity", "mono_score", "sample"):
        one, other = vars(getattr(result[""], name)), vars(getattr(loaded[""], name))
        for field, value in one.items():
            if isinstance(value, torch.Tensor):
                torch.testing.assert_close(value, other[field], rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        (None, ValueError, r"ClassSelectivity\(classes=3\) needs labels"),
        (torch.tensor([0.5, 1.0]), TypeError, "labels must be integers; got float32 tensor"),
        (
            torch.tensor([0, 3]),
            ValueError,
            r"labels must be 0 ... 2 for ClassSelectivity\(classes=3\); got 3",
        ),
    ],
)
def test_labels_are_checked(labels, error, message):
    with pytest.raises(error, match=message):
        fl.statistics.ClassSelectivity(classes=3).update(torch.rand(2, 4), labels=labels)


@settings(deadline=None, max_examples=30)
@given(st.integers(3, 40), st.integers(1, 8), st.integers(0, 10**6))
def test_effective_rank_and_participation_ratio_are_their_definitions(n, channels, seed):
    values = normal(n, channels, seed=seed)
    found = taken(fl.statistics.Covariance(), values[:2], values[2:])
    eigenvalues = np.linalg.svd(values.numpy() - values.numpy().mean(0))[1] ** 2
    p = eigenvalues / eigenvalues.sum()
    p = p[p > 0]
    assert found.effective_rank == pytest.approx(math.exp(-(p * np.log(p)).sum()), abs=1e-6)
    assert found.participation_ratio == pytest.approx(1 / (p**2).sum(), abs=1e-6)
    assert 1 <= found.participation_ratio <= found.effective_rank + 1e-9 <= channels + 1e-6


def test_ranks_of_known_covariances():
    equal = taken(fl.statistics.Covariance(), torch.cat([torch.eye(4), -torch.eye(4)]))
    assert equal.effective_rank == pytest.approx(4)
    assert equal.participation_ratio == pytest.approx(4)
    line = taken(fl.statistics.Covariance(), torch.arange(5.0)[:, None] * torch.tensor([1.0, -2.0, 3.0]))
    assert line.effective_rank == pytest.approx(1, abs=1e-6)
    assert line.participation_ratio == pytest.approx(1, abs=1e-6)
    constant = taken(fl.statistics.Covariance(), torch.ones(5, 3))
    assert math.isnan(constant.effective_rank)
    assert math.isnan(constant.participation_ratio)


def test_nearest_channels_leave_out_the_channel_itself_and_constant_ones():
    x = normal(200, 4)
    x[:, 1] = x[:, 0] + 0.1 * x[:, 1]
    x[:, 3] = 5.0
    found = taken(fl.statistics.Covariance(), x)
    nearest = found.nearest(k=9)
    assert nearest.channels[:, 0].tolist() == [1, 0, nearest.channels[2, 0].item(), -1]
    assert nearest.channels[0].tolist()[2:] == [-1, -1]
    assert nearest.correlation[0, 0] == found.correlation[0, 1]
    assert repr(nearest) == "NearestChannels(4 channels, 4 each)"
    assert "closest are 0 and 1, with 0.99" in str(nearest)
    assert taken(fl.statistics.Covariance(), torch.ones(3, 2)).nearest(1).channels.tolist() == [[-1], [-1]]
    with pytest.raises(ValueError, match="k must be at least 1; got 0"):
        found.nearest(0)


def test_a_sample_is_the_same_for_every_layer_and_split_and_without_preference():
    rows = torch.arange(2000.0)
    whole = taken(fl.statistics.Sample(100), rows[:, None])
    parts = taken(fl.statistics.Sample(100), *rows[:, None].split(37))
    maps = taken(fl.statistics.Sample(100), *rows[:, None, None].expand(-1, 2, 3).split(500))
    assert torch.equal(whole.rows, parts.rows)
    assert torch.equal(whole.rows, maps.rows)
    assert torch.equal(maps.values, whole.values.expand(-1, 2))
    assert torch.equal(whole.values[:, 0].long(), whole.rows)
    other = taken(fl.statistics.Sample(100, seed=1), rows[:, None])
    assert len(set(whole.rows.tolist()) & set(other.rows.tolist())) < 20
    drawn = torch.cat([taken(fl.statistics.Sample(100, seed=s), rows[:, None]).rows for s in range(50)])
    counts = torch.histc(drawn.float(), bins=10, min=0, max=2000)
    assert (counts - 500).abs().max() < 90, "five standard deviations of the share of a tenth"
    assert len(taken(fl.statistics.Sample(100), rows[:7, None]).rows) == 7
