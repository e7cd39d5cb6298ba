"""Any split of the batches, merged in any order, against one pass: the same bits."""

import math
from fractions import Fraction

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import featurelens as fl
from featurelens.statistics.exact_sums import added, exact, total

FINITE = st.floats(-(2.0**100), 2.0**100, width=32)
TAME = st.floats(-4, 4, width=16)
ANY = st.one_of(TAME, FINITE, st.sampled_from([0.0, -0.0, 1.0, math.nan, math.inf, -math.inf, 2.0**-140]))
CHANNELS, CLASSES = 3, 4
EMBEDDINGS = torch.randn(24, 5, generator=torch.Generator().manual_seed(0))


def statistics():
    return [
        fl.statistics.Moments(),
        fl.statistics.Histogram(),
        fl.statistics.Histogram(edges=[-1.0, 0.0, 0.5, 2.0]),
        fl.statistics.TopK(3),
        fl.statistics.Covariance(),
        fl.statistics.JointCounts(classes=CLASSES),
        fl.statistics.Activity(),
        fl.statistics.ClassSelectivity(classes=CLASSES),
        fl.statistics.MonoScore(EMBEDDINGS),
        fl.statistics.Sample(5),
    ]


@st.composite
def batches(draw, values=ANY):
    shape = draw(st.sampled_from([(), (2,), (2, 2)]))
    sizes = draw(st.lists(st.integers(1, 4), min_size=1, max_size=6))
    found, row = [], 0
    for size in sizes:
        numbers = draw(arrays(np.float32, (size, CHANNELS, *shape), elements=values))
        labels = torch.tensor(draw(st.lists(st.integers(0, CLASSES - 1), min_size=size, max_size=size)))
        found.append((row, torch.from_numpy(numbers), labels))
        row += size
    return found


def same(one, other):
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one.nan_to_num(1e300), other.nan_to_num(1e300))
    return one == other or (one != one and other != other)  # noqa: PLR0124  (NaN)


def fields(result):
    return dict(vars(result))


@settings(deadline=None, max_examples=40)
@given(data=st.data(), batches=batches(), workers=st.integers(1, 4))
def test_any_split_merged_in_any_order_gives_the_bits_of_one_pass(data, batches, workers):
    owner = data.draw(st.lists(st.integers(0, workers - 1), min_size=len(batches), max_size=len(batches)))
    order = data.draw(st.permutations(range(workers)))
    shuffled = data.draw(st.permutations(batches))
    for statistic in statistics():
        whole = statistic.fresh()
        for row, values, labels in batches:
            whole.update(values, first_row=row, labels=labels)
        parts = [statistic.fresh() for _ in range(workers)]
        for row, values, labels in shuffled:
            index = owner[[r for r, _, _ in batches].index(row)]
            parts[index].update(values, first_row=row, labels=labels)
        before = [None if part.state is None else fields(part.compute()) for part in parts]
        merged = statistic.fresh()
        for index in order:
            merged.merge(parts[index])
        assert merged.rows == whole.rows
        one, other = fields(whole.compute()), fields(merged.compute())
        assert all(same(one[name], other[name]) for name in one), (statistic, one, other)
        for part, then in zip(parts, before, strict=True):
            now = None if part.state is None else fields(part.compute())
            assert now is then is None or all(same(now[name], then[name]) for name in then), (
                "merging changed a part"
            )


@settings(deadline=None, max_examples=40)
@given(batches=batches(FINITE))
def test_moments_and_covariance_equal_slow_replicas(batches):
    moments, covariance = fl.statistics.Moments(), fl.statistics.Covariance()
    for _, values, _ in batches:
        moments.update(values)
        covariance.update(values)
    pooled = torch.cat([values.transpose(0, 1).flatten(1) for _, values, _ in batches], dim=1).double()
    exactly = [[Fraction(number) for number in row] for row in pooled.tolist()]
    n = pooled.shape[1]
    means = [sum(row) / n for row in exactly]
    found = moments.compute()
    scale = pooled.abs().amax(1)
    assert found.count.tolist() == [n] * CHANNELS
    assert torch.equal(found.min, pooled.amin(1))
    assert torch.equal(found.max, pooled.amax(1))
    between = covariance.compute().covariance
    for a in range(CHANNELS):
        assert abs(found.mean[a].item() - float(means[a])) <= 1e-15 * n * scale[a]
        for b in range(CHANNELS):
            truth = (
                sum((x - means[a]) * (y - means[b]) for x, y in zip(exactly[a], exactly[b], strict=True)) / n
            )
            spread = float(pooled[a].sub(float(means[a])).norm() * pooled[b].sub(float(means[b])).norm())
            slack = 1e-14 * (spread + 1e-15 * n * scale[a] * scale[b])
            assert abs(between[a, b].item() - float(truth)) <= slack
        assert abs(found.variance[a] - between[a, a]) <= 1e-13 * between[a, a] + 1e-28 * n * scale[a] ** 2


@settings(deadline=None, max_examples=40)
@given(batches=batches())
def test_top_k_equals_a_slow_replica(batches):
    k = 3
    statistic = fl.statistics.TopK(k)
    ranked = [[] for _ in range(CHANNELS)]
    for row, values, _ in batches:
        statistic.update(values)
        for image in range(len(values)):
            for channel in range(CHANNELS):
                place = [
                    (-v.item(), index)
                    for index, v in enumerate(values[image, channel].flatten())
                    if not v.isnan()
                ]
                if place:
                    value, position = min(place)
                    ranked[channel].append((value, row + image, position))
    found = statistic.compute()
    for channel, places in enumerate(ranked):
        best = sorted(places)[:k]
        assert found.tied[channel] == (len({value for value, *_ in places}) == 1 and statistic.rows > 1)
        assert found.rows[channel].tolist() == [row for _, row, _ in best] + [-1] * (k - len(best))
        assert found.values[channel, : len(best)].tolist() == [-value for value, _, _ in best]
        assert found.values[channel, len(best) :].isnan().all()
        shape = batches[0][1].shape[2:]
        for place, (value, _, position) in enumerate(best):
            if value == math.inf:  # a map of minus infinity and NaN
                continue
            assert found.positions[channel, place].tolist() == list(
                np.unravel_index(position, shape) if shape else []
            )


@settings(deadline=None, max_examples=40)
@given(batches=batches())
def test_histograms_count_every_value_once_in_its_own_bin(batches):
    everywhere, own = fl.statistics.Histogram(), fl.statistics.Histogram(edges=[-1.0, 0.0, 0.5, 2.0])
    for _, values, _ in batches:
        everywhere.update(values)
        own.update(values)
    pooled = torch.cat([values.transpose(0, 1).flatten(1) for _, values, _ in batches], dim=1).double()
    for found in (everywhere.compute(), own.compute()):
        low, high = found.edges[:-1], found.edges[1:]
        assert bool((low < high).all())
        for channel, row in enumerate(pooled):
            usable = row[row.isfinite()]
            # Bins mirrored about zero, around which all is one bin.
            mirrored = bool(found.edges[0].isfinite())
            if mirrored:
                usable = usable.masked_fill(usable.abs() < 2.0**-130, 0.0)
            inside = (usable[:, None] >= low) & (usable[:, None] < high)
            if mirrored:
                inside = torch.where(
                    usable[:, None] < 0,
                    (usable[:, None] > low) & (usable[:, None] <= high) & (low < 0),
                    inside,
                )
            assert torch.equal(found.counts[channel], inside.sum(0))
            assert found.counts[channel].sum() == len(usable)
            assert found.not_finite[channel] == len(row) - len(usable)


@settings(deadline=None, max_examples=40)
@given(batches=batches())
def test_joint_counts_count_every_image_once_in_its_own_cell(batches):
    joint = fl.statistics.JointCounts(classes=CLASSES)
    for _, values, labels in batches:
        joint.update(values, labels=labels)
    found = joint.compute()
    pooled = torch.cat(
        [
            values.double().flatten(2).mean(2) if values.ndim > 2 else values.double()
            for _, values, _ in batches
        ]
    )
    labels = torch.cat([labels for _, _, labels in batches])
    for channel in range(CHANNELS):
        mine = pooled[:, channel]
        usable = mine.isfinite()
        assert found.not_finite[channel] == (~usable).sum()
        if not usable.any():
            continue
        cell = (
            (mine[usable] / found.width[channel]).floor() - found.start[channel] / found.width[channel]
        ).long()
        expected = torch.zeros(256, CLASSES, dtype=torch.int64)
        expected.index_put_((cell, labels[usable]), torch.ones(len(cell), dtype=torch.int64), accumulate=True)
        assert torch.equal(found.counts[channel], expected)
        if mine[usable].unique().numel() > 1 and mine[usable].abs().max() < 1e3 * (
            mine[usable].max() - mine[usable].min()
        ):
            assert cell.max() - cell.min() >= 126, "cells are as narrow as they can be"
        for label in range(CLASSES):
            of_class = mine[usable & (labels == label)]
            if len(of_class):
                scale = mine[usable].abs().max().item()
                assert abs(found.mean[channel, label] - of_class.mean()) <= 1e-14 * scale
                assert abs(found.variance[channel, label] - of_class.var(correction=0)) <= 1e-13 * scale**2


@settings(deadline=None, max_examples=40)
@given(numbers=st.lists(st.floats(allow_nan=False, allow_infinity=False, width=64), min_size=1, max_size=12))
def test_exact_sums_are_exact(numbers):
    truth = sum(map(Fraction, numbers))
    if abs(truth) >= 2**1023:
        return
    summed = exact(torch.tensor(numbers[:1], dtype=torch.float64))
    for number in numbers[1:]:
        summed = added(exact(torch.tensor([number], dtype=torch.float64)), summed)
    high, low = total(summed)
    assert abs(high.item() - float(truth)) <= math.ulp(float(truth))
    assert (
        abs(Fraction(high.item()) + Fraction(low.item()) - truth)
        <= abs(truth) * Fraction(2) ** -100 + Fraction(2) ** -1073
    )
