"""Results to be drawn."""

import torch
from torch import nn

import featurelens as fl
from featurelens.information import (
    ChannelInformationResult,
    LayerInformationResult,
    MutualInformationResult,
    SpatialMutualInformationResult,
)
from tests.nets import seeded


def sweep(count=5, size=3, **more):
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(size, 1, 6, 6, generator=generator)
    fields = {
        "outputs": torch.rand(count, size, 1, 6, 6, generator=generator),
        "baseline": x + 0.01,
        "images": x,
        "channels": tuple(range(count)),
        "layer": "conv1",
        "mode": "keep",
        "fill": "zero",
    }
    return fl.AblationResult(**(fields | more))


def worth(**more):
    fields = {
        "importance": torch.tensor([0.0, 0.3, 0.1]),
        "standard_error": torch.full((3,), 0.02),
        "per_class": torch.tensor([[0.0, 0.0], [0.2, 0.4], [0.3, -0.1]]),
        "baseline": 0.9,
        "channels": (0, 4, 2),
        "n": 100,
        "layer": "conv1",
        "metric": "accuracy",
        "mode": "drop",
        "fill": "zero",
    }
    return fl.ImportanceResult(**(fields | more))


def curve(**more):
    fields = {
        "values": torch.tensor([0.9, 0.8, 0.3]),
        "order": (2, 0),
        "total": 3,
        "n": 100,
        "layer": "conv1",
    }
    return fl.AblationCurve(**(fields | {"metric": "accuracy", "fill": "zero"} | more))


def channels(values, **more):
    return ChannelInformationResult(
        values=torch.as_tensor(values, dtype=torch.float64), method="channels()", n=99, **more
    )


def pairs(per_pair, null=None, **more):
    per_pair = torch.as_tensor(per_pair, dtype=torch.float64)
    null = None if null is None else torch.full_like(per_pair, null)
    return SpatialMutualInformationResult(
        value=float(per_pair.mean()),
        per_pair=per_pair,
        per_image=torch.zeros(4),
        null_mean=None if null is None else float(null.mean()),
        null_per_pair=null,
        method="spatial",
        n=4,
        dim_x=per_pair.shape[0],
        dim_y=per_pair.shape[1],
        **more,
    )


def estimate(value, **more):
    return MutualInformationResult(value=value, method="KSG", n=9, dim_x=1, dim_y=1, **more)


def spatial(value, null, interval):
    return SpatialMutualInformationResult(
        value=value,
        null_mean=null,
        interval=interval,
        per_pair=torch.full((1, 1), value),
        per_image=torch.full((4,), value),
        method="spatial",
        n=4,
        dim_x=1,
        dim_y=1,
    )


def maximized(channels=1, outputs=3, wanted=None):
    model = seeded(lambda: nn.Sequential(nn.Conv2d(channels, outputs, 3), nn.ReLU()))
    return fl.ActivationMaximizer(model, fl.FourierImage((channels, 8, 6)), steps=3).run(wanted or "conv_1")


def layers(values, **more):
    fields = {"method": "Probe()", "n": 99, "dim_x": 1, "dim_y": 4}
    return LayerInformationResult(
        {f"conv{i}": MutualInformationResult(value=v, **(fields | more)) for i, v in enumerate(values, 1)}
    )
