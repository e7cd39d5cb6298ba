"""
What channels want to see
=========================

Optimized images that maximize a channel or a class score, beside the real images with the strongest response.
"""

# %%
# Train a network on digits; this takes a few seconds.

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
# :class:`~featurelens.ActivationMaximizer` starts from noise and changes the image step by step so that the objective
# grows. Here the objective is the centre position of a channel, for eight channels in one batch. Two 3 x 3 convolutions have
# a receptive field of 5 x 5 pixels: only these are optimized, and the pixels around them mean nothing.

maximizer = fl.ActivationMaximizer(
    model,
    sample=images[train],
    steps=128,
    transforms=None,
)
result = maximizer.run([fl.objectives.neuron("relu2", channel) for channel in range(8)])
fl.plotting.image_grid(result.images, labels=[f"channel {c}" for c in range(8)])

# %%
# Can you trust the image?
# ------------------------
#
# ``compare`` compares each optimized image with real ones. If it is weaker than real ones, the optimization failed. If no
# image changes the channel's activation, the channel is dead.

comparison = result.compare(images[train])
print(comparison)
comparison.plot()

# %%
# Images of the classes
# ---------------------
#
# The same for the ten logits. An image that maximizes a class score need not look like a digit to us: it exaggerates what
# distinguishes this class from the other nine. By default, small random shifts, scales and rotations in every step keep the
# optimization from exploiting single pixels. Above they were switched off, because they would move the position.

maximizer = fl.ActivationMaximizer(model, sample=images[train], steps=128)
classes = maximizer.run([fl.objectives.logit(digit) for digit in range(10)])
classes.plot()

# %%
# The progress of the optimization: did it level off, or are more steps needed?

classes.plot_history()
