"""Study B: filters and feature maps of a small CNN on MNIST.

    python examples/mnist_features.py                   # downloads MNIST once; about a minute on two cores

Filters are the patterns a convolution looks for; feature maps show where it found them. The first layer's filters
respond to edges. The second layer's maps are smaller and show where combinations of edges occur. Hooks record the
maps while the network classifies, and are removed afterwards.
"""

# %%
# Settings
# --------
#
# In a notebook, put what you would write on the command line in the place of ``command_line()``: ``["--epochs", "1"]``.

import argparse
from pathlib import Path

from reference import MnistCNN, command_line, fit, load, seeded
from reference.pictures import first_look

parser = argparse.ArgumentParser(description="Study B: filters and feature maps on MNIST.")
parser.add_argument(
    "--data-dir", type=Path, default=Path("data"), help="folder of MNIST; downloaded if missing"
)
parser.add_argument("--epochs", type=int, default=5)
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--device", default="cpu")
parser.add_argument("--output", type=Path, default=Path("outputs/mnist_features"))
options = parser.parse_args(command_line())

options.output.mkdir(parents=True, exist_ok=True)

# %%
# Train
# -----
#
# Two convolutions with 5 x 5 filters, each followed by ReLU and max pooling, and two linear layers.

data = load("mnist", options.data_dir)
model = seeded(MnistCNN, seed=options.seed)
history = fit(
    model,
    data.train,
    data.test,
    epochs=options.epochs,
    lr=2e-3,
    anneal=True,
    seed=options.seed,
    device=options.device,
)

# %%
# The study's six figures
# -----------------------
#
# The filters of the first convolution, an image beside its maps in that layer, the maps of both convolutions, and the
# training curves.

files = {file.name for file in first_look(model, data, history, options.output)}

# %%
# The results, beside the study's
# -------------------------------

STUDY_FILES = {
    "conv1_filters.png",
    "featuremaps_conv1.png",
    "featuremaps_conv2.png",
    "orig_and_conv1_grid.png",
    "training_loss.png",
    "training_accuracy.png",
}
images = f"{len(data.train_labels):,} / {len(data.test_labels):,}"
best = history.test_accuracy[history.best_epoch - 1]
print(f"{'':22}{'study':>16}{'here':>16}")
print(f"{'train / test images':22}{'60,000 / 10,000':>16}{images:>16}")
print(f"{'convolutions':22}{2:>16}{2:>16}")
print(f"{'its six files':22}{6:>16}{len(files & STUDY_FILES):>16}")
print(f"{'test accuracy':22}{'not reported':>16}{best:>16.2%}")
print(f"{history.seconds:.0f} s; figures in {options.output}")
