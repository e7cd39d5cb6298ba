"""Train a small CNN on real images, look at every layer, and leave pictures of it.

python examples/quickstart.py                       # scikit-learn's digits, nothing to download
python examples/quickstart.py --data cifar10        # or mnist: downloaded by torchvision
python examples/quickstart.py --data my/photos      # any folder: my/photos/CLASS/IMAGE
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

import featurelens as fl
from reference import fit, fitting_network, load, run
from reference.pictures import deeper_look, first_look

EPOCHS, BATCH = {"digits": 15}, {"digits": 32}  # few images want small batches and many passes


def main(arguments: list[str] | None = None) -> None:
    """Train, list the layers, draw."""
    parser = argparse.ArgumentParser(description="Train a small CNN and look inside it.")
    parser.add_argument(
        "--data", default="digits", help="digits, mnist, cifar10 or a folder of images by class"
    )
    parser.add_argument(
        "--data-dir", type=Path, default=Path("data"), help="where MNIST and CIFAR-10 are kept"
    )
    parser.add_argument("--epochs", type=int, help="15 for the digits, else 5")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu", help="cpu, cuda, mps, ...")
    parser.add_argument("--output", type=Path, default=Path("outputs/quickstart"))
    options = parser.parse_args(arguments)

    options.output.mkdir(parents=True, exist_ok=True)  # before the work, not after it
    data = load(options.data, options.data_dir, seed=options.seed)
    print(data)
    if options.data == "digits":  # on images of 8x8, threads wait for each other more than they compute
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

    print("\nWhat can be recorded, and what one image costs:")
    print(fl.list_layers(model, data.test_images[:1].to(options.device)))

    files = first_look(model, data, history, options.output) + deeper_look(model, data, options.output)
    print(f"\nPictures in {options.output}:")
    for file in files:
        print(f"  {file.name}")


if __name__ == "__main__":
    run(main)
