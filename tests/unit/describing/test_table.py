"""The table of channels: what it joins, sorts, filters, prints and writes."""

import csv
import math

import numpy as np
import pytest
import torch
from torch import nn

import featurelens as fl
from featurelens.describing import ChannelTable


@pytest.fixture(scope="module")
def data():
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(60, 1, 10, 10, generator=generator)
    labels = torch.arange(60) % 3
    images[labels == 1, :, :5] /= 4
    return [(images[i : i + 20], labels[i : i + 20]) for i in range(0, 60, 20)]


def network():
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 3), nn.ReLU(), nn.Flatten(), nn.Linear(180, 3)
        ).eval()


@pytest.fixture(scope="module")
def joined(data):
    model = network()
    s = fl.statistics
    several = [
        s.Activity(),
        s.ClassSelectivity(3),
        s.Covariance(),
        s.Moments(),
        s.MonoScore(torch.rand(60, 4)),
        s.TopK(1),
    ]
    statistics = fl.ActivationRecorder(model, nn.ReLU).stream(data, several, progress=False)
    information = fl.layer_information(model, nn.ReLU, data, per="channel", progress=False, units="bits")
    importance = fl.ChannelAblator(model, "relu_1").importance(data, progress=False)
    images = torch.cat([x for x, _ in data])
    maximizer = fl.ActivationMaximizer(model, sample=images[:1], steps=2, progress=False)
    objectives = ["relu_1:2", fl.objectives.logit(1)]
    comparison = maximizer.run(objectives).compare(images, progress=False)
    table = fl.channel_table(
        statistics, information=information, importance=importance, comparison=comparison
    )
    return table, statistics, information, importance, comparison


def test_every_result_stands_in_the_row_of_its_channel(joined):
    table, statistics, information, importance, comparison = joined
    assert table.channels == [f"1:{c}" for c in range(4)] + [f"3:{c}" for c in range(5)]
    for layer, channel in (("1", 3), ("3", 0), ("1", 2)):
        row, found = table.row(f"{layer}:{channel}"), statistics[layer]
        expected = {
            "active_images": found.activity.active_images,
            "dead": found.activity.dead,
            "sparseness": found.activity.sparseness,
            "max": found.activity.max,
            "selectivity": found.class_selectivity.index,
            "selectivity_null": found.class_selectivity.null_mean,
            "preferred_class": found.class_selectivity.preferred,
            "mono_score": found.mono_score.score,
            "nearest": found.covariance.nearest(1).channels[:, 0],
            "correlation": found.covariance.nearest(1).correlation[:, 0],
            "std": found.moments.std,
            "information": information[layer].to("nats").values,
            "information_p": information[layer].p_values,
        }
        for name, values in expected.items():
            value = float(values[channel])
            if name in ("nearest", "preferred_class") and value < 0:
                value = math.nan
            assert row[name] == pytest.approx(value, nan_ok=True), name
    assert table.row("1:3")["importance"] == float(importance.importance[3])
    assert table.row("1:3")["importance_q"] == pytest.approx(float(importance.q_value[3]))
    assert math.isnan(table.row("3:3")["importance"])
    row = table.row("1:2")
    assert (row["real"], row["judgement"]) == (float(comparison.data_maximum[0]), comparison.judgements[0])
    assert table.row("1:3")["judgement"] == ""
    assert table.notes == ("information in nats", "importance: decrease of accuracy without the channel")


def test_rows_are_sorted_filtered_and_cut(joined):
    table = joined[0]
    by = table.sort("response")
    assert (np.diff(by["response"]) <= 0).all()
    assert by.row("3:1") == pytest.approx(table.row("3:1"), nan_ok=True)
    rising = table.sort("importance", descending=False)["importance"]
    assert np.isnan(rising[4:]).all()
    assert (np.diff(rising[:4]) >= 0).all()
    assert table.sort("judgement").channels[0] == "1:2"
    first = table.where(table["layer"] == "1")
    assert first.channels == ["1:0", "1:1", "1:2", "1:3"]
    assert len(table.head(2)) == 2
    assert list(table.select("max", "mean").columns) == ["layer", "channel", "max", "mean"]
    assert len(table.where(np.zeros(9, dtype=bool))) == 0


def test_a_table_prints_and_escapes():
    columns = {
        "layer": np.array(["a<b", "a<b", "c"]),
        "channel": np.array([0, 10, 2]),
        "dead": np.array([True, False, False]),
        "information": np.array([0.123456, math.nan, 12345.0]),
        "judgement": np.array(["stronger", "", "weak"]),
    }
    table = ChannelTable(columns, notes=("information in nats",))
    assert str(table).splitlines() == [
        "channel  dead  information  judgement",
        "a<b:0     yes        0.123  stronger",
        "a<b:10     no            -  -",
        "c:2        no     1.23e+04  weak",
        "information in nats",
    ]
    assert repr(table) == "ChannelTable(3 channels of 2 layers: dead, information, judgement)"
    page = table._repr_html_()
    assert "<td>a&lt;b:0</td><td>yes</td>" in page
    assert "a<b" not in page
    many = ChannelTable({"layer": np.array(["a"] * 30), "channel": np.arange(30), "max": np.ones(30)})
    assert str(many).splitlines()[-1] == "... and 10 more channels"
    wide = {"layer": np.array(["a"]), "channel": np.array([0])} | {
        f"column_{i:02}": np.ones(1) for i in range(30)
    }
    lines = str(ChannelTable(wide)).splitlines()
    assert max(map(len, lines[:2])) <= 120
    assert lines[-1].startswith("more columns, to select: column_10, ")


def test_a_file_holds_every_digit(joined, tmp_path):
    table = joined[0]
    table.to_csv(tmp_path / "table.csv")
    with (tmp_path / "table.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == list(table.columns)
    assert [float(row["max"]) for row in rows] == table["max"].tolist()
    assert rows[5]["importance"] == ""
    assert [row["dead"] for row in rows] == [str(dead) for dead in table["dead"].tolist()]


def test_layers_are_found_by_their_aliases_and_parts_may_be_missing(joined, data):
    _, statistics, information, importance, _ = joined
    renamed = {"relu_2": information["3"]}
    table = fl.channel_table(statistics, information=renamed)
    assert list(dict.fromkeys(table["layer"])) == ["1", "3"]
    assert not np.isnan(table.where(table["layer"] == "3")["information"]).any()
    alone = fl.channel_table(importance=[importance])
    assert len(alone) == 4
    mixed = fl.ActivationRecorder(network(), nn.ReLU).stream(
        data, {"relu_1": fl.statistics.Activity(), "relu_2": fl.statistics.Moments()}, progress=False
    )
    dead = fl.channel_table(mixed)["dead"]
    assert dead.dtype == np.float64
    assert np.isnan(dead[4:]).all()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({}, ValueError, "channel_table needs results about channels; got none"),
        ({"statistics": 3}, TypeError, "statistics must be a StreamResult; got 3"),
        (
            {"information": 3},
            TypeError,
            r"information must be results by layer: \{'conv1': result, ...\}; got 3",
        ),
        ({"information": {"a": 3}}, TypeError, "information of layer 'a' must be a ChannelInformationResult"),
        ({"importance": [3]}, TypeError, "importance must be one or a list of ImportanceResult; got 3"),
        ({"comparison": 3}, TypeError, "comparison must be one or a list of RealImageComparison; got 3"),
    ],
)
def test_wrong_parts_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        fl.channel_table(**arguments)


def test_results_may_come_one_by_one(data):
    found = [
        fl.ChannelAblator(network(), layer).importance(data, progress=False) for layer in ("conv_1", "relu_1")
    ]
    assert str(fl.channel_table(importance=iter(found))) == str(fl.channel_table(importance=found))


def test_a_loader_is_refused_unread():
    loader = torch.utils.data.DataLoader(torch.rand(4, 1), batch_size=2)
    state = torch.get_rng_state()
    with pytest.raises(
        TypeError,
        match="comparison must be one or a list of RealImageComparison; got an object of type DataLoader",
    ):
        fl.channel_table(comparison=loader)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("groups", [2, {"head 1": [0, 1]}])
def test_groups_are_no_channels(data, groups):
    importance = fl.ChannelAblator(network(), "relu_1", groups=groups).importance(data, progress=False)
    with pytest.raises(ValueError, match="importance must be of single channels; got that of a group"):
        fl.channel_table(importance=importance)


def test_the_importance_of_a_channel_is_given_once(data):
    ablator = fl.ChannelAblator(network(), "relu_1")
    parts = [
        ablator.importance(data, channels=channels, progress=False) for channels in ([0, 1], [2, 3], [3])
    ]
    assert len(fl.channel_table(importance=parts[:2])) == 4
    with pytest.raises(ValueError, match=r"importance must be given once for each channel; got .*:3 twice"):
        fl.channel_table(importance=parts)


def test_wrong_use_of_a_table_is_explained(joined):
    table = joined[0]
    with pytest.raises(KeyError, match="no column 'sparse'; it has layer, channel, active_images"):
        table["sparse"]
    with pytest.raises(LookupError, match=r"no channel '1:9'; did you mean '1:.*\(9 channels: 1:0, 1:1"):
        table.row("1:9")
    with pytest.raises(TypeError, match="mask must be True or False for each row; got float64 NumPy array"):
        table.where(table["max"])
    with pytest.raises(
        ValueError, match=r"mask must have one value for each of 9 rows; got bool NumPy array \(2,\)"
    ):
        table.where([True, False])
    with pytest.raises(
        TypeError, match="mask must be True or False for each row; got an object of type range"
    ):
        table.where(range(2**62))
    with pytest.raises(TypeError, match="descending must be True or False; got 1"):
        table.sort("max", descending=1)
    with pytest.raises(ValueError, match="rows must be at least 0; got -1"):
        table.head(-1)
