"""
Information, and how much of it is bias
=======================================

What layers and channels know of the label; and why the usual pixel-wise figure says next to nothing.
"""

# %%
# A network that reads digits. After every epoch its layers are measured, by
# :class:`~featurelens.InformationPlane` against inputs and labels, and by
# :func:`~featurelens.spatial_mutual_information` pixel by pixel.

from collections import OrderedDict

import torch
from sklearn.datasets import load_digits
from torch import nn

import featurelens as fl

digits = load_digits()
images = torch.from_numpy(digits.images).float()[:, None] / 16  # (1797, 1, 8, 8)
labels = torch.from_numpy(digits.target)
probe = slice(1400, None)  # measured on images that are not trained on

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
noisy = fl.NoisyChannelMutualInformation(sigma=2.0, relative=True)
layers = ["relu1", "relu2", "fc"]
plane = fl.InformationPlane(
    model,
    layers,
    images[probe],
    labels[probe],
    estimator=noisy,
    confidence=None,
)
usual, honest = [], []
few = images[probe][:100]

for epoch in range(1, 9):
    for batch in torch.randperm(1400).split(64):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images[batch]), labels[batch]).backward()
        optimizer.step()
    plane.update(epoch)
    maps = fl.ActivationRecorder(model, "relu2")(few)["relu2"]
    recipe = {"legacy": True, "null": "cross_image"}  # 255 bins, no correction
    usual.append(fl.spatial_mutual_information(few, maps, seed=0, **recipe))
    honest.append(fl.spatial_mutual_information(few, maps, bins=4, seed=0))

# %%
# The common recipe is biased
# ---------------------------
#
# The usual recipe cuts an image and a feature map into 255 bins each and counts over the pixels of *one* map. An image
# of 64 pixels can fill at most 64 of the 65,025 cells, so that almost any two maps look dependent. The dashes are the
# same figure for maps of *another* image: the curve lies on them, whatever the network has learned. With 4 bins of
# equal count and a corrected estimate, what is left above the dashes is real.

curves = {"255 bins": usual, "4 bins, corrected": honest}
fl.plotting.information_curves(curves, title="Pixels of relu2")

# %%

print(usual[-1])
print(honest[-1])

# %%
# What layers know
# ----------------
#
# The plane shows every layer against the input (across) and against the label (upwards), through noise twice as large as
# the layer's own spread. Dashes are the null, the labels in random order: a layer knows what it has above that.

plane.plot()

# %%
# What channels know
# ------------------
#
# Each channel alone against the label, with its null beside it. One channel cannot tell ten digits apart, which would
# take 2.3 nats.

given = images[probe], labels[probe]
channels = fl.layer_information(model, "relu2", *given, per="channel")
channels["relu2"].plot()
