"""Statistics by themselves: ties, values that are not finite, information, and what is refused."""

import math

import pytest
import torch
from torch import nn

import featurelens as fl
from featurelens.information.counts import information_from_counts, information_of_gaussians
from tests.unit.statistics.own import Tally


def taken(statistic, *batches, labels=None):
    for number, batch in enumerate(batches):
        statistic.update(batch, labels=None if labels is None else labels[number])
    return statistic.compute()


def test_ties_go_to_the_lowest_row_and_position_however_rows_arrive():
    values = torch.ones(200, 3, 4, 4)
    values[150, 1, 2, 3] = values[20, 1, 1, 1] = 2.0
    forwards, backwards = fl.statistics.TopK(3), fl.statistics.TopK(3)
    parts = [(row, values[row : row + 40]) for row in range(0, 200, 40)]
    for _, part in parts:
        forwards.update(part)
    for row, part in reversed(parts):
        backwards.update(part, first_row=row)
    for found in (forwards.compute(), backwards.compute()):
        assert found.rows.tolist() == [[0, 1, 2], [20, 150, 0], [0, 1, 2]]
        assert found.positions[1].tolist() == [[1, 1], [2, 3], [0, 0]]


def test_top_k_passes_over_nan_and_tells_minus_infinity_from_no_image():
    batch = torch.tensor([[math.nan, -math.inf], [1.0, math.nan], [math.inf, math.nan]])
    found = taken(fl.statistics.TopK(2), batch)
    assert found.rows.tolist() == [[2, 1], [0, -1]]
    assert found.values[0].tolist() == [math.inf, 1.0]
    assert found.values[1, 0] == -math.inf
    assert found.values[1, 1].isnan()
    assert repr(found) == "TopKResult(2 channels, 2 images each)"


def test_moments_hold_where_the_mean_is_a_million_times_the_scatter():
    generator = torch.Generator().manual_seed(0)
    values = 1e6 + torch.randn(10_000, 1, generator=generator, dtype=torch.float64)
    found = taken(fl.statistics.Moments(), *values.split(100))
    assert abs(found.variance - values.var(correction=0)) < 1e-9
    naive = (values.square().sum() - values.sum() ** 2 / len(values)) / len(values)
    assert abs(naive - values.var(correction=0)) > 1e-6, "the textbook formula would not do"


def test_values_that_are_not_finite_are_left_out_and_counted():
    batch = torch.tensor([[1.0, math.nan, math.nan], [3.0, 2.0, math.inf]])
    moments = taken(fl.statistics.Moments(), batch)
    assert moments.count.tolist() == [2, 1, 0]
    assert moments.not_finite.tolist() == [0, 1, 2]
    assert moments.mean[:2].tolist() == [2.0, 2.0]
    assert all(part[2].isnan() for part in (moments.mean, moments.variance, moments.min, moments.max))
    assert repr(moments) == "MomentsResult(3 channels, 2 values each, 3 values not finite)"
    histogram = taken(fl.statistics.Histogram(), batch)
    assert histogram.not_finite.tolist() == [0, 1, 2]
    assert histogram.quantile(0.5)[2].isnan()
    covariance = taken(fl.statistics.Covariance(), batch)
    assert (covariance.count, covariance.not_finite) == (0, 2)
    joint = taken(fl.statistics.JointCounts(classes=2), batch, labels=[torch.tensor([0, 1])])
    assert joint.not_finite.tolist() == [0, 1, 2]
    with pytest.raises(
        ValueError, match=r"^information needs finite values; 2 channels had others, the first 1$"
    ):
        fl.ChannelInformationResult.from_counts(joint)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.int64])
def test_every_type_of_number_is_taken_as_what_it_is(dtype):
    values = (torch.arange(-8, 8).reshape(8, 2) * 3).to(dtype)
    exact = values.double()
    torch.testing.assert_close(taken(fl.statistics.Moments(), values).variance, exact.var(0, correction=0))
    torch.testing.assert_close(
        taken(fl.statistics.Covariance(), values).covariance, torch.cov(exact.T, correction=0)
    )
    assert taken(fl.statistics.TopK(1), values).values.flatten().tolist() == exact.amax(0).tolist()
    found = taken(fl.statistics.Histogram(), values)
    assert found.counts.sum(1).tolist() == [8, 8]
    assert float(found.quantile(0.0).min()) <= -24 <= float(found.edges[1])


def test_float64_values_fall_into_the_bin_that_holds_them_not_the_one_they_round_to():
    below = torch.tensor([[1.0 - 1e-12]], dtype=torch.float64)
    assert taken(fl.statistics.Histogram(), below).edges.tolist() == [1.0 - 2**-5, 1.0]
    assert taken(fl.statistics.Histogram(), torch.tensor([[1e300]], dtype=torch.float64)).counts.sum() == 1


@pytest.mark.parametrize("q", [0.0, 0.01, 0.25, 0.5, 0.99, 1.0])
def test_quantiles_are_right_to_the_width_of_a_bin(q):
    values = torch.randn(20_000, 2, generator=torch.Generator().manual_seed(0)) + torch.tensor([0.0, 3.0])
    truth = values.double().quantile(q, dim=0)
    found = taken(fl.statistics.Histogram(), *values.split(999)).quantile(q)
    assert torch.all((found - truth).abs() <= 2**-4 * truth.abs() + 1e-3)
    edges = torch.linspace(-8, 12, 401).tolist()
    found = taken(fl.statistics.Histogram(edges=edges), *values.split(999)).quantile(q)
    assert torch.all((found - truth).abs() <= 0.051)


def test_beyond_the_users_edges_nothing_better_than_infinity_is_known():
    found = taken(fl.statistics.Histogram(edges=[0.0, 1.0]), torch.tensor([[-5.0], [0.5], [1.0]]))
    assert found.edges.tolist() == [-math.inf, 0.0, 1.0, math.inf]
    assert found.counts.tolist() == [[1, 1, 1]]
    assert found.quantile([0.0, 0.5, 1.0]).flatten().tolist() == [-math.inf, 0.5, math.inf]
    with pytest.raises(ValueError, match=r"^q must be in \[0, 1\]; got 2$"):
        found.quantile(2)


@pytest.mark.parametrize(
    "histogram", [fl.statistics.Histogram(), fl.statistics.Histogram(edges=[0.0, 1.0])], ids=["own", "given"]
)
def test_where_nothing_is_finite_there_are_bins_and_no_quantiles(histogram):
    found = taken(histogram, torch.full((3, 2, 4), torch.nan))
    assert found.counts.shape == (2, len(found.edges) - 1)
    assert found.counts.sum() == 0
    assert found.not_finite.tolist() == [12, 12]
    assert found.quantile([0.1, 0.5]).isnan().all()
    found.plot()


def labelled(n=3000, seed=0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 4, (n,), generator=generator)
    noise = torch.randn(n, 5, generator=generator, dtype=torch.float64)
    values = noise + labels[:, None] * torch.tensor([0.0, 0.5, 1.0, 2.0, 0.0], dtype=torch.float64)
    values[:, 4] = noise[:, 4].clamp_min(0) + 100.0  # most of it is a point mass, far from zero
    return values, labels


@pytest.mark.parametrize("bins", ["auto", 2, 16])
def test_binned_information_is_that_of_values_cut_to_their_cells(bins):
    values, labels = labelled()
    joint = taken(fl.statistics.JointCounts(classes=4), *values.split(700), labels=labels.split(700))
    cut = joint.start + ((values - joint.start) / joint.width).floor() * joint.width
    expected = fl.channel_information(cut, labels, bins=bins)
    found = fl.ChannelInformationResult.from_counts(joint, bins=bins)
    torch.testing.assert_close(found.values, expected.values, rtol=0, atol=1e-12)
    assert (found.n, found.ceiling) == (expected.n, expected.ceiling)
    assert found.label_entropy == pytest.approx(expected.label_entropy)
    # Cells are fine enough that little is lost by them.
    torch.testing.assert_close(
        found.values, fl.channel_information(values, labels, bins=bins).values, rtol=0.02, atol=0.02
    )
    bits = fl.ChannelInformationResult.from_counts(joint, bins=bins, units="bits")
    torch.testing.assert_close(bits.values * math.log(2), found.values)


def test_gaussian_information_is_the_integral_and_never_above_the_labels():
    labels = torch.tensor([300, 100])
    mean, variance = (
        torch.tensor([[0.0, 1.0], [0.0, 50.0], [2.0, 2.0]]),
        torch.tensor([[1.0, 2.0], [1.0, 1.0], [0.0, 0.0]]),
    )
    found = information_of_gaussians(labels, mean, variance)
    x = torch.linspace(-20, 20, 200_001, dtype=torch.float64)
    densities = torch.stack(
        [torch.distributions.Normal(m, v**0.5).log_prob(x).exp() for m, v in ((0.0, 1.0), (1.0, 2.0))]
    )
    share = torch.tensor([0.75, 0.25], dtype=torch.float64)
    mixture = share @ densities
    integral = torch.trapezoid((share[:, None] * torch.xlogy(densities, densities / mixture)).sum(0), x)
    entropy = -(share * share.log()).sum()
    assert found.values[0].item() == pytest.approx(integral.item(), abs=1e-6)
    assert found.values[1].item() == pytest.approx(entropy.item(), abs=1e-9)
    assert found.values[2] == 0.0
    assert found.notes == (
        "labels in random order would give about 0.0025 nats",
        "1 channel never changed",
    )


def test_gaussian_and_binned_information_agree_where_classes_are_normal():
    values, labels = labelled(40_000)
    joint = taken(fl.statistics.JointCounts(classes=4), *values.split(5000), labels=labels.split(5000))
    binned, gaussian = (
        fl.ChannelInformationResult.from_counts(joint),
        fl.ChannelInformationResult.from_counts(joint, method="gaussian"),
    )
    torch.testing.assert_close(binned.values[:4], gaussian.values[:4], rtol=0.03, atol=0.003)
    assert gaussian.values.max() < gaussian.label_entropy


def test_information_without_classes_to_tell_apart_is_refused():
    one = torch.zeros(1, 4, 3, dtype=torch.int64)
    one[0, 0, 1] = 9
    with pytest.raises(
        ValueError,
        match=r"^information needs labels of two classes or more; got \[0, 9, 0\] samples in each$",
    ):
        information_from_counts(one)
    with pytest.raises(
        ValueError, match=r"^counts must be integers \(C, cells, K\); got float32 tensor \(2,\)$"
    ):
        information_from_counts(torch.ones(2))
    two = torch.stack([torch.eye(2, dtype=torch.int64), 2 * torch.eye(2, dtype=torch.int64)])
    with pytest.raises(
        ValueError, match=r"^every channel must have been counted on the same samples; their classes differ$"
    ):
        information_from_counts(two)


def test_correlation_is_nan_for_a_channel_that_never_changes():
    found = taken(fl.statistics.Covariance(), torch.tensor([[1.0, 5.0, 2.0], [2.0, 5.0, 0.0]]))
    assert found.correlation[0].tolist()[::2] == [1.0, -1.0]
    assert found.correlation[1].isnan().all()
    assert repr(found) == "CovarianceResult(3 channels, 2 observations)"


def test_rounding_of_the_mean_is_no_variance():
    generator = torch.Generator().manual_seed(1)
    values = torch.rand(1000, 2, generator=generator, dtype=torch.float64)
    values[:, 0] = 0.1
    labels = torch.randint(3, (1000,), generator=generator)
    joint = taken(fl.statistics.JointCounts(classes=3), *values.split(7), labels=labels.split(7))
    information = fl.ChannelInformationResult.from_counts(joint, method="gaussian")
    assert information.values[0] == 0.0
    assert 0.0 < information.values[1] < 0.02
    assert "1 channel never changed" in information.notes
    assert joint.mean[0].sub(0.1).abs().max() < 1e-15
    assert joint.variance[0].tolist() == [0.0] * 3
    covariance = taken(fl.statistics.Covariance(), *values.split(7))
    assert covariance.covariance[0].tolist() == [0.0, 0.0]
    assert covariance.correlation[0].isnan().all()
    assert covariance.correlation[1, 1] == 1.0
    assert taken(fl.statistics.Moments(), *values.split(7)).variance[0] == 0.0


def test_gaussian_classes_whose_means_differ_by_rounding_only_tell_nothing():
    mean = torch.tensor([[0.1, 0.1 + 2**-56], [0.1, 0.1 + 2**-40]], dtype=torch.float64)
    found = information_of_gaussians(torch.tensor([50, 50]), mean, torch.zeros(2, 2))
    assert found.values[0] == 0.0
    assert abs(found.values[1] - math.log(2)) < 1e-6


@pytest.mark.parametrize(
    "statistic",
    [
        fl.statistics.Moments(),
        fl.statistics.Covariance(),
        fl.statistics.Histogram(),
        fl.statistics.Histogram(edges=[0.0, 1.0]),
        fl.statistics.TopK(3),
        fl.statistics.JointCounts(2),
    ],
)
def test_results_own_their_arrays(statistic):
    statistic = statistic.fresh()
    batches = [torch.rand(6, 2, generator=torch.Generator().manual_seed(seed)) for seed in range(4)]
    labels = torch.arange(6) % 2

    def tensors(result):
        return {name: part for name, part in vars(result).items() if isinstance(part, torch.Tensor)}

    for batch in batches:
        statistic.update(batch, labels=labels)
        before = statistic.compute()
        kept = {name: part.clone() for name, part in tensors(before).items()}
        statistic.update(batch, labels=labels)
        for name, part in tensors(before).items():
            assert torch.equal(part, kept[name]), name
        now = statistic.compute()
        kept = {name: part.clone() for name, part in tensors(now).items()}
        for part in tensors(now).values():
            part.zero_()
        for name, part in tensors(statistic.compute()).items():
            assert torch.equal(part, kept[name]), name


@pytest.mark.parametrize(
    "dtype", [torch.bool, torch.int8, torch.uint8, torch.uint16, torch.uint32, torch.uint64]
)
def test_labels_are_integers_of_any_type_and_may_be_written_over_later(dtype):
    labels, joint = torch.tensor([0, 1, 1, 1]).to(dtype), fl.statistics.JointCounts(classes=2)
    for _ in range(2):
        joint.update(torch.ones(4, 1), labels=labels)
    assert joint.compute().counts.sum(1).tolist() == [[2, 6]]
    if dtype != torch.bool:
        with pytest.raises(ValueError, match=r"^labels must be 0 ... 1 for .*; got 2$"):
            joint.update(torch.ones(1, 1), labels=torch.tensor([2]).to(dtype))
    own, batch = fl.statistics.JointCounts(classes=2), torch.tensor([0, 0])
    own.update(torch.ones(2, 1), labels=batch)
    batch.fill_(1)
    assert own.compute().counts.sum(1).tolist() == [[2, 0]]


def test_a_statistic_of_ones_own_may_keep_numbers_only(tmp_path):
    parts = [
        fl.ActivationRecorder(nn.ReLU(), "").stream(list(torch.ones(4, 3, 2)), Tally(), shard=(index, 2))
        for index in range(2)
    ]
    parts[0].save(tmp_path / "part.pt")
    merged = fl.StreamResult.merge([tmp_path / "part.pt", parts[1]])
    assert merged[""].tally == 12


def test_what_cannot_be_taken_is_told():
    for make, error, message in (
        (lambda: fl.statistics.TopK(0), ValueError, r"^k must be at least 1; got 0$"),
        (lambda: fl.statistics.TopK(2.0), TypeError, r"^k must be a whole number; got 2.0$"),
        (lambda: fl.statistics.TopK(True), TypeError, r"^k must be a whole number; got True$"),
        (
            lambda: fl.statistics.JointCounts(classes=2.0),
            TypeError,
            r"^classes must be a whole number; got 2.0$",
        ),
        (
            lambda: taken(fl.statistics.Histogram(), torch.rand(4, 1)).quantile("a"),
            TypeError,
            r"^q must be a number or several in \[0, 1\]; got 'a'$",
        ),
        (lambda: fl.statistics.JointCounts(classes=1), ValueError, r"^classes must be at least 2; got 1$"),
        (
            lambda: fl.statistics.Histogram(edges=[1.0, 1.0]),
            ValueError,
            r"^edges must be two or more finite numbers, ascending; got \[1.0, 1.0\]$",
        ),
        (lambda: fl.statistics.Moments().compute(), ValueError, r"^Moments\(\) has seen no batch yet$"),
        (
            lambda: fl.statistics.Moments().update([1.0]),
            TypeError,
            r"^values must be a tensor \(N, C\) or \(N, C, ...\); got \[1.0\]$",
        ),
        (
            lambda: fl.statistics.Moments().update(torch.ones(3)),
            ValueError,
            r"^values must have shape .* got float32 tensor \(3,\)$",
        ),
        (
            lambda: fl.statistics.Moments().update(torch.ones(3, 2, dtype=torch.complex64)),
            TypeError,
            r"^values must be real",
        ),
        (
            lambda: fl.statistics.TopK(2).merge("TopK"),
            TypeError,
            r"^other must be a statistic; got 'TopK'$",
        ),
        (
            lambda: fl.statistics.Moments().update(torch.ones(3, 2), first_row=2**62 + 1),
            ValueError,
            rf"^first_row must be at most {2**62}; got {2**62 + 1}$",
        ),
        (
            lambda: fl.statistics.Sample(1).update(torch.ones(3, 2), labels=torch.ones(3).to_sparse()),
            TypeError,
            r"^labels must be a dense tensor; got a sparse_coo float32 tensor \(3,\)$",
        ),
        (
            lambda: fl.statistics.TopK(2).merge(fl.statistics.TopK(3)),
            ValueError,
            r"^other must be a statistic with the same settings as TopK\(k=2\); got TopK\(k=3\)$",
        ),
        (
            lambda: taken(fl.statistics.Moments(), torch.ones(2, 3), torch.ones(2, 4)),
            ValueError,
            r"^parts must have the same number of channels; got 3 and then 4$",
        ),
        (
            lambda: fl.statistics.JointCounts(classes=2).update(torch.ones(2, 1)),
            ValueError,
            r"^JointCounts\(classes=2\) needs labels$",
        ),
        (
            lambda: fl.statistics.Moments().update(torch.full((2, 1), 1e200, dtype=torch.float64)),
            ValueError,
            r"^values are so large that their sums or squares",
        ),
    ):
        with pytest.raises(error, match=message):
            make()


def test_a_channel_that_is_as_strong_in_every_image_is_tied_however_rows_arrive():
    values = torch.rand(6, 5, 3, 3)
    values[:, 0] = 0.0  # dead
    values[:, 1, 1, 1] = 2.0  # not constant, but no image is stronger
    values[:4, 2] = 1.0  # saturated in the first images only
    values[:, 3] = torch.nan
    expected = [True, True, False, False, False]
    for parts in ([(0, values)], [(0, values[:3]), (3, values[3:])], [(3, values[3:]), (0, values[:3])]):
        strongest = fl.statistics.TopK(3)
        for row, part in parts:
            strongest.update(part, first_row=row)
        assert strongest.compute().tied.tolist() == expected
    assert taken(fl.statistics.TopK(1), values).tied.tolist() == expected
    assert not taken(fl.statistics.TopK(3), values[:1]).tied.any(), "a single image cannot be tied"


def test_strongest_images_of_a_dead_channel_are_hatched_and_told():
    values = torch.rand(6, 3)
    values[:, 1] = -0.5
    figure = taken(fl.statistics.TopK(4), values).plot(torch.rand(6, 1, 5, 5))
    ax = figure.axes[0]
    assert len(ax.images) == 8
    assert sum(patch.get_hatch() == "////" for patch in ax.patches) == 4
    assert [text.get_text() for text in ax.texts].count("-0.5") == 4
    note = " ".join(text.get_text() for text in figure.texts).replace("\n", " ")
    assert "hatched: 1 channel equally strong in every image (dead, for example)" in note
    assert (
        len(taken(fl.statistics.TopK(4), values).plot(torch.rand(6, 1, 5, 5), channels=[1]).axes[0].images)
        == 0
    )


def test_pictures_of_a_stream_s_results_name_the_layer():
    images = torch.rand(8, 1, 6, 6)
    model = torch.nn.Sequential()
    model.conv1, model.out = torch.nn.Conv2d(1, 3, 3), torch.nn.Flatten()
    statistics = [
        fl.statistics.TopK(2),
        fl.statistics.Histogram(),
        fl.statistics.Covariance(),
        fl.statistics.Moments(),
    ]
    found = fl.ActivationRecorder(model, ["conv1", ""], reduce="mean").stream([images], statistics)
    conv1 = found["conv1"]
    assert conv1.histogram.layer == conv1.top_k.layer == conv1.covariance.layer == "conv1"
    assert conv1.top_k.plot(images).get_suptitle() == "Strongest images of conv1"
    assert conv1.histogram.plot().axes[0].get_title(loc="left") == "Values of every channel of conv1"
    assert conv1.covariance.plot().axes[0].get_title(loc="left") == "Correlation of channels of conv1"
    assert conv1.histogram.plot(title="Mine").axes[0].get_title(loc="left") == "Mine"
    assert found[""].histogram.plot().axes[0].get_title(loc="left") == "Values of every channel of the model"
    values = torch.rand(9, 3)
    values[:, 1] = 1.0
    title = "Correlation of channels (1 constant channel omitted)"
    shown = taken(fl.statistics.Covariance(), values).plot().axes[0].get_title(loc="left")
    assert shown.replace("\n", " ") == title
    alone = taken(fl.statistics.Histogram(), torch.rand(9, 2))
    assert alone.plot().axes[0].get_title(loc="left") == "Values of every channel"


def test_pictures_are_drawn_from_results():
    values, _ = labelled(200)
    histogram, covariance = (
        taken(fl.statistics.Histogram(), values),
        taken(fl.statistics.Covariance(), values),
    )
    assert len(histogram.plot().axes[0].get_legend().get_texts()) == 3
    assert covariance.plot(title="C").axes[0].get_title(loc="left") == "C"
    pictures = torch.rand(200, 3, 6, 6)
    figure = taken(fl.statistics.TopK(4), values).plot(pictures, channels=[2, 0])
    assert len(figure.axes[0].images) == 8
    figure = taken(fl.statistics.TopK(4), values).plot(pictures, limit=1, title="one")
    assert len(figure.axes[0].images) == 4
    assert figure.get_suptitle().startswith("one")
    with pytest.raises(ValueError, match=r"^channels must be one or more of 0 ... 4; got \[5\]$"):
        taken(fl.statistics.TopK(4), values).plot(pictures, channels=[5])
    with pytest.raises(TypeError, match=r"^channels must be a list of channels; got 3$"):
        taken(fl.statistics.TopK(4), values).plot(pictures, channels=3)
    with pytest.raises(
        TypeError, match=r"^images must be a tensor \(N, C, H, W\) or a map-style data set; got 3$"
    ):
        taken(fl.statistics.TopK(4), values).plot(3)
