"""
How important channels are, and what they carry
===============================================

Run the network without each channel in turn, and reconstruct an image from one channel alone.
"""

# %%
# Train a network on digits; this takes a few seconds.

from collections import OrderedDict

import torch
from sklearn.datasets import load_digits
from torch import nn

import featurelens as fl

# sphinx_gallery_thumbnail_number = 4

digits = load_digits()
images = torch.from_numpy(digits.images).float()[:, None] / 16  # (1797, 1, 8, 8)
labels = torch.from_numpy(digits.target)
train, test = slice(0, 1400), slice(1400, None)

torch.manual_seed(0)
model = nn.Sequential(
    OrderedDict(
        conv1=nn.Conv2d(1, 8, 3, padding=1),
        relu1=nn.ReLU(),
        conv2=nn.Conv2d(8, 12, 3, padding=1),
        relu2=nn.ReLU(),
        pool=nn.MaxPool2d(2),
        flatten=nn.Flatten(),
        fc=nn.Linear(12 * 4 * 4, 10),
    )
)
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
for _ in range(10):
    for batch in torch.randperm(1400).split(64):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images[batch]), labels[batch]).backward()
        optimizer.step()

with torch.no_grad():
    accuracy = (model(images[test]).argmax(1) == labels[test]).float().mean()
print(f"test accuracy {accuracy:.1%}")

# %%
# What does the network lose without a channel?
# ---------------------------------------------
#
# :class:`~featurelens.ChannelAblator` sets one channel after another to its mean and runs the rest of the network. The
# increase in loss is the channel's importance. Error bars: ±2 SE.

loader = [(images[test], labels[test])]
ablator = fl.ChannelAblator(model, "relu2")
worth = ablator.importance(loader, metric="loss", fill="mean")
worth.plot()

# %%
# Which digits suffer when a channel is removed?

worth.plot_classes(limit=8)

# %%
# How many channels does the network need?
# ----------------------------------------
#
# Remove channels one after another: the least important first, the most important first, or in random order.

curves = {
    "least important first": ablator.curve(loader, order=worth, fill="mean"),
    "most important first": ablator.curve(loader, order=worth.order("most"), fill="mean"),
    "in random order": ablator.curve(loader, order="random", fill="mean"),
}
fl.plotting.ablation_curves(curves)

# %%
# What does one channel carry?
# ----------------------------
#
# A decoder mirrors the network's layers to get back to image space. Keep one channel, set all others to zero, and decode:
# the result shows what that channel carries.

decoder = fl.DeconvDecoder(model, "relu2")
fl.ChannelAblator(model, "relu2", decoder=decoder).sweep(images[test][:1], mode="keep").plot()
