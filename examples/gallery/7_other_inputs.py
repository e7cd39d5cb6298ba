"""
Grayscale, unusual sizes, five channels, time series
====================================================

featurelens assumes neither three channels, nor 224 pixels, nor ImageNet's normalization.
"""

import torch
from torch import nn

import featurelens as fl

torch.manual_seed(0)

# %%
# One channel, 13 x 29 pixels
# ---------------------------
#
# Shape and range of the images are taken from a sample.

model = nn.Sequential(
    nn.Conv2d(1, 6, 5, padding=2),
    nn.ReLU(),
    nn.Conv2d(6, 6, 5, padding=2),
)
images = torch.rand(32, 1, 13, 29)
fl.ActivationMaximizer(model, sample=images, steps=64).run("conv_2").plot()

# %%
# Five channels, standardized
# ---------------------------
#
# If the model expects standardized inputs, pass the standardization as ``preprocess``; the optimized images are in [0, 1].
# Five channels cannot be shown as colours, so each is drawn as a grayscale image.

model = nn.Sequential(
    nn.Conv2d(5, 4, 3, padding=1),
    nn.ReLU(),
    nn.Conv2d(4, 4, 3, padding=1),
)
bands = torch.rand(64, 5, 20, 20)
sd, mean = torch.std_mean(bands, (0, 2, 3), keepdim=True)

maximizer = fl.ActivationMaximizer(
    model,
    fl.FourierImage((5, 20, 20), statistics=fl.ImageStatistics.fit(bands)),
    preprocess=lambda images: (images - mean) / sd,
    steps=64,
)
result = maximizer.run("conv_2:1")
names = [f"band {band}" for band in range(5)]
fl.plotting.image_grid(result.images[0][:, None], labels=names)

# %%
# Time series and tokens
# ----------------------
#
# The channels of ``nn.Conv1d`` are on axis 1, those of ``nn.Linear`` are last. Where a layer's type does not tell, as with
# the block as a whole, pass ``axis=-1``.

series = nn.Sequential(nn.Conv1d(2, 8, 5), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 60, 3))
signals, labels = torch.randn(300, 2, 64), torch.arange(300) % 3
signals[:, 0] += labels[:, None]
print(fl.ActivationRecorder(series, ["conv_1", "linear_1"])(signals))

information = fl.layer_information(
    series,
    "conv_1",
    signals,
    labels,
    per="channel",
)
information["0"].plot()

# %%

tokens = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
ablator = fl.ChannelAblator(tokens, "linear1")
print(ablator.sweep(torch.randn(4, 10, 16), channels=[0, 1, 2]))
