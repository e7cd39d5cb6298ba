"""Layers against layers: the same as CKA of recorded arrays, however the data are split."""

import copy
import itertools
import re
import subprocess
import sys
import textwrap

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import featurelens as fl
from featurelens.similarity import cka, hsic
from featurelens.similarity.pair_sums import BLOCK, PairSums
from featurelens.similarity.sketch import COLUMNS, WIDEST, Sketch
from tests.nets import images, plain, seeded


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Parts(nn.Module):
    """Layers that return columns of the input, so that a test chooses what they return."""

    def __init__(self, *widths):
        super().__init__()
        self.widths = widths
        self.part = nn.ModuleList(nn.Identity() for _ in widths)

    def forward(self, x):
        return [layer(x) for layer, x in zip(self.part, x.split(self.widths, 1), strict=True)]


def compared(*arrays, batch=64, seed=0, other=None, dtype=torch.float64):
    model = Parts(*(array.shape[1] for array in arrays))
    data = torch.cat(arrays, 1).to(dtype)
    return fl.compare(model, other, loader=data.split(batch), layers="part.*", seed=seed, progress=False)


def related(n=40):
    x = normal(n, 30)
    y = torch.cat([x[:, :10] @ normal(10, 12, seed=1), normal(n, 8, seed=2)], 1)
    return x, y, (x @ normal(30, 50, seed=3)).relu()


def pairwise(arrays):
    return torch.tensor([[cka(x, y).value for y in arrays] for x in arrays], dtype=torch.float64)


def rotation(d, seed=0):
    return torch.linalg.qr(normal(d, d, seed=seed)).Q


@pytest.mark.parametrize("n", [4, 5, 65, BLOCK + 65])
def test_it_is_cka_of_the_recorded_arrays_at_any_batch_size(n):
    arrays = related(n)
    expected = pairwise(arrays)
    found = [compared(*arrays, batch=batch).values for batch in (1, 3, 7, 64, n)]
    torch.testing.assert_close(found[0], expected, atol=1e-9, rtol=0)
    assert all(torch.equal(values, found[0]) for values in found[1:])
    assert torch.equal(found[0], found[0].T)


def test_it_is_cka_of_what_a_network_was_recorded_to_return():
    model, data = plain(), images(90)
    result = fl.compare(model, loader=data.split(32), layers=["0", "1", "3", "8"], progress=False)
    acts = fl.ActivationRecorder(model, ["0", "1", "3", "8"]).record(data.split(32), progress=False)
    assert result.layers == result.other_layers == tuple(acts)
    assert result.n == 90
    assert not result.notes
    torch.testing.assert_close(result.values, pairwise(list(acts.values())), atol=1e-9, rtol=0)


@pytest.mark.parametrize(("n", "d"), [(64, 512), (1024, 4096)])
def test_independent_layers_have_no_similarity(n, d):
    values = compared(normal(n, d), normal(n, d, seed=1)).values
    assert abs(values[0, 1]) < 0.02
    assert values.diagonal().tolist() == pytest.approx([1, 1], abs=1e-6)


@settings(max_examples=15, deadline=None)
@given(st.integers(5, 30), st.integers(2, 20), st.floats(1e-6, 1e6), st.integers(0, 10**6))
def test_a_rotation_a_scale_and_an_offset_change_nothing(n, d, scale, seed):
    x, y = normal(n, d, seed=seed), normal(n, 7, seed=seed + 1)
    y[:, 0] += x[:, 0]
    turned = scale * (x @ rotation(d, seed)) + 3
    values = compared(x, turned, y, batch=4).values
    if values[0, 0] and values[2, 2]:
        assert values[0, 1] == pytest.approx(1, abs=1e-6)
        assert values[0, 2] == pytest.approx(float(values[1, 2]), abs=1e-6)


def test_offsets_much_larger_than_the_differences_lose_no_digits():
    arrays = related()
    offset = [array + 1e6 for array in arrays]
    torch.testing.assert_close(compared(*offset).values, pairwise(arrays), atol=1e-7, rtol=0)


def test_half_precision_and_whole_numbers_are_summed_in_double():
    arrays = [array.half() for array in related()]
    torch.testing.assert_close(
        compared(*arrays, dtype=torch.float16).values, pairwise(arrays), atol=1e-9, rtol=0
    )
    arrays = [(4 * array).round().int() for array in related()]
    torch.testing.assert_close(
        compared(*arrays, dtype=torch.int32).values, pairwise(arrays), atol=1e-9, rtol=0
    )


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 400), min_size=1, max_size=8), st.randoms(use_true_random=False))
def test_parts_add_up_to_the_same_bits_in_any_order(lengths, random):
    n = 2 * BLOCK + 10
    rows = torch.cat([normal(n, 3) * 1e-9, normal(n, 2, seed=1) * 1e9, normal(n, 2, seed=2)], 1)
    pairs = [(0, 0), (0, 1), (1, 1)]
    layout = [(1, 3), (2, 2)]
    whole = PairSums(layout, pairs)
    whole.add(0, rows)
    starts = [0, *(sum(lengths[:i]) for i in range(1, len(lengths))), n]
    parts = []
    for start, stop in itertools.pairwise(sorted(min(start, n) for start in starts)):
        parts.append(PairSums(layout, pairs))
        parts[-1].add(start, rows[start:stop])
    random.shuffle(parts)
    total = PairSums(layout, pairs)
    for part in parts:
        total.merge(part)
    assert total.n == n
    assert total.hsic() == whole.hsic()
    scaled = whole.hsic()[0, 0][0] * 1e36
    assert scaled == pytest.approx(float(hsic.from_features(rows[:, :3] * 1e9, rows[:, :3] * 1e9)))


def test_equal_layers_have_a_similarity_of_one_also_where_they_are_projected():
    x = normal(30, 3000)
    other = Parts(3000, 1500)
    values = compared(x, x[:, :1500], other=other).values
    assert values.diagonal().tolist() == pytest.approx([1, 1], abs=1e-12)
    assert values[0, 1] < 0.9


def test_projected_layers_have_the_similarity_of_whole_layers_on_average():
    x = normal(60, 1500).relu()
    y = torch.cat([x + normal(60, 1500, seed=1), normal(60, 700, seed=2)], 1)
    z = x[:, :50] @ normal(50, 20, seed=3)
    for one, other in ((x, y), (y, y), (x, z)):
        exact = hsic.from_features(one, other)
        estimates = []
        for seed in range(100):
            sketch = Sketch(seed)
            a, b = sketch(one), sketch(other)
            orders = (a[:, 0], b[:, -1]), (a[:, -1], b[:, 0])
            estimates.append(sum(hsic.from_features(*order) for order in orders) / 2)
        found = torch.stack(estimates) / exact
        assert abs(found.mean() - 1) < 4 * found.std() / 10 < 0.3
    same = torch.stack([hsic.from_features(a, a) for a in (Sketch(seed)(y)[:, 0] for seed in range(20))])
    assert (same / hsic.from_features(y, y)).min() > 1.2  # one projection alone is biased


def test_the_note_of_a_projection_says_how_large_its_error_is():
    x = normal(120, 60) @ normal(60, 2500, seed=1)
    y = torch.cat([x + 4 * normal(120, 2500, seed=2)], 1)
    exact = float(pairwise([x, y])[0, 1])
    results = [compared(x, y, seed=seed) for seed in range(12)]
    errors = torch.tensor([float(result.values[0, 1]) - exact for result in results])
    said = [float(re.search(r"error of about (\S+) or less$", r.notes[0])[1]) for r in results]
    assert (
        results[0].notes[0].startswith("2 layers of more than 1,024 values projected to 2 x 509 random sums")
    )
    rms = sum(each**2 for each in said) / len(said)
    assert errors.square().mean() < 2 * rms
    assert not compared(x[:, :WIDEST]).notes


@pytest.mark.parametrize("width", [WIDEST + 1, 40 * COLUMNS, 40 * COLUMNS + 7])
def test_a_projection_is_the_signed_sum_of_every_509th_value(width):
    x, sketch = normal(3, width).float() + 1000, Sketch(0)
    signs = sketch._signs_of(torch.ones(1, width))
    assert {-1.0, 1.0} == set(signs.flatten().tolist())
    assert signs.mean().abs() < 5 / (2 * width) ** 0.5 > (signs[0] * signs[1]).mean().abs()
    expected = torch.zeros(3, 2, COLUMNS, dtype=torch.float64)
    for value in range(width):
        expected[:, :, value % COLUMNS] += x[:, None, value].double() * signs[:, value]
    torch.testing.assert_close(sketch(x), expected, atol=1e-9, rtol=1e-12)


def test_projections_do_not_depend_on_the_batch():
    for width in (WIDEST + 1, 40 * COLUMNS, 40 * COLUMNS + 7):
        x, sketch = normal(20, width).float(), Sketch(0)
        assert sketch(x).shape == (20, 2, COLUMNS)
        assert torch.equal(sketch(x), torch.cat([sketch(rows) for rows in x.split(3)]))
        assert torch.equal(sketch(x), Sketch(0)(x))
        assert not torch.equal(sketch(x), Sketch(1)(x))


def test_two_networks_run_on_the_same_batches():
    first, second, data = plain(), seeded(lambda: nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU())), images(50)
    result = fl.compare(first, second, loader=data.split(20), layers=nn.ReLU, progress=False)
    acts = [fl.ActivationRecorder(m, nn.ReLU).record(data, progress=False) for m in (first, second)]
    assert (result.layers, result.other_layers) == (("1", "5"), ("1",))
    expected = [[cka(a, b).value for b in acts[1].values()] for a in acts[0].values()]
    torch.testing.assert_close(result.values, torch.tensor(expected).double(), atol=1e-6, rtol=0)


def test_a_network_that_changes_its_input_leaves_it_whole_for_the_other():
    def changing():
        return nn.Sequential(nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(64, 5))

    first, second = seeded(changing), seeded(changing, seed=1)
    data = images(20) - 0.5
    found = fl.compare(first, second, loader=[data.clone()], layers="0", progress=False)
    assert found.values.item() == pytest.approx(1)
    turned = nn.Sequential(nn.Identity(), nn.Flatten())
    found = fl.compare(first, turned, loader=[data.clone()], layers="0", progress=False).values.item()
    assert found == pytest.approx(cka(data.relu(), data).value, abs=1e-6)


def test_a_layer_of_float64_that_the_next_one_changes_in_place_is_compared_as_it_was():
    def network(inplace):
        return seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 5), nn.ReLU(inplace))).double()

    data = images(20).double()
    found = fl.compare(network(True), network(False), loader=[data], layers="1", progress=False)
    assert found.values.item() == pytest.approx(1)


def test_weights_of_another_epoch_stand_for_a_second_network():
    model, later = plain(), copy.deepcopy(plain())
    with torch.no_grad():
        later[3].weight += 1
    before = model[3].weight.clone()
    data = images(40)
    found = fl.compare(model, later.state_dict(), loader=data.split(16), layers=["0", "3"], progress=False)
    assert torch.equal(model[3].weight, before)
    expected = fl.compare(model, later, loader=data.split(16), layers=["0", "3"], progress=False)
    assert torch.equal(found.values, expected.values)
    assert found.values[0, 0] == pytest.approx(1, abs=1e-12)
    assert found.values[1, 1] < 0.99
    same = fl.compare(model, model, loader=data.split(16), layers=["0", "3"], progress=False)
    alone = fl.compare(model, loader=data.split(16), layers=["0", "3"], progress=False)
    assert torch.equal(same.values, alone.values)


def test_every_call_of_a_reused_layer_is_a_layer():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.act = nn.ReLU()

        def forward(self, x):
            return self.act(self.act(x) - 0.5)

    assert fl.compare(Twice(), loader=images(9), layers="act", progress=False).layers == ("act#1", "act#2")


@pytest.mark.parametrize("n", [20, BLOCK, BLOCK + 1])
def test_a_layer_without_differences_between_images_has_no_similarity(n):
    x = normal(n, 5)
    result = compared(x, torch.ones(n, 3))
    assert result.values.tolist() == [[pytest.approx(1), 0], [0, 0]]
    assert result.notes == ("'part.1': constant, so the similarity is given as 0",)


def test_results_can_be_saved_and_shown(tmp_path):
    result = compared(*related())
    result.save(tmp_path / "result.pt")
    loaded = fl.similarity.LayerSimilarityResult.load(tmp_path / "result.pt")
    assert torch.equal(loaded.values, result.values)
    assert str(loaded) == str(result)
    assert repr(result) == "LayerSimilarityResult(3 x 3 layers, debiased linear CKA, n=40)"
    assert str(result).startswith("Debiased linear CKA of 3 layers with 3 layers from 40 images: 0.")
    assert result._repr_html_() == f"<p>{result}</p>"


class Raises(nn.Module):
    def forward(self, x):
        raise AssertionError("ran")


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: fl.compare(3, loader=images(), layers="0"), TypeError, "model must be an nn.Module; got 3"),
        (
            lambda: fl.compare(Raises(), 3, loader=images(), layers=""),
            TypeError,
            "other must be a second nn.Module, a state dict, or None; got 3",
        ),
        (
            lambda: fl.compare(plain(), {"0.weight": torch.zeros(2)}, loader=images(), layers="0"),
            ValueError,
            "other must be a state dict of Sequential: Error(s) in loading state_dict",
        ),
        (
            lambda: fl.compare(Raises(), loader=3, layers=""),
            TypeError,
            "compare takes a loader of batches; got 3",
        ),
        (
            lambda: fl.compare(plain(), loader=images(), layers="conv9"),
            LookupError,
            "no layer matches 'conv9'",
        ),
        (
            lambda: fl.compare(plain(), loader=[], layers="0"),
            ValueError,
            "the loader yielded no batch; got []",
        ),
        (
            lambda: fl.compare(plain(), loader=images(3), layers="0"),
            ValueError,
            "compare needs at least 4 images; got 3",
        ),
        (
            lambda: fl.compare(plain(), loader=images(5) * torch.nan, layers="0"),
            ValueError,
            "layer '0' returned NaN or infinite values, which have no similarity",
        ),
        (
            lambda: fl.compare(
                nn.Sequential(nn.LSTM(8, 3, batch_first=True)), loader=images(4)[:, 0], layers="0"
            ),
            ValueError,
            "layer '0' cannot be compared: values must be a tensor (N, C) or (N, C, ...); got (float32 tensor (4, 8, 3)",
        ),
        (
            lambda: fl.compare(nn.Sequential(nn.Flatten(0, 1)), loader=images(4, channels=2), layers="0"),
            ValueError,
            "layer '0' returned (8, 8, 8) for a batch of 4: axis 0 is not the batch",
        ),
        (
            lambda: fl.compare(
                nn.Sequential(nn.ReLU()), loader=[images(4), images(4, size=9)], layers="0", progress=False
            ),
            ValueError,
            "layer '0' must return as many values for every image; got 64 and, in batch 2, 81",
        ),
        (
            lambda: fl.compare(
                nn.Sequential(nn.ReLU()),
                loader=[images(4, size=40), images(4, size=41)],
                layers="0",
                progress=False,
            ),
            ValueError,
            "layer '0' must return as many values for every image; got 1600 and, in batch 2, 1681",
        ),
        (
            lambda: fl.compare(plain(), loader=images(), layers="0", seed="x"),
            TypeError,
            "seed must be an int, a torch.Generator or None; got 'x'",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:the batch, a float32 tensor")
def test_misuse_is_told(call, error, message):
    with pytest.raises(error, match=re.escape(message)):
        call()


WORKER = """
    import pathlib, sys, torch
    from torch import distributed
    import featurelens as fl

    folder = pathlib.Path(sys.argv[1])
    distributed.init_process_group("gloo")
    for number, (first, second, batches) in enumerate(torch.load(folder / "tasks.pt", weights_only=False)):
        result = fl.compare(first, second, loader=batches, layers=["0", "3"], progress=False)
        result.save(folder / f"{number} {distributed.get_rank()}.pt")
    try:
        fl.compare(first, loader=[batches[0] * torch.nan, *batches], layers="0", progress=False)
    except (ValueError, RuntimeError) as error:
        (folder / f"error {distributed.get_rank()}").write_text(str(error))
    distributed.destroy_process_group()
"""


def test_ranks_return_what_one_process_does(tmp_path):
    (tmp_path / "worker.py").write_text(textwrap.dedent(WORKER))
    first, second = plain(), copy.deepcopy(plain())
    with torch.no_grad():
        second[0].weight += 1
    data = (images(19 * 30) + 100).split(19)
    tasks = [
        (first, second, list(data)),
        (first, None, list(data[:2])),
    ]  # in the second a rank has nothing to do
    torch.save(tasks, tmp_path / "tasks.pt")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "3"]
    command = [*torchrun, str(tmp_path / "worker.py"), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as each rank has: other numbers of threads add in other orders
    for number, (one, other, batches) in enumerate(tasks):
        alone = fl.compare(one, other, loader=batches, layers=["0", "3"], progress=False)
        for rank in range(3):
            found = fl.similarity.LayerSimilarityResult.load(tmp_path / f"{number} {rank}.pt")
            assert torch.equal(found.values, alone.values)
            assert found.n == alone.n
    torch.set_num_threads(threads)
    told = [(tmp_path / f"error {rank}").read_text() for rank in range(3)]
    assert all("layer '0' returned NaN" in each for each in told)
    assert told[1].startswith("worker 0 failed")


def test_features_whose_sums_overflow_are_an_error():
    model = nn.Linear(3, 2).double()
    with pytest.raises(ValueError, match="so large that their sums or squares overflow"):
        fl.compare(model, loader=1e150 * torch.rand(20, 3, dtype=torch.float64), layers="", progress=False)
