"""
Rewriting a network with extractors
===================================

Functions and sums are not modules, so hooks cannot reach them. A rewritten copy of the network can, and it keeps the
features of every forward pass.
"""

# %%
# In this block with a skip connection, the sum and the ReLUs are operations, not layers.

import torch
from torch import nn

import featurelens as fl


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 8, 3, padding=1)
        self.conv2 = nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x):
        x = self.conv1(x).relu()
        return torch.relu(self.conv2(x) + x)


torch.manual_seed(0)
model, images = Block(), torch.rand(4, 1, 16, 16)

# %%
# Operations that are not modules
# -------------------------------

fl.list_operations(model)

# %%
# With ``backend="rewrite"``, the recorder accepts these names.

acts = fl.ActivationRecorder(model, ["conv2", "add", "relu_1"], backend="rewrite")(images)
print(acts)
fl.plotting.feature_maps(acts["add"], image=0, title="The sum, before the second ReLU")

# %%
# A network that keeps its features
# ---------------------------------
#
# :func:`~featurelens.insert_extractors` returns a copy of the model with an extractor after each selected layer. You can
# train, save and compile it like any module, and its output equals that of the original.

tapped = fl.insert_extractors(model, ["conv_1", "add"])
assert torch.equal(tapped(images), model(images))
{name: tuple(extractor.feature.shape) for name, extractor in tapped.extractors.items()}

# %%
# Features are part of the autograd graph, so a loss can depend on them.

tapped.extractors["add"].feature.square().mean().backward()
print(f"gradient of conv1: {tapped.get_parameter('conv1.weight').grad.norm():.4f}")
