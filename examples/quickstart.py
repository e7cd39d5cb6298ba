"""Train a small CNN on real images, list its layers, draw figures of what is in them, and build its atlas.

python examples/quickstart.py                       # scikit-learn's digits, nothing to download
python examples/quickstart.py --data cifar10        # or mnist: downloaded by torchvision
python examples/quickstart.py --data my/photos      # your own folder: my/photos/CLASS/IMAGE
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import torch

import featurelens as fl
from reference import fit, fitting_network, load, run
from reference.pictures import deeper_look, first_look

EPOCHS, BATCH = {"digits": 15}, {"digits": 32}  # few images: small batches, many epochs
MOST = 2000  # images in the atlas


def main(arguments: list[str] | None = None) -> None:
    """Train, list the layers, draw, build the atlas."""
    parser = argparse.ArgumentParser(description="Train a small CNN and look inside it.")
    parser.add_argument(
        "--data", default="digits", help="digits, mnist, cifar10, or a folder with one subfolder per class"
    )
    parser.add_argument(
        "--data-dir",
        type=Path,
        default=Path("data"),
        help="folder of MNIST and CIFAR-10; downloaded if missing",
    )
    parser.add_argument("--epochs", type=int, help="default: 15 for digits, otherwise 5")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu", help="cpu, cuda, mps, ...")
    parser.add_argument("--output", type=Path, default=Path("outputs/quickstart"))
    options = parser.parse_args(arguments)

    options.output.mkdir(parents=True, exist_ok=True)  # fail before training, not after
    data = load(options.data, options.data_dir, seed=options.seed)
    print(data)
    if options.data == "digits":  # 8x8 images are too small for several threads
        torch.set_num_threads(1)
    model = fitting_network(data.channels, data.size, len(data.classes), seed=options.seed)
    epochs = EPOCHS.get(options.data, 5) if options.epochs is None else options.epochs
    history = fit(
        model,
        data.train,
        data.test,
        epochs=epochs,
        lr=2e-3,
        anneal=True,
        batch_size=BATCH.get(options.data, 128),
        seed=options.seed,
        device=options.device,
    )
    print(history)

    print("\nLayers, and their memory for one image:")
    print(fl.list_layers(model, data.test_images[:1].to(options.device)))

    files = first_look(model, data, history, options.output) + deeper_look(model, data, options.output)
    print(f"\nFigures in {options.output}:")
    for file in files:
        print(f"  {file.name}")

    folder = options.output / "atlas"
    shutil.rmtree(folder, ignore_errors=True)  # of an earlier run
    images, labels = (part[:MOST].to(options.device) for part in data.test)
    atlas = fl.Atlas(
        model, (images, labels), classes=data.classes, title=f"Quickstart: {data.name}", steps=64
    )
    print(f"\nThe atlas, a page for every channel:\n  {atlas.build(folder).index}")


if __name__ == "__main__":
    run(main)
