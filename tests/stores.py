"""What the tests of stores share: a recorder, loaders, and a look at the files."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import featurelens as fl
from tests.nets import images, seeded


def model(seed=0):
    """Two convolutions and a head; rows of different sizes."""
    return seeded(
        lambda: nn.Sequential(
            nn.Conv2d(1, 3, 3), nn.ReLU(inplace=True), nn.Conv2d(3, 2, 3), nn.Flatten(), nn.Linear(32, 5)
        ),
        seed,
    )


def recorder(net=None, **options):
    """Pooled, whole and vector-valued layers."""
    return fl.ActivationRecorder(
        net or model(), ["conv_1", "conv_2", "4"], **{"reduce": {"conv_1": "mean"}} | options
    )


def loader(n=23, batch_size=4, seed=0, **options):
    return DataLoader(TensorDataset(images(n, seed=seed), torch.arange(n)), batch_size=batch_size, **options)


def files(folder):
    """Every file and its bytes."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def same(store, activations):
    """Whether a store holds these activations, to the bit."""
    return list(store) == list(activations) and all(
        torch.equal(store[name][:], value) and store[name].dtype == value.dtype
        for name, value in activations.items()
    )
