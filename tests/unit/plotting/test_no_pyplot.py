"""Pictures belong to the caller: pyplot is neither imported nor told."""

import subprocess
import sys

SCRIPT = """
import sys, torch
from featurelens.plotting import feature_maps, filters, image_grid, input_and_feature_maps, training_curves
maps = torch.rand(2, 3, 4, 4)
feature_maps(maps), filters(maps), image_grid(maps), input_and_feature_maps(maps, maps)
training_curves({"train": [1, 2]}, ylabel="loss").figure.canvas.draw()
print(sorted(name for name in ("matplotlib.pyplot", "torchvision") if name in sys.modules))
"""


def test_plotting_leaves_pyplot_alone():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
