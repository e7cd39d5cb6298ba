"""Tiny seeded models, one for each trait that makes recording hard."""

import warnings
from collections import deque, namedtuple
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn


def seeded(build, seed=0):
    """Build a model from a seed, leaving the global random state as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()


def scripted(module):
    """Return a module in TorchScript, which newer versions of torch call deprecated."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.script(module)


def images(n=4, channels=1, size=8, seed=0):
    return torch.rand(n, channels, size, size, generator=torch.Generator().manual_seed(seed))


def plain():
    """conv1, an in-place ReLU, pooling, a second convolution, BatchNorm, dropout, a linear head."""
    return seeded(
        lambda: nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.Conv2d(4, 6, 3, padding=1),
            nn.BatchNorm2d(6),
            nn.ReLU(inplace=True),
            nn.Dropout(0.5),
            nn.Flatten(),
            nn.Linear(96, 10),
        )
    )


class PassesOn(nn.Module):
    """A layer returns its very input, which the model then changes in place."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.same = nn.Identity()
        self.head = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x):
        x = self.conv(x)
        self.same(x)
        return self.head(x.neg_())


class Reused(nn.Module):
    """One ReLU called three times; a residual sum and functional operations."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 4, 3, padding=1)
        self.act = nn.ReLU()
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1)
        self.fc = nn.Linear(4, 3)

    def forward(self, x):
        x = self.act(self.conv1(x))
        y = self.act(self.conv2(x) + x)
        y = self.act(y - 0.5)
        y = F.relu(F.relu(y) - 0.1)
        return self.fc(y.mean((2, 3)))


Pair = namedtuple("Pair", ["left", "right"])


@dataclass
class Box:
    boxes: torch.Tensor
    scores: list


class Nested(nn.Module):
    """Layers that return a tuple, a dict, a named tuple and a dataclass."""

    class Dict(nn.Module):
        def forward(self, x):
            return {"a": x, "b": [x + 1, x + 2], "note": "text", "none": None}

    class Named(nn.Module):
        def forward(self, x):
            return Pair(x, x * 2)

    class Data(nn.Module):
        def forward(self, x):
            return Box(x, [x.sum(1)])

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(8, 5, batch_first=True)
        self.dict = self.Dict()
        self.named = self.Named()
        self.data = self.Data()

    def forward(self, x):
        out, _ = self.lstm(x.flatten(1, 2))
        out = self.dict(out)["a"]
        out = self.named(out).left
        return self.data(out).boxes


class DataDependent(nn.Module):
    """Calls `step` as often as the data say."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 3, padding=1)
        self.step = nn.Tanh()

    def forward(self, x):
        x = self.conv(x)
        for _ in range(int(x.abs().sum()) % 3 + 2):
            x = self.step(x)
        return x


class InnerLoop(nn.Module):
    """A block that cannot be traced, inside a model that can."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, 1, 1)
        self.loop = DataDependent()
        self.head = nn.Conv2d(1, 2, 1)

    def forward(self, x):
        return self.head(F.relu(self.loop(self.stem(x))))


class Unused(nn.Module):
    """An auxiliary head that only train mode runs."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)
        self.aux = nn.Conv2d(2, 2, 1)
        self.head = nn.Conv2d(2, 2, 1)

    def forward(self, x, mask=None):
        x = self.conv(x)
        if self.training:
            x = x + self.aux(x)
        if mask is not None:
            x = x * mask
        return F.dropout(self.head(x), 0.5, self.training)


class Busy(nn.Module):
    """Changes everything a forward pass can change on itself, and draws random numbers."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)
        self.norm = nn.BatchNorm2d(2)
        self.drop = nn.Dropout(0.5)
        self.register_buffer("seen", torch.zeros(3))
        self.plain = torch.zeros(2)
        self.calls = 0
        self.cache = {}
        self.history = []
        self.recent = deque([0], maxlen=3)

    def forward(self, x):
        self.calls += 1
        self.cache["last"] = x
        self.history.append(x.shape)
        self.recent.append(x)
        self.fresh = x
        self.seen = self.seen + 1
        self.plain += 1
        self.conv.weight.data = self.conv.weight.data * 0.5
        return self.drop(self.norm(self.conv(x)))


class Fails(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)
        self.head = nn.Linear(7, 2)

    def forward(self, x):
        return self.head(self.conv(x).flatten(1))
