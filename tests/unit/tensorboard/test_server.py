"""A real TensorBoard, asked over HTTP."""

import contextlib
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

import featurelens as fl
from tests.unit.tensorboard.reading import pixels, result


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
        board.add(1, {"conv1": result(0.5)})
        board.training(2, {"loss": {"train": 0.25, "test": 0.5}})
        board.add(0, image, tag="input")
        board.embedding(vectors, labels=[0, 1, 2, 2], sprites=torch.zeros(4, 1, 5, 5))
    with server(tmp_path, tmp_path / "log") as fetch:
        wait(lambda: "run" in json.loads(fetch("scalars", "tags")), tmp_path / "log")
        points = json.loads(fetch("scalars", "scalars", run="run", tag="loss/train"))
        assert [(step, value) for _, step, value in points] == [(1, 0.5), (2, 0.25)]

        (entry,) = json.loads(fetch("images", "images", run="run", tag="input", sample=0))
        query = dict(urllib.parse.parse_qsl(entry["query"]))
        found = pixels(fetch("images", "individualImage", **query))
        np.testing.assert_array_equal(found, (255 * image).round().permute(1, 2, 0))

        charts = json.loads(fetch("custom_scalars", "layout"))["category"]
        assert [group["title"] for group in charts] == ["training", "information in nats"]
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
