"""`recorder.stream`: several analyses from one pass, on one process, in shares, and under torchrun."""

import os
import subprocess
import sys
import textwrap

import pytest
import torch
from torch import nn

import featurelens as fl
from tests.nets import images, plain, seeded

LABELS = torch.arange(12) % 3
BATCHES = [
    (batch, labels)
    for batch, labels in zip(images(12).split([4, 4, 3, 1]), LABELS.split([4, 4, 3, 1]), strict=True)
]
LAYERS = ["0", "3", "8"]


def everything():
    return [
        fl.statistics.Moments(),
        fl.statistics.Histogram(),
        fl.statistics.TopK(2),
        fl.statistics.Covariance(),
        fl.statistics.JointCounts(classes=3),
    ]


def same(one, other):
    assert list(one) == list(other)
    assert one.spans == other.spans
    for layer, statistics in one.statistics.items():
        for mine, theirs in zip(statistics, other.statistics[layer], strict=True):
            left, right = vars(mine.compute()), vars(theirs.compute())
            for name, value in left.items():
                if value is None:  # the layer, which a result has from its stream
                    assert right[name] is None
                    continue
                assert torch.equal(torch.as_tensor(value), torch.as_tensor(right[name])), (layer, mine, name)


@pytest.mark.parametrize("backend", ["hooks", "rewrite"])
def test_statistics_are_those_of_what_record_returns(backend):
    model = plain()
    recorder = fl.ActivationRecorder(model, LAYERS, backend=backend)
    recorded = recorder.record(BATCHES)
    result = recorder.stream(BATCHES, everything())
    assert (list(result), result.rows, result.spans) == (LAYERS, 12, ((0, 12),))
    for layer, values in recorded.items():
        found, pooled = result[layer], values.double().transpose(0, 1).flatten(1)
        torch.testing.assert_close(found.moments.mean, pooled.mean(1))
        torch.testing.assert_close(found.moments.std, pooled.std(1, correction=0))
        assert torch.equal(found.moments.min, pooled.amin(1))
        torch.testing.assert_close(found.covariance.covariance, torch.cov(pooled, correction=0))
        assert found.histogram.counts.sum(1).tolist() == [pooled.shape[1]] * len(pooled)
        strongest = values.flatten(2).amax(2) if values.ndim > 2 else values
        assert torch.equal(found.top_k.values, strongest.double().topk(2, dim=0).values.T)
        assert torch.equal(found.joint_counts.counts.sum(1)[0], torch.tensor([4, 4, 4]))


def test_statistics_see_a_layer_before_a_later_one_changes_it_in_place():
    recorder = fl.ActivationRecorder(plain(), "0", clone=False)  # an in-place ReLU follows
    assert recorder.stream(BATCHES, fl.statistics.Moments())["0"].moments.min.min() < 0


def test_a_mapping_gives_layers_statistics_of_their_own_and_reduce_comes_first():
    recorder = fl.ActivationRecorder(plain(), LAYERS, reduce={"3": "mean", "0": lambda maps: maps[:, :2]})
    result = recorder.stream(
        BATCHES,
        {
            nn.Conv2d: [fl.statistics.Moments(), fl.statistics.TopK(3)],
            "linear_1": fl.statistics.JointCounts(classes=3),
        },
        progress=False,
    )
    assert result["0"].moments.count.tolist() == [12 * 64] * 2
    assert result["3"].top_k.positions.shape == (6, 3, 0)
    assert result["conv_2"] is result["3"]
    assert (
        repr(result) == "StreamResult(12 rows; '0': moments, top_k; '3': moments, top_k; '8': joint_counts)"
    )
    assert repr(result["8"]) == "LayerStatistics('8': joint_counts)"
    assert "joint_counts" in dir(result["8"])


def test_every_call_of_a_module_has_statistics_of_its_own():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.act = nn.ReLU()

        def forward(self, x):
            return self.act(self.act(x) - 0.5)

    model = Twice()
    result = fl.ActivationRecorder(model, "act").stream(BATCHES, fl.statistics.Moments())
    assert list(result) == ["act#1", "act#2"]
    assert result["act#2"].moments.max < result["act#1"].moments.max
    for layers, reduce in (("act#2", {"act": "max"}), ("act", {"act#2": "max"})):
        reduced = fl.ActivationRecorder(model, layers, reduce=reduce).stream(BATCHES, fl.statistics.Moments())
        assert reduced["act#2"].moments.count.item() == 12
    assert reduced["act#1"].moments.count.item() == 12 * 64
    second = fl.ActivationRecorder(model, "act#2").stream(BATCHES, fl.statistics.Moments())
    assert torch.equal(second["act#2"].moments.mean, result["act#2"].moments.mean)


def test_labels_and_inputs_are_found_or_told():
    recorder = fl.ActivationRecorder(plain(), "0")
    joint = fl.statistics.JointCounts(classes=3)
    expected = recorder.stream(BATCHES, joint)
    same(expected, recorder.stream([{"image": x, "label": y} for x, y in BATCHES], joint))
    same(expected, recorder.stream([(x, y.tolist()) for x, y in BATCHES], joint))
    told = recorder.stream(
        [(y, x) for x, y in BATCHES], joint, inputs=lambda batch: batch[1], labels=lambda batch: batch[0]
    )
    same(expected, told)


def test_the_statistics_given_are_patterns_and_stay_as_they_were():
    moments = fl.statistics.Moments()
    recorder = fl.ActivationRecorder(plain(), LAYERS)
    recorder.stream(BATCHES, moments)
    assert moments.state is None
    assert moments.rows == 0


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_shares_merge_to_one_pass_in_any_order_also_from_files(count, tmp_path):
    recorder = fl.ActivationRecorder(plain(), LAYERS)
    whole = recorder.stream(BATCHES, everything())
    parts = [recorder.stream(BATCHES, everything(), shard=(index, count)) for index in range(count)]
    assert sum(part.rows for part in parts) == 12
    same(whole, fl.StreamResult.merge(reversed(parts)))
    for index, part in enumerate(parts):
        part.save(tmp_path / f"{index}.pt")
    same(whole, fl.StreamResult.merge(tmp_path.glob("*.pt")))
    loaded = fl.StreamResult.load(tmp_path / "0.pt")
    assert (loaded.spans, list(loaded)) == (parts[0].spans, list(parts[0]))


def test_what_cannot_be_merged_or_loaded_is_told(tmp_path):
    recorder = fl.ActivationRecorder(plain(), "0")
    first, second = (
        recorder.stream(BATCHES, fl.statistics.Moments(), shard=(index, 2)) for index in range(2)
    )
    with pytest.raises(ValueError, match=r"^parts must not have rows in common; row 0 is in two parts$"):
        fl.StreamResult.merge([first, second, first])
    other = fl.ActivationRecorder(plain(), "3").stream(BATCHES, fl.statistics.Moments(), shard=(1, 2))
    with pytest.raises(ValueError, match=r"^parts must have the same layers; got \['0'\] and \['3'\]$"):
        fl.StreamResult.merge([first, other])
    other = recorder.stream(BATCHES, fl.statistics.TopK(3), shard=(1, 2))
    with pytest.raises(ValueError, match=r"layer '0' has \[Moments\(\)\] and \[TopK\(k=3\)\]$"):
        fl.StreamResult.merge([first, other])
    with pytest.raises(ValueError, match=r"^there are no parts to merge$"):
        fl.StreamResult.merge([])
    with pytest.raises(TypeError, match=r"^parts must be a list of results or of paths; got"):
        fl.StreamResult.merge(first)
    with pytest.raises(TypeError, match=r"^a part must be a StreamResult or a path; got 3$"):
        fl.StreamResult.merge([first, 3])
    torch.save({"layers": {}}, tmp_path / "other.pt")
    with pytest.raises(
        ValueError, match=r"other.pt was not written by StreamResult.save of this version, or is damaged$"
    ):
        fl.StreamResult.load(tmp_path / "other.pt")
    torch.save({"kind": "StreamResult", "format": "featurelens statistics 9"}, tmp_path / "newer.pt")
    with pytest.raises(ValueError, match=r"written by another version: 'featurelens statistics 9'$"):
        fl.StreamResult.load(tmp_path / "newer.pt")


def test_rows_of_a_data_set_need_its_order():
    data = torch.utils.data.TensorDataset(images(12))
    loader = torch.utils.data.DataLoader(data, batch_size=4, shuffle=True)
    with pytest.raises(
        ValueError,
        match=r"^TopK\(k=2\) needs the images in the order of the data set, but the loader shuffles: pass shuffle=False$",
    ):
        fl.ActivationRecorder(plain(), "0").stream(loader, fl.statistics.TopK(2))


def test_parts_of_another_model_setting_or_order_are_not_merged(tmp_path):
    data = torch.utils.data.TensorDataset(images(12), torch.arange(12) % 3)

    def loader(seed):
        return torch.utils.data.DataLoader(
            data, batch_size=4, shuffle=True, generator=torch.Generator().manual_seed(seed)
        )

    def part(index, *, model=None, seed=0, **settings):
        recorder = fl.ActivationRecorder(model or plain(), "0", **settings)
        return recorder.stream(loader(seed), fl.statistics.Moments(), shard=(index, 2))

    first = part(0)
    first.save(tmp_path / "first.pt")
    same(
        fl.ActivationRecorder(plain(), "0").stream(loader(0), fl.statistics.Moments()),
        fl.StreamResult.merge([first, part(1)]),
    )
    trained = plain()
    with torch.no_grad():
        trained[0].weight += 1
    for other, name in (
        (part(1, model=trained), "parameters"),
        (part(1, seed=1), "order"),
        (part(1, reduce="mean"), "reduce"),
    ):
        message = rf"same settings and the same order of the data; {name} differs: "
        with pytest.raises(ValueError, match=message):
            fl.StreamResult.merge([tmp_path / "first.pt", other])


def test_misuse_is_told_before_anything_runs():
    class Unused(nn.Module):
        def forward(self, x):
            raise AssertionError("ran")

    recorder = fl.ActivationRecorder(nn.Sequential(Unused(), nn.ReLU()), ["0", "1"])
    for statistics, error, message in (
        (
            "moments",
            TypeError,
            "^statistics must be statistics such as fl.statistics.Moments\\(\\); got 'moments'$",
        ),
        (fl.statistics.Moments, TypeError, "got the class Moments$"),
        ([], ValueError, "^statistics must be one or more; got none$"),
        (
            [fl.statistics.TopK(1), fl.statistics.TopK(2)],
            ValueError,
            "once for a layer; got two of 'top_k'$",
        ),
        (
            {"0": fl.statistics.Moments()},
            ValueError,
            "^statistics must name every recorded layer; none for '1'$",
        ),
        (
            {"0": fl.statistics.Moments(), "": fl.statistics.Moments()},
            ValueError,
            "^statistics name '', which is not among the recorded",
        ),
        ({"9": fl.statistics.Moments()}, LookupError, "no layer"),
    ):
        with pytest.raises(error, match=message):
            recorder.stream(BATCHES, statistics)
    joint = fl.statistics.JointCounts(classes=2)
    for batch, message in (
        (
            images(4),
            r"^JointCounts\(classes=2\) needs labels, and batch 1 has none: float32 tensor \(4, 1, 8, 8\); yield",
        ),
        (
            (images(4), torch.tensor([0, 1, 2, 0])),
            r"^batch 1: labels must be 0 ... 1 for JointCounts\(classes=2\); got 2$",
        ),
        ((images(4), torch.tensor([0, 1])), "^batch 1 has 4 rows and 2 labels$"),
    ):
        with pytest.raises(ValueError, match=message):
            recorder.stream([batch], joint)
    with pytest.raises(TypeError, match=r"^batch 1: labels must be integers; got float32 tensor \(4,\)$"):
        recorder.stream([(images(4), torch.rand(4))], joint)
    with pytest.raises(ValueError, match=r"^the loader yielded no batch; got \[\]$"):
        recorder.stream([], fl.statistics.Moments())
    with pytest.raises(TypeError, match=r"^stream takes a loader of batches"):
        recorder.stream(4, fl.statistics.Moments())


def test_a_layer_that_cannot_be_measured_is_named():
    class Odd(nn.Module):
        def __init__(self, change):
            super().__init__()
            self.layer, self.change = nn.Identity(), change

        def forward(self, x):
            return self.layer(self.change(x))

    for change, message in (
        (
            lambda x: (x, x),
            r"^layer 'layer' cannot be measured: values must be a tensor .* got \(float32 tensor",
        ),
        (
            lambda x: x[:, 0, 0, 0],
            r"^layer 'layer' cannot be measured: values must have shape \(N, C\).*choose a tensor with reduce",
        ),
        (
            lambda x: x.transpose(0, 2),
            r"^layer 'layer' returned \(8, 1, 4, 8\) for a batch of 4: axis 0 is not the batch",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            fl.ActivationRecorder(Odd(change), "layer").stream([images(4)], fl.statistics.Moments())


WORKER = """
    import pathlib, sys, torch
    from torch import distributed
    import featurelens as fl

    folder = pathlib.Path(sys.argv[1])
    distributed.init_process_group("gloo")
    model, batches, layers = torch.load(folder / "task.pt", weights_only=False)
    statistics = [fl.statistics.Moments(), fl.statistics.Histogram(), fl.statistics.TopK(2), fl.statistics.Covariance(), fl.statistics.JointCounts(classes=3)]
    result = fl.ActivationRecorder(model, layers).stream(batches, statistics)
    result.save(folder / f"{distributed.get_rank()}.pt")
    distributed.destroy_process_group()
"""


@pytest.mark.parametrize("processes", [2, 3])
def test_under_torchrun_every_rank_returns_what_one_process_does(tmp_path, processes):
    script = tmp_path / "worker.py"
    script.write_text(textwrap.dedent(WORKER))
    torch.save((plain(), BATCHES, LAYERS), tmp_path / "task.pt")
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        str(processes),
    ]
    done = subprocess.run(
        [*command, str(script), str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env=os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())},  # others add in other orders
    )
    assert done.returncode == 0, done.stderr[-3000:]
    alone = fl.ActivationRecorder(plain(), LAYERS).stream(BATCHES, everything())
    for rank in range(processes):
        same(alone, fl.StreamResult.load(tmp_path / f"{rank}.pt"))


def test_user_written_statistics_travel_the_same_way(tmp_path):
    from tests.unit.statistics.own import Largest

    recorder = fl.ActivationRecorder(seeded(lambda: nn.Conv2d(1, 2, 3)), "")
    parts = [recorder.stream(BATCHES, Largest(scale=2.0), shard=(index, 2)) for index in range(2)]
    parts[0].save(tmp_path / "0.pt")
    merged = fl.StreamResult.merge([tmp_path / "0.pt", parts[1]])
    expected = 2 * recorder.record(BATCHES)[""].amax((0, 2, 3))
    assert torch.equal(merged[""].largest, expected)
    with pytest.raises(AttributeError, match=r"^layer '' has no statistic 'moments'; it has largest$"):
        merged[""].moments  # noqa: B018
    with pytest.raises(KeyError, match=r"no activations of 'conv1'"):
        merged["conv1"]


def test_an_unknown_layer_among_the_statistics_lists_every_layer_once():
    recorder = fl.ActivationRecorder(plain(), "conv_1")
    with pytest.raises(LookupError, match=r"no layer matches 'zz' \(9 layers: 0, 1, 2, 3, 4, 5, \.\.\.\)"):
        recorder.stream(images(), {"zz": fl.statistics.Moments()})
