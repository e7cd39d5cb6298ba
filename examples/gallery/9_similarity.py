"""
How alike layers are
====================

Compare every layer with every layer: of one network, of two networks, and before and after training.
"""

# %%
# Train two networks on digits, from different seeds; this takes a few seconds.

import copy
from collections import OrderedDict

import torch
from sklearn.datasets import load_digits
from torch import nn

import featurelens as fl

digits = load_digits()
images = torch.from_numpy(digits.images).float()[:, None] / 16  # (1797, 1, 8, 8)
labels = torch.from_numpy(digits.target)
train, test = slice(0, 1000), slice(1000, None)


def network(seed):
    torch.manual_seed(seed)
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(1, 12, 3, padding=1),
            relu1=nn.ReLU(),
            conv2=nn.Conv2d(12, 12, 3, padding=1),
            relu2=nn.ReLU(),
            conv3=nn.Conv2d(12, 12, 3, padding=1),
            relu3=nn.ReLU(),
            pool=nn.MaxPool2d(2),
            flatten=nn.Flatten(),
            fc1=nn.Linear(12 * 4 * 4, 32),
            relu4=nn.ReLU(),
            fc2=nn.Linear(32, 10),
        )
    )


def trained(model):
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(10):
        for batch in torch.randperm(1000).split(50):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images[batch]), labels[batch]).backward()
            optimizer.step()
    with torch.no_grad():
        accuracy = (model(images[test]).argmax(1) == labels[test]).float().mean()
    print(f"test accuracy {accuracy:.1%}")
    return model


first = network(0)
untrained = copy.deepcopy(first.state_dict())
first, second = trained(first), trained(network(1))

# %%
# One network
# -----------
#
# :func:`~featurelens.compare` runs over the data once and keeps nothing but sums. Its value is debiased linear CKA: 1 for
# layers that differ by a rotation and a scale, 0 for independent ones. The three convolutions are alike, and so are the
# linear layers. The largest step is from one group to the other, across the pooling.

loader = images[test].split(100)
layers = ["relu1", "relu2", "relu3", "fc1", "relu4", "fc2"]
result = fl.compare(first, loader=loader, layers=layers)
print(result)
result.plot(title="Layers of one network")

# %%
# Two networks
# ------------
#
# They began at different random weights and saw the images in another order. Their layers (rows and columns) form the same
# groups: what a layer of one network represents is found in the same group of the other.

fl.compare(first, second, loader=loader, layers=layers).plot(title="Two networks, different seeds")

# %%
# Before and after training
# -------------------------
#
# Instead of a second network, pass other weights of the same one as a state dict. Training changes the last layers most; the
# first convolutions hardly differ from random ones.

fl.compare(first, untrained, loader=loader, layers=layers).plot(title="Trained (rows), untrained (columns)")

# %%
# Is it more than chance?
# -----------------------
#
# Debiased CKA is 0 on average for independent layers. For a p-value and a confidence interval, record two layers and compare
# the arrays.

acts = [fl.ActivationRecorder(model, "fc1").record(loader) for model in (first, second)]
print(fl.similarity.cka(acts[0]["fc1"], acts[1]["fc1"], null="permutation", confidence=0.95))
