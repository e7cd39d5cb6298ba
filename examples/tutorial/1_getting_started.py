"""
Getting started
===============

Train a small network, list its layers, and look at the feature maps of an image.

Install with ``pip install "featurelens[examples]"``; everything below takes seconds on a laptop.
"""

# %%
# A network to look into
# ----------------------
#
# featurelens works with any ``torch.nn.Module``. Here we train a small convolutional network on scikit-learn's digits:
# 1,797 images of 8 x 8 pixels. This part is plain PyTorch.

from collections import OrderedDict

import torch
from sklearn.datasets import load_digits
from torch import nn

import featurelens as fl

# sphinx_gallery_thumbnail_number = 2

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
# Which layers are there?
# -----------------------
#
# :func:`~featurelens.list_layers` runs one image through the model and lists every layer: its name, how many times it is
# called, and the shape of its output.

fl.list_layers(model, images[:1])

# %%
# What a layer looks for
# ----------------------
#
# A filter of the first convolution is a small image. Where a patch of the input resembles it, the convolution's output is
# large. Red is positive, blue negative. One filter may look for a dark pixel above a bright one, another for a diagonal.

fl.plotting.filters(model.conv1)

# %%
# What it finds
# -------------
#
# An :class:`~featurelens.ActivationRecorder` runs the model and returns the output of the layers you select. A layer with
# 16 filters returns 16 feature maps for an image. Each shows where in the image its filter matches.

acts = fl.ActivationRecorder(model, ["relu1", "relu2"])(images[test])
print(acts)
fl.plotting.input_and_feature_maps(images[test], acts["relu1"], image=0)

# %%
# The second layer computes its maps from those of the first. Each of its filters looks at all 16 maps at once, so a bright
# pixel means that a *combination* of patterns occurs around this position. A hatched map is zero everywhere: its channel
# does not respond to this image.

fl.plotting.feature_maps(acts["relu2"], image=0)

# %%
# The model is unchanged
# ----------------------
#
# Recording leaves nothing behind, even if it ends with an error: no hooks, and the same mode, weights and random state as
# before. Next, you can :doc:`record other layers and data sets <../howto/recording>`, measure
# :doc:`how much information a layer has <../howto/information>`, see
# :doc:`what a channel wants to see <../howto/visualization>`, or find out
# :doc:`how important it is <../howto/ablation>`.

assert model.training and not any(layer._forward_hooks for layer in model.modules())
