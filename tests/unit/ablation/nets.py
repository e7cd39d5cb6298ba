"""Models that make running only the rest of a forward pass hard, and the slow loop that is right for all of them."""

import copy

import torch
import torch.nn.functional as F
from torch import nn

from tests.nets import images, seeded


def tensor_of(returned, output):
    if output is None:
        return returned
    return output(returned) if callable(output) else returned[output]


def slow_loop(model, layer, x, *, mode="drop", fill=None, axis=1, call=None, output=None, channels=None):
    """A full forward for every channel, with a hook that writes the fill into the layer's output."""
    results, original = [], model
    for channel in channels:
        model = copy.deepcopy(original).eval()
        module = model.get_submodule(layer)
        count = 0

        def hook(module, args, value, channel=channel):
            nonlocal count
            count += 1
            if call not in (None, count):
                return None
            value = value.clone().movedim(axis, 1)
            put = torch.zeros_like(value) if fill is None else fill(value)
            changed = value.clone()
            for other in range(value.shape[1]):
                if (other != channel) == (mode == "keep"):
                    changed[:, other] = put[:, other]
            return changed.movedim(1, axis)

        handle = module.register_forward_hook(hook)
        with torch.no_grad():
            results.append(tensor_of(model(x.clone()), output))
        handle.remove()
    return torch.stack(results)


class Residual(nn.Module):
    """Additions in place, between modules and on what modules returned."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.relu = nn.ReLU(inplace=True)
        self.left = nn.Conv2d(4, 4, 3, padding=1)
        self.right = nn.Conv2d(4, 4, 3, padding=1)
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        x = x.mul_(2)
        x = self.norm(self.stem(x))
        x += 0.1
        x = self.relu(x)
        y = F.relu_(self.left(x))
        x += y
        z = self.right(x)
        x += z
        z *= x
        return self.head((x + z).mean((2, 3)))


class Skips(nn.Module):
    """A small U-Net: what the encoder found is used again long after the bottom."""

    def __init__(self):
        super().__init__()
        self.down1 = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(inplace=True))
        self.down2 = nn.Sequential(nn.Conv2d(3, 5, 3, padding=1), nn.ReLU(inplace=True))
        self.bottom = nn.Conv2d(5, 5, 3, padding=1)
        self.up = nn.ConvTranspose2d(5, 3, 2, stride=2)
        self.out = nn.Conv2d(6, 1, 1)

    def forward(self, x):
        first = self.down1(x)
        second = self.down2(F.max_pool2d(first, 2))
        x = self.up(F.relu(self.bottom(second) + second))
        return {"mask": self.out(torch.cat([x, first], 1)), "size": x.shape[0]}


class Remembered(nn.Module):
    """A U-Net that keeps its skip on itself, where a replay finds the wrong batch."""

    def __init__(self):
        super().__init__()
        self.down = self.Down()
        self.middle = nn.Conv2d(2, 2, 1)
        self.out = nn.Conv2d(4, 1, 1)

    class Down(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(1, 2, 3, padding=1)

        def forward(self, x):
            self.skip = self.conv(x)
            return self.skip

    def forward(self, x):
        y = self.middle(self.down(x))
        return self.out(torch.cat([y, self.down.skip], 1))


class Coupled(nn.Module):
    """Images of a batch act on each other."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 3, 3)
        self.head = nn.Linear(3, 2)

    def forward(self, x):
        x = self.conv(x)
        return self.head((x - x.mean(0)).square().mean((2, 3)))


class Mixing(nn.Module):
    """Images of a batch act on each other in the way that `mix` says."""

    def __init__(self, mix):
        super().__init__()
        self.conv = nn.Conv2d(1, 3, 3)
        self.mix = mix

    def forward(self, x):
        return self.mix(F.relu(self.conv(x) + 0.2)).mean((2, 3))


def _quantized(h):
    scale = h.amax().float() / 127
    return torch.fake_quantize_per_tensor_affine(h.float(), scale, torch.zeros(()).int(), -128, 127).double()


MIXES = {
    "largest": lambda h: h / (h.amax() + 0.1),
    "largest kept": lambda h: h / (h.amax((0, 1, 2, 3), keepdim=True) + 0.1),
    "largest of a channel": lambda h: h / (h.amax((0, 2, 3), keepdim=True) + 0.1),
    "sum": lambda h: h / (h.sum() + 1),
    "sum over images": lambda h: h / (h.sum(0) + 1),
    "norm": lambda h: h / (h.norm() + 0.1),
    "first": lambda h: h - h[:1],
    "last": lambda h: h - h[-1:],
    "largest in place": lambda h: h + h.amax(0),
    "running sum": lambda h: h.cumsum(0),
    "shift": lambda h: h.roll(1, 0),
    "shift back": lambda h: h.roll(-1, 0),
    "normalized shift": lambda h: h - F.layer_norm(h.roll(1, 0), h.shape[1:]),
    "any": lambda h: torch.where((h > 0.3).any(), h, -h),
    "median": lambda h: h - h[h > 0.1].median().nan_to_num(),
    "written": lambda h: h / (_written(h).max(0).values + 0.1),
    "quantized": _quantized,
    "two faint ones": lambda h: h.index_add(0, *_two_faintest(h)),
    "neighbours": lambda h: h + F.pad(h, (0, 0) * 3 + (0, 1))[1:],
    "pairs": lambda h: torch.cat([pair.flip(0) for pair in h.split(2)]),
    "the ranks": lambda h: h * h.sum((1, 2, 3)).argsort().argsort()[:, None, None, None],
}


def _two_faintest(h):
    """The two images with the smallest sums, each with the other one to be added to it."""
    rows = h.sum((1, 2, 3)).topk(min(2, len(h)), largest=False).indices
    return rows, h[rows.flip(0)]


def _written(h):
    out = torch.zeros(h.numel(), dtype=h.dtype)
    out[:] = h.flatten()
    return out


class Sampling(nn.Module):
    """Noise of 16 numbers per image, of which a longer draw starts with the same ones as a shorter one."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.pool = nn.AdaptiveAvgPool2d(2)

    def forward(self, x):
        x = self.pool(self.conv(x)).flatten(1)
        return x + torch.randn_like(x)


class Branching(nn.Module):
    """Takes one of two ways by the values of the whole batch."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        x = self.conv(x).mean((2, 3))
        return self.head(x) if x.sum() > 0 else -self.head(x)


class Noisy(nn.Module):
    """Draws random numbers in eval mode too."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 3, 3)

    def forward(self, x):
        x = self.conv(x)
        return (x + torch.randn_like(x)).mean((2, 3))


class Recurrent(nn.Module):
    """A convolution read row by row by an LSTM, whose state has the batch in its second axis."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.lstm = nn.LSTM(32, 6, batch_first=True)
        self.head = nn.Linear(12, 3)

    def forward(self, x):
        x = self.conv(x).permute(0, 2, 1, 3).flatten(2)
        out, (hidden, _) = self.lstm(x, None)
        return self.head(torch.cat([out[:, -1], hidden[-1]], 1))


class Tokens(nn.Module):
    """Patches, positions, a class token and a transformer."""

    def __init__(self):
        super().__init__()
        self.patch = nn.Conv2d(1, 8, 4, stride=4)
        self.position = nn.Parameter(torch.randn(1, 5, 8))
        self.token = nn.Parameter(torch.randn(1, 1, 8))
        self.block1 = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.block2 = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.position
        return self.head(self.block2(self.block1(x))[:, 0])


class Stateful(nn.Module):
    """Its forward depends on how often it was called."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 3, 3)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        return self.conv(x).mean((2, 3)) * self.calls


def double(build, seed=0):
    return seeded(build, seed).double()


def batch(n=3, channels=1, size=8, seed=1):
    return images(n, channels, size, seed).double() - 0.3
