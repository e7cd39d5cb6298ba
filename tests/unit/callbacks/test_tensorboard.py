"""What an observer writes to TensorBoard, and where pictures go."""

import pytest
import torch
from torch import nn

import featurelens as fl
from featurelens.callbacks import Observer
from tests.unit.tensorboard.reading import layout, picture, read, scalars

IMAGES = torch.rand(20, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def network():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3))


@pytest.fixture
def board(tmp_path):
    with fl.TensorBoardWriter(tmp_path / "run") as writer:
        yield writer


def test_a_chart_of_each_measure_has_a_curve_of_each_layer(board):
    observer = Observer(network(), nn.Conv2d, IMAGES, torch.arange(20) % 2, log=board)
    observer.on_batch_end()
    observer.on_epoch_end(step=9)
    events = read(board)
    found = scalars(events)
    assert [step for step, _ in found["dead_share/0"]] == [1, 9]
    assert found["similarity/2"] == [(9, pytest.approx(1))]
    assert found["epochs_ended"] == [(9, 1)]
    charts = layout(events)["training"]
    assert charts["activation_mean"] == ["^activation_mean/0$", "^activation_mean/2$"]
    assert set(charts) == {name.partition("/")[0] for name in found} - {"epochs_ended"}


def test_pictures_go_to_the_same_run(board):
    observer = Observer(network(), nn.Conv2d, IMAGES, log=board, pictures=["2:0", "2:1"])
    observer.on_batch_end()
    observer.on_epoch_end(step=5)
    found = read(board).Images("optimized images")
    assert [event.step for event in found] == [1, 5]
    assert picture(found[0]).shape[0] > 50


def test_pictures_go_where_draw_puts_them(board):
    drawn = []
    observer = Observer(
        network(),
        nn.ReLU,
        IMAGES,
        log=board,
        pictures=fl.objectives.channel("2", 1),
        draw=lambda result, step: drawn.append((result, step)),
    )
    observer.on_batch_end()
    ((result, step),) = drawn
    assert (step, str(result.objectives[0])) == (1, "2:1")
    assert not read(board).Tags()["images"]
