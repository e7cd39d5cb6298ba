"""Pictures belong to the caller: pyplot is neither imported nor told."""

import subprocess
import sys

SCRIPT = """
import sys, torch
from featurelens.plotting import *
from featurelens.information import channel_information, spatial_mutual_information
maps = torch.rand(2, 3, 4, 4)
feature_maps(maps), filters(maps), image_grid(maps), input_and_feature_maps(maps, maps)
training_curves({"train": [1, 2]}, ylabel="loss").savefig("curves.png")
information_curves({"conv1": [1, 2]}), information_plane({"conv1": [1, 2]}, {"conv1": [1, 2]}, units="nats")
channel_information(torch.rand(20, 3), torch.arange(20) % 2).plot()
spatial_mutual_information(maps, maps).plot()
confusion_matrix(torch.eye(3)).savefig("confusion.png")
print(sorted(name for name in ("matplotlib.pyplot", "torchvision") if name in sys.modules))
"""


def test_plotting_leaves_pyplot_alone(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert done.stdout.strip() == "[]"
