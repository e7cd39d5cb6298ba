"""
Signals and volumes
===================

What makes a neuron fire, and what shows a network which way something moves in a film: "images" of one and three dimensions.
"""

# %%
# A living neuron
# ---------------
#
# matplotlib ships six seconds of the voltage across a neuron's membrane. A current is switched on after half a second, and
# the neuron starts to fire.

import numpy as np
import torch
from matplotlib.cbook import get_sample_data
from scipy.signal import find_peaks
from sklearn.datasets import load_digits
from torch import nn

import featurelens as fl

# sphinx_gallery_thumbnail_number = 3

recording = np.fromfile(get_sample_data("membrane.dat", asfileobj=False), np.float32)
voltage = torch.from_numpy(100 * recording[::2])  # millivolts, once a millisecond
spikes, _ = find_peaks(voltage.numpy(), height=-25)
fl.plotting.image_grid(voltage[None, None], title=f"{len(spikes)} spikes")

# %%
# A network sees 64 ms of it and says whether a spike follows within 8 ms. It is trained on every other half second and
# tested on the rest.

starts = torch.arange(700, 5400)
signals = voltage.unfold(0, 64, 1)[starts, None]  # (N, 1, 64)
signals = (signals - signals.mean()) / signals.std()
wait = torch.from_numpy(spikes) - (starts[:, None] + 64)
labels = ((wait >= 0) & (wait < 8)).any(1).long()
train = starts // 500 % 2 == 1

torch.manual_seed(0)
model = nn.Sequential(
    nn.Conv1d(1, 8, 9),
    nn.ReLU(),
    nn.Conv1d(8, 16, 9, dilation=2),
    nn.ReLU(),
    nn.AvgPool1d(8),
    nn.Flatten(),
    nn.Linear(16 * 5, 2),
)


def fit(network, inputs, targets, epochs, **loss):
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3, weight_decay=1e-3)
    for _ in range(epochs):
        for batch in torch.randperm(len(inputs)).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(inputs[batch]), targets[batch], **loss).backward()
            optimizer.step()


fit(model, signals[train], labels[train], 20, weight=torch.tensor([1.0, 6.0]))

with torch.no_grad():
    fires = model(signals[~train]).argmax(1) == 1
before, quiet = (fires[labels[~train] == label].float().mean() for label in (1, 0))
print(f"a spike is predicted in {before:.0%} of the windows before one, and in {quiet:.0%} of the others")

# %%
# What the channels of the second convolution respond to at the centre of the window, beside the strongest real windows. Most
# want a long spike and its end, where the voltage falls. Channel 3 is still below the real windows: it needs more ``steps``.

maximizer = fl.ActivationMaximizer(model, sample=signals, transforms=None)
channels = maximizer.run([fl.objectives.neuron("conv_2", channel) for channel in range(6)])
channels.compare(signals).plot()

# %%
# What makes the network expect a spike, or none: it expects one if the last spike is long past and the voltage has climbed
# since, and none soon after a spike. This neuron needs about 70 ms to fire again. A larger ``decay`` than the default gives
# smooth signals.

maximizer = fl.ActivationMaximizer(
    model,
    fl.FourierImage((1, 64), decay=2.0),
    sample=signals,
    transforms=None,
)
fires = fl.objectives.logit(1) - fl.objectives.logit(0)
maximizer.run([fires, -fires]).compare(signals).plot()

# %%
# Films
# -----
#
# A film is a volume: its first axis is time. Here each digit moves up, down, left or right, one pixel per frame, and a
# network of ``nn.Conv3d`` says which way.

digits = torch.from_numpy(load_digits().images).float() / 16
ways = torch.arange(len(digits)) % 4
steps = torch.tensor([(-1, 0), (1, 0), (0, -1), (0, 1)])  # up, down, left, right
frames = [
    torch.stack(
        [
            nn.functional.pad(digit, (4, 4, 4, 4)).roll((steps[way] * (time - 3)).tolist(), (0, 1))
            for time in range(8)
        ]
    )
    for digit, way in zip(digits, ways, strict=True)
]
films = torch.stack(frames)[:, None]  # (N, 1, 8, 16, 16)

network = nn.Sequential(
    nn.Conv3d(1, 8, (3, 5, 5)),
    nn.ReLU(),
    nn.MaxPool3d((1, 2, 2)),
    nn.Conv3d(8, 16, 3),
    nn.ReLU(),
    nn.AdaptiveAvgPool3d(1),
    nn.Flatten(),
    nn.Linear(16, 4),
)
fit(network, films[:1400], ways[:1400], 5)
with torch.no_grad():
    right = network(films[1400:]).argmax(1) == ways[1400:]
print(f"test accuracy {right.float().mean():.1%}")

# %%
# Four of the eight frames are shown. The network does not look for digits: whatever moves up, down, left or right will do.

maximizer = fl.ActivationMaximizer(network, sample=films[:1400], steps=128)
found = maximizer.run([fl.objectives.logit(way) for way in range(4)])
found.compare(films[:1400]).plot()
