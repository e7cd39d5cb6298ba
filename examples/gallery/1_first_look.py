"""
Filters and feature maps
========================

The filters of a small network, and the feature maps of one image.
"""

# %%
# Train a network on digits; this takes a few seconds.

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
# The filters of the first layer. Colours are centred on zero, and each filter has its own scale.

fl.plotting.filters(model.conv1)

# %%
# One image and its 16 feature maps in the first layer, after the ReLU.

acts = fl.ActivationRecorder(model, ["relu1", "relu2"])(images[test])
fl.plotting.input_and_feature_maps(images[test], acts["relu1"], image=3)

# %%
# The second layer, with one scale for all maps: which channels respond strongly to this image, and which hardly at all?

fl.plotting.feature_maps(acts["relu2"], image=3, scale="shared")

# %%
# The confusion matrix shows the network's errors. Rows are the true classes.

predictions = model(images[test]).argmax(1)
fl.plotting.confusion_matrix((labels[test], predictions))
