"""
Describe channels and layers
============================

Which channels are sparse, selective or redundant, how many dimensions a layer uses, and what a linear probe can read off it
about the labels.
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
train, test = slice(0, 1200), slice(1200, None)

torch.manual_seed(0)
model = nn.Sequential(
    OrderedDict(
        conv1=nn.Conv2d(1, 8, 3, padding=1),
        relu1=nn.ReLU(),
        conv2=nn.Conv2d(8, 16, 3, padding=1),
        relu2=nn.ReLU(),
        pool=nn.MaxPool2d(2),
        flatten=nn.Flatten(),
        fc=nn.Linear(16 * 4 * 4, 10),
    )
)
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
for _ in range(10):
    for batch in torch.randperm(1200).split(64):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images[batch]), labels[batch]).backward()
        optimizer.step()

# %%
# Measure every channel in one pass
# ---------------------------------
#
# Each statistic is updated batch by batch, inside the forward pass; no activations are kept but those of the random sample.

loader = list(zip(images[test].split(100), labels[test].split(100), strict=True))
recorder = fl.ActivationRecorder(model, nn.ReLU)
s = fl.statistics
result = recorder.stream(
    loader, [s.Activity(), s.ClassSelectivity(classes=10), s.Covariance(), s.Sample(500)]
)
for layer in result:
    print(layer)
    print(result[layer].activity)
    print(result[layer].class_selectivity)

# %%
# The correlations between the channels of a layer, and for each channel its nearest in this layer:

print(result["relu2"].covariance.nearest(k=1))
result["relu2"].covariance.plot()

# %%
# One table
# ---------
#
# The channels that tell most about the class are not those that the network needs most: several may carry the same
# information.

information = fl.layer_information(model, nn.ReLU, loader, per="channel")
importance = fl.ChannelAblator(model, "relu2").importance(loader)
table = fl.channel_table(result, information=information, importance=importance)
second = table.where(table["layer"] == "relu2")
print(
    second.sort("importance").select(
        "importance", "information", "selectivity", "selectivity_null", "sparseness"
    )
)

# %%
# Layers
# ------
#
# The variance of a layer is spread over fewer directions than it has channels. The effective rank weighs every direction by
# its variance, while the intrinsic dimension counts all directions along which nearby images differ.

for layer in result:
    found = result[layer]
    dimension = fl.similarity.intrinsic_dimension(found.sample.values)
    print(
        f"{layer}: effective rank {found.covariance.effective_rank:.1f} of {len(found.activity.max)}; {dimension}"
    )

# %%
# What a linear probe reads off each layer, from the mean of every channel. The probe predicts images that it was not fitted
# to.

probe = fl.linear_probe(model, ["conv1", "relu1", "conv2", "relu2", "fc"], loader, permutations=2)
print(probe)
probe.plot()
