"""What belongs to the user of the fuzzing session: models, loaders and functions, some of which fail or answer oddly.

An exception that is raised in this file is the user's own, and passes through featurelens unchanged.
"""

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from tests.nets import seeded


def images(n=12, channels=1, size=8):
    return torch.rand(n, channels, size, size, generator=torch.Generator().manual_seed(n))


def labels(n=12):
    return torch.arange(n) % 3


class CNN(nn.Module):
    """Two convolutions, a batch norm and a head."""

    def __init__(self, channels=1):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 4, 3, padding=1)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(4, 5, 3, padding=1)
        self.norm = nn.BatchNorm2d(5)
        self.relu2 = nn.ReLU()
        self.fc = nn.Linear(5, 3)

    def features(self, x):
        x = self.relu1(self.conv1(x))
        return self.relu2(self.norm(self.conv2(x)))

    def forward(self, x):
        return self.fc(self.features(x).mean((2, 3)))


class Reused(CNN):
    """One ReLU called twice."""

    def __init__(self):
        super().__init__()
        self.relu2 = self.relu1


class Shared(CNN):
    """One convolution under two names, and a dict of modules that are not called."""

    def __init__(self):
        super().__init__()
        self.again = self.conv1
        self.heads = nn.ModuleDict({"a.b".replace(".", "_"): nn.Linear(5, 2), "2": nn.Linear(5, 3)})

    def forward(self, x):
        return self.heads["2"](self.features(x).mean((2, 3)))


class Returns(CNN):
    """Returns what it is told to, whatever the input."""

    def __init__(self, answer):
        super().__init__()
        self.answer = answer

    def forward(self, x):
        return self.answer(super().forward(x))


class Raises(CNN):
    def forward(self, x):
        raise ZeroDivisionError("the user's model")


def cnn():
    return seeded(CNN)


MODELS = {
    "tiny CNN": cnn,
    "reused layer": lambda: seeded(Reused),
    "shared modules": lambda: seeded(Shared),
    "three channels": lambda: seeded(lambda: CNN(3)),
    "returns a dict": lambda: seeded(lambda: Returns(lambda y: {"logits": y, "note": "text"})),
    "returns None": lambda: seeded(lambda: Returns(lambda y: None)),
    "returns a tuple": lambda: seeded(lambda: Returns(lambda y: (y, [y]))),
    "returns text": lambda: seeded(lambda: Returns(lambda y: "cat")),
    "returns a scalar": lambda: seeded(lambda: Returns(lambda y: y.sum())),
    "returns NaN": lambda: seeded(lambda: Returns(lambda y: y * torch.nan)),
    "returns integers": lambda: seeded(lambda: Returns(lambda y: y.argmax(1))),
    "returns no rows": lambda: seeded(lambda: Returns(lambda y: y[:0])),
    "raises": lambda: seeded(Raises),
    "double": lambda: cnn().double(),
    "half": lambda: cnn().half(),
    "complex": lambda: nn.Sequential(nn.Conv2d(1, 2, 3, dtype=torch.complex64)),
    "empty": nn.Sequential,
    "identity": nn.Identity,
    "lazy": lambda: nn.Sequential(nn.LazyConv2d(2, 3), nn.Flatten(), nn.LazyLinear(3)),
    "meta": lambda: cnn().to("meta"),
    "in train mode": lambda: cnn().train(),
    "in eval mode": lambda: cnn().eval(),
    "no gradients": lambda: cnn().requires_grad_(False),
    "NaN weights": lambda: _with_weights(torch.nan),
    "infinite weights": lambda: _with_weights(torch.inf),
    "LSTM": lambda: seeded(lambda: nn.LSTM(8, 3)),
    "ModuleDict": lambda: nn.ModuleDict({"conv1": nn.Conv2d(1, 2, 3)}),
    "the class": lambda: CNN,
    "a function": lambda: torch.relu,
    "a state dict": lambda: cnn().state_dict(),
    "a path": lambda: "model.pt",
    "nothing": lambda: None,
}


def _with_weights(value):
    model = cnn()
    with torch.no_grad():
        model.conv2.weight.fill_(value)
    return model


class FailingDataset(Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        raise ZeroDivisionError("the user's data set")


class Dicts(Dataset):
    def __len__(self):
        return 6

    def __getitem__(self, index):
        return {"image": images(6)[index], "label": index % 3}


class HasNoLength:
    """Can be read once more and more, and does not know how long it is."""

    def __iter__(self):
        yield images(4), labels(4)
        yield images(3), labels(3)


class LiesAboutItsLength(HasNoLength):
    def __len__(self):
        return 10**9


def batches(n=12):
    return DataLoader(TensorDataset(images(n), labels(n)), batch_size=5)


def endless_failure():
    yield images(4), labels(4)
    raise ZeroDivisionError("the user's loader")


LOADERS = {
    "tuples": batches,
    "shuffled": lambda: DataLoader(TensorDataset(images(), labels()), 4, shuffle=True),
    "dicts": lambda: DataLoader(Dicts(), 3),
    "images only": lambda: DataLoader(images(), 4),
    "one at a time": lambda: DataLoader(TensorDataset(images(3), labels(3)), batch_size=None),
    "list of batches": lambda: [(images(4), labels(4)), (images(2), labels(2))],
    "batches of other sizes": lambda: [(images(4), labels(4)), (images(4, size=6), labels(4))],
    "batches of other channels": lambda: [(images(4), labels(4)), (images(4, channels=3), labels(4))],
    "batches of other types": lambda: [(images(4), labels(4)), (images(4).double(), labels(4))],
    "an empty batch": lambda: [(images(4), labels(4)), (images(4)[:0], labels(0))],
    "more labels than images": lambda: [(images(4), labels(5))],
    "labels as floats": lambda: [(images(4), labels(4) + 0.5)],
    "negative labels": lambda: [(images(4), labels(4) - 2)],
    "huge labels": lambda: [(images(4), labels(4) + 2**62)],
    "labels as text": lambda: [(images(2), ["cat", "dog"])],
    "NaN in one batch": lambda: [(images(4), labels(4)), (images(4) * torch.nan, labels(4))],
    "None among batches": lambda: [(images(4), labels(4)), None],
    "text": lambda: ["cat", "dog"],
    "numbers": lambda: [1, 2, 3],
    "an empty list": list,
    "an empty generator": lambda: iter(()),
    "a generator": lambda: iter([(images(4), labels(4))]),
    "a generator that raises": endless_failure,
    "a data set that raises": lambda: DataLoader(FailingDataset(), 2),
    "a data set": lambda: TensorDataset(images(), labels()),
    "no length": HasNoLength,
    "a wrong length": LiesAboutItsLength,
    "two arrays": lambda: (images(), labels()),
    "the class": lambda: DataLoader,
    "a tensor": images,
    "an array": lambda: images().numpy(),
    "a dict": lambda: {"images": images()},
}


def raises(*args, **kwargs):
    raise ZeroDivisionError("the user's function")


class Everything:
    """Equal to nothing, iterable by nobody, without a truth value or a text."""

    def __bool__(self):
        raise ZeroDivisionError("the user's object has no truth value")

    def __eq__(self, other):
        raise ZeroDivisionError("the user's object cannot be compared")

    def __hash__(self):
        return 0

    def __repr__(self):
        raise ZeroDivisionError("the user's object has no text")


CALLABLES = {
    "raises": lambda: raises,
    "returns None": lambda: lambda *args, **kwargs: None,
    "returns text": lambda: lambda *args, **kwargs: "text",
    "returns its arguments": lambda: lambda *args, **kwargs: args,
    "returns the first": lambda: lambda *args, **kwargs: args[0],
    "returns a scalar": lambda: lambda *args, **kwargs: torch.tensor(1.0),
    "returns one row": lambda: lambda *args, **kwargs: torch.ones(1, 2),
    "returns NaN": lambda: lambda *args, **kwargs: torch.tensor(torch.nan),
    "returns a list": lambda: lambda *args, **kwargs: [],
    "takes nothing": lambda: lambda: torch.ones(2),
    "a builtin": lambda: len,
    "a class": lambda: HasNoLength,
    "a module": nn.Identity,
}
