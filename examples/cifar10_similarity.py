"""Study F: how alike the layers of a CIFAR-10 network are, over its epochs, and in two networks of different seeds.

    python examples/cifar10_similarity.py                       # downloads CIFAR-10 once
    python examples/cifar10_similarity.py --train 5000 --epochs 3 --images 500    # minutes on a CPU
    python examples/cifar10_similarity.py --data digits

Two networks of the same kind are trained from different seeds. `fl.compare` computes the debiased linear CKA of every layer
with every layer over the test images: of the trained network with itself, with its own weights after each epoch, and with
the second network. Each comparison is one pass over the images.
"""

# %%
# Settings
# --------
#
# In a notebook, put what you would write on the command line in the place of ``command_line()``: ``["--data", "digits"]``.

import argparse
import copy
import json
from pathlib import Path

import torch
from torch import Tensor, nn

import featurelens as fl
from reference import History, command_line, fit, fitting_network, load
from reference.pictures import save

parser = argparse.ArgumentParser(description="Study F: similarity of layers.")
parser.add_argument("--data", default="cifar10", help="cifar10, mnist, digits, or a folder of images")
parser.add_argument("--data-dir", type=Path, default=Path("data"))
parser.add_argument("--train", type=int, default=None, help="number of training images; default: all")
parser.add_argument("--epochs", type=int, default=10)
parser.add_argument("--images", type=int, default=2000, help="number of test images to compare on")
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--device", default="cpu")
parser.add_argument("--output", type=Path, default=Path("outputs/cifar10_similarity"))
options = parser.parse_args(command_line())

# %%
# Two networks
# ------------
#
# Of the first we keep the weights after every epoch. A folder is sorted by class, so images are drawn at random.

data = load(options.data, options.data_dir, seed=options.seed)
drawn = [
    torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    for labels in (data.train_labels, data.test_labels)
]
chosen, batches = drawn[0][: options.train], data.test_images[drawn[1][: options.images]].split(100)


def trained(seed: int) -> tuple[nn.Module, list[dict[str, Tensor]], History]:
    """Return a trained network, its weights after each epoch, and the history."""
    model = fitting_network(data.channels, data.size, len(data.classes), seed=seed).to(options.device)
    epochs: list[dict[str, Tensor]] = []
    history = fit(
        model,
        (data.train_images[chosen], data.train_labels[chosen]),
        data.test,
        epochs=options.epochs,
        seed=seed,
        on_epoch=lambda epoch, network: epochs.append(copy.deepcopy(network.state_dict())),
    )
    return model, epochs, history


model, epochs, history = trained(options.seed)
second, _, other_history = trained(options.seed + 1)
print(f"accuracy {max(history.test_accuracy):.1%} and {max(other_history.test_accuracy):.1%}")

# %%
# Every layer against every layer
# -------------------------------
#
# Activation functions and linear layers, in the order of the network.


def is_shown(name: str, module: nn.Module) -> bool:
    return isinstance(module, nn.ReLU | nn.Linear)


def compare(other: nn.Module | dict[str, Tensor] | None = None) -> fl.similarity.LayerSimilarityResult:
    return fl.compare(model, other, loader=batches, layers=is_shown, progress=False)


layers, seeds = compare(), compare(second)
changes = [compare(weights) for weights in epochs]
curves = {
    name: [float(change.values[row, row]) for change in changes] for row, name in enumerate(layers.layers)
}
options.output.mkdir(parents=True, exist_ok=True)
pictures = {
    "layers": layers.plot(title="Layers of one network"),
    "seeds": seeds.plot(title="Layers of two networks, different seeds"),
    "epochs": fl.plotting.training_curves(
        curves, ylabel="CKA with the trained layer", title="When does each layer find its representation?"
    ),
}
save(pictures, options.output)

# %%
# How each layer compares
# -----------------------
#
# With the next layer, with itself after the first and the last epoch, and with the same layer of the other network.

print(f"{'layer':8}{'next layer':>12}{'epoch 1':>10}{'last epoch':>12}{'other seed':>12}")
rows = {}
for row, name in enumerate(layers.layers):
    following = float(layers.values[row, row + 1]) if row + 1 < len(layers.layers) else None
    same = float(seeds.values[row, row])
    rows[name] = {"next": following, "epochs": curves[name], "seeds": same}
    shown = "-" if following is None else f"{following:.2f}"
    print(f"{name:8}{shown:>12}{curves[name][0]:>10.2f}{curves[name][-1]:>12.2f}{same:>12.2f}")
for note in layers.notes:
    print(note)
(options.output / "figures.json").write_text(json.dumps(rows, indent=1))
