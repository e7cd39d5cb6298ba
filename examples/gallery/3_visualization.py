"""
What channels want to see
=========================

Images that a channel or a class responds to most, beside the real images that it responds to most.
"""

# %%
# A network that reads digits, trained in a few seconds.

from collections import OrderedDict

import torch
from sklearn.datasets import load_digits
from torch import nn

import featurelens as fl

# sphinx_gallery_thumbnail_number = 3

digits = load_digits()
images = torch.from_numpy(digits.images).float()[:, None] / 16  # (1797, 1, 8, 8)
labels = torch.from_numpy(digits.target)
train, test = slice(0, 1400), slice(1400, None)

torch.manual_seed(0)
model = nn.Sequential(
    OrderedDict(
        conv1=nn.Conv2d(1, 16, 3, padding=1),
        relu1=nn.ReLU(),
        conv2=nn.Conv2d(16, 32, 3, padding=1),
        relu2=nn.ReLU(),
        pool=nn.MaxPool2d(2),
        flatten=nn.Flatten(),
        fc=nn.Linear(32 * 4 * 4, 10),
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
# One image for every channel
# ---------------------------
#
# :class:`~featurelens.ActivationMaximizer` starts from noise and changes the image, step by step, so that what it is
# asked for grows. Here that is one position, the centre, of each of eight channels, all done in one batch. Two
# convolutions of 3 x 3 see 5 x 5 pixels: these are decided, and what lies around them means nothing.

maximizer = fl.ActivationMaximizer(
    model,
    sample=images[train],
    steps=128,
    transforms=None,
)
result = maximizer.run([fl.objectives.neuron("relu2", channel) for channel in range(8)])
fl.plotting.image_grid(result.images, labels=[f"channel {c}" for c in range(8)])

# %%
# Is the picture to be believed?
# ------------------------------
#
# A comparison holds each image against real ones. An optimized image that is weaker than real ones shows a failed
# optimization; a channel that nothing moves is dead.

comparison = result.compare(images[train])
print(comparison)
comparison.plot()

# %%
# What classes look like to the network
# -------------------------------------
#
# The same for the ten logits. What the network wants to see of a class need not look like a digit to us: it is what
# tells this class from the nine others, driven further than any digit does. Small random shifts, scales and turns in
# every step (the default, left out above as they would move the position) keep the image from hanging on single pixels.

maximizer = fl.ActivationMaximizer(model, sample=images[train], steps=128)
classes = maximizer.run([fl.objectives.logit(digit) for digit in range(10)])
classes.plot()

# %%
# How it got there: levelled off, or should there be more steps?

classes.plot_history()
