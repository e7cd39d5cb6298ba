"""What maximization and ablation found."""

import pytest
import torch
from torch import nn

import featurelens as fl
from tests.unit.tensorboard.reading import picture, read, scalars

CLASSES = ["cat", "dog", "ship"]


def test_maximization(board):
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU())
    maximizer = fl.ActivationMaximizer(model, fl.FourierImage((1, 8, 8)), steps=2, progress=False)
    found = maximizer.run("conv_1")
    board.add(7, found)
    board.add(7, found, tag="other")
    events = read(board)
    mean = [(7, pytest.approx(found.scores.mean().item()))]
    assert scalars(events) == {"maximization/mean score": mean, "other/mean score": mean}
    assert sorted(events.Tags()["images"]) == ["maximization", "other"]
    assert picture(events.Images("other")[0]).std() > 5


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
        importance=torch.tensor([0.25, 0.5]), standard_error=torch.zeros(2), per_class=torch.zeros(2, 3), baseline=0.5,
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
    board.add(4, found, image=1)
    board.add(4, worth, classes=CLASSES)
    board.add(4, curve)
    board.add(5, {"random": curve})
    events = read(board)
    assert scalars(events) == {
        "reconstruction error/conv/all channels": [(4, 0.0)],
        "reconstruction error/conv/one channel": [(4, pytest.approx(found.error.mean().item()))],
        "importance in accuracy/conv/mean": [(4, 0.375)],
        "importance in accuracy/conv/largest": [(4, 0.5)],
        "channels removed/conv, epoch 4": [(0, 0.5), (1, 0.25)],
        "channels removed/random, epoch 5": [(0, 0.5), (1, 0.25)],
    }
    tags = ["reconstructions/conv", "importance/conv", "importance by class/conv", "channels removed"]
    assert sorted(events.Tags()["images"]) == sorted(tags)
    assert all(picture(events.Images(tag)[0]).std() > 5 for tag in tags)


def test_the_similarity_of_layers(board):
    found = fl.similarity.LayerSimilarityResult(
        values=torch.eye(2), layers=("a", "b"), other_layers=("a", "b"), n=9
    )
    board.add(3, found)
    board.add(3, found, tag="first seed")
    events = read(board)
    assert sorted(events.Tags()["images"]) == ["first seed", "similarity"]
    assert picture(events.Images("similarity")[0]).std() > 5
