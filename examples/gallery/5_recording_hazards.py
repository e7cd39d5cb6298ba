"""
What usually goes wrong when layers are recorded
================================================

A ReLU that overwrites recorded values, a module that is called twice, BatchNorm statistics that are updated: a hand-written
forward hook gets all three wrong.
"""

# %%
# This network has all three: one in-place ReLU, called after both convolutions, and a BatchNorm.

import torch
from torch import nn

import featurelens as fl


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1)
        self.act = nn.ReLU(inplace=True)
        self.head = nn.Linear(4, 10)

    def forward(self, x):
        x = self.act(self.norm(self.conv1(x)))
        x = self.act(self.conv2(x))
        return self.head(x.mean((2, 3)))


torch.manual_seed(0)
model, images = Net(), torch.rand(16, 1, 8, 8)

# %%
# With hand-written hooks
# -----------------------
#
# The hook keeps a reference to the output of ``conv2``, and then the ReLU overwrites it: no negative value is left. Of the
# two calls of ``act``, only the last is kept. And BatchNorm's running mean has changed.

kept = {}


def keep(name):
    return lambda layer, inputs, output: kept.update({name: output})


hooks = [
    model.conv2.register_forward_hook(keep("conv2")),
    model.act.register_forward_hook(keep("act")),
]
moved = model.norm.running_mean.clone()
model(images)
for hook in hooks:
    hook.remove()

print(f"smallest value of conv2: {kept['conv2'].min():.3f}")
print(f"results of act: {sum('act' in name for name in kept)}")
print(f"BatchNorm moved: {not torch.equal(moved, model.norm.running_mean)}")

# %%
# With a recorder
# ---------------

moved = model.norm.running_mean.clone()
acts = fl.ActivationRecorder(model, ["conv2", "act"])(images)
print(f"smallest value of conv2: {acts['conv2'].min():.3f}")
print(f"results of act: {sum('act' in name for name in acts)}, of {list(acts)}")
print(f"BatchNorm moved: {not torch.equal(moved, model.norm.running_mean)}")

# %%
# Before the ReLU, values are positive (red) or negative (blue). After it, only positive ones remain.

fl.plotting.feature_maps(acts["conv2"], image=0, title="conv2, as it returned")

# %%

fl.plotting.feature_maps(acts["act#2"], image=0, title="act#2, the second call")

# %%
# Error messages
# --------------
#
# If you ask for a layer that does not exist, the error lists the layers that do.

try:
    fl.ActivationRecorder(model, "conv3")
except LookupError as error:
    print(error)

# %%
# ``clone=False`` avoids copies. If a recorded value is then overwritten, the recorder raises an error.

try:
    fl.ActivationRecorder(model, "conv2", clone=False)(images)
except RuntimeError as error:
    print(error)
