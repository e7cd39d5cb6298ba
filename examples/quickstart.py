"""Quickstart: train a small CNN on real images, list its layers, draw figures of what is in them, and build its atlas.

    python examples/quickstart.py                       # scikit-learn's digits, enlarged; nothing to download
    python examples/quickstart.py --data cifar10        # or mnist: downloaded by torchvision
    python examples/quickstart.py --data my/photos      # your own folder: my/photos/CLASS/IMAGE

It writes a dozen figures and the atlas to `outputs/quickstart`.
"""

# %%
# Settings
# --------
#
# In a notebook, put what you would write on the command line in the place of ``command_line()``: ``["--data", "mnist"]``.

import argparse
import math
import shutil
from pathlib import Path

import torch

import featurelens as fl
from reference import command_line, fit, fitting_network, flip_and_shift, load, reason_to_stop
from reference.pictures import deeper_look, first_look

parser = argparse.ArgumentParser(description="Train a small CNN and look inside it.")
parser.add_argument(
    "--data", default="digits", help="digits, mnist, cifar10, or a folder with one subfolder per class"
)
parser.add_argument(
    "--data-dir", type=Path, default=Path("data"), help="folder of MNIST and CIFAR-10; downloaded if missing"
)
parser.add_argument("--epochs", type=int, help="default: 5, or as many as make 600 steps")
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--device", default="cpu", help="cpu, cuda, mps, ...")
parser.add_argument("--output", type=Path, default=Path("outputs/quickstart"))
options = parser.parse_args(command_line())

options.output.mkdir(parents=True, exist_ok=True)  # fail before training, not after

# %%
# Train
# -----
#
# A network learns in steps, not in epochs: few images need small batches and many epochs. Few photos are also mirrored and
# shifted at random, so that the network does not learn them by heart.

data = load(options.data, options.data_dir, seed=options.seed)
print(data)
if options.data == "digits":  # on images this small, several threads would wait for each other
    torch.set_num_threads(1)
few = len(data.train_labels) < 10_000
batch = 32 if few else 128
epochs = max(5, math.ceil(600 / math.ceil(len(data.train_labels) / batch)))
photos = few and data.channels == 3
model = fitting_network(data.channels, data.size, len(data.classes), seed=options.seed)
history = fit(
    model,
    data.train,
    data.test,
    epochs=epochs if options.epochs is None else options.epochs,
    lr=1e-3 if photos else 2e-3,
    anneal=True,
    batch_size=batch,
    augment=flip_and_shift if photos else None,
    seed=options.seed,
    device=options.device,
)
print(history)

# %%
# A network that has learned nothing would give figures of noise.

if reason := reason_to_stop(history, data):
    raise SystemExit(reason)

# %%
# Look inside
# -----------
#
# These are the layers, and their memory for one image.

print(f"\n{fl.list_layers(model, data.test_images[:1].to(options.device))}")

# %%
# Feature maps of one image, the information and the importance of channels, and images that maximize them:

files = first_look(model, data, history, options.output) + deeper_look(model, data, options.output)
print(f"\nFigures in {options.output}:")
for file in files:
    print(f"  {file.name}")

# %%
# The atlas is a site with a page for every channel, from up to 2,000 test images. It opens in a browser, from the disk.

folder = options.output / "atlas"
shutil.rmtree(folder, ignore_errors=True)  # of an earlier run
images, labels = (part[:2000].to(options.device) for part in data.test)
atlas = fl.Atlas(model, (images, labels), classes=data.classes, title=f"Quickstart: {data.name}", steps=64)
print(f"\nThe atlas, a page for every channel:\n  {atlas.build(folder).index}")
