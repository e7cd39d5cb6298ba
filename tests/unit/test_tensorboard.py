"""TensorBoard: every summary read back from the files, and through a real server."""

import contextlib
import io
import json
import re
import subprocess
import sys
import time
import urllib.parse
import urllib.request

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from torch import nn

import featurelens as fl
from featurelens.information import MutualInformationResult, SpatialMutualInformationResult
from tests import nets
from tests.state import random_state, snapshot

accumulators = pytest.importorskip(
    "tensorboard.backend.event_processing.event_accumulator",
    reason="tensorboard is not installed: pip install featurelens[tensorboard]",
)
PIL = pytest.importorskip("PIL.Image")
CLASSES = ["cat", "dog", "owl"]
LABELS, PREDICTIONS = torch.tensor([0, 1, 2, 2]), torch.tensor([0, 1, 1, 2])


@pytest.fixture
def board(tmp_path):
    with fl.TensorBoardWriter(tmp_path / "run") as writer:
        yield writer


def read(board):
    """Close the writer and return everything in its event files."""
    board.__exit__(None, None, None)
    events = accumulators.EventAccumulator(str(board.log_dir), size_guidance={"images": 0, "tensors": 0})
    events.Reload()
    board.__enter__()  # the fixture closes it
    return events


def scalars(events):
    return {
        tag: [(event.step, pytest.approx(event.value)) for event in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
    }


def pixels(png):
    return np.asarray(PIL.open(io.BytesIO(png)).convert("RGB"))


def picture(event):
    return pixels(event.encoded_image_string)


def sheet_of(board, entry):
    return pixels((board.log_dir / entry.sprite.image_path).read_bytes())


def result(value, **more):
    return MutualInformationResult(value=value, method="KSG", n=9, dim_x=1, dim_y=1, **more)


def layout(events):
    from tensorboard.plugins.custom_scalar.layout_pb2 import Layout

    last = events.Tensors("custom_scalars__config__")[-1]
    found = Layout.FromString(last.tensor_proto.string_val[0])
    return {
        group.title: {chart.title: list(chart.multiline.tag) for chart in group.chart}
        for group in found.category
    }


def projector(board):
    from google.protobuf import text_format
    from tensorboard.plugins.projector.projector_config_pb2 import ProjectorConfig

    return text_format.Parse(
        (board.log_dir / "projector_config.pbtxt").read_text(), ProjectorConfig()
    ).embeddings


def test_training_is_scalars_over_epochs_with_one_chart_for_each_group(board):
    board.training(1, {"loss": {"train": 0.5, "test": 0.75}, "learning rate": 0.1})
    board.training(2, {"loss": {"train": torch.tensor(0.25), "test": np.float32(0.5)}})
    events = read(board)
    assert scalars(events) == {
        "loss/train": [(1, 0.5), (2, 0.25)],
        "loss/test": [(1, 0.75), (2, 0.5)],
        "learning rate": [(1, 0.1)],
    }
    assert layout(events) == {"training": {"loss": ["^loss/train$", "^loss/test$"]}}
    assert len(events.Tensors("custom_scalars__config__")) == 1  # written only when there is a new chart


def test_information_has_its_unit_null_and_interval_as_far_as_known(board):
    board.information(3, {"conv1": result(0.5, null_mean=0.1, interval=(0.4, 0.6)), "fc": result(-0.01)})
    board.information(4, {"fc": result(2.0, units="bits")})
    events = read(board)
    assert scalars(events) == {
        "information (nats)/conv1/value": [(3, 0.5)],
        "information (nats)/conv1/null": [(3, 0.1)],
        "information (nats)/conv1/low": [(3, 0.4)],
        "information (nats)/conv1/high": [(3, 0.6)],
        "information (nats)/fc/value": [(3, -0.01)],
        "information (bits)/fc/value": [(4, 2.0)],
    }
    charts = layout(events)
    assert list(charts) == ["information (nats)", "information (bits)"]
    lines = charts["information (nats)"]["all layers"]
    tags = scalars(events)
    assert [[tag for tag in tags if re.match(line, tag)] for line in lines] == [
        ["information (nats)/conv1/value"],
        ["information (nats)/fc/value"],
    ]
    assert len(charts["information (nats)"]["conv1"]) == 4


def test_the_interval_of_a_spatial_result_is_moved_from_the_excess_to_the_value(board):
    spatial = SpatialMutualInformationResult(
        value=2.5,
        null_mean=2.0,
        interval=(0.25, 0.75),
        per_pair=torch.full((1, 1), 2.5),
        per_image=torch.full((4,), 2.5),
        method="spatial",
        n=4,
        dim_x=1,
        dim_y=1,
    )
    board.information(1, {"conv6": spatial})
    found = scalars(read(board))
    assert found["information (nats)/conv6/low"] == [(1, 2.25)]
    assert found["information (nats)/conv6/high"] == [(1, 2.75)]


def test_images_are_written_pixel_by_pixel(board):
    grey, colour = torch.rand(1, 5, 7), torch.rand(3, 4, 6)
    board.image("grey", grey)
    board.image("colour", colour)
    board.image("bytes", np.full((3, 2, 2), 51, dtype=np.uint8))
    events = read(board)
    (found,) = events.Images("grey")
    np.testing.assert_array_equal(picture(found), (255 * grey).round().expand(3, 5, 7).permute(1, 2, 0))
    assert (found.step, found.width, found.height) == (0, 7, 5)
    np.testing.assert_array_equal(
        picture(events.Images("colour")[0]), (255 * colour).round().permute(1, 2, 0)
    )
    assert (picture(events.Images("bytes")[0]) == 51).all()


def test_a_figure_is_written_as_it_is_saved_and_stays_the_callers(board):
    figure = Figure(figsize=(2, 1), dpi=50, facecolor="red")
    canvas = figure.canvas
    ax = figure.subfigures().add_subplot()
    board.figure(7, "mine", figure)
    board.figure(8, "mine", ax)
    first, second = read(board).Images("mine")
    assert (first.step, second.step) == (7, 8)
    assert picture(first).shape == (50, 100, 3)
    assert picture(first)[0, 0].tolist() == [255, 0, 0]
    np.testing.assert_array_equal(picture(first), picture(second))
    assert figure.canvas is canvas
    assert "matplotlib.pyplot" not in sys.modules


def test_confusion_feature_maps_and_filters_are_pictures_with_their_layers_names(board):
    model = nets.plain()
    activations = fl.ActivationRecorder(model, nn.Conv2d)(nets.images())
    board.confusion(1, (LABELS, PREDICTIONS), CLASSES)
    board.feature_maps(1, activations, image=2)
    board.filters(1, model)
    board.filters(1, model[0].weight)
    events = read(board)
    assert sorted(events.Tags()["images"]) == [
        "confusion",
        "feature maps/0",
        "feature maps/3",
        "filters",
        "filters/0",
        "filters/3",
    ]
    expected = fl.plotting.feature_maps(activations["0"], image=2, title="Feature maps of 0, epoch 1")
    buffer = io.BytesIO()
    expected.savefig(buffer)
    (found,) = events.Images("feature maps/0")
    np.testing.assert_array_equal(picture(found), pixels(buffer.getvalue()))


def test_a_convolution_by_itself_and_one_in_a_parallel_wrapper_have_filters(board):
    board.filters(0, nn.Conv2d(1, 2, 3))
    board.filters(0, nn.DataParallel(nn.Sequential(nn.ConvTranspose2d(1, 2, 3))))
    assert sorted(read(board).Tags()["images"]) == ["filters", "filters/0"]


@pytest.mark.parametrize("build", [nets.plain, nets.Reused, nets.DataDependent, nets.Unused, nets.Busy])
def test_the_graph_names_the_layers_and_leaves_the_model_as_it_was(board, build):
    model = build().train()
    state, random = snapshot(model), random_state()
    board.graph(model, nets.images())
    assert snapshot(model) == state
    assert random_state() == random
    nodes = [node.name for node in read(board).Graph().node]
    leaves = [name for name, module in model.named_children() if isinstance(module, nn.Conv2d | nn.Linear)]
    used = [name for name in leaves if any(f"[{name}]" in node for node in nodes)]
    assert used == [name for name in leaves if name != "aux"]  # the branch that only train mode runs


def test_a_graph_takes_several_inputs_and_layers_that_return_structures(board):
    board.graph(nets.Nested(), torch.rand(2, 2, 2, 8))
    board.graph(nets.Unused(), (nets.images(), torch.ones(1)))
    model = nets.Nested.Dict()
    state = snapshot(model)
    board.graph(model, torch.rand(3))
    assert snapshot(model) == state
    assert read(board).Graph().node


def test_a_wrapped_model_has_the_graph_of_the_model_inside(board):
    model = nn.Sequential(nn.Conv2d(1, 2, 3))
    board.graph(nn.DataParallel(model), nets.images())
    assert any("Conv2d[0]" in node.name for node in read(board).Graph().node)


def test_a_model_that_fails_is_told_and_comes_back(board, capsys):
    model = nets.Fails().train()
    state, random = snapshot(model), random_state()
    with pytest.raises(RuntimeError, match="mat1 and mat2 shapes cannot be multiplied") as caught:
        board.graph(model, nets.images())
    assert str(caught.value).startswith(
        "no graph of Fails could be traced with float32 tensor (4, 1, 8, 8): "
    )
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert (snapshot(model), random_state()) == (state, random)
    assert capsys.readouterr() == ("", "")


def test_an_embedding_is_vectors_labels_and_a_sheet_of_sprites(board):
    vectors = torch.randn(5, 3)
    sprites = torch.rand(5, 3, 6, 6)
    board.embedding(vectors, labels=["cat", "a dog", "two\nlines\tand tab", "", 7], sprites=sprites)
    (entry,) = projector(board)
    assert entry.tensor_name == "embedding"
    np.testing.assert_allclose(
        np.loadtxt(board.log_dir / entry.tensor_path, delimiter="\t"), vectors, rtol=1e-6
    )
    labels = (board.log_dir / entry.metadata_path).read_text().splitlines()
    assert labels == ["cat", "a dog", "two lines and tab", "-", "7"]
    assert list(entry.sprite.single_image_dim) == [6, 6]
    sheet = sheet_of(board, entry)
    assert sheet.shape == (18, 18, 3)
    for index in range(5):
        row, column = divmod(index, 3)
        tile = sheet[6 * row : 6 * row + 6, 6 * column : 6 * column + 6]
        np.testing.assert_array_equal(tile, (255 * sprites[index]).round().permute(1, 2, 0))
    assert (sheet[6:, 12:] == 255).all()


@pytest.mark.parametrize(("shape", "inside"), [((9, 4), np.s_[:, 2:6]), ((4, 9), np.s_[2:6, :])])
def test_sprites_that_are_not_square_get_a_margin(board, shape, inside):
    board.embedding(np.zeros((1, 2)), sprites=torch.zeros(1, 1, *shape))
    (entry,) = projector(board)
    sheet = sheet_of(board, entry)
    assert sheet.shape == (9, 9, 3)
    assert (sheet[inside] == 0).all()
    assert (sheet == 0).sum() == 9 * 4 * 3


def test_sprites_are_shrunk_until_browsers_can_draw_the_sheet(board, monkeypatch):
    monkeypatch.setattr("featurelens.tensorboard._projector.LARGEST_SHEET", 20)
    board.embedding(torch.rand(9, 2), sprites=torch.full((9, 1, 16, 16), 0.5))
    (entry,) = projector(board)
    assert list(entry.sprite.single_image_dim) == [6, 6]
    assert sheet_of(board, entry).shape[:2] == (18, 18)


def test_embeddings_of_several_layers_stand_side_by_side_and_the_same_tag_is_replaced(board):
    board.embedding(torch.rand(4, 2), tag="layer/1", labels=LABELS)
    board.embedding(torch.rand(4, 2), tag="conv2")
    board.embedding(torch.zeros(6, 2), tag="layer/1")
    read(board)  # also of a run that is opened again
    board.embedding(torch.rand(4, 2), tag="conv3")
    entries = {entry.tensor_name: entry for entry in projector(board)}
    assert list(entries) == ["conv2", "layer/1", "conv3"]
    assert np.loadtxt(board.log_dir / entries["layer/1"].tensor_path).shape == (6, 2)
    assert entries["layer/1"].metadata_path == ""


def test_nothing_moves_the_global_random_state(tmp_path):
    model, images = nets.plain(), nets.images()
    random, numbers = random_state(), np.random.get_state()[1].tolist()
    with fl.TensorBoardWriter(tmp_path) as board:
        board.training(0, {"loss": 1.0})
        board.graph(model, images)
        board.filters(0, model)
        board.image("input", images[0])
        board.embedding(images.flatten(1), labels=LABELS, sprites=images)
    assert random_state() == random
    assert np.random.get_state()[1].tolist() == numbers


def test_the_writer_is_closed_after_an_exception_and_can_be_opened_again(tmp_path):
    writer = fl.TensorBoardWriter(tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with pytest.raises(KeyError), writer as board:
        board.training(1, {"loss": 1.0})
        raise KeyError
    with writer as board:
        board.training(2, {"loss": 0.5})
        assert scalars(read(board)) == {"loss": [(1, 1.0), (2, 0.5)]}


def test_ablation(board):
    x = torch.rand(2, 1, 4, 4)
    found = fl.AblationResult(
        outputs=torch.rand(3, 2, 1, 4, 4),
        baseline=x,
        images=x,
        channels=(0, 1, 2),
        layer="conv",
        mode="keep",
        fill="zero",
    )
    worth = fl.ImportanceResult(
        drop=torch.tensor([0.25, 0.5]), standard_error=torch.zeros(2), per_class=torch.zeros(2, 3), baseline=0.5,
        channels=(0, 1), n=9, layer="conv", metric="accuracy", mode="drop", fill="zero",
    )  # fmt: skip
    curve = fl.AblationCurve(
        values=torch.tensor([0.5, 0.25]),
        order=(1,),
        total=2,
        n=9,
        layer="conv",
        metric="accuracy",
        fill="zero",
    )
    board.reconstructions(4, found, image=1)
    board.importance(4, worth, classes=CLASSES)
    board.ablation_curves(4, curve)
    board.ablation_curves(5, {"random": curve})
    events = read(board)
    assert scalars(events) == {
        "reconstruction error/conv/all channels": [(4, 0.0)],
        "reconstruction error/conv/one channel": [(4, pytest.approx(found.error.mean().item()))],
        "importance (accuracy)/conv/mean": [(4, 0.375)],
        "importance (accuracy)/conv/largest": [(4, 0.5)],
        "channels removed/conv, epoch 4": [(0, 0.5), (1, 0.25)],
        "channels removed/random, epoch 5": [(0, 0.5), (1, 0.25)],
    }
    tags = ["reconstructions/conv", "importance/conv", "importance by class/conv", "channels removed"]
    assert sorted(events.Tags()["images"]) == sorted(tags)
    assert all(picture(events.Images(tag)[0]).std() > 5 for tag in tags)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda b: b.training(-1, {"loss": 1.0}),
            ValueError,
            "epoch must be a whole number from 0; got -1",
        ),
        (
            lambda b: b.training({"loss": 1.0}, 1),
            ValueError,
            "epoch must be a whole number from 0; got {'loss': 1.0}",
        ),
        (
            lambda b: b.training(1, [0.5]),
            TypeError,
            "values must be a mapping from names to numbers, or to parts of them; got [0.5]",
        ),
        (
            lambda b: b.training(1, {"loss": {"train": "low"}}),
            TypeError,
            "'loss/train' must be a number; got 'low'",
        ),
        (
            lambda b: b.training(1, {"loss": torch.zeros(2)}),
            TypeError,
            "'loss' must be a number; got float32 tensor (2,)",
        ),
        (
            lambda b: b.information(1, {"conv1": 0.5}),
            TypeError,
            "results['conv1'] must be a result of an estimator; got 0.5",
        ),
        (
            lambda b: b.feature_maps(1, {"fc": torch.zeros(2, 10)}),
            ValueError,
            (
                "feature maps are (N, C, H, W), but layer 'fc' returned float32 tensor (2, 10): "
                "record other layers for this picture"
            ),
        ),
        (
            lambda b: b.filters(1, nn.Linear(2, 2)),
            ValueError,
            "Linear has no 2-d convolution whose filters could be drawn",
        ),
        (
            lambda b: b.figure(1, "mine", torch.zeros(3)),
            TypeError,
            "figure must be a matplotlib Figure or Axes; got float32 tensor (3,)",
        ),
        (
            lambda b: b.image("mine", torch.zeros(2, 3, 4, 4)),
            ValueError,
            "image must be (C, H, W); got shape (2, 3, 4, 4)",
        ),
        (
            lambda b: b.graph("model", torch.zeros(1)),
            TypeError,
            "model must be an nn.Module; got 'model'",
        ),
        (
            lambda b: b.embedding(torch.zeros(2, 3), labels=["one"]),
            ValueError,
            "labels must name all of 2 vectors; got 1 label",
        ),
        (
            lambda b: b.embedding(torch.zeros(2, 3), sprites=torch.zeros(1, 1, 2, 2)),
            ValueError,
            "sprites must show all of 2 vectors; got 1 image",
        ),
        (
            lambda b: b.embedding(torch.full((2, 3), torch.nan)),
            ValueError,
            "vectors must be finite: the projector cannot place NaN or infinite values",
        ),
        (
            lambda b: b.__enter__(),
            RuntimeError,
            "TensorBoardWriter('runs/here') is open already",
        ),
    ],
)
def test_misuse_is_named(tmp_path, monkeypatch, call, error, message):
    monkeypatch.chdir(tmp_path)
    with fl.TensorBoardWriter("runs/here") as board, pytest.raises(error) as caught:
        call(board)
    assert str(caught.value) == message


def test_writing_outside_the_block_is_named():
    with pytest.raises(RuntimeError) as caught:
        fl.TensorBoardWriter("runs/here").training(1, {"loss": 1.0})
    assert str(caught.value) == (
        "TensorBoardWriter('runs/here') is not open: write inside 'with TensorBoardWriter(...) as board:'"
    )


def test_without_tensorboard_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ImportError) as caught:
        fl.TensorBoardWriter("runs/here")
    assert str(caught.value) == (
        "TensorBoardWriter needs the package tensorboard: pip install featurelens[tensorboard]"
    )


@contextlib.contextmanager
def server(log_dir, log):
    """Run TensorBoard on a free port of this machine, and return what fetches a path from it."""
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(log_dir), "--host", "127.0.0.1"]
    with log.open("w") as stream:
        process = subprocess.Popen(
            [*command, "--port", "0", "--load_fast", "false", "--reload_interval", "1"],
            stdout=stream,
            stderr=stream,
        )
    try:
        address = wait(lambda: re.search(r"at (http://\S+?)/? ", log.read_text()), log).group(1)

        def fetch(plugin, path, **query):
            url = f"{address}/data/plugin/{plugin}/{path}?{urllib.parse.urlencode(query)}"
            with urllib.request.urlopen(url, timeout=10) as response:
                return response.read()

        yield fetch
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait(ready, log, seconds=60):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := ready():
            return found
        time.sleep(0.2)
    pytest.fail(f"TensorBoard did not answer within {seconds} s; it said: {log.read_text()}")


def test_a_real_server_shows_scalars_pictures_charts_and_the_projector(tmp_path):
    image, vectors = torch.rand(3, 4, 6), torch.randn(4, 3)
    with fl.TensorBoardWriter(tmp_path / "run") as board:
        board.training(1, {"loss": {"train": 0.5, "test": 0.75}})
        board.information(1, {"conv1": result(0.5)})
        board.training(2, {"loss": {"train": 0.25, "test": 0.5}})
        board.image("input", image)
        board.embedding(vectors, labels=LABELS, sprites=torch.zeros(4, 1, 5, 5))
    with server(tmp_path, tmp_path / "log") as fetch:
        wait(lambda: "run" in json.loads(fetch("scalars", "tags")), tmp_path / "log")
        points = json.loads(fetch("scalars", "scalars", run="run", tag="loss/train"))
        assert [(step, value) for _, step, value in points] == [(1, 0.5), (2, 0.25)]

        (entry,) = json.loads(fetch("images", "images", run="run", tag="input", sample=0))
        query = dict(urllib.parse.parse_qsl(entry["query"]))
        found = pixels(fetch("images", "individualImage", **query))
        np.testing.assert_array_equal(found, (255 * image).round().permute(1, 2, 0))

        charts = json.loads(fetch("custom_scalars", "layout"))["category"]
        assert [group["title"] for group in charts] == ["training", "information (nats)"]
        (line, _) = charts[0]["chart"][0]["multiline"]["tag"]
        found = json.loads(fetch("custom_scalars", "scalars", run="run", tag=line))
        assert list(found["tag_to_events"]) == ["loss/train"]

        (embedding,) = json.loads(fetch("projector", "info", run="run"))["embeddings"]
        assert embedding["tensorName"] == "embedding"
        assert embedding["tensorShape"] == [4, 3]
        assert embedding["sprite"]["singleImageDim"] == [5, 5]
        tensor = np.frombuffer(fetch("projector", "tensor", run="run", name="embedding"), np.float32)
        np.testing.assert_allclose(tensor.reshape(4, 3), vectors, rtol=1e-6)
        assert fetch("projector", "metadata", run="run", name="embedding") == b"0\n1\n2\n2\n"
        sheet = pixels(fetch("projector", "sprite_image", run="run", name="embedding"))
        assert sheet.shape == (10, 10, 3)
