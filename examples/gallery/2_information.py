"""
Information, and how much of it is bias
=======================================

Information of layers and channels with the label, and why the usual pixel-wise estimate says almost nothing.
"""

# %%
# Train a network on digits. After every epoch, measure its layers: with :class:`~featurelens.InformationPlane` against inputs
# and labels, and pixel by pixel with :func:`~featurelens.spatial_mutual_information`.

from collections import OrderedDict

import torch
from sklearn.datasets import load_digits
from torch import nn

import featurelens as fl

digits = load_digits()
images = torch.from_numpy(digits.images).float()[:, None] / 16  # (1797, 1, 8, 8)
labels = torch.from_numpy(digits.target)
probe = slice(1400, None)  # measured on images that were not trained on

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
noisy = fl.information.NoisyChannelMutualInformation(sigma=2.0, relative=True)
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
# The usual recipe sorts the values of an image and of a feature map into 255 bins each and counts pairs over the pixels of
# *one* map. An image of 64 pixels fills at most 64 of the 65,025 cells, so almost any two maps look dependent. The dashed
# line is the same estimate for maps of *another* image, and the curve lies on it, whatever the network has learned. With 4
# bins of equal count and a bias correction, the part above the dashed line is real.

curves = {"255 bins": usual, "4 bins, corrected": honest}
fl.plotting.information_curves(curves, title="Pixels of relu2")

# %%

print(usual[-1])
print(honest[-1])

# %%
# Information of layers
# ---------------------
#
# The plane shows each layer's information with the input (horizontal) and with the label (vertical). The noise is twice the
# layer's own standard deviation. The dashed line is the null, the same measurement with permuted labels: only what lies
# above it is information about the label.

plane.plot()

# %%
# Information of channels
# -----------------------
#
# Each channel's information with the label, and its null. Separating ten digits takes 2.3 nats, which no single channel
# reaches.

given = images[probe], labels[probe]
channels = fl.layer_information(model, "relu2", *given, per="channel")
channels["relu2"].plot()
